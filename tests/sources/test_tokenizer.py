"""Tokenizers: published rules by hand, peers' figures, what comes back, and an old language that stays."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mnemos.core.errors import DataError, UsageError
from mnemos.sources.tokenizer import measures, sentencepiece
from mnemos.sources.tokenizer.extend import changed, extend, refuse_changed_language, script_filter
from mnemos.sources.tokenizer.measures import Measures, measure, renyi, shortest_loss
from mnemos.sources.tokenizer.train import KINDS, train
from mnemos.sources.tokenizer.wordpiece import learn, merges
from mnemos.sources.words import words

ENGLISH = ["The dog hugs the pug, and the pug hugs the dog in the sun.", "A bun and a pun are no pug: they are fun!",
           "the sun runs over the hill and the dog runs after the sun"] * 8  # fmt: skip
CHINESE = ["人工智能是计算机科学、心理学、哲学等学科融合的交叉学科。", "计算机科学是一门学科，心理学也是一门学科。"] * 8
RUSSIAN = ["собака обнимает мопса, а мопс обнимает собаку", "солнце бежит за собакой, собака бежит за солнцем"] * 8
MODELS = json.loads((Path(__file__).parent / "sentencepiece_models.json").read_text(encoding="utf-8"))
LOSSLESS = ("byte-bpe", "bpe-byte-fallback")


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return {kind: train(ENGLISH, kind, 400) for kind in KINDS}


def test_the_lecture_s_example_of_bpe() -> None:
    """aaabdaaabac: Z = aa, Y = ab, X = ZY leaves XdXac."""
    found = merges({tuple("aaabdaaabac"): 1}, 3)
    assert found == [("a", "a"), ("a", "b"), ("aa", "ab")]


def test_wordpiece_s_score_and_the_count_choose_different_pairs() -> None:
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    split = {tuple(c if at == 0 else f"##{c}" for at, c in enumerate(word)): n for word, n in words.items()}
    assert merges(split, 1, "count", "##") == [("##u", "##g")]
    assert merges(split, 1, "score", "##") == [("##g", "##s")]  # 5 / (20 x 5) = 0.05, more than 20 / (36 x 20)
    assert "##gs" in learn(words, 12)
    corpus = [" ".join([word] * n) for word, n in words.items()]
    by_count = train(corpus, "wordpiece-count", 13).get_vocab()
    assert "##ug" in by_count
    assert "##gs" not in by_count
    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    peer.train_from_iterator(
        corpus, trainers.WordPieceTrainer(vocab_size=13, special_tokens=["[UNK]"], show_progress=False)
    )
    assert "##ug" in peer.get_vocab()  # Hugging Face's first merge; it keeps each letter in both forms before that


def slow_merges(words: dict[tuple[str, ...], int], most: int, rule: str) -> list[tuple[str, str]]:
    """The rule with everything counted anew at each step."""
    rows = [(list(word), count) for word, count in words.items()]
    found = []
    for _ in range(most):
        pairs, pieces = Counter[tuple[str, str]](), Counter[str]()
        for word, count in rows:
            pieces.update({one: word.count(one) * count for one in set(word)})
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        worth = {p: n if rule == "count" else n / (pieces[p[0]] * pieces[p[1]]) for p, n in pairs.items()}
        best = min(pairs, key=lambda p: (-worth[p], p))
        found.append(best)
        for word, _ in rows:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=7).map(tuple), st.integers(1, 9), min_size=1, max_size=8),
    st.sampled_from(["count", "score"]),
)
def test_merging_is_the_rule_counted_anew_each_time(words: dict[tuple[str, ...], int], rule: Any) -> None:
    assert merges(words, 12, rule) == slow_merges(words, 12, rule)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_is_the_same_again(kind: str, trained: dict[str, Any]) -> None:
    assert train(iter(ENGLISH), kind, 400).get_vocab() == trained[kind].get_vocab()
    assert trained[kind].get_vocab_size() <= 400
    assert trained[kind].encode("the dog").ids


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=30))
def test_bytes_lose_nothing(kind: str, text: str, trained: dict[str, Any]) -> None:
    text = text.encode(errors="ignore").decode().replace("\u2581", "")  # U+2581 is how the second kind writes a space
    assert measures.back(trained[kind], text) == text


@pytest.mark.parametrize("kind", KINDS)
def test_odd_corpora_are_learned_or_refused(kind: str) -> None:
    with pytest.raises(DataError, match="no character"):
        train(["", "  \n"], kind, 400)
    one = train(["a" * 50], kind, 400)
    assert one.get_vocab_size() <= 400
    assert one.encode("aaa").ids
    assert train(["\x00\x01\x1b[31m control \x7f " * 9], kind, 400).encode("control").ids


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'unigram'"):
        train(ENGLISH, "unigramm", 400)
    with pytest.raises(UsageError, match="vocabulary = 100"):
        train(ENGLISH, "byte-bpe", 100)
    with pytest.raises(UsageError, match="vocabulary = 2000000"):
        train(ENGLISH, "word", 2_000_000)


def test_a_large_page_is_cut_and_stays_whole() -> None:
    from mnemos.sources.tokenizer.train import LONGEST, cut

    page = "word " * (LONGEST // 2)
    parts = list(cut([page]))
    assert "".join(parts).strip() == page.strip()
    assert max(map(len, parts)) <= LONGEST


def plain_measures(tokenizer: Any, texts: list[str]) -> Measures:
    """A Python loop over encode."""
    found = Measures(vocabulary=tokenizer.get_vocab_size())
    ids = [tokenizer.encode(text).ids for text in texts]
    found.tokens = sum(map(len, ids))
    found.round_trip = sum(tokenizer.decode(one, skip_special_tokens=False) == text
                           for one, text in zip(ids, texts, strict=True)) / len(texts)  # fmt: skip
    unknown = next(
        (tokenizer.token_to_id(one) for one in ("<unk>", "[UNK]") if tokenizer.token_to_id(one) is not None), -1
    )
    found.unknown = sum(one.count(unknown) for one in ids) / found.tokens
    found.counts = np.bincount(np.concatenate([np.array(one, int) for one in ids]), minlength=found.vocabulary)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_measures_are_those_of_a_loop(kind: str, trained: dict[str, Any]) -> None:
    texts = [*ENGLISH, *CHINESE[:2], "  spaced   out ", "tab\tand\nline é", "zebra quiz"]
    ours, loop = measure(trained[kind], texts), plain_measures(trained[kind], texts)
    assert (ours.tokens, ours.round_trip, ours.unknown) == (loop.tokens, loop.round_trip, pytest.approx(loop.unknown))
    assert (ours.counts[: len(loop.counts)] == loop.counts[: len(ours.counts)]).all()
    assert ours.bytes == sum(len(text.encode()) for text in texts)
    assert ours.words == sum(len(words(text)) for text in texts)
    assert ours.compression == pytest.approx(1 / ours.per_byte)
    assert ours.renyi == pytest.approx(renyi(loop.counts, loop.vocabulary))
    assert (shortest_loss(trained[kind], texts) is None) == (loop.round_trip == 1)


def test_chunks_are_used_where_they_give_the_same(trained: dict[str, Any]) -> None:
    assert measures.by_chunks(trained["byte-bpe"], ENGLISH) == (True, True)
    assert measures.by_chunks(train(ENGLISH, "character", 400), ENGLISH)[0]
    without = train(ENGLISH, "bpe", 400)
    without.pre_tokenizer = None
    assert measures.by_chunks(without, ENGLISH) == (False, False)


def test_shares_by_hand() -> None:
    tokenizer = train(["abab abab"], "bpe-byte-fallback", 300)
    found = measure(tokenizer, ["中"])
    assert found.tokens == 3
    assert (found.byte_share, found.single_share, found.unknown) == (1.0, 0.0, 0.0)
    assert (found.fertility, found.per_character, found.per_byte) == (3, 3, 1)
    byte_level = measure(train(["abab abab"], "byte-bpe", 300), ["中 b"])
    assert byte_level.byte_share == pytest.approx(3 / 5)  # three bytes of one character, a space, b
    assert byte_level.single_share == pytest.approx(2 / 5)
    unknown = measure(train(["abab"], "character", 20), ["ab中文"])
    assert unknown.unknown == 0.5
    assert unknown.unknown_characters == 0.5


def test_renyi_by_hand() -> None:
    assert renyi(np.array([5, 5, 5, 5, 0]), 4) == pytest.approx(1)
    assert renyi(np.array([1, 1]), 16, alpha=1) == pytest.approx(1 / 4)
    p = np.array([0.5, 0.25, 0.25])
    assert renyi(np.array([2, 1, 1]), 8, alpha=2) == pytest.approx(-np.log2((p**2).sum()) / 3)
    assert renyi(np.array([2, 1, 1]), 8, alpha=1 + 1e-7) == pytest.approx(
        renyi(np.array([2, 1, 1]), 8, alpha=1), abs=1e-6
    )
    assert np.isnan(renyi(np.array([0]), 8))


def test_the_shortest_loss_is_a_character(trained: dict[str, Any]) -> None:
    lost = shortest_loss(trained["bpe"], ["the dog", "the dog hugs 中 and the pug"])
    assert lost is not None
    assert lost[0] == "中"
    assert shortest_loss(trained["byte-bpe"], CHINESE) is None


@pytest.mark.parametrize("name", MODELS)
def test_sentencepiece_models_segment_as_sentencepiece_does(name: str) -> None:
    """Models that SentencePiece 0.2 trained, and the ids that it gave."""
    raw = zlib.decompress(base64.b85decode(MODELS[name]["model"]))
    model = sentencepiece.decode(raw)
    tokenizer = sentencepiece.to_tokenizer(model)
    for text, ids in MODELS[name]["ids"]:
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text
    assert sentencepiece.decode(sentencepiece.encode(model)) == model


@pytest.mark.parametrize("kind", ["unigram", "bpe", "bpe-byte-fallback"])
def test_what_is_written_for_sentencepiece_is_read_again(kind: str, trained: dict[str, Any]) -> None:
    model = sentencepiece.from_tokenizer(trained[kind])
    again = sentencepiece.to_tokenizer(sentencepiece.decode(sentencepiece.encode(model)))
    for text in ("the dog hugs", " a pug", "fun fun zebra"):
        assert again.encode(text).ids == trained[kind].encode(text).ids
    with pytest.raises(DataError, match="has no form in SentencePiece"):
        sentencepiece.from_tokenizer(trained["byte-bpe"])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_what_is_no_model_is_refused(data: bytes) -> None:
    # A few bytes may by chance be a model with a piece; nothing but a DataError is raised for the others.
    with tempfile.NamedTemporaryFile(suffix=".model") as file, contextlib.suppress(DataError):
        file.write(data)
        file.flush()
        assert sentencepiece.read(Path(file.name)).pieces


@pytest.mark.parametrize("kind", ["byte-bpe", "bpe-byte-fallback", "bpe", "unigram", "wordpiece", "wordpiece-count"])
@pytest.mark.parametrize(("texts", "script"), [(CHINESE, "Han"), (RUSSIAN, "Cyrillic")])
def test_new_pieces_shorten_the_new_language_and_leave_the_old(
    kind: str, texts: list[str], script: str, trained: dict[str, Any]
) -> None:
    before = trained[kind]
    made = extend(before, texts, 40, [script])
    assert 0 < len(made.pieces) <= 40
    vocabulary = made.tokenizer.get_vocab()
    assert [vocabulary[piece] for piece in made.pieces] == list(made.ids)
    assert changed(before, made.tokenizer, ENGLISH)[0] == 0
    known, now = measure(before, texts), measure(made.tokenizer, texts)
    assert now.tokens < known.tokens or now.unknown < known.unknown
    if kind in LOSSLESS:
        assert now.round_trip == 1
        used = {one for text in texts for one in made.tokenizer.encode(text).ids}
        assert len(used & set(made.ids)) >= 5  # the others are steps on the way to them
        assert all(len(parts) >= 1 for parts in made.parts)


def test_a_changed_old_language_is_found() -> None:
    before = train(ENGLISH, "byte-bpe", 270)
    made = extend(before, ENGLISH, 20, ["Latin"])
    number, every, shortest = changed(before, made.tokenizer, ENGLISH)
    assert number > 0
    assert shortest is not None
    with pytest.raises(DataError, match="have other ids"):
        refuse_changed_language(number, every, shortest)
    with pytest.raises(UsageError, match="is none that Unicode has"):
        script_filter(["Klingon"])
    with pytest.raises(DataError, match="hold no new piece in Thai"):
        extend(before, ENGLISH, 5, ["Thai"])
