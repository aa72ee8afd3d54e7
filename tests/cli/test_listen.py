"""`mnemos listen` in a terminal: a directory made, asked with and without a recogniser's words, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("soundfile", reason="sound is read with soundfile")

from mnemos.cli import app
from mnemos.core.errors import MnemosError
from mnemos.models.recognisers.load import load
from mnemos.sources.audio import read
from tests.models.speech.making import clip
from tests.tiny import save_tiny
from tests.tiny_speech import tiny_ctc, tiny_whisper


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    save_tiny(tmp_path / "language")
    tiny_whisper(tmp_path / "ears")
    return tmp_path


def run(*words: str) -> str:
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_made_and_asked(folder: Path) -> None:
    made = run("listen", "new", "--encoder", "ears", "--language", "language", "--out", "m", "--set", "stack=4")
    assert "a bridge (mlp) of" in made
    assert json.loads((folder / "m" / "config.json").read_text())["bridge"]["stack"] == 4
    clip(folder, 0.5, 3).rename(folder / "clip.wav")
    line = ["listen", "ask", "m", "clip.wav", "Who speaks?", "--max-tokens", "4"]
    answer = run(*line)
    row = json.loads(run(*line, "--json"))
    assert (row["answer"] or "(nothing)") == answer.strip()
    assert row["finished"] in (True, False)
    assert run(*line, "--system", "Focus on the audio.")
    assert run(*line, "--transcript", "ears")


def test_a_cascade_reads_the_recognisers_words(folder: Path) -> None:
    from mnemos.core.nouns import AudioPart, Prompt, TextPart, Turn
    from mnemos.models.load import Checkpoint

    tiny_ctc(folder / "recogniser")
    run("listen", "new", "--cascade", "--recogniser", "recogniser", "--language", "language", "--out", "cascade")
    file = clip(folder, 0.5, 3)
    [words] = load(folder / "recogniser").transcribe([read(file, rate=16_000)])
    assert words
    model = Checkpoint("cascade").load()
    prompt = Prompt((Turn("user", (AudioPart(str(file)), TextPart("\nWho?"))),))
    written = Prompt((Turn("user", f"{words}\nWho?"),))
    assert model.renderer.prompt_ids(prompt) == model.renderer.prompt_ids(written)
    assert run("listen", "ask", "cascade", str(file), "Who?", "--max-tokens", "3")
    # A second process finds the words and loads no recogniser.
    again = Checkpoint("cascade").load()
    assert again.renderer.prompt_ids(prompt) == model.renderer.prompt_ids(prompt)
    assert "recogniser" not in again.renderer.hear.transcribe.__dict__


def test_words_beside_the_vectors_of_the_same_whisper(folder: Path) -> None:
    from mnemos.core.nouns import AudioPart, Prompt, Turn
    from mnemos.models.load import Checkpoint
    from mnemos.sources.sound_marks import FIRST_SOUND

    run("listen", "new", "--encoder", "ears", "--recogniser", "ears", "--language", "language", "--out", "m",
        "--before", "(", "--behind", ")")  # fmt: skip
    assert not (folder / "m" / "recogniser").exists()
    file = clip(folder, 0.5, 3)
    [words] = load(folder / "ears").transcribe([read(file, rate=16_000)])
    renderer = Checkpoint("m").load().renderer
    ids = renderer.prompt_ids(Prompt((Turn("user", (AudioPart(str(file)),)),)))
    first = next(at for at, token in enumerate(ids) if token >= FIRST_SOUND)
    assert renderer.decode(ids[:first]).endswith("(")
    assert renderer.decode([token for token in ids[first:] if token < FIRST_SOUND]).startswith(f"{words})")


def test_bridges_are_listed() -> None:
    rows = json.loads(run("listen", "bridges", "--json"))
    assert [row["name"] for row in rows] == ["mlp", "conv", "qformer", "window_qformer", "cif"]
    assert all(row["summary"] and row["paper"].startswith("arXiv:") for row in rows)
    assert [len(row["deviations"]) for row in rows] == [0, 0, 2, 1, 2]


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        (["new", "--encoder", "ears", "--language", "language", "--out", "ears"], "is there already"),
        (["new", "--language", "language", "--out", "m"], "name an encoder"),
        (["new", "--cascade", "--language", "language", "--out", "m"], "name one with --recogniser"),
        (["new", "--cascade", "--encoder", "ears", "--language", "language", "--out", "m"], "neither an encoder"),
        (["new", "--encoder", "ears", "--language", "language", "--out", "m", "--bridge", "cnov"], "'conv'"),
        (["new", "--encoder", "ears", "--language", "language", "--out", "m", "--window", "0"], "must lie in"),
        (["new", "--encoder", "nowhere/ears", "--language", "language", "--out", "m"], "nowhere/ears"),
        (["ask", "language", "a.wav"], "does not listen"),
        (["ask", "nowhere", "a.wav"], "nowhere"),
    ],
)
def test_mistakes_are_named(words: list[str], bound: str, folder: Path) -> None:
    found = CliRunner().invoke(app, ["listen", *words])
    assert isinstance(found.exception, MnemosError), found.output
    assert bound in str(found.exception)
    assert not (folder / "m").exists()


@pytest.mark.parametrize("scales", [["--scale", "0", "--scale", "1"]])
def test_a_sweep_over_the_scale_of_an_adapter(scales: list[str], folder: Path) -> None:
    import torch

    from mnemos.methods.trainable.adapters import LowRank
    from mnemos.models.load import Checkpoint, load_model

    run("listen", "new", "--encoder", "ears", "--language", "language", "--out", "m")
    torch.manual_seed(0)
    wrapped = LowRank("lora", 2, 4.0, 0.0, "all-linear", None).prepare(load_model("m"))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    for config in wrapped.peft_config.values():
        config.base_model_name_or_path = str(folder / "m")
    wrapped.save_pretrained(folder / "adapter")
    rows = [{"id": str(n), "text": f"The river runs past {n} mills."} for n in range(3)]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "text.yaml").write_text("{name: text, kind: bits_per_byte, data: text.jsonl}")
    line = ["listen", "sweep", "adapter", "--suite", "text.yaml", *scales]
    found = json.loads(run(*line, "--json", "--out", "table.json", "--svg", "scales.svg"))
    assert "text" in (folder / "scales.svg").read_text()
    assert json.loads((folder / "table.json").read_text()) == found
    low, high = (one["mean"] for one in found["suites"]["text"]["scores"])

    def bits(model: object) -> float:
        nats = [total for total, _ in model.nats([row["text"] for row in rows])]  # type: ignore[attr-defined]
        return float(sum(nats) / 0.6931471805599453 / sum(len(row["text"].encode()) for row in rows))

    assert low == pytest.approx(bits(Checkpoint("m").load()), rel=1e-4)  # of text the bridge says nothing
    assert high == pytest.approx(bits(Checkpoint("adapter").load()), rel=1e-4)
    assert low != pytest.approx(high, rel=1e-3)
    lines = run(*line).splitlines()
    assert [row.split()[0] for row in lines] == ["scale", "0", "1"]
    with pytest.raises(MnemosError, match="needs adapters beside"):
        run("listen", "sweep", "m", "--suite", "text.yaml")
    assert run("listen", "ask", "adapter", str(clip(folder)), "Who?", "--max-tokens", "2", "--lora-scale", "0.5")
