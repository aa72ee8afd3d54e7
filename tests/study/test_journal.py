"""A measurement that is killed goes on at the batch where it was, and ends as if nobody had stopped it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.models import decode
from mnemos.models.forward import kept_batches
from mnemos.models.load import Checkpoint
from mnemos.study.steps import MeasureStep
from mnemos.study.synthesis import Journal, KeptBatches
from tests.study.worlds import make_study, without_timings
from tests.tiny import save_tiny

STALLING = """
import sys, time
import mnemos
from mnemos.models import decode, language

language.BATCH_TOKENS["cpu"], decode.JOB = 64, 1
batches, run = [], decode.Job.run

def slow(self, *given):
    batches.append(1)
    if len(batches) == int(sys.argv[3]):
        print("stalled", flush=True)
        time.sleep(600)
    return run(self, *given)

decode.Job.run = slow
mnemos.run(sys.argv[1], out=sys.argv[2], quiet=True)
"""


def _suites(folder: Path) -> list[dict[str, Any]]:
    asked = [f"Say {n}." for n in range(12)]
    sampled = {"name": "sampled", "kind": "generated", "match": "exact", "max_new_tokens": 6, "temperature": 1.0}
    # One prompt twice: its two samples differ, and the journal must not give one for the other.
    items = [{"id": str(n), "prompt": prompt, "answer": "1"} for n, prompt in enumerate([*asked, asked[0]])]
    return [{**sampled, "items": items}]


def test_killed_while_measuring_and_continued_is_the_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemos.models import language

    monkeypatch.setitem(language.BATCH_TOKENS, "cpu", 64)
    monkeypatch.setattr(decode, "JOB", 1)
    train = {"learning_rate": 1e-3, "max_steps": 1}
    study = make_study(tmp_path, arms={}, train=train, suites={"new": ["new.yaml"], "old": _suites(tmp_path)})
    whole = mnemos.run(study, out=tmp_path / "whole", quiet=True)
    out = tmp_path / "broken"
    process = subprocess.Popen(
        [sys.executable, "-c", STALLING, str(study), str(out), "4"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stalled\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (journal,) = out.glob("steps/measure-*/journal.jsonl")
    assert len(journal.read_text().splitlines()) == 3
    assert not list(out.glob("steps/measure-*/done.json"))
    asked, run = [], decode.Job.run

    def counted(self: Any, *given: Any) -> Any:
        asked.append([list(row) for row in self.rows])
        return run(self, *given)

    monkeypatch.setattr(decode.Job, "run", counted)
    continued = mnemos.run(study, out=out, quiet=True)
    assert without_timings(continued.results) == without_timings(whole.results)
    for file in (tmp_path / "whole" / "steps").glob("measure-*/answers/*.jsonl"):
        assert file.read_bytes() == (out / file.relative_to(tmp_path / "whole")).read_bytes()
    total = len(asked)
    asked.clear()
    mnemos.run(study, out=tmp_path / "again", quiet=True)
    assert total == len(asked) - 3
    assert not list(out.glob("steps/*/journal.jsonl"))


@pytest.mark.parametrize("call", ["generate", "choose", "nats", "divergence"])
def test_every_way_of_asking_is_kept(tmp_path: Path, call: str) -> None:
    """A second model never computes: what it gives is what the first one was kept to say, to the last bit."""
    from mnemos.core.nouns import Decoding, Prompt, Turn

    save_tiny(tmp_path / "model")
    model: Any = Checkpoint(str(tmp_path / "model")).load()
    prompts = [Prompt((Turn("prompt", f"Say {n}."),)) for n in range(5)]
    ways: dict[str, Any] = {
        "generate": lambda: model.generate(prompts, Decoding(max_new_tokens=5, temperature=0.9, seed=3)),
        "choose": lambda: model.choose(prompts, [[" one", " two and three"]] * 5),
        "nats": lambda: model.nats([f"The river runs past mill {n}." for n in range(5)]),
        "divergence": lambda: model.divergence(model, prompts, [[7, 8, 9]] * 5),
    }
    plain = ways[call]()
    with kept_batches(KeptBatches(Journal(tmp_path / "journal.jsonl"))):
        assert ways[call]() == plain
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert lines
    with kept_batches(KeptBatches(Journal(tmp_path / "journal.jsonl"))):
        assert ways[call]() == plain
    assert (tmp_path / "journal.jsonl").read_text().splitlines() == lines

    def never(*_: Any) -> Any:
        raise AssertionError("asked again")

    with kept_batches(lambda question, ask: json.loads(json.dumps(_answers(lines))).pop(0) if lines else never()):
        assert ways[call]() == plain


def _answers(lines: list[str]) -> list[Any]:
    return [json.loads(line)["answers"] for line in lines]


def test_a_second_model_is_loaded_only_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], Checkpoint.load

    def counted(self: Checkpoint) -> Any:
        loads.append(self.path)
        return load(self)

    monkeypatch.setattr(Checkpoint, "load", counted)
    train = {"learning_rate": 1e-3, "max_steps": 1}
    mnemos.run(make_study(tmp_path, arms={}, health=False, train=train), out=tmp_path / "run", quiet=True)
    assert [Path(path).parent.name[:5] for path in loads] == [tmp_path.name[:5], "train"]
    assert MeasureStep  # the step that loads them
