"""Every interval of results.json comes out again from the items' scores that are kept beside it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.core.errors import DataError
from mnemos.core.files import read_json, write_json
from mnemos.recipes import recompute
from mnemos.study.results.again import computed_again, unlike
from mnemos.study.results.items import FILE, read_items, write_items
from tests.study.worlds import chat, make_study, write_jsonl

TRAIN = {"learning_rate": 1e-3, "max_steps": 4, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
TASKS = [{"data": "new.jsonl", "suites": ["new.yaml"]}, {"data": "two.jsonl", "suites": ["old.yaml"]}]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, measured on the way, with weights and a suite of refusals, whose notes count."""
    folder = tmp_path_factory.mktemp("trajectory")
    (folder / "extra.yaml").write_text(
        "name: refusals\nkind: refusal\nmax_new_tokens: 4\nitems:\n"
        + "".join(f"  - {{prompt: 'Harm {n}?', expect: refuse, cluster: c{n // 2}}}\n" for n in range(6))
    )
    study = make_study(
        folder,
        seeds=[0, 1],
        suites={"new": ["new.yaml"], "old": ["old.yaml", "extra.yaml"]},
        trajectory={"suites": ["new", "english"], "moments": 2},
        train=TRAIN,
    )
    mnemos.run(study, out=folder / "run", quiet=True)
    return folder / "run"


def again(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        json.dumps(computed_again(read_json(run / "results.json"), read_items(run / FILE)))
    )
    return found


def test_everything_with_an_interval_comes_out_again(watched: Path) -> None:
    results, found = read_json(watched / "results.json"), again(watched)
    assert list(unlike(results, found)) == []
    intervals = {"before", "arms", "comparisons", "frontier", "contrasts", "trajectory"}
    assert intervals <= set(found)
    assert results["comparisons"][0]["low"] is not None
    assert len(found["comparisons"]) == len(results["comparisons"])


@pytest.mark.parametrize("orders", [None, "all"])
def test_so_do_the_metrics_of_a_sequence(tmp_path: Path, orders: str | None) -> None:
    write_jsonl(tmp_path / "two.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(16)])
    more = {"orders": orders} if orders else {}
    study = make_study(tmp_path, health=False, teach=TASKS, arms={}, suites={}, train={**TRAIN, "max_steps": 2}, **more)
    mnemos.run(study, out=tmp_path / "run", quiet=True)
    results, found = read_json(tmp_path / "run" / "results.json"), again(tmp_path / "run")
    assert list(unlike(results, found)) == []
    assert found["matrix"]["arms"]["plain"]["metrics"] == results["matrix"]["arms"]["plain"]["metrics"]


def test_a_sequence_that_is_measured_in_bits_has_no_matrix_and_says_why(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "two.jsonl", [chat(n, f"Add {n} and 1.", str(n + 1)) for n in range(8)])
    items = [{"id": str(n), "text": f"The river runs past mill {n}."} for n in range(4)]
    bits = {"name": "english", "kind": "bits_per_byte", "items": items}
    teach = [{**TASKS[0], "suites": [bits]}, {**TASKS[1], "suites": [bits]}]
    train = {**TRAIN, "max_steps": 1}
    study = make_study(tmp_path, health=False, joint=False, teach=teach, arms={}, suites={}, train=train)
    record = mnemos.run(study, out=tmp_path / "run", quiet=True)
    assert record.results["matrix"] is None
    assert "No score matrix: english of the task new is in bits" in " ".join(record.report().split())
    assert "earlier ones lost" not in record.report()
    assert list(unlike(record.results, again(tmp_path / "run"))) == []


def test_a_number_that_was_changed_is_named(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "kept.json"
    assert recompute.main([str(target), "--keep", str(watched)]) == 0
    assert (tmp_path / f"kept.{FILE}").read_bytes() == (watched / FILE).read_bytes()
    results = read_json(target)
    assert "flips" in read_json(watched / "results.json")
    assert "flips" not in results, "answers are not kept"
    results["comparisons"][0]["low"] += 0.001
    write_json(target, results)
    assert recompute.main([str(target)]) == 1
    assert "comparisons[0].low" in capsys.readouterr().out
    assert recompute.main([str(watched)]) == 0, "a run directory stands for its results.json"


def test_scores_that_are_not_there_or_damaged_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert recompute.main([str(tmp_path / "x.json")]) == 1
    assert "has no scores beside it" in capsys.readouterr().err
    for data in (b"", b"no gzip", gzip.compress(b"[]"), gzip.compress(b'{"format": 9}')):
        (tmp_path / f"x.{FILE}").write_bytes(data)
        with pytest.raises(DataError, match="holds no item scores"):
            recompute.differences(tmp_path / "x.json")
    assert recompute.main([str(tmp_path / "x.json"), "--keep", str(tmp_path)]) == 2


def test_equal_content_has_equal_bytes(tmp_path: Path, watched: Path) -> None:
    content = read_items(watched / FILE)
    write_items(tmp_path / "again.gz", content)
    assert (tmp_path / "again.gz").read_bytes() == (watched / FILE).read_bytes()
    assert json.loads(gzip.decompress((watched / FILE).read_bytes()))["format"] == 1


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ({"a": 1.0, "b": 2}, {"a": 1.0 + 1e-12}, ""),
        ({"a": [1, 2]}, {"a": [1]}, "a: 2 entries, computed again 1"),
        ({"a": None}, {"a": 0.5}, "a: None, computed again 0.5"),
        ({"a": {"b": 1.0}}, {"a": {"b": 1.1}}, "a.b: 1.0, computed again 1.1"),
        ({"a": 3}, {"a": {"b": 1}}, "a: 3, computed again {'b': 1}"),
        ({"v": "kept"}, {"v": "lost"}, "v: 'kept', computed again 'lost'"),
        ({"v": True}, {"v": False}, "v: True, computed again False"),
    ],
)
def test_differences_by_hand(one: Any, other: Any, difference: str) -> None:
    assert "; ".join(unlike(one, other)) == difference
