"""The verb that writes rows of sound: files, record, and a writing that is killed and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

from mnemos.cli import app
from mnemos.core.files import read_jsonl
from mnemos.sources import audio
from mnemos.sources.read import read
from tests.tiny import save_tiny
from tests.tiny_speech import sound

KILLED = """
import os, signal, sys
from mnemos.cli import main
from mnemos.core.nouns import Generation, OptionScore
from mnemos.study import synthesis
synthesis.PIECE_ROWS = 2
kill, calls = sys.argv.pop(1) == "kill", []

class Model:
    def generate(self, prompts, decoding):
        calls.append(len(prompts))
        if kill and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Generation(f"It is {len(prompt.turns[-1].text)} long.", (1, 2), True) for prompt in prompts]

    def choose(self, contexts, options):
        return [[OptionScore(-1.0, 2, False) for text in texts] for texts in options]

synthesis.JournalledModel._model = lambda self: Model()
main()
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(4):
        audio.write(sound(0.4, number), folder / f"{number}.wav")
        rows.append({"file_name": f"{number}.wav", "id": f"c{number}", "transcript": "two three", "speaker": "ada",
                     "synthetic": number == 0})  # fmt: skip
    rows.append({"file_name": "gone.wav"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "m", layers=1)


def asked(clips: Path, model: Path, out: Path, *more: str) -> list[str]:
    return ["listen", "rows", str(clips), "--model", str(model), "--out", str(out), "--per-clip", "2",
            "--max-new-tokens", "4", *more]  # fmt: skip


def run(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_human_rows_are_read_by_a_study_and_the_share_is_printed(clips: Path, model: Path, tmp_path: Path) -> None:
    found = run(asked(clips, model, tmp_path / "out", "--target", "human"))
    assert found.exit_code == 0, found.output
    assert "4 clips of 2 s, 1 synthetic (25 %)" in found.output
    assert "left out, no such file: 1" in found.output
    source = read(str(tmp_path / "out" / "human.jsonl"))
    rows = list(source)
    assert (source.format, len(rows)) == ("audio_question", 8)
    assert all(Path(row.turns[1].sounds[0].path).samefile(clips / f"{row.id[1]}.wav") for row in rows)
    record = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert record["targets"]["human"]["rows"] == record["compared"] == 8
    assert record["targets"]["human"]["synthetic"] == 2
    # A model of random weights finds all of its 400 tokens about equally likely.
    assert 100 < record["targets"]["human"]["perplexity"] < 1600
    assert run(asked(clips, model, tmp_path / "out", "--target", "human", "--json")).exit_code == 0


def test_a_writing_that_is_killed_goes_on_where_it_was(clips: Path, model: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}

    def call(how: str, out: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), how, *asked(clips, model, tmp_path / out, "--target", "self")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert call("kill", "a").returncode == -signal.SIGKILL
    journal = tmp_path / "a" / "journal.jsonl"
    first = read_jsonl(journal)
    assert len(first) == 2
    for out in ("a", "b"):
        ended = call("go on", out)
        assert ended.returncode == 0, ended.stderr
    # 12 answers in pieces of 2, and as many scores; the first two pieces are those of before the kill.
    assert read_jsonl(journal)[:2] == first
    assert len(read_jsonl(journal)) == 12
    assert (tmp_path / "a" / "self.jsonl").read_bytes() == (tmp_path / "b" / "self.jsonl").read_bytes()
    assert len(read_jsonl(tmp_path / "a" / "self.jsonl")) == 12
