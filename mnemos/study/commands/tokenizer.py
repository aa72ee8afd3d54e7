"""`mnemos tokenizer`: train one, compare several by language, extend a model's by a new language."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.files import write_json, write_text
from mnemos.sources.plain import Texts, part
from mnemos.sources.tokenizer import measures, sentencepiece
from mnemos.sources.tokenizer.extend import Extension, added, changed, extend, refuse_changed_language
from mnemos.sources.tokenizer.measures import Measures
from mnemos.sources.tokenizer.train import train
from mnemos.weights.checkpoint import load_tokenizer, usable_config
from mnemos.weights.files import CONFIGURATIONS, read_config
from mnemos.weights.new_rows import INITIALISATIONS, Initialisation, neighbours, new_rows

COLUMNS = (
    ("fertility", "fertility"), ("tokens/char", "per_character"), ("tokens/byte", "per_byte"),
    ("bytes/token", "compression"), ("unknown", "unknown"), ("bytes", "byte_share"), ("single", "single_share"),
    ("Renyi", "renyi"), ("round trip", "round_trip"),
)  # fmt: skip
"""Head of a column, and the measure in it."""
SHARES = ("unknown", "byte_share", "single_share", "round_trip")
MOST_TOKEN_BYTES = 1 << 20
LOST_FROM = 2000
"""Texts among which the shortest one that does not come back is looked for."""


def train_tokenizer(
    texts: Texts, kind: str, vocabulary: int, out: Path, *, special: Sequence[str] = (), as_sentencepiece: bool = False
) -> dict[str, Any]:
    """Train on nineteen of twenty texts, try the round trip on the others; writes a Hugging Face directory, and
    tokenizer.model where asked for. Returns what was made, for people and programs."""
    refuse_taken(out)
    made = train(part(texts, held=False), kind, vocabulary, tuple(special))
    skipped = texts.skipped()
    held = list(itertools.islice(part(texts, held=True), LOST_FROM))
    lost = measures.shortest_loss(made, held or itertools.islice(iter(texts), 1))
    model = sentencepiece.encode(sentencepiece.from_tokenizer(made)) if as_sentencepiece else None
    out.mkdir(parents=True, exist_ok=True)
    save(made, out, special)
    if model is not None:
        (out / "tokenizer.model").write_bytes(model)
    return {
        "kind": kind, "asked": vocabulary, "pieces": made.get_vocab_size(with_added_tokens=True), "skipped": skipped,
        "held_out": len(held), "lost": lost, "out": str(out),
    }  # fmt: skip


def refuse_taken(out: Path) -> None:
    """Raise UsageError where something lies at `out` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}", "is there already", "name another place with --out, or remove it")


def save(tokenizer: Any, out: Path, special: Sequence[str] = ()) -> None:
    """A directory that transformers loads; special tokens called like BOS, EOS, padding or unknown take these roles."""
    from transformers import PreTrainedTokenizerFast

    roles = {"bos": "bos_token", "s": "bos_token", "eos": "eos_token", "/s": "eos_token", "pad": "pad_token"}
    named = {roles[key]: one for one in special if (key := one.strip("<>|[]").lower()) in roles}
    unknown = next((one for one in ("<unk>", "[UNK]") if tokenizer.token_to_id(one) is not None), None)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, clean_up_tokenization_spaces=False, **named
    ).save_pretrained(str(out))


def trained_lines(record: Mapping[str, Any]) -> list[str]:
    """What was trained, for people."""
    out = [f"{record['kind']}: {record['pieces']:,} pieces"]
    if record["pieces"] < record["asked"]:
        out.append(f"the texts support no more: {record['asked']:,} were asked for")
    out += [f"rows left out, {reason}: {count:,}" for reason, count in record["skipped"].items()]
    tried = (
        "every held-out text" if record["held_out"] else "too few texts to hold one out: the first, which was learned,"
    )
    out.append(_lost(record["lost"]) if record["lost"] else f"{tried} comes back from its tokens")
    return [*out, record["out"]]


def _lost(pair: Sequence[str]) -> str:
    return f"decoding loses text: {pair[0]!r} comes back as {pair[1]!r}"


# comparing ----------------------------------------------------------------------------------


def open_tokenizer(place: str) -> Any:
    """A `tokenizers.Tokenizer` from a tokenizer.json, a SentencePiece .model, a model's directory or a hub id."""
    path = Path(place)
    if path.is_file() and path.suffix == ".model":
        return sentencepiece.to_tokenizer(sentencepiece.read(path))
    if path.is_file():
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:
            raise ModelError(
                f"{path}", f"is no tokenizer ({error})", "give a tokenizer.json or tokenizer.model"
            ) from None
    backend = getattr(load_tokenizer(place), "backend_tokenizer", None)
    if backend is None:
        raise ModelError(place, "has a tokenizer that is not written in Rust", "convert it to a tokenizer.json")
    return backend


def compare(
    tokenizers: Mapping[str, Any], languages: Mapping[str, Texts], out: Path, *, alpha: float = measures.ALPHA
) -> dict[str, Any]:
    """Measure every tokenizer on every language; writes compare.json, compare.html and the figures into `out`."""
    rows = []
    for language, texts in languages.items():
        for name, tokenizer in tokenizers.items():
            found = measures.measure(tokenizer, texts, alpha=alpha)
            if found.round_trip < 1:
                found.lost = measures.shortest_loss(tokenizer, itertools.islice(iter(texts), LOST_FROM))
            rows.append({"language": language, "tokenizer": name, **_numbers(found)})
    skipped = {language: texts.skipped() for language, texts in languages.items()}
    record = {"alpha": alpha, "rows": rows, "skipped": skipped}
    write_json(out / "compare.json", record)
    figures = _figures(rows)
    for name, figure in figures.items():
        write_text(out / f"{name}.svg", figure)
    from mnemos.report.plot_laws import page

    write_text(out / "compare.html", page("Tokenizers by language", list(figures.values()), "\n".join(lines(record))))
    return record


def _numbers(found: Measures) -> dict[str, Any]:
    names = ("texts", "tokens", "words", "characters", "bytes", "vocabulary", "used", "unknown_characters", "continued")
    values = {name: getattr(found, name) for name in (*names, *(measure for _, measure in COLUMNS))}
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    return {**plain, "lost": list(found.lost) if found.lost else None}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    from mnemos.report.plot_tokenizers import bars

    def values(measure: str) -> dict[str, dict[str, float]]:
        table: dict[str, dict[str, float]] = {}
        for row in rows:
            value = row[measure]
            table.setdefault(row["tokenizer"], {})[row["language"]] = math.nan if value is None else float(value)
        return table

    return {
        "fertility": bars(values("fertility"), "tokens per word", name="fertility"),
        "per_byte": bars(values("per_byte"), "tokens per byte of UTF-8", name="per-byte"),
    }


def lines(record: Mapping[str, Any]) -> list[str]:
    """The table as text, a language after the other."""
    rows = record["rows"]
    width = max(len(row["tokenizer"]) for row in rows)
    out = []
    for language in dict.fromkeys(row["language"] for row in rows):
        own = [row for row in rows if row["language"] == language]
        out += [
            f"{language}: {own[0]['texts']:,} texts, {own[0]['characters']:,} characters, {own[0]['words']:,} words"
        ]
        out += [f"  rows left out, {reason}: {count:,}" for reason, count in record["skipped"][language].items()]
        out.append(f"  {'':<{width}}" + "".join(f"{head:>13}" for head, _ in COLUMNS))
        for row in own:
            cells = "".join(f"{_cell(row[measure], measure):>13}" for _, measure in COLUMNS)
            out.append(f"  {row['tokenizer']:<{width}}{cells}")
        out += [f"  {row['tokenizer']}: {_lost(row['lost'])}" for row in own if row["lost"]]
    return out


def _cell(value: float | None, measure: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if measure in SHARES else f"{value:.3f}"


# extending ----------------------------------------------------------------------------------


def extend_model(
    model: str,
    texts: Texts,
    old: Texts | None,
    out: Path,
    *,
    pieces: int,
    scripts: Sequence[str],
    how: Initialisation = "sub-pieces",
    allow_changed: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """A model with more pieces for a new language, written as a Hugging Face directory.

    old: texts of the language that the model knows, whose ids must stay; refused where one changes, unless allowed.
    """
    _check_asked(how, out)
    before = open_tokenizer(model)
    made = extend(before, texts, pieces, scripts)
    record = _extended(model, before, made, texts, old, out, how, allow_changed, seed)
    tokens = [measures.measure(one, texts).tokens for one in (before, made.tokenizer)]
    return {**record, "tokens_before": tokens[0], "tokens_after": tokens[1]}


def add_tokens(
    model: str, tokens: Sequence[str], old: Texts | None, out: Path, *,
    how: Initialisation = "mean", suppress: bool = False, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """A model with tokens beside its vocabulary (`tokenizer.extend.added`), written as a Hugging Face directory.

    old: texts whose ids must stay; refused where one spells a token. suppress: what the model writes never holds one of
    them: its generation_config.json names them under suppress_tokens, which transformers keeps to as well.
    """
    _check_asked(how, out)
    if how == "focus":
        raise UsageError("init = focus", "needs text of a language", "mean, sub-pieces and random need none")
    before = open_tokenizer(model)
    made = added(before, tokens)
    record = _extended(model, before, made, None, old, out, how, False, seed)
    if suppress:
        file = out / "generation_config.json"
        settings = read_config(file, CONFIGURATIONS[file.name]) if file.is_file() else {}
        others = settings.get("suppress_tokens") or []
        write_json(file, {**settings, "suppress_tokens": sorted({*others, *made.ids})})
    return {**record, "suppressed": suppress}


def read_tokens(path: Path) -> list[str]:
    """The tokens in a file, one a line. DataError for a file that is none of text, or beyond a megabyte."""
    if not path.is_file():
        raise DataError(f"{path}", "there is no such file", "name a file with a token a line")
    if path.stat().st_size > MOST_TOKEN_BYTES:
        raise DataError(f"{path}", f"is longer than {MOST_TOKEN_BYTES:,} bytes", "name a file with a token a line")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}", "is not UTF-8", "name a file of text with a token a line") from None


def _check_asked(how: str, out: Path) -> None:
    if how not in INITIALISATIONS:
        raise UsageError(f"init = {how!r}", f"must be one of {', '.join(INITIALISATIONS)}", "sub-pieces is usual")
    refuse_taken(out)


def _extended(
    model: str, before: Any, made: Extension, texts: Texts | None, old: Texts | None, out: Path, how: Initialisation,
    allow_changed: bool, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Write the model with its new pieces, unless they change texts that must stay; returns what is known of it."""
    number, every, shortest = changed(before, made.tokenizer, old) if old is not None else (0, 0, None)
    if not allow_changed:
        refuse_changed_language(number, every, shortest)
    return {
        "pieces": len(made.pieces), "first": measures.readable(made.tokenizer, made.pieces[:20]),
        "ids": [made.ids[0], made.ids[-1]],
        "rows": _write_model(model, made, texts, out, how, seed), "init": how, "changed": number, "old_texts": every,
        "out": str(out),
    }  # fmt: skip


def _write_model(model: str, made: Extension, texts: Texts | None, out: Path, how: Initialisation, seed: int) -> int:
    """Write weights and tokenizer; returns how many rows the embedding had."""
    import numpy as np
    import torch

    from mnemos.models.load import load_model

    config = usable_config(Path(model), False) if Path(model).is_dir() else None
    stored = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    loaded = load_model(model, dtype=stored)
    tokenizer = load_tokenizer(model)
    rows = int(loaded.get_input_embeddings().weight.shape[0])
    vectors = None
    if how == "focus" and texts is not None:
        size = max(made.ids) + 1
        found = neighbours((made.tokenizer.encode(text).ids for text in texts), size, seed=seed)
        vectors = found[: made.ids[0]], found[list(made.ids)]
    need = max(made.ids) + 1
    if need > rows:
        loaded.resize_token_embeddings(need, mean_resizing=False)
    matrices = [loaded.get_input_embeddings().weight]
    head = loaded.get_output_embeddings()
    if head is not None and head.weight is not matrices[0]:
        matrices.append(head.weight)
    std = float(getattr(loaded.config, "initializer_range", 0.02) or 0.02)
    used = min(rows, made.ids[0])  # padding rows behind the vocabulary were never trained
    for matrix in matrices:
        old = matrix.detach()[:used].float().numpy().astype(np.float64)
        fresh = new_rows(how, old, made.parts, std=std, vectors=_cut(vectors, used), seed=seed)
        with torch.no_grad():
            matrix[list(made.ids)] = torch.from_numpy(fresh).to(matrix.dtype)
    out.mkdir(parents=True, exist_ok=True)
    loaded.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    # The chat template and special tokens stay as they were; what segments is replaced.
    made.tokenizer.save(str(out / "tokenizer.json"))
    for gone in ("tokenizer.model", "vocab.json", "merges.txt"):
        (out / gone).unlink(missing_ok=True)
    _check(out, made)
    return rows


def _cut(vectors: Any, used: int) -> Any:
    return None if vectors is None else (vectors[0][:used], vectors[1])


def _check(out: Path, made: Extension) -> None:
    """The directory as transformers reads it has every new piece where it was put."""
    ids = load_tokenizer(str(out)).get_vocab()
    wrong = [piece for piece, at in zip(made.pieces, made.ids, strict=True) if ids.get(piece) != at]
    if wrong:
        shutil.rmtree(out)
        raise DataError(
            f"{len(wrong):,} new pieces, such as {wrong[0]!r}",
            "are not where they were put when transformers loads the tokenizer",
            "convert the model's tokenizer to a plain tokenizer.json first",
        )


def extended_lines(record: Mapping[str, Any]) -> list[str]:
    """What was done, for people."""
    old = f"{record['changed']:,} of {record['old_texts']:,} old texts have other ids"
    if "tokens_before" in record:
        saved = 1 - record["tokens_after"] / max(1, record["tokens_before"])
        took = (
            f"the new texts take {record['tokens_before']:,} tokens before and {record['tokens_after']:,} after "
            f"({100 * saved:.1f} % fewer)"
        )
    else:
        took = "never written: suppress_tokens" if record["suppressed"] else "the model may write them"
    return [
        f"{record['pieces']:,} new pieces, ids {record['ids'][0]:,} to {record['ids'][1]:,}, rows by {record['init']}",
        f"first: {' '.join(json.dumps(one, ensure_ascii=False) for one in record['first'])}",
        took,
        old
        if record["old_texts"]
        else "no text of the old language was given: that its ids stay was not tried (--old)",
        "loss per token cannot be compared with before: use bits per byte",
        record["out"],
    ]
