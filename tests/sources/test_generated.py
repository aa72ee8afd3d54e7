"""Written sources: found wherever they lie in a plan, replaced by their rows, refused unwritten."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError, RunError
from mnemos.core.nouns import AudioPart, Example, Source, TextPart, Turn
from mnemos.core.plan import Likelihood, Plan
from mnemos.sources.generated import (
    GeneratedSource,
    NotGenerated,
    SynthesisContext,
    generated_in,
    inside,
    is_generated,
    materialize,
    too_few,
)
from mnemos.sources.mix import Joined, Mixture, Rows
from mnemos.sources.read import read
from mnemos.sources.write import Kept, keep
from tests import laws


@dataclass(frozen=True)
class Made(NotGenerated):
    """GeneratedSource, from the rows of another source or of none."""

    name: str
    of: Source | None = None

    def describe(self) -> str:
        return f"made {self.name}"

    def write(self, context: SynthesisContext) -> list[Example]:
        raise AssertionError("never called here")


@dataclass(frozen=True)
class Holder:
    """Something in `weigh` or `objective` that rehearses rows of its own."""

    anything: Any


def plain(name: str) -> Rows:
    return laws.rows(name, 3)


def find(written: GeneratedSource) -> Source:
    return Rows((Example(written.describe(), "text", (Turn("text", "x"),)),), written.describe())


names = st.sampled_from("abcdef")
sources = st.recursive(
    st.one_of(names.map(plain), names.map(Made)),
    lambda inner: st.one_of(
        st.builds(Made, names, inner),
        st.builds(lambda a, b: Joined((a, b)), inner, inner),
        st.builds(lambda a, b: Mixture(a, b, 0.25, 1), inner, inner),
    ),
    max_leaves=6,
)
values = st.recursive(
    sources,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names, inner, max_size=3),
        inner.map(Holder),
    ),
    max_leaves=6,
)


def by_hand(value: Any, outermost: bool) -> list[GeneratedSource]:
    """Every written one in a value, by a walk that knows each class of these tests by name."""
    if isinstance(value, Made):
        return [] if value is None else ([] if outermost else by_hand(value.of, outermost)) + [value]
    match value:
        case Joined(sources=parts) | list(parts) | tuple(parts):
            children = list(parts)
        case Mixture(new=new, old=old):
            children = [new, old]
        case Holder(anything=one):
            children = [one]
        case dict():
            children = list(value.values())
        case _:
            children = []
    return [one for child in children for one in by_hand(child, outermost)]


@settings(max_examples=60, deadline=None)
@given(values)
def test_every_written_one_is_found_once_and_inner_ones_first(value: Any) -> None:
    found = generated_in(value)
    assert len({one.fingerprint for one in found}) == len(found)
    assert {one.fingerprint for one in found} == {one.fingerprint for one in by_hand(value, outermost=False)}
    for place, one in enumerate(found):
        within = {inner.fingerprint for inner in generated_in(one)} - {one.fingerprint}
        assert within <= {earlier.fingerprint for earlier in found[:place]}


@settings(max_examples=60, deadline=None)
@given(values)
def test_settled_values_hold_rows_where_written_ones_were(value: Any) -> None:
    asked: list[GeneratedSource] = []

    def noted(written: GeneratedSource) -> Source:
        asked.append(written)
        return find(written)

    out = materialize(value, noted)
    assert generated_in(out) == []
    assert [one.fingerprint for one in asked] == [one.fingerprint for one in by_hand(value, outermost=True)]
    assert type(out) is (Rows if isinstance(value, Made) else type(value))
    if not asked:
        assert out is value
    assert materialize(out, noted) is out


def test_a_plan_is_settled_field_by_field() -> None:
    made = Made("old")
    plan = laws.base_plan(
        examples=Mixture(plain("new"), made, 0.25, 0),
        objective=(Likelihood(), Holder({"memory": Made("memory", made)})),
    )
    assert [one.describe() for one in generated_in(plan)] == ["made old", "made memory"]
    out = materialize(plan, find)
    assert isinstance(out, Plan)
    assert isinstance(out.examples, Mixture)
    assert [example.id for example in out.examples.old] == ["made old"]
    assert isinstance(out.objective[1], Holder)
    assert [example.id for example in out.objective[1].anything["memory"]] == ["made memory"]
    unchanged = {f.name for f in dataclasses.fields(Plan)} - {"examples", "objective"}
    assert all(getattr(out, name) is getattr(plan, name) for name in unchanged)
    assert materialize(laws.base_plan(), find).fingerprint == laws.base_plan().fingerprint


def test_an_unwritten_source_says_so_and_has_a_fingerprint_of_its_fields() -> None:
    with pytest.raises(RunError, match="made old: has not been written yet"):
        list(Made("old"))
    assert Made("old").fingerprint == Made("old").fingerprint
    different = [Made("old"), Made("new"), Made("old", plain("a")), Made("old", plain("b"))]
    assert len({one.fingerprint for one in different}) == len(different)
    assert isinstance(Made("old"), GeneratedSource)


def test_looking_for_written_ones_reads_no_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one"}\n')
    source = read(str(file))
    file.unlink()
    assert generated_in(Joined((source, plain("a")))) == []
    assert not is_generated(source)
    assert source in list(inside((source,)))


def test_too_few_rows_name_the_counts() -> None:
    too_few({"wrong answer": 3}, kept=2, floor=2)
    with pytest.raises(DataError, match=r"1 usable .*not JSON: 1,200, wrong answer: 3.*at least 2 are needed"):
        too_few({"wrong answer": 3, "not JSON": 1200, "empty": 0}, kept=1, floor=2)
    with pytest.raises(DataError, match="nothing was written"):
        too_few({}, kept=0, floor=1)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
turns = st.builds(Turn, st.sampled_from(["user", "assistant", "system", "tool"]), texts, st.booleans())
chats = st.lists(turns, min_size=1, max_size=3).map(tuple)
metas = st.dictionaries(
    st.sampled_from(["messages", "text", "origin", "note"]), st.one_of(texts, st.none(), st.booleans())
)
examples = st.one_of(
    st.builds(Example, texts, st.just("messages"), chats, origin=texts, meta=metas),
    st.builds(Example, texts, st.just("label"), chats, label=st.booleans(), meta=metas),
    st.builds(Example, texts, st.just("text"), texts.map(lambda t: (Turn("text", t),)), meta=metas),
    st.builds(
        Example,
        texts,
        st.just("completion"),
        st.tuples(texts, texts).map(lambda t: (Turn("prompt", t[0]), Turn("completion", t[1]))),
    ),
    st.builds(
        lambda i, p, c, r: Example(i, "preference", (*p, *c), r),
        texts,
        chats,
        st.shared(chats, key="chosen"),
        st.shared(chats, key="chosen"),
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(examples, max_size=4))
def test_kept_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[Example]) -> None:
    file = tmp_path_factory.mktemp("kept") / "rows.jsonl"
    keep(file, rows)
    assert list(Kept(file)) == rows
    assert list(Kept(file)) == rows


def test_kept_rows_keep_their_sounds(tmp_path: Path) -> None:
    whole, part = AudioPart(str(tmp_path / "a.wav")), AudioPart("/b.wav", 0.5, 2.0)
    heard = (whole, TextPart("\nWho?")), (TextPart("Hear: "), part)
    rows = [
        Example(str(n), "messages", (Turn("user", content), Turn("assistant", "Ada.")), meta={"text": "one two"})
        for n, content in enumerate(heard)
    ]
    keep(tmp_path / "rows.jsonl", rows)
    assert list(Kept(tmp_path / "rows.jsonl")) == rows
    assert [one.turns for one in read(str(tmp_path / "rows.jsonl"))] == [one.turns for one in rows]


def test_kept_rows_are_an_ordinary_file_of_rows(tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, meta={"topic": "t", "when": float("nan")}) for row in plain("a")]
    keep(tmp_path / "rows.jsonl", rows)
    assert [(one.id, one.kind, one.turns) for one in read(str(tmp_path / "rows.jsonl"))] == [
        (one.id, one.kind, one.turns) for one in rows
    ]
    assert [one.meta for one in Kept(tmp_path / "rows.jsonl")] == [{"topic": "t", "when": "nan"}] * 3
    before = Kept(tmp_path / "rows.jsonl").fingerprint
    keep(tmp_path / "rows.jsonl", rows[:2])
    assert Kept(tmp_path / "rows.jsonl").fingerprint != before
    with pytest.raises(RunError, match="has not been written yet"):
        list(Kept(tmp_path / "nowhere.jsonl"))
