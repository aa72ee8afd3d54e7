"""Input embeddings and output layer of a checkpoint that says that they are one matrix: are they?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnemos.core.errors import ModelError
from mnemos.weights.explained import explained
from mnemos.weights.files import read_config, stored_tensors, weight_files

OUTPUT_NAMES = ("lm_head.weight", "embed_out.weight")
INPUT_NAMES = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
ROWS = 4096
"""Rows that are compared at a time."""


def check_tied(folder: Path) -> None:
    """Raise ModelError where config.json ties the embeddings of a directory and its files hold two different
    matrices: transformers computes with both, and whatever is saved of them later keeps one. Reads tensors only where
    a directory of a tied model holds both."""
    config = read_config(folder / "config.json", "the model's configuration")
    files = weight_files(folder)
    if config.get("tie_word_embeddings") is not True or not files:
        return
    where = {name: file for file in files for name in stored_tensors(file)}
    head = next((name for name in where if name.endswith(OUTPUT_NAMES)), None)
    inner = next((name for name in where if name.endswith(INPUT_NAMES)), None)
    if head is None or inner is None:
        return
    with explained(folder, "its embeddings cannot be read", "copy the checkpoint again"):
        same = _equal(where[head], head, where[inner], inner)
    if not same:
        raise ModelError(
            f"{folder / 'config.json'}: tie_word_embeddings = true",
            f"but {head} and {inner} are two different matrices",
            f"write false there, or remove {head} from the weights if the embeddings are meant",
        )


def _equal(file: Path, name: str, other_file: Path, other: str) -> bool:
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as ours, safe_open(other_file, framework="pt") as theirs:
        first, second = ours.get_slice(name), theirs.get_slice(other)
        shape: list[Any] = first.get_shape()
        if shape != second.get_shape():
            return False
        return all(
            torch.equal(first[at : at + ROWS].float(), second[at : at + ROWS].float())
            for at in range(0, shape[0], ROWS)
        )
