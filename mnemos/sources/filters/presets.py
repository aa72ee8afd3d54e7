"""Filters by name, and published pipelines of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mnemos.core.errors import UsageError, nearest
from mnemos.sources.filters.gopher import GopherQuality, GopherRepetition
from mnemos.sources.filters.other import Language, PersonalData, RepeatedCharacters
from mnemos.sources.filters.page import Filter
from mnemos.sources.filters.web import C4Lines, DCLMLines, FineWeb

FILTERS: dict[str, Callable[..., Filter]] = {
    "language": Language,
    "gopher_quality": GopherQuality,
    "gopher_repetition": GopherRepetition,
    "c4": C4Lines,
    "fineweb": FineWeb,
    "dclm_lines": DCLMLines,
    "repeated_characters": RepeatedCharacters,
    "personal_data": PersonalData,
}
"""Those that need nothing but the page. `Perplexity` and `Scored` need a model and are added where there is one."""

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "fineweb": ("gopher_repetition", "gopher_quality", "c4", "fineweb", "personal_data"),
    "dclm": ("gopher_quality", "gopher_repetition", "dclm_lines"),
}
"""fineweb: in the order of the released script; near-duplicates come after it. dclm: the heuristics before
deduplication and the classifier. The language filter comes before both where a language is named."""


def made(names: Sequence[str], settings: Mapping[str, Any] | None = None, language: str | None = None) -> list[Filter]:
    """The filters by name, presets taken apart. settings: "filter.setting" -> value. language: what pages must be in.
    Raises UsageError for an unknown filter or setting, and for a value of another type."""
    wanted = [one for name in names for one in PRESETS.get(name, (name,))]
    if language is not None:
        wanted = ["language", *(one for one in wanted if one != "language")]
    values: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    for key, value in (settings or {}).items():
        name, _, setting = key.partition(".")
        if name not in values:
            raise UsageError(f"{key}", f"{name!r} is no filter that is used", nearest(name, values))
        values[name][setting] = value
    if language is not None:
        values["language"]["language"] = language
    return [_one(name, values[name]) for name in dict.fromkeys(wanted)]


def _one(name: str, settings: Mapping[str, Any]) -> Filter:
    if name not in FILTERS:
        raise UsageError(f"filter {name!r}", "is not known", nearest(name, [*FILTERS, *PRESETS]))
    plain = FILTERS[name]()
    known = {one.name: getattr(plain, one.name) for one in fields(plain) if one.name != "name"}  # type: ignore[arg-type]
    for setting, value in settings.items():
        if setting not in known:
            raise UsageError(f"{name}.{setting}", "is no setting of it", nearest(setting, known))
        wanted = type(known[setting])
        if not (isinstance(value, wanted) or (wanted is float and type(value) is int)) or wanted is tuple:
            raise UsageError(
                f"{name}.{setting} = {value!r}", f"must be a {wanted.__name__}", f"such as {known[setting]!r}"
            )
    return FILTERS[name](**settings)
