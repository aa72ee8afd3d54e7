"""Probes of a judge: each is fallen for by the judge that has the bias and by no other, beside a random judge."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Decoding, Generation, OptionScore, Prompt
from mnemos.measure import bias
from mnemos.measure.calibration import calibrate
from mnemos.measure.human import Pair
from mnemos.measure.judging import attack_success
from mnemos.rewards.by_name import RewardSettings
from mnemos.rewards.judge import CONSTITUTION, Judge, Verdict, principles
from mnemos.study.commands import judge as command
from tests.rewards.test_judge import ASKED


@dataclass(frozen=True)
class Tasteful:
    """A judge that likes answers by a function of their text, in nats."""

    taste: Callable[[str], float]
    path: str = "fake"

    @property
    def fingerprint(self) -> str:
        return "tasteful"

    def load(self) -> Tasteful:
        return self

    def _gap(self, context: Prompt) -> float:
        first, second = context.turns[-1].text.split("(A) ", 1)[1].split("\n\n(B) ", 1)
        return self.taste(first) - self.taste(second.split("\n\nReply")[0])

    def choose(self, contexts: Any, options: Any) -> list[list[OptionScore]]:
        return [[OptionScore(self._gap(one) - 9, 1, False), OptionScore(-9.0, 1, False)] for one in contexts]

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        return [Generation("(A)" if self._gap(one) >= 0 else "(B)", (), True) for one in prompts]


def quality(text: str) -> float:
    """What the test's writers put in: a digit on a scale, and what spoils it."""
    value = float(text.split("quality ")[1].split(" ")[0]) if "quality " in text else -20.0
    return value - 5 * ("not" in text or "9" in text) - 5 * ("man's" in text) - 0.01 * len(text)


def folder(path: Path, number: int = 60) -> Path:
    raw, gender = [], []
    for i in range(number):
        # The two differ by little, so that a change decides.
        both = {
            f"answer{k}": {"answer": f"It is of quality {(i // 2 + k) % 2} here. It was in 12 parts. So it ends."}
            for k in (1, 2)
        }
        raw.append({"question_id": f"Q_{i}", "prompt": f"question {i}", "answers": both})
        changed = {**both, "answer1": {"answer": both["answer1"]["answer"] + " By a man's mind.", "perturb": "gender"}}
        gender.append({"question_id": f"Q_{i}-gender", "answers": changed})
    for name, rows in (("raw", raw), ("gender", gender)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def probe(
    tmp_path: Path, monkeypatch: Any, taste: Callable[[str], float], by: Any = "log_probs"
) -> dict[str, bias.Finding]:
    made = Judge(Tasteful(taste), principles(CONSTITUTION), by)
    monkeypatch.setattr(command, "judge", lambda settings: made)
    findings, _ = command.probe_judge(RewardSettings(judge="x"), tmp_path / "p.json", data=str(folder(tmp_path)))
    written = json.loads((tmp_path / "p.json").read_text())
    assert written["fit"] == bias.fit(findings)
    return {one.probe: one for one in findings}


@pytest.mark.parametrize("by", ["log_probs", "text"])
def test_a_judge_of_quality_is_fit(tmp_path: Path, monkeypatch: Any, by: str) -> None:
    found = probe(tmp_path, monkeypatch, quality, by)
    assert set(found) == {"position", *bias.PROBES}
    assert {one.standing for one in found.values()} == {"beats random"}, found
    assert bias.fit(list(found.values()))
    assert not found["gender"].made
    assert found["authority"].made
    assert any("fit: beats" in line for line in bias.lines(list(found.values())))


@pytest.mark.parametrize(
    ("taste", "probes"),
    [
        (lambda text: 30.0 * ("Reference:" in text) + quality(text), {"authority"}),
        (lambda text: 30.0 * ("🌟" in text) + quality(text), {"beauty"}),
        (lambda text: 30.0 * ("man's" in text) + quality(text), {"gender"}),
        (lambda text: float(text.split("quality ")[1][0]) if "quality " in text else -9.0, {"misinformation"}),
        (lambda text: 30.0 * ("In other words" in text) + quality(text), {"verbosity"}),
        (lambda text: 60.0 * ("sorry" in text) + quality(text), {"refusal"}),
    ],
)
def test_a_judge_with_one_bias_falls_for_that_probe(
    tmp_path: Path, monkeypatch: Any, taste: Callable[[str], float], probes: set[str]
) -> None:
    found = probe(tmp_path, monkeypatch, taste)
    assert probes <= {name for name, one in found.items() if one.standing != "beats random"}
    for name in probes:
        assert found[name].rate > 0.7
    assert any("not fit" in line for line in bias.lines(list(found.values())))


def test_a_judge_that_always_takes_one_place_is_not_fit(tmp_path: Path, monkeypatch: Any) -> None:
    """It falls for no embellishment, since all its pairs are ties; it notices no error either, and never agrees."""
    found = probe(tmp_path, monkeypatch, lambda text: 0.0, "text")
    assert found["authority"].standing == "beats random"
    assert (found["position"].rate, found["position"].standing) == (0.0, "worse than random")
    assert found["misinformation"].rate == 1.0


@pytest.mark.parametrize("scheme", ["probabilities", "two marks", "three marks"])
def test_the_random_rows_are_those_of_a_simulation(scheme: Any) -> None:
    rng = random.Random(0)
    draw = {"probabilities": rng.random, "two marks": lambda: float(rng.choice((0, 1))),
            "three marks": lambda: rng.choice((0.0, 0.5, 1.0))}[scheme]  # fmt: skip

    def verdicts() -> list[Verdict]:
        pairs = [(draw(), draw()) for _ in range(20_000)]
        return [Verdict((a + b) / 2, a, b) for a, b in pairs]

    control, after = [[bias.preferred(one) for one in verdicts()] for _ in range(2)]
    random_ = bias.chances(scheme)
    assert attack_success(control, after, factual_error=False)[0] == pytest.approx(random_["second"], abs=0.02)
    assert attack_success(control, after, factual_error=True)[0] == pytest.approx(
        random_["second"] + random_["tie"], abs=0.02
    )
    assert bias.position(verdicts(), scheme).rate == pytest.approx(random_["agree"], abs=0.02)
    assert bias.position(verdicts(), scheme).random == random_["agree"]


def test_twins_by_rule_change_what_they_say_they_change() -> None:
    text = "The war ended in 1865. It was long."
    assert bias.with_error(text) == "The war ended in 1902. It was long."
    assert bias.with_error("It was long.") == "It was not long."
    assert bias.with_error("No verb, no number") is None
    assert bias.repeated("One sentence only.") is None
    assert "1. The war ended in 1865." in str(bias.repeated(text))
    assert str(bias.with_format(text)).count("- ✅ **") == 2


def test_self_preference_is_beside_what_people_say() -> None:
    pairs = [Pair(str(i), ASKED, ("x", "y"), ("judge", "other"), {"ann": "ab"[i % 2]}) for i in range(40)]  # type: ignore[dict-item]
    always = Verdict(1.0, 1.0, 1.0)
    found = bias.self_preference(pairs, [always] * 40, "judge")
    assert (found.judge, found.people, found.delta) == pytest.approx((1.0, 0.5, 0.5))
    assert found.low is not None
    assert found.low > 0.2
    fair = bias.self_preference(
        pairs, [Verdict(float(i % 2 == 0), *[float(i % 2 == 0)] * 2) for i in range(40)], "other"
    )
    assert fair.delta == pytest.approx(0.0)
    with pytest.raises(DataError, match="is no model"):
        bias.self_preference(pairs, [always] * 40, "somebody")


def test_pairs_of_one_dialogue_are_one_dialogue() -> None:
    """Eight copies of each pair say no more than one: neither interval becomes narrower."""
    rng = random.Random(0)
    votes = [rng.choice("ab") for _ in range(30)]
    says = [vote if rng.random() < 0.8 else {"a": "b", "b": "a"}[vote] for vote in votes]

    def widths(copies: int) -> tuple[float, float]:
        pairs = [
            Pair(f"{n}-{copy}", ASKED, ("x", "y"), ("judge", "other"), {"ann": vote}, cluster=str(n))  # type: ignore[dict-item]
            for n, vote in enumerate(votes)
            for copy in range(copies)
        ]
        verdicts = [Verdict(*[0.9 if say == "a" else 0.1] * 3) for say in says for _ in range(copies)]
        own, soft = bias.self_preference(pairs, verdicts, "judge"), calibrate(pairs, verdicts)["soft"]
        assert own.low is not None
        assert own.high is not None
        return own.high - own.low, soft["high"] - soft["low"]

    for once, often in zip(widths(1), widths(8), strict=True):
        assert often == pytest.approx(once, rel=0.1)


def test_a_folder_without_pairs_and_broken_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no raw\.jsonl"):
        bias.read_questions(tmp_path)
    (tmp_path / "raw.jsonl").write_text('{"prompt": "x", "answers": [1]}\n')
    with pytest.raises(DataError, match=r"raw\.jsonl:1: has no answers"):
        bias.read_questions(tmp_path)


def test_the_published_pairs_have_their_twins(real_data: Path) -> None:
    questions = bias.read_questions(real_data / "judge_bias")
    several, made = bias.duels("gender", questions, real_data / "judge_bias")
    assert (len(questions), len(several), made) == (142, 142, False)
    assert all(one.base != one.changed for one in several)
    for name in ("authority", "beauty", "misinformation", "verbosity"):
        several, made = bias.duels(name, questions, real_data / "judge_bias")
        assert len(several) > 120
        assert made
