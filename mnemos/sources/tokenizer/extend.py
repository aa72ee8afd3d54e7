"""New pieces behind an old vocabulary, the old ids unchanged: of a new language, or tokens that are named.

BPE goes on where its training ended: the new text is segmented by the old merges, and further merges are learned on
these segments, so that they rank behind every old one and each new piece can be reached. Pieces of another script
than the new language's are never made, because a shared Latin piece would segment the old language anew: merging
SentencePiece vocabularies with score 0, as Chinese-LLaMA did, changes 42 of 241 English lines without this filter.
Unigram's pieces come from a training of its own, WordPiece's from its published score.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from mnemos.core.errors import DataError, UsageError
from mnemos.sources.tokenizer.measures import byte_table, has
from mnemos.sources.tokenizer.train import cut
from mnemos.sources.tokenizer.wordpiece import LONGEST_WORD, PREFIX, learn, merges

SPACE = "\u2581"
MOST_NEW = 200_000
MOST_WORDS = 2_000_000
"""Different pre-tokens that are learned from, the first ones."""
_SEGMENT = regex.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")


@dataclass(frozen=True)
class Extension:
    """tokenizer: the extended one. pieces: the new ones, by id. ids: of each. parts: old ids that each was written
    with, which is what its row can be made of."""

    tokenizer: Any
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]


def extend(tokenizer: Any, texts: Iterable[str], count: int, scripts: Sequence[str]) -> Extension:
    """A copy of a `tokenizers.Tokenizer` with at most `count` more pieces, learned from texts.

    scripts: Unicode scripts (Han, Cyrillic, Arabic, …) that a new piece is written in, combining marks included.
    Fewer pieces come out where the texts hold no more. Raises UsageError for a script that Unicode does not have,
    DataError for a tokenizer that is neither BPE, Unigram nor WordPiece, and where no piece is found.
    """
    if not 1 <= count <= MOST_NEW:
        raise UsageError(f"pieces = {count}", f"must be from 1 to {MOST_NEW:,}", "500 is a small extension")
    within = script_filter(scripts)
    content = json.loads(tokenizer.to_str())
    kinds: dict[str, Callable[..., list[str]]] = {"BPE": _bpe, "Unigram": _unigram, "WordPiece": _wordpiece}
    kind = content["model"]["type"]
    if kind not in kinds:
        raise DataError(f"a {kind} tokenizer", "cannot be extended", f"known: {', '.join(kinds)}")
    counted = pretokens(tokenizer, texts)
    free = max([*tokenizer.get_vocab(with_added_tokens=True).values(), -1]) + 1
    pieces = kinds[kind](tokenizer, content, counted, count, within, free)
    if not pieces:
        raise DataError(
            f"the texts: {sum(counted.values()):,} words",
            f"hold no new piece in {', '.join(scripts)}",
            "check the script's name, or give more text",
        )
    from tokenizers import Tokenizer

    parts = tuple(
        tuple(token.id for token in tokenizer.model.tokenize(piece.removeprefix(_prefix(content)))) for piece in pieces
    )
    made = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    return Extension(made, tuple(pieces), tuple(range(free, free + len(pieces))), parts)


def added(tokenizer: Any, tokens: Sequence[str]) -> Extension:
    """A copy of a `tokenizers.Tokenizer` with tokens beside its model: each is one token wherever it is spelled.

    They are not special, so that decoding keeps them, and not normalised, so that nothing that a normaliser makes of
    another text becomes one of them, and nothing is made of them. Raises UsageError for tokens that cannot be meant:
    none or too many, one that is named twice, is there already, or has white space around it.
    """
    from tokenizers import AddedToken, Tokenizer

    if not 1 <= len(tokens) <= MOST_NEW:
        raise UsageError(f"{len(tokens):,} tokens", f"must be from 1 to {MOST_NEW:,}", "name some, one a line")
    known = tokenizer.get_vocab(with_added_tokens=True)
    for one, times in Counter(tokens).items():
        if not one or one != one.strip():
            raise UsageError(f"token {one!r}", "is empty, or has white space around it", "write it without")
        if times > 1 or one in known:
            raise UsageError(f"token {one!r}", "is there already" if times == 1 else "is named twice", "name new ones")
    parts = tuple(tuple(tokenizer.encode(one, add_special_tokens=False).ids) for one in tokens)
    made = Tokenizer.from_str(tokenizer.to_str())
    made.add_tokens([AddedToken(one, normalized=False, special=False) for one in tokens])
    ids = made.get_vocab(with_added_tokens=True)
    return Extension(made, tuple(tokens), tuple(ids[one] for one in tokens), parts)


def script_filter(scripts: Sequence[str]) -> Callable[[str], bool]:
    """Whether a text is written in these scripts alone, combining marks apart."""
    if not scripts:
        raise UsageError("scripts", "must name one", "for example Han, Cyrillic, Arabic, Thai, Devanagari")
    classes = []
    for script in scripts:
        try:
            regex.compile(rf"\p{{Script={script}}}")
        except regex.error:
            raise UsageError(
                f"script {script!r}", "is none that Unicode has", "for example Han, Cyrillic, Thai"
            ) from None
        classes.append(rf"\p{{Script={script}}}")
    pattern = regex.compile(rf"(?:[{''.join(classes)}]\p{{M}}*)+")
    return lambda text: pattern.fullmatch(text) is not None


def pretokens(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """What a tokenizer's model is given, with how often; where it splits nothing before, what stands between spaces."""
    found: Counter[str] = Counter()
    for text in cut(texts):
        plain = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer is not None else text
        for word in _split(tokenizer, plain):
            if word in found or len(found) < MOST_WORDS:
                found[word] += 1
    return found


def _split(tokenizer: Any, text: str) -> Iterator[str]:
    if tokenizer.pre_tokenizer is None:
        yield from _SEGMENT.findall(text)
        return
    for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
        # A Metaspace that does not split gives a whole line.
        yield from _SEGMENT.findall(word) if SPACE in word[1:] else (word,)


def _prefix(content: Any) -> str:
    return str(content["model"].get("continuing_subword_prefix") or "")


# one kind each ------------------------------------------------------------------------------


def _bpe(
    tokenizer: Any, content: Any, counted: Counter[str], count: int, within: Callable[[str], bool], free: int
) -> list[str]:
    from tokenizers import Tokenizer

    model = content["model"]
    to_bytes = byte_table() if has(content, "ByteLevel") else None
    new: list[str] = []
    if to_bytes is None:
        # Characters first: they are unknown, or bytes that no merge puts together.
        shown: Counter[str] = Counter()
        for word, times in counted.items():
            for character in word:
                if character not in model["vocab"] and within(character):
                    shown[character] += times
        new = sorted(shown, key=lambda one: (-shown[one], one))[: max(1, count // 2)]
        model["vocab"].update({piece: free + at for at, piece in enumerate(new)})
    core = Tokenizer.from_str(json.dumps(content, ensure_ascii=False)).model
    words: Counter[tuple[str, ...]] = Counter()
    for word, times in counted.items():
        words[tuple(token.value for token in core.tokenize(word))] += times
    allowed = _in_bytes(words, within, to_bytes) if to_bytes else lambda piece: within(piece.lstrip(SPACE))
    for left, right in merges(words, 2 * count, allowed=allowed):
        piece = left + right
        if piece not in model["vocab"]:
            if len(new) == count:
                break
            model["vocab"][piece] = free + len(new)
            new.append(piece)
        model["merges"].append([left, right])
    return new


def _in_bytes(
    words: Iterable[tuple[str, ...]], within: Callable[[str], bool], to_bytes: dict[str, int]
) -> Callable[[str], bool]:
    """Of pieces written as bytes: whole characters of the script, a space before them, and what such a character
    begins with."""
    begins: set[bytes] = set()
    for word in words:
        text = bytes(to_bytes[one] for piece in word for one in piece if one in to_bytes).decode(errors="ignore")
        for character in set(text):
            raw = character.encode()
            if len(raw) > 2 and within(character):
                begins.update(raw[:end] for end in range(2, len(raw)))

    def allowed(piece: str) -> bool:
        try:
            raw = bytes(to_bytes[one] for one in piece)
        except KeyError:
            return False
        if raw in begins:
            return True
        try:
            return within(raw.removeprefix(b" ").decode())
        except UnicodeDecodeError:
            return False

    return allowed


def _unigram(
    tokenizer: Any, content: Any, counted: Counter[str], count: int, within: Callable[[str], bool], free: int
) -> list[str]:
    from tokenizers import Tokenizer, models, trainers

    core = Tokenizer(models.Unigram())
    characters = Counter[str]()
    for word, times in counted.items():
        for one in word:
            characters[one] += times if within(one) else 0
    alphabet = sorted((one for one in characters if characters[one]), key=lambda one: (-characters[one], one))
    words = {word: times for word, times in counted.items() if any(map(within, word))}
    trainer = trainers.UnigramTrainer(
        vocab_size=2 * count + len(alphabet), show_progress=False, unk_token="<unk>", special_tokens=["<unk>"],
        initial_alphabet=alphabet[: max(1, count // 2)],
    )  # fmt: skip
    core.train_from_iterator((word for word, times in words.items() for _ in range(times)), trainer)
    vocabulary = content["model"]["vocab"]
    known = {text for text, _ in vocabulary}
    learned = [(text, score) for text, score in json.loads(core.to_str())["model"]["vocab"]
               if text not in known and within(text.lstrip(SPACE))]  # fmt: skip
    chosen = sorted(learned, key=lambda one: (-one[1], one[0]))[:count]
    # An id is a place in the list: ids of added tokens behind it are filled with what is never segmented to.
    added = {entry["id"]: entry["content"] for entry in content["added_tokens"]}
    lowest = min((score for _, score in vocabulary), default=0.0) - 100
    vocabulary += [[added.get(at, f"<unused-{at}>"), lowest] for at in range(len(vocabulary), free)]
    vocabulary += [[text, score] for text, score in chosen]
    return [text for text, _ in chosen]


def _wordpiece(
    tokenizer: Any, content: Any, counted: Counter[str], count: int, within: Callable[[str], bool], free: int
) -> list[str]:
    vocabulary = content["model"]["vocab"]
    words = {word: times for word, times in counted.items() if within(word) and len(word) <= LONGEST_WORD}
    learned = learn(words, 2 * count)
    chosen = [piece for piece in learned if piece not in vocabulary and within(piece.removeprefix(PREFIX))][:count]
    vocabulary.update({piece: free + at for at, piece in enumerate(chosen)})
    return chosen


# the old language ---------------------------------------------------------------------------


def changed(before: Any, after: Any, texts: Iterable[str]) -> tuple[int, int, str | None]:
    """How many texts of the old language have other ids now: (changed, all, the shortest changed one)."""
    number = every = 0
    shortest: str | None = None
    for text in cut(texts):
        every += 1
        if before.encode(text).ids != after.encode(text).ids:
            number += 1
            shortest = text if shortest is None or len(text) < len(shortest) else shortest
    return number, every, shortest


def refuse_changed_language(number: int, every: int, shortest: str | None) -> None:
    """Raise DataError where a text of the old language is segmented in another way."""
    if number:
        raise DataError(
            f"{number:,} of {every:,} texts of the old language, such as {(shortest or '')[:80]!r}",
            "have other ids with the new pieces",
            "name fewer scripts, or allow it with --allow-changed if the model will be trained on both",
        )
