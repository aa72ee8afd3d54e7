"""Rows, joined sources, subsets, mixtures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Source, Turn
from mnemos.sources.generated import NotGenerated, SynthesisContext
from mnemos.sources.looks import refuse_few_old_rows
from mnemos.sources.mix import Joined, Mixture, Rows


def rows(count: int, name: str = "rows") -> Rows:
    return Rows(tuple(Example(str(i), "text", (Turn("text", f"{name} {i}"),)) for i in range(count)), name)


def texts_of(source: Source) -> list[str]:
    return [example.turns[0].text for example in source]


@given(
    new=st.integers(0, 50),
    old=st.integers(1, 30),
    share=st.floats(0, 0.9),
    seed=st.integers(0, 3),
)
def test_a_mixture_has_all_new_rows_and_the_share_of_old(new: int, old: int, share: float, seed: int) -> None:
    mixture = Mixture(rows(new, "new"), rows(old, "old"), share, seed, repeat=True)
    mixed = list(mixture)
    drawn = [example for example in mixed if example.origin == "replay"]
    kept = [example for example in mixed if example.origin == "new"]
    assert sorted(texts_of(Rows(tuple(kept)))) == sorted(texts_of(rows(new, "new")))
    assert abs(len(drawn) - share / (1 - share) * new) <= 0.5 + 1e-9
    times = Counter(example.turns[0].text for example in drawn)
    assert all(len(drawn) // old <= count <= -(-len(drawn) // old) for count in times.values())
    assert len({example.id for example in mixed}) == len(mixed)
    assert [e.id for e in mixture] == [e.id for e in mixed]


def test_each_old_row_comes_as_often_as_any_other_give_or_take_one() -> None:
    drawn = [e.turns[0].text for e in Mixture(rows(10), rows(4, "old"), 0.5, 0, repeat=True) if e.origin == "replay"]
    assert sorted(Counter(drawn).values()) == [2, 2, 3, 3]


def test_a_mixture_that_needs_more_than_there_is_says_what_is_possible() -> None:
    with pytest.raises(DataError, match=r"9 old rows are needed(.|\n)*has 1(.|\n)*at most 0\.100 is possible"):
        list(Mixture(rows(9), rows(1, "old"), 0.5, 0))
    assert len(list(Mixture(rows(9), rows(1, "old"), 0.1, 0))) == 10
    with pytest.raises(DataError):
        list(Mixture(rows(9), rows(0, "old"), 0.5, 0, repeat=True))
    assert texts_of(Mixture(rows(3), rows(0), 0.0, 0)) != []
    for share in (-0.1, 1.0):
        with pytest.raises(UsageError, match="share_of_final"):
            Mixture(rows(1), rows(1), share, 0)


@given(new=st.integers(0, 12), first=st.integers(0, 6), second=st.integers(0, 6), repeat=st.booleans())
def test_too_few_old_rows_are_known_before_a_mixture_is_read(new: int, first: int, second: int, repeat: bool) -> None:
    inner = Mixture(rows(new), rows(first, "first"), 0.3, 0, repeat)
    outer = Mixture(inner, Joined((rows(second, "second"), rows(1))), 0.4, 1, repeat)
    text = []
    for look in (lambda: list(outer), lambda: refuse_few_old_rows([(rows(3), outer)])):
        try:
            look()
            text.append("enough")
        except DataError as error:
            text.append(str(error))
    assert text[0] == text[1]


@dataclass(frozen=True)
class Later(NotGenerated):
    """Rows that nobody has written yet."""

    count: int

    def write(self, context: SynthesisContext) -> list[Example]:
        return list(rows(self.count))


def test_mixtures_with_rows_that_are_not_written_yet_are_looked_at_later() -> None:
    refuse_few_old_rows([Mixture(rows(9), Later(1), 0.5, 0), Mixture(Later(9), rows(1), 0.5, 0)])
    with pytest.raises(DataError, match="9 old rows are needed"):
        refuse_few_old_rows([Mixture(Mixture(rows(9), rows(1), 0.5, 0), Later(1), 0.5, 0)])


def test_mixtures_of_mixtures_keep_ids_apart() -> None:
    inner = Mixture(rows(6, "new"), rows(6, "a"), 0.3, 0)
    outer = list(Mixture(inner, rows(6, "b"), 0.3, 0))
    assert len({example.id for example in outer}) == len(outer)
    assert {example.id.split("/")[0] for example in outer if example.origin == "replay"} == {"replay", "replay2"}


def test_the_order_depends_on_the_seed_alone() -> None:
    orders = [texts_of(Mixture(rows(20), rows(20, "old"), 0.2, seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_fingerprints_follow_content_and_settings() -> None:
    mixture = Mixture(rows(3), rows(4, "old"), 0.2, 0)
    others = [
        Mixture(rows(4), rows(4, "old"), 0.2, 0),
        Mixture(rows(3), rows(5, "old"), 0.2, 0),
        Mixture(rows(3), rows(4, "old"), 0.3, 0),
        Mixture(rows(3), rows(4, "old"), 0.2, 1),
        Mixture(rows(3), rows(4, "old"), 0.2, 0, repeat=True),
        Joined((rows(3), rows(4))),
        Joined((rows(4), rows(3))),
        rows(3),
    ]
    prints = [source.fingerprint for source in (mixture, *others)]
    assert len(set(prints)) == len(prints)
    assert Mixture(rows(3), rows(4, "old"), 0.2, 0).fingerprint == mixture.fingerprint
    assert Rows(rows(3).examples, "other name").fingerprint == rows(3).fingerprint


def test_joined_sources_come_one_after_another_with_ids_apart() -> None:
    joined = list(Joined((rows(2, "a"), rows(2, "b"))))
    assert [e.id for e in joined] == ["0/0", "0/1", "1/0", "1/1"]
    assert [e.turns[0].text for e in joined] == ["a 0", "a 1", "b 0", "b 1"]
    assert [e.id for e in Joined((rows(2),))] == ["0", "1"]


def test_descriptions_say_what_is_in_it() -> None:
    mixture = Mixture(rows(1200, "new"), rows(9, "old"), 0.1, 0)
    assert mixture.describe() == "new: 1,200 rows + old: 9 rows as 10 % of all rows"
    assert Joined((rows(1, "a"), rows(2, "b")), "both").describe() == "both: a: 1 row + b: 2 rows"
    assert all(isinstance(source, Source) for source in (mixture, rows(1), Joined(())))
