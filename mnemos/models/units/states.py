"""Hidden states of one layer of an encoder of speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.models.speech.encoders import Encoder
from mnemos.sources.audio import Clip
from mnemos.weights.checkpoint import named

States = npt.NDArray[np.float32]
"""float32[T, H]: a row for each frame."""

PROCESSOR = "preprocessor_config.json"


class LayerStates:
    """What a layer says of clips.

    path: the directory or hub id of any checkpoint that holds an encoder (`models.speech.encoders`). layer: n is what
    the n-th of its `layers` gives; the last is behind the encoder's last normalisation where it has one.

    Each clip is heard by itself, normalised as the checkpoint's own processor says, so that what it gives does not
    depend on others. Raises ModelError for a model that hears nothing, UsageError for a layer that it does not have.
    """

    def __init__(self, path: str, layer: int) -> None:
        self.path, self.layer = path, layer
        self.encoder = Encoder(path)
        self.layers = self.encoder.layers
        if not 1 <= layer <= self.layers:
            raise UsageError(f"layer = {layer}", f"{path} has layers from 1 to {self.layers}", "name one of them")

    @property
    def fingerprint(self) -> str:
        """Changes exactly when weights, configuration or what makes features of sound do."""
        # The processor apart: the fingerprint of a checkpoint looks at a recogniser's alone.
        file = self.encoder.folder / PROCESSOR
        return fingerprint([named(self.path), file_fingerprint(file) if file.is_file() else ""])

    @property
    def rate(self) -> int:
        """Samples a second that it hears."""
        return self.encoder.rate

    @property
    def shortest(self) -> float:
        """Seconds that one frame needs."""
        return self.encoder.least / self.encoder.rate

    @property
    def longest(self) -> float:
        """Seconds that it hears at once; infinite where its positions set no bound."""
        return self.encoder.longest

    def __call__(self, clip: Clip) -> States:
        """The states of a clip at any rate. DataError for one that is too short or too long."""
        heard = clip.at(self.rate)
        if len(heard.samples) < self.encoder.least or heard.seconds > self.longest:
            bound = f"must last from {self.shortest:.3g} to {self.longest:g} s"
            raise DataError(
                f"{clip.id or clip.path or 'a clip'}: {heard.seconds:.3g} s", bound, "cut it, or leave it out"
            )
        found: States = self.encoder.states(heard.samples, (self.layer - 1,))[0].numpy()
        return found
