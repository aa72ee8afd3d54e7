"""What the numbers stand on, from the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemos.report.facts import Facts
from mnemos.report.words import clean, value


def provenance(facts: Facts) -> list[tuple[str, str]]:
    """What the numbers stand on: (name, words) pairs from the manifest, only what it holds."""
    manifest = facts.manifest
    pairs: list[tuple[str, str]] = []
    for name, key in (("model before", "model"), ("model after", "after")):
        model = manifest.get(key)
        if isinstance(model, Mapping):
            pairs.append((name, f"{clean(model.get('path', ''))} ({clean(model.get('fingerprint', ''))})"))
    if manifest.get("commit"):
        dirty = {True: ", with uncommitted changes", False: ", clean"}.get(manifest.get("dirty"), "")  # type: ignore[arg-type]
        pairs.append(("commit", f"{clean(manifest['commit'])}{dirty}"))
    words = {"fingerprint": "manifest", "template_fingerprint": "chat template", "first_tokens": "first 50 token ids"}
    shown = ("model", "after", "suites", "commit", "dirty")
    for key, item in manifest.items():
        if key not in shown and item not in (None, "", [], {}):
            pairs.append((words.get(key, clean(key).replace("_", " ")), plain(item)))
    return pairs


def plain(item: Any) -> str:
    """A manifest entry or a method's settings on one line."""
    if isinstance(item, Mapping):
        return ", ".join(f"{clean(key)} {value(part)}" for key, part in item.items() if part is not None)
    if isinstance(item, list | tuple):
        return ", ".join(value(part) for part in item)
    return value(item)
