"""Hostile input: each case is one clear error of the real command line, within bounds of time and memory."""
