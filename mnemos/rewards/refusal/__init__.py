"""Refusals: what an answer is, by its wording or by a judge."""
