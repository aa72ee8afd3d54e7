"""What a frozen encoder says of windows of sound, computed once: kept in memory, and on disk by content.

A file is named by the samples, the encoder's fingerprint and the tapped layers, so that no arm, seed or run encodes a
sound again. States are kept as float16, whether they come from disk or not, so that a second run gives the numbers of
the first: half of the room, and an error of 5e-4 of a state, which is that of the encoder in 16 bits. Nothing there is
needed: what is removed is encoded again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemos.core.cache import cache_folder
from mnemos.core.fingerprint import fingerprint
from mnemos.models.speech.encoders import Encoder, rounded
from mnemos.models.speech.spelling import Window, samples_of
from mnemos.weights.checkpoint import named

FORMAT = 2
"""Of what is kept; another number reads nothing of an earlier one."""
MEMORY_BYTES = 1 << 28
"""States that stay in memory between batches."""


class Features:
    """States of windows. taps: the layers that the bridge reads. keep: whether they are kept on disk."""

    def __init__(self, encoder: Encoder, taps: tuple[int, ...], keep: bool = True) -> None:
        self.encoder, self.taps, self.keep = encoder, taps, keep
        self.encoded = 0
        self._held: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._bytes = 0

    @cached_property
    def folder(self) -> Path:
        """Where they are kept."""
        name = fingerprint([FORMAT, named(self.encoder.place), list(self.taps)])
        return cache_folder() / "features" / name

    def states(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """float[L, T, D] of each window, on the CPU. Raises as `Encoder.states`, and DataError for a file that has
        changed since its row was read."""
        return [self._states(one) for one in windows]

    def _states(self, window: Window) -> torch.Tensor:
        if window.digest in self._held:
            self._held.move_to_end(window.digest)
            return self._held[window.digest]
        found = self._stored(window) if self.keep else None
        if found is None:
            self.encoded += 1
            made = rounded(self.encoder.states(samples_of(window), self.taps))
            found = torch.from_numpy(made)
            if self.keep:
                _write(self._file(window), made)
        self._held[window.digest] = found
        self._bytes += found.nbytes
        while self._bytes > MEMORY_BYTES and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return found

    def forget(self) -> None:
        """Let go of what is in memory; the disk keeps its own."""
        self._held.clear()
        self._bytes = 0

    def _file(self, window: Window) -> Path:
        return self.folder / window.digest[:2] / f"{window.digest}.npy"

    def _stored(self, window: Window) -> torch.Tensor | None:
        """What was kept; None where there is nothing, or nothing whole."""
        file = self._file(window)
        try:
            if not file.is_file():
                return None
            found = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        wanted = (len(self.taps), self.encoder.frames(window.length), self.encoder.width)
        if found.shape != wanted or found.dtype not in (np.float16, np.float32) or not np.isfinite(found).all():
            return None
        return torch.from_numpy(found)


def _write(file: Path, states: Any) -> None:
    """Whole or not there: two processes may write the same states at once. A disk that takes nothing more only means
    that they are made again."""
    temporary = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as opened:
            np.save(opened, states, allow_pickle=False)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
