"""Training a tokenizer: eight kinds, each a row of `KINDS`.

Two of them are called WordPiece. The published rule merges the pair with the largest count(ab) / (count(a) count(b));
Hugging Face's trainer merges the most frequent pair, as BPE does, and differs from BPE in how it encodes only. Both
are offered under their names, so that "BPE against WordPiece" compares what it says.

What breaks silently elsewhere, and is set here: bytes unseen in training are in the alphabet of byte-level BPE; the
256 entries of byte fallback are ordinary pieces, not special tokens, which decoding would drop; Unigram is given its
unknown piece in the trainer; no space is put before a text, which decoding would have to take away again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mnemos.core.errors import DataError, UsageError, nearest
from mnemos.sources.tokenizer import wordpiece

UNKNOWN = "<unk>"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LONGEST = 1 << 20
"""Characters of one text that trainers see at a time; longer ones are cut at white space near it, so that a page of
50 MB takes no more memory than the rest."""
LARGEST = 1_000_000
"""Pieces that may be asked for."""
ALPHABET = 6000
"""Characters that kinds without bytes keep, the most frequent first; the others are unknown."""


@dataclass(frozen=True)
class Kind:
    """A way to train. make: (texts, vocabulary, special tokens) -> a `tokenizers.Tokenizer`. summary: one line."""

    make: Callable[[Iterable[str], int, tuple[str, ...]], Any]
    summary: str


def train(texts: Iterable[str], kind: str, vocabulary: int, special: tuple[str, ...] = ()) -> Any:
    """A `tokenizers.Tokenizer` of at most `vocabulary` pieces, special tokens among them.

    The same texts give the same pieces in the same order. Fewer pieces come out where the text supports no more; what
    was asked is then not reached, and the caller says so. Raises UsageError for an unknown kind or a vocabulary that
    has no room for the kind's own pieces, DataError for texts without a character.
    """
    if kind not in KINDS:
        raise UsageError(f"kind = {kind!r}", "is no way to train a tokenizer", nearest(kind, KINDS))
    least = (256 if kind in ("byte-bpe", "bpe-byte-fallback") else 0) + len(special) + 2
    if not least <= vocabulary <= LARGEST:
        raise UsageError(
            f"vocabulary = {vocabulary}", f"must be from {least} to {LARGEST:,} for {kind}", "8000 is usual"
        )
    pieces = cut(texts)
    first = next(pieces, None)
    if first is None:
        raise DataError("the texts", "hold no character to learn from", "give text")
    return KINDS[kind].make(itertools.chain([first], pieces), vocabulary, special)


def cut(texts: Iterable[str]) -> Iterator[str]:
    """Non-empty texts, long ones in parts that end at white space where there is some."""
    for text in texts:
        while len(text) > LONGEST:
            at = max(text.rfind(" ", LONGEST // 2, LONGEST), text.rfind("\n", LONGEST // 2, LONGEST))
            at = LONGEST if at < 0 else at
            yield text[:at]
            text = text[at:]
        if text.strip():
            yield text


def _byte_bpe(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(special), show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )  # fmt: skip
    return core


def _byte_fallback(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    room = vocabulary - len(BYTES) - 1 - len(special)
    trainer = trainers.BpeTrainer(vocab_size=max(2, room), limit_alphabet=max(1, room // 2), show_progress=False)
    core.train_from_iterator(texts, trainer)
    # The 256 bytes become ordinary pieces: as special tokens they would be left out of what is decoded.
    learned = _model_of(core)
    ids = {piece: at for at, piece in enumerate([UNKNOWN, *BYTES, *sorted(learned["vocab"], key=learned["vocab"].get)])}
    merges = [tuple(pair) for pair in learned["merges"]]
    made = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = core.pre_tokenizer
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(list(special))
    return made


def _unigram(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    core.decoder = decoders.Metaspace(prepend_scheme="never")
    kept, alphabet = _counted_alphabet(texts, vocabulary - len(special) - 1)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=[UNKNOWN, *special], unk_token=UNKNOWN, show_progress=False,
        initial_alphabet=alphabet,
    )  # fmt: skip
    core.train_from_iterator(kept, trainer)
    # The trainer numbers pieces of equal score in another order in every process.
    # Of a corpus of one character its score is not a number, which JSON holds as null: what is certain has ln 1.
    learned = [(text, 0.0 if score is None else score) for text, score in _model_of(core)["vocab"]]
    first = [one for one in learned if one[0] in (UNKNOWN, *special)]
    rest = sorted(
        (one for one in learned if one[0] not in (UNKNOWN, *special)), key=lambda one: (-round(one[1], 6), one[0])
    )
    core.model = models.Unigram([*first, *rest], 0)
    return core


def _wordpiece(texts: Iterable[str], vocabulary: int, special: tuple[str, ...], rule: wordpiece.Rule = "score") -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(text))
    room = vocabulary - 1 - len(special)
    pieces = ["[UNK]", *special, *wordpiece.learn(words, room, rule, ALPHABET)]
    core = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer, core.decoder = splitter, decoders.WordPiece()
    core.add_special_tokens(list(special))
    return core


def _wordpiece_by_count(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    # Hugging Face's rule, in our loop: its trainer numbers the alphabet anew in every process.
    return _wordpiece(texts, vocabulary, special, "count")


def _words(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=[UNKNOWN, *special], show_progress=False, min_frequency=1
    )
    core.train_from_iterator(texts, trainer)
    return core


def _characters(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=[UNKNOWN, *special], show_progress=False, min_frequency=1
    )
    core.train_from_iterator(texts, trainer)
    return core


def _bpe(texts: Iterable[str], vocabulary: int, special: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    core.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[UNKNOWN, *special], show_progress=False,
        limit_alphabet=min(ALPHABET, max(1, vocabulary // 2)),
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    return core


def _counted_alphabet(texts: Iterable[str], most: int) -> tuple[list[str], list[str]]:
    """The texts, and their most frequent characters in a fixed order: Unigram's seed would take its own."""
    kept, counts = [], Counter[str]()
    for text in texts:
        kept.append(text)
        counts.update(text)
    ordered = sorted((one for one in counts if not one.isspace()), key=lambda one: (-counts[one], one))
    return kept, ordered[: max(1, min(ALPHABET, most // 2))]


def _model_of(core: Any) -> Any:
    import json

    return json.loads(core.to_str())["model"]


KINDS: dict[str, Kind] = {
    "byte-bpe": Kind(_byte_bpe, "BPE over bytes, as GPT-2's; no text is unknown"),
    "bpe-byte-fallback": Kind(_byte_fallback, "BPE over characters, unknown ones as bytes, as Llama-2's"),
    "bpe": Kind(_bpe, "BPE over characters, unknown ones lost"),
    "wordpiece": Kind(_wordpiece, "WordPiece by its published score, count(ab) / (count(a) count(b))"),
    "wordpiece-count": Kind(_wordpiece_by_count, "WordPiece as Hugging Face trains it: merges by count, as BPE"),
    "unigram": Kind(_unigram, "Unigram language model (arXiv:1804.10959)"),
    "word": Kind(_words, "baseline: words between white space"),
    "character": Kind(_characters, "baseline: single characters"),
}
