"""Suites that need not be asked again, because nothing that answers them was trained.

A model that listens and whose bridge alone learned reads text as before, bit for bit: a suite without a sound has the
answers of the model before, and asking again would be most of a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.measure.ask import ALONE
from mnemos.measure.items import Item
from mnemos.measure.suite import Suite
from mnemos.models.precision import compute_dtype
from mnemos.weights.checkpoint import named, tokenizer_of
from mnemos.weights.files import ADAPTER_CONFIG, chosen_files, stored_tensors
from mnemos.weights.speech import LANGUAGE, is_speech, speech_config


def unmoved(model: ModelHandle, before: ModelHandle, suites: Sequence[Suite]) -> list[Suite]:
    """Those of `suites` to which both models say the same; none for models that do not listen. A suite that looks at
    the answers of another, or at which another looks, is always asked."""
    looked_at = {suite.of for suite in suites}
    silent = [
        suite
        for suite in suites
        if suite.ask in ALONE
        and suite.of is None
        and suite.name not in looked_at
        and not any(map(_sounds, suite.items))
    ]
    # Asked last, because it reads files.
    return silent if silent and _read_alike(model, before) else []


def _sounds(item: Item) -> bool:
    return item.sound is not None or (item.prompt is not None and any(turn.sounds for turn in item.prompt.turns))


def _read_alike(one: ModelHandle, other: ModelHandle) -> bool:
    """Whether two models that listen read text alike; their bridges may differ."""
    parts = _text_parts(one)
    return parts is not None and parts == _text_parts(other)


def _text_parts(model: ModelHandle) -> dict[str, Any] | None:
    """What decides how a model that listens reads text; None where something of its own does, or it does not listen."""
    folder = Path(model.path)
    if (folder / ADAPTER_CONFIG).is_file() or not folder.is_dir() or not is_speech(folder):
        return None
    if any(name.startswith(f"{LANGUAGE}.") for file in chosen_files(folder) for name in stored_tensors(file)):
        return None
    tokenizer, generation = tokenizer_of(model), folder / "generation_config.json"
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:  # one in Python says of itself no text that could be compared
        return None
    return {
        "language model": named(speech_config(folder).language),
        "dtype": compute_dtype(model),
        # As it works, not as its file is written: a tokenizer that was read and saved has other bytes.
        "tokenizer": fast.to_str(),
        "template": tokenizer.chat_template,
        "generation": file_fingerprint(generation) if generation.is_file() else None,
    }
