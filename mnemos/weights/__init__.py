"""Checkpoints as lazy tensors: expressions over them, adapters, vocabularies, lineage; no model is loaded."""
