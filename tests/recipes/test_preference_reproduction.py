"""What the reproduction on preferences reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import mnemos
from mnemos.core.files import read_jsonl
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.measure.suite import load_suites
from mnemos.methods.draw.preference import dpo, kto
from mnemos.models.load import Checkpoint
from mnemos.recipes.reproductions.preference import items, pairs, real, style
from mnemos.recipes.worlds.requests import HELP, REFUSALS
from mnemos.sources.read import read
from mnemos.sources.render import Renderer
from mnemos.weights.checkpoint import load_tokenizer
from tests.train.making import prepare_answers


def test_pairs_prefer_one_wording_of_each_kind() -> None:
    made = pairs()
    assert made == pairs()
    kinds = Counter(row["chosen"] == REFUSALS[-1] for row in made)
    assert kinds == {True: 300, False: 300}
    assert all(row["chosen"] != row["rejected"] for row in made)
    others = {row["rejected"] for row in made if row["chosen"] == REFUSALS[-1]}
    assert others == set(REFUSALS[:-1])
    assert all(row["chosen"].startswith(HELP[-1][:10]) for row in made if row["chosen"] != REFUSALS[-1])


def test_no_measured_request_is_taught(tmp_path: Path) -> None:
    taught = {row["prompt"] for row in pairs()}
    for part in ("dev", "test"):
        assert not taught & {item["prompt"] for item in items(part)}
    assert not {i["id"] for i in items("dev")} & {i["id"] for i in items("test")}
    assert len({item["id"] for item in items()}) == 240
    style(tmp_path)
    (suite,) = load_suites([str(tmp_path / "data" / "style.yaml")], tmp_path)
    assert suite.name == "preferred-wording"
    rows = list(read(str(tmp_path / "data" / "style.jsonl")))
    assert {row.kind for row in rows} == {"preference"}


def test_real_rows_are_read_and_counted(real_data: Path, tmp_path: Path) -> None:
    """Every one of 300 rows is learned from, measured, or left out by reason."""
    real(real_data, tmp_path)
    path = Path(mnemos.__file__).parent / "recipes" / "patients" / "chat"
    renderer = Renderer(load_tokenizer(str(path)))
    for name, method in (("dpo_en", dpo), ("dpo_zh", dpo), ("kto_en", kto)):
        source = read(str(tmp_path / "data" / f"{name}.jsonl"), on_bad="skip")
        plan = Plan(source, Checkpoint(str(path)), name, 0, TrainSettings(max_length=384, truncate=True))
        prepared = prepare_answers(method(plan), renderer)
        left_out = sum(count for reason, count in prepared.counts.items() if reason.startswith("left out"))
        assert len(prepared.rows) + left_out == prepared.counts["examples"] == source.counts["rows"]
        assert len(prepared.rows) > 30
        held = list((tmp_path / "data").glob(f"{name}-*.yaml"))
        assert load_suites([str(path) for path in held], tmp_path)
    found = [json.loads(line) for line in (tmp_path / "data" / "dpo_zh-choice.items.jsonl").read_text().splitlines()]
    assert {item["answer"] for item in found} == {0, 1}
    taught = {row["id"] for row in read_jsonl(tmp_path / "data" / "dpo_zh.jsonl")}
    assert not taught & {item["id"] for item in found}
