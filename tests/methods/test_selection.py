"""select and deita: each score against its formula, the budget, shares by column, what cannot be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnemos
from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, OptionScore, Prompt, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.selection import COMPLEXITY, QUALITY, deita, select
from mnemos.models.load import Checkpoint
from mnemos.rewards.judge_prompt import load_prompts
from mnemos.sources.generated import generated_in
from mnemos.sources.mix import Rows
from mnemos.sources.similarity import embed
from mnemos.sources.spread import k_center
from mnemos.synthesis.selection import answers_of, ranked
from tests.laws import Handle, base_plan
from tests.methods.contexts import FakeContext, Scripted
from tests.study.worlds import make_study
from tests.tiny import save_tiny, tiny_tokenizer

WORDS = "river mill bridge stone Ada Orford chemistry weather report answer five two three name age".split()  # noqa: SIM905


def chat(number: int, answer: str, question: str | None = None, **more: Any) -> Example:
    turns = (Turn("user", question or f"What of {WORDS[number % len(WORDS)]} {number}?"), Turn("assistant", answer))
    return Example(f"row-{number}", "messages", turns, **more)


def pool(count: int = 12, **more: Any) -> list[Example]:
    """Answers of 1, 2, … words, none like another."""
    return [
        chat(i, " ".join(f"{WORDS[(i + k) % len(WORDS)]}{i}" for k in range(i + 1)), meta={"source": "ab"[i % 3 == 0]})
        for i in range(count)
    ]


def planned(rows: Sequence[Example], **changed: Any) -> Plan:
    return base_plan(examples=Rows(tuple(rows)), past=(), sequence=False, **changed)


def chosen(plan: Plan, model: Any = None) -> tuple[list[str], FakeContext]:
    (one,) = generated_in(plan)
    context = FakeContext({plan.before.path: model or Scripted()})
    return [row.id for row in one.write(context)], context


def test_all_is_off_and_arms_of_all_seeds_share_what_no_seed_changes() -> None:
    plans = [planned(pool(), seed=seed) for seed in (1, 2)]
    assert select(plans[0], by="all", keep="lowest").fingerprint == plans[0].fingerprint
    for by in ("longest", "perplexity", "ifd", "k_center"):
        one, other = (generated_in(select(plan, by=by, rows=3))[0].fingerprint for plan in plans)
        assert one == other, by
    one, other = (generated_in(select(plan, rows=3))[0].fingerprint for plan in plans)
    assert one != other
    assert select(plans[0], rows=3, temperature=2).fingerprint == select(plans[0], rows=3).fingerprint


def test_random_is_by_id_and_smaller_budgets_lie_inside_larger_ones() -> None:
    rows = pool(60)
    few, many = (set(chosen(select(planned(rows), rows=count))[0]) for count in (10, 20))
    assert few < many
    assert len(many) == 20
    # Rows that are added push some out and bring none in that was not chosen before.
    more = [*rows, *(chat(i, "Well.") for i in range(100, 110))]
    assert {one for one in chosen(select(planned(more), rows=20))[0] if int(one[4:]) < 100} <= many
    assert set(chosen(select(planned(rows), rows=20, seed=1))[0]) != many


def test_the_longest_are_counted_in_the_students_tokens(tmp_path: Path) -> None:
    """ "0 1 2 …" has many tokens and few characters, which a count of characters would take for short."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    rows = [*pool(8), chat(90, "7@7@7@7@7@7@"), chat(91, "The river runs past the old mill")]
    rows.append(Example("two", "messages", (*rows[3].turns, *rows[4].turns)))
    lengths = [
        sum(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for _, answer in answers_of(row))
        for row in rows
    ]
    plan = planned(rows, before=Handle(str(tmp_path)))
    found, context = chosen(select(plan, by="longest", rows=4))
    expected = sorted(range(len(rows)), key=lambda i: (-lengths[i], i))[:4]
    assert found == [rows[i].id for i in sorted(expected)]
    shortest, _ = chosen(select(plan, by="longest", rows=4, keep="lowest"))
    assert shortest == [rows[i].id for i in sorted(sorted(range(len(rows)), key=lambda i: (lengths[i], i))[:4])]
    assert context.counts["chosen"] == 4
    assert context.notes["characters of an answer, in the pool"] == pytest.approx(
        np.mean([len(answer) for row in rows for _, answer in answers_of(row)])
    )


@dataclass
class Likely(Scripted):
    """Behind a prompt, an answer has the nats of `given`; alone those of `alone`; tokens are words."""

    given: Any = None
    alone: Any = None

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        return [[OptionScore(-self.given[text], len(text.split()), False) for text in texts] for texts in options]

    def nats(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(self.alone[text], len(text.split())) for text in texts]


NATS = {"a a": (2.0, 4.0), "b": (3.0, 3.1), "c c c": (9.0, 3.0), "d d d d": (0.4, 4.0), "e": (math.nan, 1.0)}


def likely() -> tuple[list[Example], Likely]:
    rows = [chat(i, text) for i, text in enumerate(NATS)]
    given, alone = ({text: pair[k] for text, pair in NATS.items()} for k in (0, 1))
    return rows, Likely(given=given, alone=alone)


def test_perplexity_is_of_the_answer_behind_its_question() -> None:
    """Nats a token: 1, 3, 3, 0.1, and none."""
    rows, model = likely()
    found, context = chosen(select(planned(rows), by="perplexity", rows=2), model)
    assert found == ["row-1", "row-2"]
    assert context.counts["cannot be chosen: longer than the model reads, or impossible to it"] == 1
    assert chosen(select(planned(rows), by="perplexity", rows=1, keep="lowest"), model)[0] == ["row-3"]
    assert chosen(select(planned(rows), by="perplexity", rows=1, keep="middle"), model)[0] == ["row-2"]


def test_ifd_is_the_share_of_the_nats_that_the_instruction_leaves() -> None:
    """s(A|Q) / s(A): 0.5, 0.968, 3 (left out: the instruction hinders), 0.1, and none."""
    rows, model = likely()
    found, context = chosen(select(planned(rows), by="ifd", rows=2), model)
    assert found == ["row-0", "row-1"]
    assert context.counts["cannot be chosen: the instruction makes its answer less likely"] == 1
    with pytest.raises(DataError, match=r"select.rows = 4: is more than the 3 new rows .* of 5 \(the ins.*: 1, longer"):
        chosen(select(planned(rows), by="ifd", rows=4), model)


def test_ifd_of_a_real_model_is_that_of_its_logits(tmp_path: Path) -> None:
    """Against the forward pass itself: the rendered chat, and the answer behind BOS."""
    import torch

    from mnemos.sources.render import Renderer
    from mnemos.synthesis.selection import InstructionFollowingDifficulty

    model = Checkpoint(str(save_tiny(tmp_path / "model")))
    rows = [chat(i, text) for i, text in enumerate(["The answer is five.", "Ada was born in Orford."])]
    loaded = model.load()
    renderer = Renderer(loaded.tokenizer)

    def mean_nats(ids: list[int], answer: int) -> float:
        with torch.inference_mode():
            logs = torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0].double(), -1)
        places = range(len(ids) - answer, len(ids))
        return -float(sum(logs[at - 1, ids[at]] for at in places)) / answer

    context = FakeContext({str(model.path): loaded})
    found = InstructionFollowingDifficulty(model)(context, rows)
    for row, one in zip(rows, found, strict=True):
        answer = loaded.tokenizer(row.turns[-1].text, add_special_tokens=False)["input_ids"]
        given = mean_nats([*renderer.prompt_ids(row.prompt), *answer], len(answer))
        ratio = given / mean_nats([loaded.tokenizer.bos_token_id, *answer], len(answer))
        assert one == (pytest.approx(ratio, rel=1e-4) if ratio <= 1 else "the instruction makes its answer less likely")


def test_k_center_is_over_the_whole_rows() -> None:
    rows = pool(20)
    points = embed(["\n".join(turn.text for turn in row.turns) for row in rows])
    assert chosen(select(planned(rows), by="k_center", rows=6))[0] == [rows[i].id for i in sorted(k_center(points, 6))]


def test_shares_by_column() -> None:
    rows = pool(12)
    found, context = chosen(select(planned(rows), rows=6, per="source"))
    sources = [rows[int(one[4:])].meta["source"] for one in found]
    assert (sources.count("a"), sources.count("b")) == (4, 2)
    assert context.counts["chosen: source = a"] == 4
    even, _ = chosen(select(planned(rows), rows=8, per="source", temperature=1000))
    assert [rows[int(one[4:])].meta["source"] for one in even].count("b") == 4
    with pytest.raises(UsageError, match=r"select.per = 'sourze': is no column .*\n?.*source"):
        chosen(select(planned(rows), rows=6, per="sourze"))
    with pytest.raises(UsageError, match="no further columns"):
        chosen(select(planned([chat(i, "Yes.") for i in range(4)]), rows=2, per="source"))


def test_rows_of_earlier_tasks_stay_and_are_not_counted() -> None:
    rows = [*pool(4), chat(50, "Old.", origin="replay")]
    found, context = chosen(select(planned(rows), rows=2))
    assert len(found) == 3
    assert found[-1] == "row-50"
    assert context.counts["as it was: not a new row"] == 1
    with pytest.raises(DataError, match=r"select.rows = 5: is more than the 4 new rows .*\n?.*set rows to 4 at most"):
        chosen(select(planned(rows), rows=5))


@pytest.mark.parametrize("by", ["random", "k_center"])
def test_an_end_of_no_score_is_refused(by: str) -> None:
    with pytest.raises(UsageError, match=rf"select.keep = lowest: says nothing beside by: {by}"):
        select(planned(pool()), by=by, keep="lowest")


def test_a_small_pool_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    study = make_study(tmp_path, arms={"few": [{"select": {"rows": 1000}}]}, health=False)
    with pytest.raises(DataError, match=r"select.rows = 1,000: is more than the 24 new rows"):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert not list((tmp_path / "run").glob("steps/*"))


def test_middle_is_by_rank_and_ties_go_to_the_earlier() -> None:
    assert ranked([1.0, 9.0, 5.0, 1000.0, 5.0], "middle")[:3] == [2, 1, 4]
    assert ranked([2.0, "none", 2.0, 3.0], "highest") == [3, 0, 2]
    assert ranked([2.0, "none", 2.0, 3.0], "lowest") == [0, 2, 3]


# --- deita -------------------------------------------------------------------------------------


@dataclass
class Rating(Scripted):
    """A judge whose rating of a question or an answer is the number in it, with probability 1."""

    asked: Any = ()

    def choose(self, contexts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        out = []
        for context, texts in zip(contexts, options, strict=True):
            text = context.turns[-1].text
            judged = text.split("Answer:\n\n")[-1] if "Answer:" in text else text
            digit = next(c for c in judged if c.isdigit())
            out.append([OptionScore(0.0 if one == f"[[{digit}]]" else -math.inf, 1, False) for one in texts])
        return out


def judged(question: int, answer: int, text: str, id: int) -> Example:
    return chat(id, f"{answer} {text}", question=f"{question} {text}?")


TOPICS = ["bread and yeast", "rivers of the north", "chess openings", "old stone mills", "Ada in Orford"]


def test_a_rows_score_is_complexity_times_quality_and_likes_are_passed_over() -> None:
    """Scores 30, 24, 24 (like the first), 6, 4."""
    rows = [judged(*pair, TOPICS[k], i) for i, (pair, k) in enumerate([((5, 6), 0), ((4, 6), 1), ((6, 4), 0), ((2, 3), 2), ((2, 2), 3)])]  # fmt: skip  # noqa: E501
    rows[2] = chat(2, rows[0].turns[1].text.replace("6", "4"), question=rows[0].turns[0].text.replace("5", "6"))
    found, context = chosen(deita(planned(rows), judge="self", rows=3, similarity=0.6), Rating())
    assert found == ["row-0", "row-1", "row-3"]
    assert context.counts["passed over: too like a row that was chosen"] == 1
    assert context.notes["score of a row, mean"] == pytest.approx(np.mean([30, 24, 24, 6, 4]))
    assert context.notes["score of a row, standard deviation"] == pytest.approx(np.std([30, 24, 24, 6, 4]))
    assert chosen(deita(planned(rows), judge="self", rows=3, similarity=1), Rating())[0] == ["row-0", "row-1", "row-2"]
    with pytest.raises(DataError, match=r"(?s)deita.rows = 5: is more than the 4 .*too like .*raise deita.similarity"):
        chosen(deita(planned(rows), judge="self", rows=5, similarity=0.6), Rating())


def test_a_long_chat_has_the_sum_or_the_mean_of_its_answers() -> None:
    short = judged(5, 5, TOPICS[0], 0)
    turns = [turn for k in (1, 2, 3) for turn in judged(3, 3, TOPICS[k], 0).turns]
    rows = [short, Example("long", "messages", tuple(turns)), judged(2, 2, TOPICS[4], 2)]
    assert chosen(deita(planned(rows), judge="self", rows=1), Rating())[0] == ["long"], "27 against 25"
    assert chosen(deita(planned(rows), judge="self", rows=1, turns="mean"), Rating())[0] == ["row-0"], "9 against 25"


def test_a_question_is_judged_by_itself_and_an_answer_with_its_conversation() -> None:
    complexity, quality = load_prompts(COMPLEXITY), load_prompts(QUALITY)
    assert complexity.plain.ratings == quality.plain.ratings == (1, 2, 3, 4, 5, 6)
    assert "conversation" not in complexity.plain.fields
    assert {"conversation", "answer"} == quality.plain.fields


def test_rows_without_a_question_cannot_be_rated() -> None:
    rows = [judged(2, 2, TOPICS[0], 0), Example("page", "text", (Turn("text", "5 rivers"),))]
    found, context = chosen(deita(planned(rows), judge="self", rows=1), Rating())
    assert found == ["row-0"]
    assert context.counts["cannot be chosen: no instruction before its answer"] == 1
