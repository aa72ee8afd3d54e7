"""SentencePiece model files in and out, without SentencePiece: a ModelProto is a short list of pieces and settings.

Only what changes segmentation is read: pieces with scores and types, the model type, byte fallback, the dummy space
in front. A normalisation rule that is compiled into the file (NFKC and its like) is named and read as the Unicode
form of that name, since the compiled table is another library's; round trips of full-width forms tell the difference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
SPACE = "\u2581"
LARGEST = 512 << 20
"""Bytes of a model file that are read."""
MOST_PIECES = 2_000_000


@dataclass(frozen=True)
class Piece:
    """text, score and type (NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE) of one id."""

    text: str
    score: float
    type: int = NORMAL


@dataclass(frozen=True)
class Model:
    """pieces: by id. type: UNIGRAM or BPE. dummy_prefix: a space is put before the text. normalizer: the name of the
    rule (nmt_nfkc, identity, …). squeeze: runs of spaces become one."""

    pieces: tuple[Piece, ...]
    type: int = UNIGRAM
    byte_fallback: bool = False
    dummy_prefix: bool = True
    normalizer: str = "identity"
    squeeze: bool = False


# reading ------------------------------------------------------------------------------------


def read(path: Path) -> Model:
    """A .model file. Raises DataError where it is none."""
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}", f"is larger than {LARGEST >> 20} MiB, more than any model", "give a tokenizer.model")
    try:
        return decode(path.read_bytes())
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}", f"is no SentencePiece model ({error})", "give a tokenizer.model") from None


def decode(data: bytes) -> Model:
    """The message's bytes. Raises ValueError for what is no ModelProto."""
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normal: dict[int, Any] = {}
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
            if len(pieces) > MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES:,} pieces")
        elif field == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif field == 3 and isinstance(value, bytes):
            normal = dict(_fields(value))
    if not pieces:
        raise ValueError("no pieces")
    kind = int(trainer.get(3, UNIGRAM))
    if kind not in (UNIGRAM, BPE):
        raise ValueError(f"model type {kind}; 1 (unigram) and 2 (BPE) are read")
    return Model(
        tuple(pieces), kind, bool(trainer.get(35, 0)), bool(normal.get(3, 1)),
        bytes(normal.get(1, b"")).decode() or "identity", bool(normal.get(4, 1)),
    )  # fmt: skip


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    return Piece(bytes(fields.get(1, b"")).decode(), float(fields.get(2, 0.0)), int(fields.get(3, NORMAL)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields: whole numbers, floats of 32 bits, bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
        elif wire == 5:
            yield field, struct.unpack_from("<f", data, at)[0]
            at += 4
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("it is cut short")
            yield field, data[at : at + length]
            at += length
        else:
            raise ValueError(f"byte {at} begins no field")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")


# writing ------------------------------------------------------------------------------------


def encode(model: Model) -> bytes:
    """The message's bytes, which SentencePiece loads."""
    out = bytearray()
    for piece in model.pieces:
        text = piece.text.encode()
        body = _bytes(1, text) + b"\x15" + struct.pack("<f", piece.score)
        out += _bytes(1, body + (b"" if piece.type == NORMAL else _number(3, piece.type)))
    ids = {name: at for at, one in enumerate(model.pieces) for name in [one.text]}
    unknown = next((at for at, one in enumerate(model.pieces) if one.type == UNKNOWN), 0)
    trainer = _number(3, model.type) + _number(4, len(model.pieces)) + _number(35, int(model.byte_fallback))
    trainer += (
        _number(40, unknown) + _number(41, ids.get("<s>", -1)) + _number(42, ids.get("</s>", -1)) + _number(43, -1)
    )
    normal = _bytes(1, model.normalizer.encode()) + _number(3, int(model.dummy_prefix)) + _number(4, int(model.squeeze))
    return bytes(out + _bytes(2, trainer) + _bytes(3, normal + _number(5, 1)))


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field << 3 | 2) + _key(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _key(field << 3) + _key(value % (1 << 64))  # a negative number is its 64-bit complement


def _key(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# to and from `tokenizers` -------------------------------------------------------------------


def to_tokenizer(model: Model) -> Any:
    """A `tokenizers.Tokenizer` that segments as the model does.

    BPE: the merges are those pairs of pieces whose union is a piece, in the order of its score, as SentencePiece
    applies them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces = model.pieces
    unknown = next((at for at, one in enumerate(pieces) if one.type == UNKNOWN), None)
    if model.type == UNIGRAM:
        core = Tokenizer(models.Unigram([(one.text, one.score) for one in pieces], unknown, model.byte_fallback))
    else:
        vocabulary = {one.text: at for at, one in enumerate(pieces)}
        name = None if unknown is None else pieces[unknown].text
        core = Tokenizer(
            models.BPE(vocabulary, merges(pieces), unk_token=name, fuse_unk=True, byte_fallback=model.byte_fallback)
        )
    steps: list[Any] = []
    if "nfkc" in model.normalizer:
        steps.append(normalizers.NFKC())
    if model.normalizer.endswith("_cf"):
        steps.append(normalizers.Lowercase())
    if model.squeeze:
        # SentencePiece also takes spaces off both ends.
        steps += [normalizers.Strip(), normalizers.Replace(_spaces(), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    core.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    core.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    special = [one for one in pieces if one.type in (CONTROL, UNKNOWN)]
    core.add_special_tokens([AddedToken(one.text, normalized=False, special=True) for one in special])
    own = [one for one in pieces if one.type == USER_DEFINED]
    core.add_tokens([AddedToken(one.text, normalized=False) for one in own])
    return core


def _spaces() -> Any:
    from tokenizers import Regex

    return Regex(" {2,}")


def merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Pairs of pieces whose union is a piece, by falling score of the union (the earlier id of equal ones)."""
    ids = {one.text: at for at, one in enumerate(pieces) if one.type in (NORMAL, USER_DEFINED)}
    found = []
    for text, at in ids.items():
        if pieces[at].type != NORMAL:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                found.append((-pieces[at].score, at, ids[left], ids[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def from_tokenizer(tokenizer: Any) -> Model:
    """A trained `tokenizers.Tokenizer` as a SentencePiece model. Raises DataError where it is not of that kind: a
    Unigram or BPE whose pieces write spaces as U+2581."""
    import json

    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if "Metaspace" not in json.dumps(content["pre_tokenizer"]) or model["type"] not in ("Unigram", "BPE"):
        cure = "train unigram, bpe or bpe-byte-fallback"
        raise DataError(
            f"a {model['type']} tokenizer", "has no form in SentencePiece, which writes spaces as U+2581", cure
        )
    special = {entry["content"] for entry in content["added_tokens"] if entry.get("special")}
    unknown = model["vocab"][model["unk_id"]][0] if model["type"] == "Unigram" else model.get("unk_token")
    if model["type"] == "Unigram":
        scored = [(text, float(score)) for text, score in model["vocab"]]
    else:
        rank = {"".join(pair): at for at, pair in reversed(list(enumerate(model["merges"])))}
        # As SentencePiece numbers a BPE: the first merge 0, each later one less; what is no merge below all of them.
        ordered = sorted(model["vocab"], key=model["vocab"].get)
        scored = [(text, -float(rank.get(text, len(rank) + at))) for at, text in enumerate(ordered)]
    pieces = []
    for text, score in scored:
        kind = UNKNOWN if text == unknown else CONTROL if text in special else NORMAL
        if kind == NORMAL and model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
            kind = BYTE
        pieces.append(Piece(text, 0.0 if kind != NORMAL else score, kind))
    prefix = '"prepend_scheme": "never"' not in json.dumps(content["pre_tokenizer"])
    kind = UNIGRAM if model["type"] == "Unigram" else BPE
    return Model(tuple(pieces), kind, bool(model.get("byte_fallback")), dummy_prefix=prefix)
