"""Chance that depends on nothing but its key: the same on every machine and in every run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping


def chance(*key: object) -> random.Random:
    """A random generator seeded by the SHA-256 of its key (Python's own hash is salted)."""
    return random.Random(_number(key))


def share(*key: object) -> float:
    """A number in [0, 1), uniform over keys."""
    return _number(key) / 2**64


def part(shares: Mapping[str, float], *key: object) -> str:
    """Which part a key falls into: each name with its share, and "train" with what is left.

    The part follows from the key alone: adding keys never moves one from test to train.
    """
    place = share("part", *key)
    for name, size in shares.items():
        if place < size:
            return name
        place -= size
    return "train"


def listed(text: str) -> tuple[str, ...]:
    """The phrases of a comma-separated list."""
    return tuple(phrase.strip() for phrase in text.split(","))


def _number(key: tuple[object, ...]) -> int:
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
