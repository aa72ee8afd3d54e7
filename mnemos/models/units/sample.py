"""A uniform sample of bounded size from any number of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class FrameSample:
    """At most `most` of the frames that are added, each set of so many as likely as any other.

    seen: frames added. Every frame draws a number, and those with the smallest are kept: memory holds twice `most` at
    most, and the same frames in the same order give the same sample, however they were cut.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most, self.seen = most, 0
        self._random = np.random.default_rng(seed)
        self._frames: list[npt.NDArray[np.float32]] = []
        self._keys: list[npt.NDArray[np.float64]] = []
        self._held = 0

    def add(self, frames: npt.NDArray[np.float32]) -> None:
        """Frames of a clip, float32[T, H]."""
        self.seen += len(frames)
        self._frames.append(frames)
        self._keys.append(self._random.random(len(frames)))
        self._held += len(frames)
        if self._held > 2 * self.most:
            self._cut()

    def frames(self) -> npt.NDArray[np.float32]:
        """float32[N, H]: the sample, in the order in which its frames came."""
        self._cut()
        return self._frames[0] if self._frames else np.zeros((0, 0), np.float32)

    def _cut(self) -> None:
        if not self._frames:
            return
        frames, keys = np.concatenate(self._frames), np.concatenate(self._keys)
        if len(keys) > self.most:
            kept: Any = np.sort(np.argpartition(keys, self.most - 1)[: self.most])
            frames, keys = frames[kept], keys[kept]
        self._frames, self._keys, self._held = [frames], [keys], len(keys)
