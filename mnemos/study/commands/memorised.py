"""`mnemos memorised`: which texts a model goes on with word for word, and which a short prompt gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError
from mnemos.core.files import write_json, write_jsonl
from mnemos.core.plan import ModelHandle
from mnemos.measure.memorised import compressed, continued, local, random_texts, record_of


def memorised(
    texts: Sequence[str],
    model: ModelHandle,
    out: Path,
    prefixes: Sequence[int],
    longest: int,
    search: int = 0,
    tokens: int = 0,
    chance: int = 0,
) -> dict[str, Any]:
    """Continue and search, and write texts.jsonl and memorised.json. search: tokens of a prompt that is searched, 0 for
    no search; tokens: of each text that it is to give. chance: random texts beside them. Raises DataError without a
    text."""
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("the texts", "are none", "give rows of text")
    asked = local(model.load())
    record: dict[str, Any] = {"model": model.path, "fingerprint": model.fingerprint}
    rows: list[dict[str, Any]] = []
    beside = random_texts(asked, chance, max([*prefixes, tokens]) + longest)
    for name, own in (("given", texts), ("random", beside)):
        if not own:
            continue
        by_prefix = continued(asked, own, prefixes, longest)
        short = compressed(asked, own, tokens, search) if search else []
        record[name] = record_of(by_prefix, short)
        rows += [_row(name, n, text, by_prefix, short, asked.renderer.decode) for n, text in enumerate(own)]
    write_jsonl(out / "texts.jsonl", rows)
    write_json(out / "memorised.json", record)
    return record


def _row(
    name: str, n: int, text: str, by_prefix: Mapping[int, Any], short: Sequence[Any], decode: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"{name}-{n}", "text": text}
    row["continued"] = {
        str(prefix): {"tokens": one.tokens, "run": one.run, "similarity": one.similarity, "written": one.written}
        for prefix, found in by_prefix.items()
        if (one := found[n]) is not None
    }
    if short:
        prompt = short[n].prompt
        row["prompt"] = None if prompt is None else decode(list(prompt))
        row |= {"ratio": short[n].ratio, "ratio at most": short[n].bound, "memorised": short[n].memorised}
    return row


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record for people."""
    out = [f"{'texts':<8}{'behind':>8}{'number':>8}{'word for word':>22}{'right before a slip':>22}{'alike':>22}"]
    found = [(name, record[name]) for name in ("given", "random") if name in record]
    for name, own in found:
        for one in own["continued"]:
            shown = [_words(one[key]) for key in ("exact", "run", "similarity")]
            out.append(f"{name:<8}{one['prefix']:>8}{one['texts']:>8}" + "".join(f"{text:>22}" for text in shown))
    for name, own in found:
        if (short := own.get("compressed")) is not None:
            top = "none" if short["largest ratio"] is None else f"{short['largest ratio']:.1f}"
            out.append(
                f"{name}: prompts shorter than the text give {_words(short['memorised'])} % of {short['texts']} texts, "
                f"{short['undecided']} undecided by prompts of up to {short['searched']} tokens; largest ratio {top}"
            )
    return out


def _words(interval: Sequence[float | None] | None) -> str:
    if interval is None or interval[0] is None:
        return "-"
    mean, low, high = (None if value is None else 100 * value for value in interval)
    return f"{mean:.1f}" if low is None or high is None else f"{mean:.1f} [{low:.1f}, {high:.1f}]"
