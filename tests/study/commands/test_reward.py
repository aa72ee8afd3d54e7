"""Reward models: training beside TRL's loss by hand, scoring, held-out accuracy, calibration, bad pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from mnemos.core.errors import DataError, ModelError
from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.core.nouns import Example, Prompt, Turn
from mnemos.rewards.by_name import RewardSettings, make
from mnemos.rewards.reward_model import ModelReward, conversation, load_scorer
from mnemos.study.commands import reward
from mnemos.train.reward_model import RewardTraining, sides, train_reward_model
from mnemos.weights.checkpoint import load_tokenizer
from tests.tiny import save_tiny


def pair(number: int, good: str, bad: str, **meta: object) -> Example:
    asked = Turn("user", f"question {number}")
    return Example(f"p{number}", "preference", (asked, Turn("assistant", good)), (Turn("assistant", bad),), meta=meta)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("tiny") / "m"))


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory) -> Path:
    """Prefers answers that say yes."""
    pairs = [pair(i, "yes", "no") for i in range(64)]
    settings = RewardTraining(learning_rate=5e-3, num_train_epochs=3, max_length=64, center_rewards_coefficient=0.1)
    return train_reward_model(model, pairs, tmp_path_factory.mktemp("rm") / "rm", settings, quiet=True).path


def test_it_learns_what_is_preferred(trained):
    found = reward.differences(trained, [pair(100 + i, "yes", "no") for i in range(20)])
    assert np.mean(reward.right(found)) == 1.0


def test_a_new_head_gives_every_answer_the_same(model, tmp_path):
    pairs = [pair(i, "yes", "no") for i in range(8)]
    made = train_reward_model(
        model, pairs, tmp_path / "rm", RewardTraining(learning_rate=1e-12, max_length=64), quiet=True
    )
    assert reward.differences(made.path, pairs) == pytest.approx([0.0] * 8, abs=1e-6)
    assert made.counts == {"pairs": 8}


def test_the_loss_is_that_of_bradley_and_terry_with_margin_and_centring(model, trained):
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    from mnemos.models.load import load_model
    from mnemos.train.reward_model import pair_ids

    pairs = [pair(i, "yes yes", "no maybe", better=0.5 * i) for i in range(4)]
    scorer = load_scorer(str(trained))
    _, rows = pair_ids(pairs, scorer.renderer, 64)
    chosen, rejected = (
        np.array(scorer.score_ids([row[name] for row in rows])) for name in ("chosen_ids", "rejected_ids")
    )
    margin = np.array([0.5 * i for i in range(4)])
    expected = np.mean(-np.log(expit(chosen - rejected - margin))) + 0.3 * np.mean((chosen + rejected) ** 2)

    from datasets import Dataset

    data = Dataset.from_list([{**row, "margin": float(m)} for row, m in zip(rows, margin, strict=True)])
    arguments = RewardConfig(
        "unused", center_rewards_coefficient=0.3, bf16=False, activation_checkpointing=False, use_cpu=True,
        report_to="none", dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    tokenizer = load_tokenizer(str(trained))
    trainer = RewardTrainer(
        load_model(str(trained), reward=True), arguments, train_dataset=data, processing_class=tokenizer
    )
    batch = trainer.data_collator([data[i] for i in range(4)])
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model.eval(), batch)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_soft_labels_are_a_cross_entropy(model, tmp_path):
    """The first step's loss is that of a new head; the learned difference has the labels' log-odds."""
    pairs = [pair(i, "yes", "no", p=0.8) for i in range(64)]
    settings = RewardTraining(
        learning_rate=5e-3, num_train_epochs=12, max_length=64, center_rewards_coefficient=0, soft_label="p"
    )
    made = train_reward_model(model, pairs, tmp_path / "rm", settings, quiet=True)
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    assert made.losses[-1][1] == pytest.approx(entropy, abs=0.01)
    assert np.mean(reward.differences(made.path, pairs)) == pytest.approx(logit(0.8), abs=0.2)


def test_soft_labels_turn_with_the_pair(model, tmp_path):
    labels = (1.0, 0.9, 0.6, 0.3)
    straight = [pair(i, "yes yes", "no maybe", p=p) for i, p in enumerate(labels)]
    turned = [pair(i, "no maybe", "yes yes", p=1 - p) for i, p in enumerate(labels)]
    settings = RewardTraining(learning_rate=1e-2, num_train_epochs=4, max_length=64, soft_label="p")
    found = []
    for name, pairs in (("straight", straight), ("turned", turned)):
        made = train_reward_model(model, pairs, tmp_path / name, settings, quiet=True)
        found.append(reward.differences(made.path, straight))
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert min(found[0]) > 0.01


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, True, "likely", None])
def test_a_soft_label_must_be_a_probability(model, tmp_path, value):
    settings = RewardTraining(soft_label="p", max_length=64)
    with pytest.raises(DataError, match=r"p = .*: must be a number from 0 to 1\n  mend it, or leave soft_label out"):
        train_reward_model(model, [pair(0, "yes", "no", p=value)], tmp_path / "rm", settings, quiet=True)
    with pytest.raises(ValueError, match="margin: m and soft_label: p are both set"):
        RewardTraining(margin="m", soft_label="p")


def test_scores_do_not_depend_on_batching(trained):
    scorer = load_scorer(str(trained))
    rows = [side for i in range(5) for side in sides(pair(i, "yes " * (i + 1), "no"))]
    one_by_one = [scorer.score([row])[0] for row in rows]
    assert scorer.score(rows) == pytest.approx(one_by_one, abs=1e-5)
    scorer.batch_tokens = 1
    assert scorer.score(rows) == pytest.approx(one_by_one, abs=1e-5)


def test_a_reward_model_is_a_reward(trained):
    made = make(RewardSettings(model=str(trained)))
    assert isinstance(made, ModelReward)
    asked = Prompt((Turn("user", "question 1"),))
    row = pair(1, "yes", "no")
    yes, no, long = made([asked] * 3, ["yes", "no", "yes " * 5000], [row] * 3)
    assert yes.value > no.value
    assert yes.value == pytest.approx(load_scorer(str(trained)).score([conversation(asked, "yes")])[0], abs=1e-5)
    assert long.reason == "longer than the reward model reads"


def test_a_reward_model_that_gives_nan_gives_no_reward(trained, monkeypatch):
    from mnemos.rewards.reward_model import Scorer

    monkeypatch.setattr(Scorer, "score_ids", lambda self, rows: [math.nan] * len(rows))
    (one,) = make(RewardSettings(model=str(trained)))([Prompt((Turn("user", "?"),))], ["yes"], [pair(1, "a", "b")])
    assert one.reason == "the reward model gave no number"


def test_a_language_model_is_no_reward_model(model):
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_scorer(model)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_model_that_its_last_update_broke_is_not_saved(model, tmp_path, monkeypatch, bad):
    """No loss is computed with these weights before they would be written."""
    from trl.trainer.reward_trainer import RewardTrainer

    train = RewardTrainer.train

    def broken(self, *given, **named):
        train(self, *given, **named)
        self.model.score.weight.data[0, 0] = bad

    monkeypatch.setattr(RewardTrainer, "train", broken)
    pairs = [pair(i, "yes", "no") for i in range(4)]
    with pytest.raises(ModelError, match=r"score\.weight of the reward model after 1 steps(.|\n)*not finite"):
        train_reward_model(model, pairs, tmp_path / "rm", RewardTraining(max_length=64), quiet=True)
    assert not (tmp_path / "rm").exists()


def test_pairs_that_are_too_long_are_counted(model, tmp_path):
    settings = RewardTraining(max_length=24)
    pairs = [pair(0, "yes", "no"), pair(1, "yes", "no " * 40)]
    made = train_reward_model(model, pairs, tmp_path / "rm", settings, quiet=True)
    assert made.counts == {"pairs": 1, "left out: longer than 24 tokens": 1}
    with pytest.raises(DataError, match="are within max_length"):
        train_reward_model(model, pairs[1:], tmp_path / "rm2", settings, quiet=True)


def test_a_margin_must_be_a_number(model, tmp_path):
    with pytest.raises(DataError, match="must be a number"):
        train_reward_model(
            model,
            [pair(0, "yes", "no", m="much")],
            tmp_path / "rm",
            RewardTraining(margin="m", max_length=64),
            quiet=True,
        )


def test_bad_pairs_are_counted_by_reason(tmp_path):
    rows = [
        {"prompt": "a", "chosen": "x", "rejected": "y"},
        {"prompt": "a", "chosen": "x", "rejected": "x"},
        {"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}],
         "rejected": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "y"}]},
    ]  # fmt: skip
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    pairs, counts = reward.read_pairs(str(tmp_path / "pairs.jsonl"))
    assert len(pairs) == 1
    assert counts == {"pairs": 1, "left out: equal pair": 1, "left out: no common prompt": 1}


def test_pairs_of_one_question_stay_on_one_side():
    pairs = [pair(i % 20, f"yes {i}", "no") for i in range(100)]
    train, test = reward.split(pairs, 0.3, 0)
    questions = [{one.turns[0].text for one in part} for part in (train, test)]
    assert not questions[0] & questions[1]
    assert len(train) + len(test) == 100
    assert reward.split(pairs, 0.3, 1) != (train, test)


def test_the_length_baseline_is_a_logistic_regression():
    rng = np.random.default_rng(0)
    pairs = [pair(i, "a" * int(rng.integers(2, 60)), "b" * int(rng.integers(1, 40))) for i in range(200)]
    found = reward.length_baseline(pairs[:150], pairs[150:])
    x = np.array(reward.lengths(pairs[:150]))
    scale = np.abs(x).mean()
    # The same optimum by hand: minimise sum ln(1 + exp(-w x)) over both directions plus w^2 / 2.
    grid = np.linspace(-3, 3, 60_001)
    loss = [2 * np.log1p(np.exp(-w * x / scale)).sum() + w**2 / 2 for w in grid[::100]]
    weight = grid[::100][int(np.argmin(loss))]
    assert found == pytest.approx(list(weight * np.array(reward.lengths(pairs[150:])) / scale), rel=0.05)


def test_a_calibrated_reward_has_no_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 20_000)
    signs = np.where(rng.uniform(size=p.size) < p, 1, -1)
    honest = reward.reliability(list(signs * logit(np.clip(p, 0, 1 - 1e-9))))
    assert honest["error"] < 0.01
    assert sum(row["number"] for row in honest["bins"]) == p.size
    boastful = reward.reliability(list(signs * 9.0))
    assert boastful["error"] == pytest.approx(1 - np.mean(signs > 0), abs=0.01)
    assert reward.reliability([math.nan])["error"] is None


def test_accuracy_is_compared_on_the_same_pairs():
    found = reward.compared([1.0, -1.0, 0.0, math.nan] * 10, [1.0, 1.0, -1.0, 1.0] * 10)
    assert found["pairs"] == 30
    assert found["missing"] == 10
    assert found["accuracy"]["value"] == pytest.approx(0.5)
    assert found["length_only"]["value"] == pytest.approx(2 / 3)
    assert found["difference"]["value"] == pytest.approx(-1 / 6)
    assert found["difference"]["low"] < -1 / 6 < found["difference"]["high"]


def test_train_and_test_writes_a_record_and_a_plot(model, tmp_path):
    rows = [{"prompt": f"question {i}", "chosen": "yes", "rejected": "no"} for i in range(40)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    settings = RewardTraining(learning_rate=5e-3, num_train_epochs=4, max_length=64)
    record = reward.train_and_test(
        model, str(tmp_path / "pairs.jsonl"), tmp_path / "rm", settings, held_out=0.4, quiet=True
    )
    assert json.loads((tmp_path / "rm" / "reward.json").read_text())["test"] == record["test"]
    assert record["test"]["accuracy"]["value"] == 1.0
    svg = (tmp_path / "rm" / "calibration.svg").read_text()
    assert svg.startswith("<svg")
    assert "expected calibration error" in svg
    assert any("accuracy on" in line for line in reward.lines(record))


def test_a_judge_labels_pairs(tmp_path):
    from mnemos.rewards import judge as judging
    from tests.rewards.test_judge import Fake

    rows = [{"prompt": f"q{i}", "chosen": "long answer" if i % 4 else "x", "rejected": "short"} for i in range(20)]
    rows.append({"prompt": "q", "chosen": "equal", "rejected": "other"})
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    rules = judging.principles(judging.CONSTITUTION)
    patch = pytest.MonkeyPatch()
    patch.setattr(reward, "judge", lambda settings: judging.Judge(Fake(taste=1.0, lean=0.5), rules))
    try:
        record = reward.judge_pairs(RewardSettings(judge="fake"), str(tmp_path / "pairs.jsonl"), tmp_path / "out.jsonl")
    finally:
        patch.undo()
    assert record["counts"]["labelled"] == 20
    assert record["counts"]["left out: no preference"] == 1
    assert record["agreement"]["value"] == pytest.approx(0.75)
    assert record["position"]["lean"] > 0
    labelled, _ = reward.read_pairs(str(tmp_path / "out.jsonl"))
    assert all(len(one.turns[-1].text) > len(one.rejected[-1].text) for one in labelled)
    assert all(row["preferred"] > 0.5 for row in read_jsonl(tmp_path / "out.jsonl"))
    assert any("leans to the first place" in line for line in reward.judge_lines(record))
