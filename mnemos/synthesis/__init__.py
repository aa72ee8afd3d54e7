"""Rows that a model writes: rehearsal, rewriting, selection, revision."""
