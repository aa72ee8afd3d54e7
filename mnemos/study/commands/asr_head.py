"""`mnemos asr head`: a Whisper model's encoder with a new CTC head, to be trained."""

from __future__ import annotations

from pathlib import Path

from mnemos.core.errors import ModelError, UsageError


def give(whisper: str, out: Path, *, characters: str | None = None, seed: int = 0) -> str:
    """Write the directory, and return what it is in a line. whisper: a directory or hub id.

    Raises UsageError for a place that is taken and for characters that cannot be told apart, ModelError for a model
    that is no Whisper.
    """
    from mnemos.models.recognisers.load import load
    from mnemos.models.recognisers.whisper_ctc import CHARACTERS, give_head
    from mnemos.train.save import whole

    if out.exists():
        raise UsageError(f"{out}", "is there already", "name another place with --out, or remove it")
    ears = load(whisper, device="cpu")
    if ears.kind != "sequence":
        raise ModelError(
            whisper, "is no Whisper that writes token by token", "name one; a CTC model has its head already"
        )
    text = CHARACTERS if characters is None else characters
    with whole(out) as folder:
        give_head(ears.network, ears.processor, folder, text, seed)
    count = sum(one.numel() for one in ears.network.get_encoder().parameters())
    return f"{out}: {count:,} parameters that hear, and a head for {len(text)} characters that knows nothing yet"
