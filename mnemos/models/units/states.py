"""Hidden states of one layer of an encoder of speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.fingerprint import file_fingerprint, fingerprint
from mnemos.models.recognisers.base import Features, Recogniser
from mnemos.sources.audio import Clip
from mnemos.weights.checkpoint import named, resolve

States = npt.NDArray[np.float32]
"""float32[T, H]: a row for each frame."""

PROCESSOR = "preprocessor_config.json"


class LayerStates:
    """What a layer says of clips.

    path: the directory or hub id of an encoder: Whisper, or any network that transformers knows with a CTC head, with
    or without that head. layer: 0 is what the first layer reads, n what the n-th of `layers` gives, as in
    `hidden_states` of transformers; the last one is behind the encoder's last normalisation where it has one.

    Each clip is normalised as the checkpoint's own processor says, and Whisper hears its whole window, as they were
    trained; frames of padding are cut off. What a clip gives does not depend on its batch beyond float tolerance.
    Raises ModelError for a model that hears nothing, UsageError for a layer that it does not have.
    """

    def __init__(self, path: str, layer: int, *, device: str | None = None) -> None:
        self.path, self.layer = path, layer
        self.ears = _ears(path, device)
        self._inside = _encoder(self.ears.network)
        self.layers = len(self._inside.layers)
        if not 0 <= layer <= self.layers:
            raise UsageError(f"layer = {layer}", f"{path} has layers from 0 to {self.layers}", "name one of them")

    @property
    def fingerprint(self) -> str:
        """Changes exactly when weights, configuration or what makes features of sound do."""
        return print_of(self.path)

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Clip]) -> list[States]:
        """The states of each clip, in their order. DataError for a clip that cannot be heard."""
        out: list[States] = [np.zeros((0, 0), np.float32)] * len(clips)
        for batch in self.ears.batches(clips):
            features = self.ears.features([clips[i] for i in batch])
            found = self._states(features).float().cpu().numpy()
            for index, states, frames in zip(batch, found, features.frames.tolist(), strict=True):
                out[index] = states[:frames].copy()
        return out

    def _states(self, features: Features) -> torch.Tensor:
        """float[B, T, H]. What stands behind the layer is not computed."""
        read: list[torch.Tensor] = []
        with _stopping_before(self._inside, self.layer, read):
            run = self.ears.network.get_encoder() if self.ears.kind == "sequence" else self.ears.network
            out = run(**features.inputs)
        return read[0] if read else out.last_hidden_state


def print_of(path: str) -> str:
    """The fingerprint of an encoder: of the checkpoint, and of its processor, which `weights.checkpoint.named` does
    not look at."""
    file = resolve(path, allow_pickle=False, trust_remote_code=False) / PROCESSOR
    return fingerprint([named(path), file_fingerprint(file) if file.is_file() else ""])


def _ears(path: str, device: str | None) -> Recogniser:
    from mnemos.models.load import load_model
    from mnemos.models.recognisers.ctc import CTCRecogniser
    from mnemos.models.recognisers.sequence import SequenceRecogniser
    from mnemos.models.recognisers.wrap import processor_of

    network = load_model(path, encoder=True)
    processor = processor_of(Path(resolve(path, allow_pickle=False, trust_remote_code=False)))
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if getattr(network.config, "is_encoder_decoder", False):
        return SequenceRecogniser(network, processor, None, path)
    # An encoder alone may name no vocabulary; no blank is ever asked for.
    network.config.vocab_size = getattr(network.config, "vocab_size", None) or 1
    network.config.pad_token_id = 0
    return CTCRecogniser(network, processor, None, path)


def _encoder(network: Any) -> Any:
    """The module whose `layers` stand behind one another. ModelError where there is none."""
    inside = network.get_encoder() if getattr(network.config, "is_encoder_decoder", False) else network
    for one in (getattr(inside, "encoder", None), inside):
        if isinstance(getattr(one, "layers", None), torch.nn.ModuleList):
            return one
    raise ModelError(type(network).__name__, "has no list of layers to take one from", "use another encoder")


class _Reached(Exception):  # noqa: N818 - no error: the layer was reached, and the rest is not needed
    pass


@contextmanager
def _stopping_before(encoder: Any, layer: int, read: list[torch.Tensor]) -> Iterator[None]:
    """Within it a pass ends where layer number `layer` would begin, and `read` holds what that would have read; a pass
    to the end, for the last layer, is not stopped."""

    def stop(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read.append(args[0] if args else kwargs["hidden_states"])
        raise _Reached

    def keep(_: Any, __: Any, out: torch.Tensor) -> None:
        read.append(out)

    if layer < len(encoder.layers):
        handle = encoder.layers[layer].register_forward_pre_hook(stop, with_kwargs=True)
    elif isinstance(encoder, WhisperEncoder):
        handle = encoder.layer_norm.register_forward_hook(keep)  # also below a CTC head, which gives logits alone
    else:
        handle = None
    try:
        yield
    except _Reached:
        pass
    finally:
        if handle is not None:
            handle.remove()
