"""The full-size recipes: planned as they are without a hub, and run unchanged on a tiny model of the same
architecture with a dozen rows.

Replaced in the run: every hub id and every server by a random tiny model made on the spot (no server is
started: the tiny model writes in its place), data and suites by their first rows, three seeds by one, the
floors of usable rows by 0, since nothing that a random model writes passes, written verdicts by option
probabilities, since it writes none, and 512 tokens of writing by 16, since a random model seldom stops; for the
same reason one token in ten ends its answers. Recognisers are random ones of the same class, a program of the test
speaks, and 500 utterances a domain are two.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnemos
from mnemos.measure.suite import BUILT_IN
from mnemos.study.adaptations.settings import is_adaptation
from mnemos.study.config import raw_study
from mnemos.study.paths import RECIPES
from mnemos.study.run import plan_lines
from tests.tiny import save_tiny

FOLDER = RECIPES / "full_size"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ARCHITECTURE = {"Qwen": "qwen3", "meta-llama": "llama"}
"""Organisation of a hub id -> family of tests/tiny.py: the architecture class that the hub's model has."""
RECOGNISERS = ("openai/whisper-small", "models/source-real", "models/source-spoken", "facebook/wav2vec2-base-960h")
HAVE_FLOOR = {
    **dict.fromkeys(
        (
            *("sdft", "rephrase", "minimum_change", "self_output", "selective_self_rehearsal", "teacher_answers"),
            *("judged_pairs", "best_of_n", "critique_revision"),
        ),
        "min_acceptance",
    ),
    **dict.fromkeys(("magpie", "ssr"), "min_usable"),
}
STOPS = range(300, 340)
"""Tokens out of 400 that end an answer beside the model's own."""

SPEAKER = """import sys, wave
text = sys.stdin.read().encode()
with wave.open(sys.argv[1], "wb") as file:
    file.setparams((1, 2, 8000, 0, "NONE", ""))
    file.writeframes((text * 8000)[:8000])
"""

ROWS, ITEMS, LONGEST, RANK = 24, 2, 16, 8


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_every_family_has_a_recipe() -> None:
    families = {
        "rehearsal",
        "self_generated",
        "token_mask",
        "penalties",
        "parts",
        "weights",
        "self_distillation",
        "reward",
        "sequence",
        "feedback",
        "listening",
        "speech_text",
        "speech_noise",
    }
    assert families <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_planned_without_a_hub(name: str, no_hub: None) -> None:
    raw, _ = raw_study(f"mnemos:full_size/{name}.yaml")
    lines = plan_lines(f"mnemos:full_size/{name}.yaml")
    if is_adaptation(raw):  # a plan of one asks no model
        assert sum(line.startswith("arm ") for line in lines) == 1 + len(raw["arms"])
        return
    assert lines[0].startswith(f"hub     {raw['model']}: not resolved")
    planned = {line.split()[1].rstrip(",") for line in lines if line.startswith("arm ")}
    joint = {"joint"} if isinstance(raw["teach"], list) and raw.get("joint", True) else set()
    assert planned == {"plain", *raw["arms"]} | joint
    assert sum(line.startswith("arm ") for line in lines) == 3 * len(planned)


def test_a_plan_that_will_run_needs_its_hub_model(no_hub: None, tmp_path: Path) -> None:
    from mnemos.core.errors import ModelError

    with pytest.raises(ModelError, match="neither a directory here nor a model in the hub's cache"):
        mnemos.run("mnemos:full_size/weights.yaml", out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_on_a_tiny_model_of_the_same_architecture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))
    raw, _ = raw_study(f"mnemos:full_size/{name}.yaml")
    record = mnemos.run(Shrunk(tmp_path).study(raw), out=tmp_path / "run", quiet=True)
    if is_adaptation(raw):
        assert {row["arm"] for row in record.comparisons} == {"source", *raw["arms"]}
        return
    assert {row["arm"] for row in record.comparisons} >= set(raw["arms"]) | {"plain"}
    assert all(run["cost"]["steps"] > 0 for entry in record.results["arms"] for run in entry["runs"])


class Shrunk:
    """Makes a recipe small enough for a test; what it leaves alone is the recipe's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, str] = {}

    def study(self, raw: dict[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = self._value(raw)
        out["seeds"] = [0]
        if is_adaptation(out):
            out["adapt"]["utterances"] = ITEMS
            return out
        out["suites"] = {role: [self._suite(name) for name in names] for role, names in raw["suites"].items()}
        for task in out["teach"] if isinstance(out["teach"], list) else ():
            task["suites"] = [self._suite(name) for name in task["suites"]]
        for ((method, settings),) in (step.items() for arm in out["arms"].values() for step in arm):
            if method in HAVE_FLOOR:
                settings[HAVE_FLOOR[method]] = 0
            settings.get("reward", {}).pop("verdict", None)
            if method == "tts":
                settings["command"] = f"{self._speaker()} {{out}}"
            if "max_new_tokens" in settings:
                settings["max_new_tokens"] = LONGEST
            if "rank" in settings:
                settings["rank"] = min(settings["rank"], RANK)
        return out

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("mnemos:data/"):
            return self._first_rows(RECIPES / value.removeprefix("mnemos:"))
        if value in ("models/listener", "models/cascade"):
            return self._listener(value)
        if value in RECOGNISERS:
            return self._recogniser(value)
        organisation = value.rpartition("#")[2].split("/")[0].removeprefix("vllm:")
        return (
            self._tiny(value.rpartition("#")[2], ARCHITECTURE[organisation]) if organisation in ARCHITECTURE else value
        )

    def _first_rows(self, path: Path) -> str:
        out = self.folder / path.name
        with path.open(encoding="utf-8") as file:
            out.write_text("".join(itertools.islice(file, ROWS)), encoding="utf-8")
        return str(out)

    def _listener(self, name: str) -> str:
        """A random model that listens, of the classes that the recipe's comment names, and sounds for its rows."""
        from mnemos.models.speech.files import make
        from tests.tiny_speech import tiny_whisper

        self._clips()
        place, ears = self.folder / Path(name).name, tiny_whisper(self.folder / f"{Path(name).name}-ears")
        language = self._tiny("meta-llama/Llama-3.1-8B-Instruct", "llama")
        bridge = {"kind": "qformer", "tapped": [0, 1], "depth": 6, "queries": 4}
        cascade = name == "models/cascade"
        make(
            place,
            language=language,
            encoder=None if cascade else str(ears),
            recogniser=str(ears),
            bridge=None if cascade else bridge,
            words=("", "") if cascade else ("<start_audio>", "<end_audio>"),
        )
        return str(place)

    def _clips(self) -> None:
        """The sounds that shipped rows name."""
        from tests.models.speech.making import clip

        (self.folder / "clips").mkdir(exist_ok=True)
        for number in range(8):
            clip(self.folder, 0.3, number).rename(self.folder / "clips" / f"{number}.flac")

    def _recogniser(self, hub_id: str) -> str:
        """A random model of the class that the hub's has, and sounds for its rows."""
        from tests.tiny_speech import tiny_ctc, tiny_whisper

        self._clips()
        place = self.folder / hub_id.replace("/", "-")
        made = tiny_ctc(place, norm="group") if "wav2vec2" in hub_id else tiny_whisper(place, context=64)
        return str(made)

    def _speaker(self) -> str:
        """A program that says half a second of something, in place of espeak-ng."""
        path = self.folder / "speak"
        path.write_text(f"#!{sys.executable}\n{SPEAKER}")
        path.chmod(0o755)
        return str(path)

    def _tiny(self, hub_id: str, family: str) -> str:
        if hub_id not in self.models:
            place = self.folder / f"model-{len(self.models)}"
            self.models[hub_id] = str(save_tiny(place, family, seed=len(self.models)))
            settings = json.loads((place / "generation_config.json").read_text())
            settings["eos_token_id"] = [settings["eos_token_id"], *STOPS]
            (place / "generation_config.json").write_text(json.dumps(settings))
        return self.models[hub_id]

    def _suite(self, name: str | dict[str, Any]) -> dict[str, Any]:
        if isinstance(name, dict):
            return {**name, "limit": ITEMS, "data": self._value(name["data"])}
        suite: dict[str, Any] = yaml.safe_load(
            (BUILT_IN / f"{name.replace(':', '-')}.yaml").read_text(encoding="utf-8")
        )
        return {**suite, "data": str(BUILT_IN / suite["data"]), "limit": ITEMS}


def test_what_is_replaced_and_what_is_not(tmp_path: Path) -> None:
    raw, _ = raw_study("mnemos:full_size/self_generated.yaml")
    made = Shrunk(tmp_path).study(raw)
    assert made["train"] == raw["train"]
    assert Path(made["model"], "config.json").is_file()
    assert json.loads(Path(made["model"], "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]
    assert made["arms"]["rephrase"][1]["rephrase"]["author"] == made["model"]
    given = raw["arms"]["lora"][0]["lora"]
    assert made["arms"]["lora"] == [{"lora": {**given, "rank": min(given["rank"], RANK)}}]
