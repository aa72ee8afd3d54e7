"""A directory -> the recogniser that it holds."""

from __future__ import annotations

from pathlib import Path

from mnemos.models.recognisers.base import Recogniser
from mnemos.models.recognisers.wrap import wrapped as wrapped
from mnemos.weights.checkpoint import named


def load(path: str | Path, *, device: str | None = None) -> Recogniser:
    """The recogniser of a Hugging Face directory or hub id, in eval mode, in float32.

    device: where it computes; a GPU if there is one unless given. Raises ModelError for a model that is no recogniser,
    one without a CTC head (an encoder alone: give it one), and for whatever `models.load` refuses.
    """
    import torch

    from mnemos.models.load import load_model

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = load_model(str(path), hears=True).to(where)
    return wrapped(network, str(path), named(str(path)))
