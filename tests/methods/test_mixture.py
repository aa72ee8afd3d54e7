"""mixture: shares of tokens against what is asked for, caps, turns; weights that a proxy learned."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan
from mnemos.methods.examples.mixture import mixture
from mnemos.methods.examples.replay import replay
from mnemos.models.load import Checkpoint
from mnemos.sources.mix import Rows
from mnemos.weights.checkpoint import load_tokenizer
from tests.laws import base_plan, data_file
from tests.tiny import tiny_tokenizer

SIZES = {"web": 40, "wiki": 12, "drama": 6}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    tiny_tokenizer(chat=False).save_pretrained(folder)
    return folder


def plan_of(tokenizer: Path, **changed: Any) -> Plan:
    rows = Rows(tuple(
        Example(f"{name}-{n}", "text", (Turn("text", "The river runs. " * (1 + n % 4)),), meta={"source": name})
        for name, count in SIZES.items() for n in range(count)
    ))  # fmt: skip
    return base_plan(examples=rows, before=Checkpoint(str(tokenizer)), **changed)


def shares(made: Plan, tokenizer: Path) -> dict[str, float]:
    tokens: Counter[str] = Counter()
    found = load_tokenizer(str(tokenizer))
    for row in made.examples:
        tokens[row.meta["source"]] += len(found(row.turns[0].text, add_special_tokens=False)["input_ids"])
    return {name: count / tokens.total() for name, count in tokens.items()}


def test_each_source_has_its_share_of_the_tokens(tokenizer: Path) -> None:
    start = plan_of(tokenizer)
    even = mixture(start, by="uniform", max_epochs=20)
    assert shares(even, tokenizer) == pytest.approx(dict.fromkeys(SIZES, 1 / 3), abs=0.05)
    given = {"web": 1.0, "wiki": 6.0, "drama": 3.0}
    made = mixture(start, by="given", weights=given, max_epochs=20)
    assert shares(made, tokenizer) == pytest.approx({name: weight / 10 for name, weight in given.items()}, abs=0.05)
    natural = shares(start, tokenizer)
    assert shares(mixture(start), tokenizer) == pytest.approx(natural, abs=0.02)
    raw = {name: share**0.5 for name, share in natural.items()}
    flat = shares(mixture(start, temperature=2.0, max_epochs=20), tokenizer)
    assert flat == pytest.approx({name: one / sum(raw.values()) for name, one in raw.items()}, abs=0.05)


def test_rows_are_read_in_whole_turns_and_ids_stay_apart(tokenizer: Path) -> None:
    made = list(mixture(plan_of(tokenizer), by="uniform", max_epochs=20).examples)
    ids = [row.id for row in made]
    assert len(set(ids)) == len(ids)
    turns = Counter(row.id.partition("#")[0] for row in made if row.meta["source"] == "drama")
    assert len(turns) == SIZES["drama"]
    assert max(turns.values()) - min(turns.values()) <= 1
    assert max(turns.values()) > 1


def test_caps_hold_and_a_mixture_that_cannot_be_filled_is_refused(tokenizer: Path) -> None:
    made = mixture(plan_of(tokenizer), by="uniform", max_epochs=2)
    turns = Counter(row.id.partition("#")[0] for row in made.examples)
    assert max(turns.values()) == 2
    with pytest.raises(DataError, match="cannot be filled"):
        list(mixture(plan_of(tokenizer), by="uniform", max_epochs=1, total_tokens=1e6).examples)


def test_the_seed_draws_and_the_same_seed_draws_the_same(tokenizer: Path) -> None:
    def ids(made: Plan) -> list[str]:
        return [row.id for row in made.examples]

    start = plan_of(tokenizer)
    one = mixture(start, by="uniform", total_tokens=200)
    assert ids(one) == ids(mixture(start, by="uniform", total_tokens=200))
    assert ids(one) != ids(mixture(start, by="uniform", total_tokens=200, seed=1))
    assert one.fingerprint != mixture(start, by="uniform", total_tokens=200, seed=1).fingerprint


def test_old_rows_stay_as_they_are(tokenizer: Path) -> None:
    start = replay(plan_of(tokenizer), data=data_file("messages"), share_of_final=0.2)
    old = [row.id for row in start.examples if row.origin == "replay"]
    made = list(mixture(start, by="uniform", max_epochs=20).examples)
    assert sorted(row.id for row in made if row.origin == "replay") == sorted(old)


def test_weights_of_a_run(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    start = plan_of(tokenizer)
    made = mixture(start, by="run", run=str(path), max_epochs=20)
    unwritten = made.fingerprint
    with pytest.raises(UsageError, match="does not exist"):
        list(made.examples)
    noted = {"weight of web": [[4, 0.2]], "weight of wiki": [[4, 0.5]], "weight of drama": [[4, 0.3]]}
    results: dict[str, Any] = {"arms": [{"arm": "doremi", "runs": [{"seed": start.seed, "noted": noted}]}]}
    path.write_text(json.dumps(results))
    again = mixture(start, by="run", run=str(path), max_epochs=20)
    assert again.fingerprint != unwritten
    assert shares(again, tokenizer) == pytest.approx({"web": 0.2, "wiki": 0.5, "drama": 0.3}, abs=0.05)
    del noted["weight of drama"]
    path.write_text(json.dumps(results))
    with pytest.raises(UsageError, match="weight of drama"):
        list(again.examples)


def test_settings_that_do_not_go_together(tokenizer: Path) -> None:
    start = plan_of(tokenizer)
    for settings in (
        {"by": "given"},
        {"by": "size", "weights": {"web": 1.0}},
        {"by": "run"},
        {"by": "uniform", "arm": "doremi"},
        {"by": "uniform", "temperature": 2.0},
    ):
        with pytest.raises(UsageError, match=r"mixture\.by"):
            mixture(start, **settings)
    with pytest.raises(DataError, match="has no column kind"):
        list(mixture(start, column="kind").examples)
    unnamed = dataclasses.replace(start, examples=Rows((Example("x", "text", (Turn("text", "a"),), meta={}),)))
    with pytest.raises(DataError, match="has no column source"):
        list(mixture(unnamed).examples)
