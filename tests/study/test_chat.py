"""A study's system prompt, template variables and template reach training, measurement, keys and the trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnemos
from mnemos.core.errors import NotComparable, UsageError
from mnemos.sources.chat_settings import ChatSettings
from mnemos.sources.render import Renderer
from mnemos.study.commands.compare import compare
from mnemos.study.config import load_study
from mnemos.study.experiment import build
from mnemos.weights.checkpoint import load_tokenizer
from tests.study.worlds import chat, make_study, write_jsonl
from tests.tiny import save_tiny

SYSTEM = "Answer in one word."
QUICK = {
    "arms": {},
    "train": {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1},
}


def _suite(folder: Path, items: list[dict[str, Any]]) -> None:
    suite = {"name": "new", "kind": "generated", "match": "exact", "max_new_tokens": 4, "chat": True, "items": items}
    (folder / "new.yaml").write_text(yaml.safe_dump(suite))


def _answers(record: mnemos.Record) -> list[Any]:
    assert record.directory is not None
    files = sorted((record.directory / "steps").glob("measure-*/answers/new.jsonl"))
    return sorted([json.loads(line)["text"] for line in path.read_text().splitlines()] for path in files)


def test_it_is_what_rows_and_items_with_the_same_system_turn_give(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "spelled").mkdir()
    given = make_study(tmp_path / "given", system=SYSTEM, **QUICK)
    spelled = make_study(tmp_path / "spelled", **QUICK)
    _suite(given.parent, [{"id": str(n), "prompt": f"Say {n}.", "answer": "x"} for n in range(4)])
    turn = {"role": "system", "content": SYSTEM}
    messages = [[turn, {"role": "user", "content": f"Say {n}."}] for n in range(4)]
    _suite(spelled.parent, [{"id": str(n), "messages": one, "answer": "x"} for n, one in enumerate(messages)])
    rows = [chat(n, f"Say {n}.", f"{n} it is") for n in range(24)]
    write_jsonl(spelled.parent / "new.jsonl", [{**row, "messages": [turn, *row["messages"]]} for row in rows])

    one, other = (mnemos.run(study, out=study.parent / "run", quiet=True) for study in (given, spelled))
    losses = [record.results["arms"][0]["runs"][0]["losses"] for record in (one, other)]
    assert losses[0] == losses[1]
    assert _answers(one) == _answers(other)
    assert one.results["manifest"]["template_fingerprint"] != other.results["manifest"]["template_fingerprint"]
    assert one.results["manifest"]["first_tokens"] == other.results["manifest"]["first_tokens"]

    # The trained model renders by itself as it was trained.
    trained = given.parent / "run" / one.results["arms"][0]["runs"][0]["model"]
    renderer = Renderer(load_tokenizer(str(trained)))
    assert renderer.template_fingerprint == one.results["manifest"]["template_fingerprint"]
    assert SYSTEM in (trained / "chat_template.jinja").read_text()

    before = given.parent / "model"
    with pytest.raises(NotComparable, match="template_fingerprint"):
        compare(before, trained, [str(given.parent / "new.yaml")], health=False)
    record = compare(
        before, trained, [str(given.parent / "new.yaml")], health=False, chat=ChatSettings.of(system=SYSTEM)
    )
    assert record.results["manifest"]["template_fingerprint"] == one.results["manifest"]["template_fingerprint"]


def test_every_key_depends_on_it_and_on_the_templates_text(tmp_path: Path) -> None:
    study = make_study(tmp_path, **QUICK)
    template = tmp_path / "own.jinja"
    template.write_text(load_tokenizer(str(tmp_path / "model")).chat_template + "{# one #}")

    def keys(**given: Any) -> set[str]:
        loaded, folder = load_study(study, given)
        return {step.key for step in build(loaded, folder, tmp_path / "run").steps}

    plain, system, own = keys(), keys(system=SYSTEM), keys(chat_template="own.jinja")
    template.write_text(template.read_text() + "{# two #}")
    changed = keys(chat_template="own.jinja")
    sets = (plain, system, own, changed)
    assert all(not a & b for n, a in enumerate(sets) for b in sets[n + 1 :])
    assert keys() == plain


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chat_template": "absent.jinja"}, "absent.jinja: does not exist"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "enable_thinking: is no variable"),
        ({"system": "  "}, "system: is empty"),
        ({"chat_template_kwargs": {"tools": []}}, r"chat_template_kwargs\.tools: is no variable"),
        ({"sytem": "x"}, "did you mean.*system|system"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    study = make_study(tmp_path, **{**QUICK, **given})
    with pytest.raises(UsageError, match=message):
        mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "steps").exists()


def test_two_models_whose_template_takes_no_tools_are_compared_on_calls_and_steps(tmp_path: Path) -> None:
    """The first tokens of the manifest are those of the prompt as it is asked: with its tools in words."""
    models = [save_tiny(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    (tmp_path / "f.py").write_text("def count(state, item: str) -> int:\n    return state.get(item, 0)\n")
    item = {"prompt": "How many?", "state": {"lamp": 1}, "answer": "1"}
    steps = {
        "name": "steps",
        "kind": "tool_steps",
        "functions": str(tmp_path / "f.py"),
        "chat": True,
        "max_new_tokens": 4,
    }
    suites = [{**steps, "items": [item] * 4}, {"name": "wins", "kind": "tool_wins", "of": "steps"}]
    record = compare(*models, suites, health=False)
    rows = {row["suite"]: row for row in record.results["comparisons"]}
    assert rows["steps"]["before"] == 0
    assert (rows["wins"]["before"], rows["wins"]["delta"]) == (0.5, 0.0)
    assert len(record.results["manifest"]["first_tokens"]) == 50
