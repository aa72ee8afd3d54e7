"""JSON that people wrote: what would be misread in silence is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from mnemos.core.errors import DataError, MnemosError
from mnemos.core.scalars import real, whole


def parse_json(text: str, where: str, refuse: type[MnemosError] = DataError) -> Any:
    """The value of JSON text. where: the file and line, for messages; refuse: the error raised.

    A key written twice, NaN and infinity, half a surrogate pair and nesting that the parser cannot follow
    are refused. A number that Python would print otherwise (1.10, 1E5) keeps its text (see `core.scalars`).
    """

    def constant(name: str) -> NoReturn:
        raise refuse(where, f"holds {name}, which is no JSON", "quote it, or leave it out")

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in made if keys.count(key) > 1)
            raise refuse(where, f"has the key {twice!r} twice", "leave one of them")
        return made

    try:
        value = json.loads(text, parse_int=whole, parse_float=real, parse_constant=constant, object_pairs_hook=once)
    except RecursionError:
        raise refuse(where, "is nested too deep", "write it flatter") from None
    except ValueError as error:
        raise refuse(where, f"is not JSON ({error})", "check quotes, commas and brackets") from None
    if "\\u" in text and _halves(value):
        raise refuse(where, "holds half a surrogate pair (\\ud800 to \\udfff alone)", "write the whole letter")
    return value


def _halves(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and any("\ud800" <= letter <= "\udfff" for letter in one):
            return True
        waiting += [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else ()
    return False
