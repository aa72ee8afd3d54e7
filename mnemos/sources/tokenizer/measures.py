"""What a tokenizer does to text, by language: fertility, compression, what is unknown, and what does not come back.

Fast because text repeats itself: what stands between spaces is encoded once, however often it occurs, and counted.
Whether a tokenizer allows that is known from its parts and tried on the first texts; where it does not, whole texts
are encoded.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mnemos.core.errors import DataError
from mnemos.sources.tokenizer.train import cut
from mnemos.sources.words import words

ALPHA = 2.5
"""Of the Renyi efficiency, as in its paper (arXiv:2306.16842)."""
TRIED = 40
"""Texts on which encoding by chunks is compared with encoding whole texts."""
BATCH = 4096
HELD = 16_000_000
"""Characters that are counted before they are encoded."""
SHOWN = 80
"""Characters of a text that does not come back that are shown."""

_CHUNK = re.compile(" *[^ ]+| +$")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_APART = (
    "ByteLevel",
    "Metaspace",
    "BertPreTokenizer",
    "Whitespace",
    "WhitespaceSplit",
    "Digits",
    "Punctuation",
    "Split",
)
"""Pre-tokenizers that cut at every space (a `Split` is tried like all others)."""
Ids = npt.NDArray[np.int64]


@dataclass
class Measures:
    """Of one tokenizer on the texts of one language. Counts: texts, tokens, words, characters, bytes (UTF-8). Shares
    of tokens: unknown, byte_share (tokens that hold less than a character: <0x..>, or bytes of one), single_share
    (tokens of one character, spaces before it apart). unknown_characters: share of characters that are within an
    unknown token, since neighbours fuse into one. continued: share of what stands between spaces that is two
    tokens or more, NaN where whole texts were encoded. used: different
    tokens. renyi: Renyi efficiency over the whole vocabulary. round_trip: share of texts that decoding gives back.
    lost: the shortest example of one that it does not, and what came back."""

    texts: int = 0
    tokens: int = 0
    words: int = 0
    characters: int = 0
    bytes: int = 0
    unknown: float = 0.0
    unknown_characters: float = 0.0
    byte_share: float = 0.0
    single_share: float = 0.0
    continued: float = math.nan
    used: int = 0
    vocabulary: int = 0
    renyi: float = math.nan
    round_trip: float = math.nan
    lost: tuple[str, str] | None = None
    counts: Ids = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    @property
    def fertility(self) -> float:
        """Tokens per word; of scripts without spaces, a character is a word."""
        return self.tokens / self.words if self.words else math.nan

    @property
    def per_character(self) -> float:
        """Tokens per character."""
        return self.tokens / self.characters if self.characters else math.nan

    @property
    def per_byte(self) -> float:
        """Tokens per byte of UTF-8, comparable across scripts."""
        return self.tokens / self.bytes if self.bytes else math.nan

    @property
    def compression(self) -> float:
        """Bytes per token."""
        return self.bytes / self.tokens if self.tokens else math.nan


@dataclass(frozen=True)
class Pieces:
    """What each id of a tokenizer is. unknown: bool[V]; partial: bool[V], less than a character; single: bool[V]."""

    unknown: npt.NDArray[np.bool_]
    partial: npt.NDArray[np.bool_]
    single: npt.NDArray[np.bool_]


def pieces_of(tokenizer: Any, content: Mapping[str, Any] | None = None) -> Pieces:
    """The table of a `tokenizers.Tokenizer`. content: its tokenizer.json, where it was read already."""
    content = content or json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values(), default=-1) + 1
    unknown, partial, single = (np.zeros(size, bool) for _ in range(3))
    model = content["model"]
    name = model.get("unk_token")
    if name is None and model.get("unk_id") is not None:
        name = tokenizer.id_to_token(model["unk_id"])
    if name in vocabulary:
        unknown[vocabulary[name]] = True
    special = {entry["content"] for entry in content.get("added_tokens") or () if entry.get("special")}
    to_bytes = byte_table() if has(content, "ByteLevel") else None
    prefix = model.get("continuing_subword_prefix") or ""
    for piece, at in vocabulary.items():
        if piece in special or piece == name:
            continue
        if _BYTE.fullmatch(piece):
            partial[at] = True
        elif to_bytes is not None and to_bytes.keys() >= set(piece):
            raw = bytes([to_bytes[one] for one in piece])
            try:
                single[at] = len(raw.decode().strip(" ") or " ") == 1
            except UnicodeDecodeError:
                partial[at] = True
        else:
            bare = piece.removeprefix(prefix) if prefix and piece != prefix else piece
            single[at] = len(bare.replace("\u2581", "") or "\u2581") == 1
    return Pieces(unknown, partial, single)


def readable(tokenizer: Any, pieces: Iterable[str]) -> list[str]:
    """Pieces as people read them: those of a byte-level tokenizer as text, with `\\xe5` for bytes that are none."""
    if not has(json.loads(tokenizer.to_str()), "ByteLevel"):
        return list(pieces)
    table = byte_table()
    return [
        bytes([table[one] for one in piece]).decode(errors="backslashreplace") if table.keys() >= set(piece) else piece
        for piece in pieces
    ]


def has(content: Any, kind: str) -> bool:
    """Whether a tokenizer's pre-tokenizer or decoder is, or holds, one of a type."""
    return any(f'"type": "{kind}"' in json.dumps(content.get(part)) for part in ("pre_tokenizer", "decoder"))


def byte_table() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for U+0100 and up."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(rest)}


def measure(tokenizer: Any, texts: Iterable[str], *, alpha: float = ALPHA) -> Measures:
    """Measure a `tokenizers.Tokenizer` on texts, without the special tokens that it puts around them.

    Streams: at most 16 million characters of text lie in memory at a time. Raises DataError where there is no text.
    """
    found = Measures(vocabulary=tokenizer.get_vocab_size(with_added_tokens=True))
    content = json.loads(tokenizer.to_str())
    pieces = pieces_of(tokenizer, content)
    found.counts = np.zeros(len(pieces.unknown), np.int64)
    stream = cut(texts)
    head = list(itertools.islice(stream, TRIED))
    if not head:
        raise DataError("the texts", "hold no character to measure on", "give held-out text")
    tally = _Tally(tokenizer, pieces, found, *by_chunks(tokenizer, head, content))
    for text in itertools.chain(head, stream):
        tally.add(text)
    tally.finish(alpha)
    return found


def by_chunks(tokenizer: Any, texts: Sequence[str], content: Mapping[str, Any] | None = None) -> tuple[bool, bool]:
    """Whether encoding what stands between spaces gives what encoding whole texts gives, and decoding too. content: as
    `pieces_of` takes it."""
    content = content or json.loads(tokenizer.to_str())
    if not any(has({"pre_tokenizer": content.get("pre_tokenizer")}, kind) for kind in _APART):
        return False, False
    texts = [text[:20_000] for text in texts]
    rows = [_CHUNK.findall(text) for text in texts]
    # Each chunk once: texts repeat theirs, and are encoded whole beside them.
    chunks = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    parts = [encoded.ids for encoded in tokenizer.encode_batch_fast(chunks, add_special_tokens=False)]
    again = tokenizer.decode_batch(parts, skip_special_tokens=False)
    ids_of, text_of = dict(zip(chunks, parts, strict=True)), dict(zip(chunks, again, strict=True))
    decoded = True
    for text, row in zip(texts, rows, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if list(itertools.chain.from_iterable(ids_of[chunk] for chunk in row)) != ids:
            return False, False
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        decoded = decoded and "".join(text_of[chunk] for chunk in row) == whole
    return True, decoded


class _Tally:
    """Counts while texts come in. chunked: chunks are encoded once, whole texts otherwise; joined: what chunks decode
    to can be put together."""

    def __init__(self, tokenizer: Any, pieces: Pieces, found: Measures, chunked: bool, joined: bool) -> None:
        self.tokenizer, self.pieces, self.found = tokenizer, pieces, found
        self.chunked, self.joined = chunked, joined
        self.chunks: Counter[str] = Counter()
        self.waiting: list[str] = []
        self.held = self.back = 0
        self.unknown_characters = self.continued = self.all_chunks = 0

    def add(self, text: str) -> None:
        """One text."""
        found = self.found
        found.texts += 1
        found.characters += len(text)
        found.bytes += len(text.encode(errors="surrogatepass"))
        if self.chunked:
            self.chunks.update(_CHUNK.findall(text))
        else:
            self.chunks[text] += 1
        self.waiting.append(text)
        self.held += len(text)
        if self.held > HELD:
            self.flush()

    def flush(self) -> None:
        """Encode what was counted."""
        parts, lost = list(self.chunks.items()), set()
        for start in range(0, len(parts), BATCH):
            batch = parts[start : start + BATCH]
            texts = [text for text, _ in batch]
            rows = [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
            lengths = np.array([len(ids) for ids in rows])
            counts = np.array([count for _, count in batch])
            flat = np.fromiter(itertools.chain.from_iterable(rows), np.int64, int(lengths.sum()))
            repeated = np.repeat(counts, lengths)
            # No word goes over a space, so that those of chunks are those of the text.
            self.found.words += sum(len(words(text)) * count for text, count in batch)
            self.found.counts += np.bincount(flat, repeated, len(self.found.counts)).astype(np.int64)
            self.continued += int(counts[lengths > 1].sum())
            self.all_chunks += int(counts.sum())
            owners = np.repeat(np.arange(len(rows)), lengths)[self.pieces.unknown[flat]]
            for at in np.unique(owners):
                self.unknown_characters += int(counts[at]) * self._covered(texts[at])
            if self.joined or not self.chunked:
                decoded = self.tokenizer.decode_batch(rows, skip_special_tokens=False)
                lost |= {text for text, again in zip(texts, decoded, strict=True) if text != again}
        for text in self.waiting:
            self.back += self._comes_back(text, lost)
        self.chunks.clear()
        self.waiting.clear()
        self.held = 0

    def _comes_back(self, text: str, lost: set[str]) -> bool:
        if not self.chunked:
            return text not in lost
        if self.joined:
            return not lost or not any(chunk in lost for chunk in _CHUNK.findall(text))
        return back(self.tokenizer, text) == text

    def _covered(self, text: str) -> int:
        """Characters within unknown tokens."""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return sum(
            end - start
            for one, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
            if self.pieces.unknown[one]
        )

    def finish(self, alpha: float) -> None:
        """Shares from counts."""
        self.flush()
        found, counts = self.found, self.found.counts
        found.tokens = int(counts.sum())
        total = max(1, found.tokens)
        found.unknown = float(counts[self.pieces.unknown].sum() / total)
        found.byte_share = float(counts[self.pieces.partial].sum() / total)
        found.single_share = float(counts[self.pieces.single].sum() / total)
        found.unknown_characters = self.unknown_characters / max(1, found.characters)
        found.continued = self.continued / self.all_chunks if self.chunked and self.all_chunks else math.nan
        found.used = int((counts > 0).sum())
        found.renyi = renyi(counts, found.vocabulary, alpha)
        found.round_trip = self.back / found.texts


def renyi(counts: Ids, vocabulary: int, alpha: float = ALPHA) -> float:
    """Renyi efficiency: log2(sum p^alpha) / (1 - alpha) / log2 V; Shannon's at alpha = 1. NaN without tokens or for a
    vocabulary of one.

    vocabulary: V is passed, because that of the tokens that happened to occur differs from tokenizer to tokenizer.
    """
    there = counts[counts > 0].astype(float)
    if not len(there) or vocabulary < 2:
        return math.nan
    p = there / there.sum()
    if abs(alpha - 1) < 1e-9:
        return abs(float((p * np.log2(p)).sum())) / math.log2(vocabulary)
    return abs(float(np.log2((p**alpha).sum()) / (1 - alpha))) / math.log2(vocabulary)


def shortest_loss(tokenizer: Any, texts: Iterable[str]) -> tuple[str, str] | None:
    """The shortest piece of the texts that decoding does not give back, with what it gives; None where all come back.

    Texts that fail are cut in halves as long as a half fails too, then character by character at both ends.
    """
    best: tuple[str, str] | None = None
    for text in texts:
        if best is not None and len(best[0]) == 1:
            break
        if back(tokenizer, text) == text:
            continue
        short = _shrunk(tokenizer, text)
        if best is None or len(short) < len(best[0]):
            best = short, back(tokenizer, short)
    return best and (best[0][:SHOWN], best[1][:SHOWN])


def back(tokenizer: Any, text: str) -> str:
    """decode(encode(text))."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _shrunk(tokenizer: Any, text: str) -> str:
    def fails(part: str) -> bool:
        return bool(part) and back(tokenizer, part) != part

    while len(text) > 1:
        middle = len(text) // 2
        half = next((part for part in (text[:middle], text[middle:]) if fails(part)), None)
        if half is None:
            break
        text = half
    for _ in range(len(text)):
        shorter = next((part for part in (text[1:], text[:-1]) if fails(part)), None)
        if shorter is None:
            break
        text = shorter
    return text
