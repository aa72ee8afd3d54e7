"""Suites, answers, scores, and what can be said about their difference."""
