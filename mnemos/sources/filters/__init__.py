"""Filters of pre-training pages: published rules, each drop with its reason, and presets of them."""
