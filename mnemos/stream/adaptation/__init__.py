"""Recognisers that adapt while they listen: objectives without transcripts, what moves, and when to begin again."""
