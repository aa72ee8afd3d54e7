"""Kept item scores give every comparison again, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnemos
from mnemos.core.files import read_json
from mnemos.study.results.again import computed_again, unlike
from mnemos.study.results.items import FILE, read_items
from tests.study.worlds import make_study

KEPT = sorted((Path(__file__).parents[3] / "docs" / "results").glob(f"*.{FILE}"))


def again(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    results, kept = read_json(folder / "results.json"), read_items(folder / FILE)
    return results, json.loads(json.dumps(computed_again(results, kept))), kept


def test_what_a_study_prints_is_computed_again_from_its_item_scores(tmp_path: Path) -> None:
    """Two seeds, clusters, a reason for missing, and moments on the way."""
    items = [{"id": str(n), "prompt": f"Say {n}.", "answer": f"{n} it is", "cluster": str(n // 2)} for n in range(8)]
    tables = {"name": "chrf", "kind": "generated", "match": "chrf", "max_new_tokens": 6, "items": items}
    study = make_study(
        tmp_path,
        arms={"replay": [{"replay": {"data": "old.jsonl", "share_of_final": 0.25}}]},
        suites={"new": ["new.yaml", tables], "old": ["old.yaml"]},
        trajectory={"suites": ["new"], "moments": 2},
        seeds=[0, 1],
    )
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    results, found, kept = again(tmp_path / "run")
    assert len(results["comparisons"]) == 2 * len(results["manifest"]["suites"])
    assert any(row["missing"] for row in results["comparisons"])
    for key in ("comparisons", "frontier", "contrasts"):
        assert found[key] == results[key], key
    assert [(side["arm"], side.get("moment"), side.get("last")) for side in kept["sides"]][:3] == [
        (None, None, None),
        ("plain", 1, False),
        ("plain", None, True),
    ]
    size = (tmp_path / "run" / FILE).stat().st_size
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / FILE).stat().st_size == size


def test_a_sequence_in_several_orders_too(tmp_path: Path) -> None:
    other = make_study(tmp_path)
    given = yaml.safe_load(other.read_text())
    suite = yaml.safe_load((tmp_path / "new.yaml").read_text())
    tasks = [
        {"name": name, "data": data, "suites": [{**suite, "name": f"suite-{name}"}]}
        for name, data in (("a", "new.jsonl"), ("b", "old.jsonl"))
    ]
    given.update(teach=tasks, suites={"old": ["old.yaml"]}, orders=[["a", "b"], ["b", "a"]])
    other.write_text(yaml.safe_dump(given))
    mnemos.run(other, out=tmp_path / "run", quiet=True)
    results, found, kept = again(tmp_path / "run")
    assert kept["unit"] in ("order", "seed")
    assert {side["order"] for side in kept["sides"][1:]} == {0, 1}
    assert found["comparisons"] == results["comparisons"]
    assert found["contrasts"] == results["contrasts"]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_kept_results_follow_from_kept_scores(path: Path) -> None:
    results = read_json(path.with_name(path.name.replace(FILE, "json")))
    # Rounding may differ between machines.
    assert list(unlike(results, computed_again(results, read_items(path)))) == []
