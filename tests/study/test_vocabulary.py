"""New pieces of a language as a step of a study: their ids, what is compared, in stages, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import UsageError
from mnemos.study.config import dump_study, load_study
from mnemos.study.experiment import build
from mnemos.study.results.again import computed_again, unlike
from mnemos.study.results.items import read_items
from mnemos.weights.checkpoint import load_tokenizer
from tests.study.worlds import make_study, write_jsonl

HAN = {"data": "one.jsonl", "scripts": ["Han"], "pieces": 6}
BITS = {
    "name": "han", "kind": "bits_per_byte",
    "items": [{"id": "1", "text": "日月星辰 天地"}, {"id": "2", "text": "水火山川"}],
}  # fmt: skip


def study(folder: Path, **changes: Any) -> Path:
    """Two tasks of Han text, which the tiny model writes in bytes."""
    write_jsonl(folder / "one.jsonl", [{"text": "水火山川日月星辰 人山人海 天地玄黄"}] * 8)
    write_jsonl(folder / "two.jsonl", [{"text": "天地玄黄 宇宙洪荒 日月盈昃"}] * 8)
    teach = [{"data": f"{name}.jsonl", "suites": [BITS]} for name in ("one", "two")]
    given = {"teach": teach, "suites": {"old": ["old.yaml"]}, "health": False, "joint": False, "arms": {}, **changes}
    return make_study(folder, train={"max_steps": 1, "per_device_train_batch_size": 2}, **given)


def test_arms_are_taught_with_pieces_of_their_own_and_compared_in_bits(tmp_path: Path) -> None:
    arms = {"stages": [{"only": {"parts": ["embeddings"], "tasks": ["one"]}}]}
    own = {"stages": {**HAN, "pieces": 3, "every_task": True, "old": "old.jsonl"}}
    out = tmp_path / "run"
    results = mnemos.run(str(study(tmp_path, arms=arms, arm_vocabulary=own)), out=out, quiet=True).results
    plain, stages = results["arms"]
    assert "vocabulary" not in plain
    first, second = stages["vocabulary"]
    assert [first["pieces"], second["pieces"]] == [3, 3]
    assert (first["changed"], first["old_texts"]) == (0, 24)
    # The second extension goes on where the first one ended, and each saves tokens.
    assert first["ids"][1] + 1 == second["ids"][0]
    assert first["tokens_before"] > first["tokens_after"] == second["tokens_before"] > second["tokens_after"]
    sizes = [len(load_tokenizer(str(out / arm["runs"][0]["model"]))) for arm in (plain, stages)]
    assert sizes[0] + 6 == sizes[1]
    # The model as it was before any training stands beside the arms.
    (beside,) = results["beside"].items()
    assert beside[0] == "stages-extended"
    extended = next(row["delta"] for row in beside[1]["comparisons"] if row["suite"] == "han")
    assert extended != 0
    # What the training brought is told from there.
    ((arm, since),) = beside[1]["since"].items()
    change = next(row["delta"] for row in results["comparisons"] if (row["arm"], row["suite"]) == (arm, "han"))
    assert next(row["delta"] for row in since if row["suite"] == "han") == pytest.approx(change - extended)
    assert {row["arm"] for row in results["comparisons"] if row["suite"] == "han"} == {"plain", "stages"}
    costs = [arm["runs"][0]["cost"] for arm in (plain, stages)]
    assert costs[0]["trainable_parameters"] < costs[1]["trainable_parameters"], "everything, in the second task"
    assert not list(unlike(results, computed_again(results, read_items(out / "items.json.gz"))))


def test_only_what_draws_depends_on_the_seed(tmp_path: Path) -> None:
    own = {"means": HAN, "drawn": {**HAN, "init": "random"}}
    path = study(tmp_path, arms={"means": [], "drawn": []}, arm_vocabulary=own, seeds=[0, 1])
    loaded, folder = load_study(path)
    assert load_study(_written(tmp_path, dump_study(loaded)))[0] == loaded
    runs = build(loaded, folder, tmp_path / "run").runs
    keys = {arm: {run.stages[0].extends[0].key for run in runs if run.arm == arm} for arm in own}
    assert (len(keys["means"]), len(keys["drawn"])) == (1, 2)
    assert all(not stage.extends for run in runs for stage in run.stages[1:])
    assert all(run.stages[0].extends[0].key in run.stages[0].steps[0].needs for run in runs if run.arm in own)


def _written(folder: Path, text: str) -> Path:
    path = folder / "dumped.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"arm_vocabulary": {"nobody": HAN}}, "nobody"),
        ({"arm_vocabulary": {"plain": {**HAN, "peices": 3}}}, "pieces"),
        ({"arm_vocabulary": {"plain": {**HAN, "pieces": 0}}}, "pieces"),
        ({"arm_vocabulary": {"plain": HAN}, "system": "Be brief."}, "system"),
        ({"arm_vocabulary": {"plain": HAN}, "beside": {"plain-extended": "model"}}, "plain-extended"),
        (
            {"arm_vocabulary": {"plain": {**HAN, "every_task": True}}, "teach": {"data": "one.jsonl"}},
            "every_task",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        load_study(study(tmp_path, **changes))


def test_distributions_over_two_vocabularies_are_not_compared(tmp_path: Path) -> None:
    kl = {"name": "kl", "kind": "kl", "of": "new"}
    path = study(tmp_path, arm_vocabulary={"plain": HAN}, suites={"old": ["old.yaml", "new.yaml", kl]})
    with pytest.raises(UsageError, match="bits per byte can be compared"):
        build(*load_study(path), tmp_path / "run")
