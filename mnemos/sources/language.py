"""Which language a text is in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=8)
def language_identifier(among: tuple[str, ...]) -> Any:
    """What tells languages apart: `classify(text)` gives (ISO 639-1 code, probability). among: only these; all without
    any."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if among:
        identifier.set_languages(sorted(among))
    return identifier
