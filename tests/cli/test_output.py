"""What is printed steers no terminal, JSON says what it said, and arguments are taken for what they are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import mnemos
from mnemos.cli import main
from mnemos.cli.output import say, say_json, warn
from mnemos.core.errors import UsageError
from mnemos.core.method import REGISTRY, validated
from mnemos.core.settings import TrainSettings
from mnemos.study.config import Study
from tests.study.worlds import chat, make_study, write_jsonl
from tests.tiny import save_tiny

STEERING = "\x1b[2J\x1b[31m\x9b5m\u202ereversed\u061c"


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> Any:
    monkeypatch.setattr(sys, "argv", ["mnemos", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def harmless(text: str) -> bool:
    return not any(letter in text for letter in "\x1b\x9b\u202e\u061c")


def test_rows_and_their_file_steer_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "model")
    row = chat(0, f"Say {STEERING}", f"{STEERING} it is")
    write_jsonl(tmp_path / "rows\x1b[2J.jsonl", [{**row, "id": f"a{STEERING}"}])
    assert not run(monkeypatch, "data", "show", "rows\x1b[2J.jsonl", "--model", "model")
    out = capsys.readouterr().out
    assert harmless(out)
    assert r"\x1b[2J\x1b[31m\x9b5m\u202ereversed" in out


def test_a_plan_steers_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path, teach={"data": "rows\x9b5m.jsonl"})
    write_jsonl(tmp_path / "rows\x9b5m.jsonl", [chat(0, "a", "b")])
    assert not run(monkeypatch, "run", study, "--dry-run")
    out = capsys.readouterr().out
    assert harmless(out)
    assert r"rows\x9b5m.jsonl" in out


def test_lines_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"tab\tand\nline {STEERING}")
    warn(STEERING)
    text = capsys.readouterr()
    assert text.out.startswith("tab\tand\nline \\x1b")
    assert harmless(text.out + text.err)
    value = {"a": [STEERING, "中文", "\ud83d", "\\u009b"], STEERING: 1}
    say_json(value)
    out = capsys.readouterr().out
    assert harmless(out)
    assert "中文" in out
    assert json.loads(out) == value


def test_an_expression_may_begin_with_a_minus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file

    one = save_tiny(tmp_path / "one")
    assert not run(monkeypatch, "merge", "-0.5*a", f"a={one}", "--out", tmp_path / "half")
    after, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "half", one))
    torch.testing.assert_close(after["model.norm.weight"], -0.5 * before["model.norm.weight"])
    capsys.readouterr()
    assert not run(monkeypatch, "vector", "show", "-a - a", f"a={one}")
    assert "= -2.0*a" in capsys.readouterr().out
    assert run(monkeypatch, "merge", "--tokeniser", "a", "a", f"a={one}") == 2
    assert "--tokenizer" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert not run(monkeypatch, "merge", "a", "a=one", "--out", "-minus")
    assert (tmp_path / "-minus" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "give a study file: write one with: mnemos init"),
        (["mine.yaml", "steps/x"], "give a study file: it holds mine.yaml"),
        (["study.yaml"], "it holds study.yaml"),
        (["study.yaml", "steps/x"], "to go on with this run: mnemos run {folder}/study.yaml --out {folder}"),
    ],
)
def test_a_directory_in_the_place_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: list[str], message: str
) -> None:
    for name in made:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert run(monkeypatch, "run", tmp_path) == 2
    assert message.replace("{folder}", str(tmp_path)) in capsys.readouterr().err


def test_the_package_lists_what_it_has() -> None:
    assert set(mnemos.__all__) <= set(dir(mnemos))
    assert "__version__" in dir(mnemos)
    for name in mnemos.__all__:
        assert callable(getattr(mnemos, name))


def test_required_settings_are_said_to_be_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in REGISTRY.values():
        required = {name for name, info in method.settings.model_fields.items() if info.is_required()}
        assert not run(monkeypatch, "methods", method.name)
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("--")]
        assert {line[0][2:] for line in lines if "required):" in line or "required)" in line} == required


def test_messages_quote_no_file_and_no_undefined_default() -> None:
    for record in (Study, TrainSettings, *(method.settings for method in REGISTRY.values())):
        for name in record.model_fields:
            with pytest.raises(UsageError) as caught:
                validated(record, {name: object()}, where="here")
            assert "Undefined" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        validated(TrainSettings, {"learning_rate": "x" * 20_000}, where="train")
    assert len(str(caught.value)) < 500
    assert "characters left out" in str(caught.value)


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_of_libraries_are_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    names = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
    for name in names:
        # Set, so that what the command sets is taken back behind the test, then deleted.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert not run(monkeypatch, "--version")
    assert [os.environ.get(name) for name in names] == ([None, None] if terminal else ["1", "1"])
