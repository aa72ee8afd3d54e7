"""The report of a run: terminal text, Markdown, JSON and one self-contained HTML page.

Reads the content of results.json and nothing else, so every figure in a report has one source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from mnemos.core.errors import UsageError, nearest

__all__ = ["FORMATS", "card", "render"]

FORMATS = ("text", "md", "json", "html")


def render(
    results: Mapping[str, Any], format: Literal["html", "md", "json", "text"] | str = "text", width: int | None = None
) -> str:
    """The report of one results.json. The same input gives the same bytes.

    results: its parsed content, of a study or of a comparison. width: columns of the text format
    (default: the terminal's, 100 where there is none); the other formats ignore it. Raises
    UsageError for an unknown format or for something that is not a results.json.
    """
    if format == "json":
        return _json(results)
    if format not in FORMATS:
        raise UsageError(f"format {format!r}", "is not a report format", nearest(str(format), FORMATS))
    from mnemos.report.reading import read

    facts = read(results)
    if format == "html":
        from mnemos.report.page import page

        return page(facts)
    if format == "md":
        from mnemos.report.markdown import document

        return document(facts)
    from mnemos.report.ledger import text

    return text(facts, width)


def card(results: Mapping[str, Any], gate: Any = None) -> str:
    """A short Markdown card for a pull request; see `markdown.card`."""
    from mnemos.report import markdown
    from mnemos.report.reading import read

    return markdown.card(read(results), gate)


def _json(results: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(results, indent=1, allow_nan=False)
    except ValueError:
        return _json(_without_nan(results))
    return text


def _without_nan(item: Any) -> Any:
    """NaN has no word in JSON: a missing number is null."""
    if isinstance(item, Mapping):
        return {key: _without_nan(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return [_without_nan(part) for part in item]
    return None if isinstance(item, float) and (item != item or item in (float("inf"), float("-inf"))) else item
