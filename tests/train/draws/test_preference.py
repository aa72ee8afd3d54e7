"""Pairs and thumbs: step by step what TRL does, cut up, continued, mixed with other rows, refused."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import AutoTokenizer

from mnemos.core.errors import DataError, ModelError, UsageError
from mnemos.core.nouns import Example, Turn
from mnemos.core.plan import Plan, StepView
from mnemos.methods.draw.preference import dpo, kto, orpo, simpo
from mnemos.methods.objective.divergence import kl_to_before
from mnemos.methods.weigh.tokens import token_mask
from mnemos.sources.render import Renderer
from mnemos.train.draws.answers import MISMATCHED
from mnemos.train.likelihood import train
from tests.tiny import TEXT, save_tiny, tiny_tokenizer
from tests.train.making import Few, Lora, plan, prepare_answers, thumbs, weights
from tests.train.making import preferences as pairs
from tests.train.trl_peer import trained_by_trl

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:trl"),
]


def chats(count: int, origin: str = "replay") -> tuple[Example, ...]:
    return tuple(
        Example(
            f"c{i}", "messages", (Turn("user", TEXT[i % 6][:9]), Turn("assistant", TEXT[i % 6][9:25])), (), None, origin
        )
        for i in range(count)
    )


def given(model: Path, examples: Few, **changes: Any) -> Plan:
    """Three steps of all five rows."""
    settings = {"per_device_train_batch_size": 5, "num_train_epochs": 3, "weigh": (), **changes}
    return plan(model, examples=examples, **settings)


def close(one: Any, other: Any, atol: float = 2e-6) -> bool:
    return all(torch.allclose(one[name], other[name], atol=atol) for name in one)


PEERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (name, {"loss": name}, {"loss_type": [name]})
    for name in ("sigmoid", "sigmoid_norm", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down")
] + [
    ("robust", {"loss": "robust", "label_smoothing": 0.2}, {"loss_type": ["robust"], "label_smoothing": 0.2}),
    ("with sft", {"sft_weight": 0.7}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}),
]


@pytest.mark.parametrize(("ours", "theirs"), [peer[1:] for peer in PEERS], ids=[peer[0] for peer in PEERS])
def test_dpo_takes_the_steps_that_trl_takes(llama: Path, tmp_path: Path, ours: Any, theirs: Any) -> None:
    learned = dpo(given(llama, pairs()), beta=0.3, **ours)
    result = train(learned, tmp_path / "ours", quiet=True)
    losses, state, log = trained_by_trl(learned, tmp_path / "theirs", beta=0.3, **theirs)
    assert np.allclose([loss for _, loss in result.losses], losses, rtol=1e-5, atol=1e-5)
    assert close(weights(result.model), state)
    for name, peer in (("margin", "margins"), ("accuracy", "accuracies"), ("of chosen", "chosen")):
        noted = [value for _, value in result.noted[f"reward {name}"]]
        assert np.allclose(noted, [line[f"rewards/{peer}"] for line in log], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_kto_takes_the_steps_that_trl_takes(llama: Path, tmp_path: Path, loss: Any) -> None:
    learned = kto(given(llama, thumbs()), beta=0.3, undesirable_weight=1.3)
    rows_of = learned if loss == "kto" else dataclasses.replace(learned)
    learned = learned if loss == "kto" else kto(given(llama, thumbs()), beta=0.3, undesirable_weight=1.3, loss=loss)
    result = train(learned, tmp_path / "ours", quiet=True)
    losses, state, log = trained_by_trl(rows_of, tmp_path / "theirs", beta=0.3, undesirable_weight=1.3, loss_type=loss)
    assert np.allclose([loss for _, loss in result.losses], losses, rtol=1e-5, atol=1e-5)
    assert close(weights(result.model), state)
    if loss == "kto":
        drift = [value for _, value in result.noted["KL estimate of mismatched pairs"]]
        assert np.allclose(drift, [line["kl"] for line in log], rtol=1e-3, atol=1e-4)
        assert drift[-1] > 0
    else:
        assert "KL estimate of mismatched pairs" not in result.noted


@dataclasses.dataclass(frozen=True)
class Stop:
    """A term worth nothing that stops the training at one call."""

    call: int = dataclasses.field(default=0, compare=False)
    calls: list[int] = dataclasses.field(default_factory=list, compare=False)

    def loss(self, view: StepView) -> Any:
        self.calls.append(1)
        if len(self.calls) == self.call:
            raise KeyboardInterrupt
        return 0 * view.logits.sum()


def mixed(model: Path, method: Any, **changes: Any) -> Plan:
    """Pairs or thumbs with replayed chats, in steps of 4, 4 and 1 rows."""
    judged = thumbs(6) if method is kto else pairs(6)
    return method(given(model, Few((*judged.examples, *chats(3)), "mixed"), num_train_epochs=2, **changes), beta=0.5)


@pytest.mark.parametrize("method", [dpo, kto, simpo])
def test_a_step_may_be_cut(llama: Path, tmp_path: Path, method: Any) -> None:
    whole = train(mixed(llama, method, per_device_train_batch_size=4), tmp_path / "a", quiet=True)
    cut = mixed(llama, method, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    parts = train(cut, tmp_path / "b", quiet=True)
    assert np.allclose([loss for _, loss in parts.losses], [loss for _, loss in whole.losses], rtol=1e-4)
    assert close(weights(parts.model), weights(whole.model), 5e-5)
    assert parts.noted.keys() == whole.noted.keys()
    for name in whole.noted.keys() - {"KL estimate of mismatched pairs"}:
        assert np.allclose(np.array(parts.noted[name]), np.array(whole.noted[name]), rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("method", [dpo, kto])
def test_stopped_and_continued_equals_unbroken(llama: Path, tmp_path: Path, method: Any, adapters: bool) -> None:
    """Stopped in the fourth step, after the checkpoint of the third; beside replay and kl_to_before."""

    def stage(stop: Stop) -> Plan:
        more: dict[str, Any] = {"trainable": Lora()} if adapters else {}
        made = kl_to_before(
            mixed(llama, method, per_device_train_batch_size=4, save_steps=1, logging_steps=2, **more), coefficient=0.1
        )
        return dataclasses.replace(made, objective=(*made.objective, stop))

    whole = train(stage(Stop()), tmp_path / "whole", quiet=True)
    with pytest.raises(KeyboardInterrupt):
        train(stage(Stop(4)), tmp_path / "broken", quiet=True)
    continued = train(stage(Stop()), tmp_path / "broken", quiet=True)
    assert (continued.losses, continued.noted) == (whole.losses, whole.noted)
    assert [step for step, _ in whole.noted["reward accuracy"]] == [2, 4, 6]
    one, other = weights(whole.model), weights(continued.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ordinary_rows_count_as_rows(llama: Path, tmp_path: Path) -> None:
    """One step over 2 pairs and 3 chats, at the start: (2 ln 2 + 3 * mean nll of the chats' tokens) / 5."""
    rows = Few((*pairs(2).examples, *chats(3)), "five")
    base = given(llama, rows, max_steps=1)
    loss = train(dpo(base), tmp_path / "a", quiet=True).losses[0][1]
    alone = train(given(llama, Few(chats(3), "three"), max_steps=1), tmp_path / "b", quiet=True).losses[0][1]
    assert loss == pytest.approx((2 * math.log(2) + 3 * alone) / 5, rel=1e-5)
    off = train(dpo(base, ordinary=0), tmp_path / "c", quiet=True).losses[0][1]
    assert off == pytest.approx(2 * math.log(2) / 5, rel=1e-5)


def log_probs(model: Path, plan_: Plan) -> list[tuple[float, float, int, int]]:
    """Per pair: ln p of chosen and rejected and their lengths, by one plain pass each."""
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    out = []
    for row in prepare_answers(plan_, Renderer(AutoTokenizer.from_pretrained(model))).rows:
        text = []
        for one in row:
            with torch.no_grad():
                logits = (
                    loaded(input_ids=torch.tensor(one.ids[None].astype(np.int64))).logits[0].double().log_softmax(-1)
                )
            places = np.flatnonzero(one.output)
            text.append((sum(float(logits[place - 1, one.ids[place]]) for place in places), len(places)))
        out.append((text[0][0], text[1][0], text[0][1], text[1][1]))
    return out


def test_simpo_and_orpo_are_their_formulas(llama: Path, tmp_path: Path) -> None:
    learned = simpo(given(llama, pairs(), max_steps=1), beta=2.5, margin=0.8)
    found = log_probs(llama, learned)
    margins = np.array([2.5 * (a / n - b / m) - 0.8 for a, b, n, m in found])
    got = train(learned, tmp_path / "s", quiet=True).losses[0][1]
    assert got == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-5)
    means = np.array([(a / n, b / m) for a, b, n, m in found])
    odds = means - np.log1p(-np.exp(means))
    nll = -sum(a for a, *_ in found) / sum(n for _, _, n, _ in found)
    got = train(orpo(given(llama, pairs(), max_steps=1), weight=0.4), tmp_path / "o", quiet=True).losses[0][1]
    assert got == pytest.approx(nll + 0.4 * np.log1p(np.exp(odds[:, 1] - odds[:, 0])).mean(), rel=1e-5)


SURE = (0.9, 0.5, 0.2, 1.0, 0.0)


def labelled(labels: Any = SURE) -> Few:
    rows = (dataclasses.replace(one, meta={"p": p}) for one, p in zip(pairs().examples, labels, strict=True))
    return Few(tuple(rows), f"labelled {labels}")


def test_soft_labels_are_a_cross_entropy(llama: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=5)
    learned = dpo(given(llama, labelled(), max_steps=1), soft_label="p", reference_model=str(other))
    own, theirs = log_probs(llama, learned), log_probs(other, learned)
    logits = np.array([0.1 * ((a - c) - (b - d)) for (a, b, *_), (c, d, *_) in zip(own, theirs, strict=True)])
    p = np.array(SURE)
    expected = (-p * np.log(expit(logits)) - (1 - p) * np.log(expit(-logits))).mean()
    assert train(learned, tmp_path / "run", quiet=True).losses[0][1] == pytest.approx(expected, rel=1e-5)


def test_soft_labels_are_one_rate_of_error_and_turn_with_the_pair(llama: Path, tmp_path: Path) -> None:
    def learned(examples: Few, name: str, **settings: Any) -> Any:
        return weights(train(dpo(given(llama, examples), beta=0.3, **settings), tmp_path / name, quiet=True).model)

    smooth = learned(pairs(), "smooth", label_smoothing=0.2)
    assert close(smooth, learned(labelled([0.8] * 5), "same", soft_label="p"))
    assert not close(smooth, learned(labelled(), "others", soft_label="p"))
    turned = tuple(
        dataclasses.replace(one, turns=(*one.turns[:-1], *one.rejected), rejected=one.turns[-1:], meta={"p": 1 - p})
        for one, p in zip(pairs().examples, SURE, strict=True)
    )
    assert close(learned(labelled(), "as is", soft_label="p"), learned(Few(turned, "turned"), "turned", soft_label="p"))


def test_soft_labels_that_say_nothing(llama: Path) -> None:
    bad = labelled((0.7, 1.1, float("nan"), True, "0.7"))
    prepared = prepare_answers(dpo(given(llama, bad), soft_label="p"), renderer())
    assert prepared.counts["left out: its soft label is no number from 0 to 1"] == 4
    assert [one.soft_label for one in prepared.rows[0]] == [0.7, 0.7]
    for settings in ({"loss": "hinge"}, {"label_smoothing": 0.1}):
        with pytest.raises(UsageError, match=r"dpo\.soft_label = p: stands beside loss"):
            dpo(given(llama, bad), soft_label="p", **settings)  # type: ignore[arg-type]


def test_off_is_plain_training_on_the_chosen_answers(llama: Path, tmp_path: Path) -> None:
    plain = train(given(llama, pairs(), max_steps=2), tmp_path / "a", quiet=True)
    off = train(dpo(given(llama, pairs(), max_steps=2), beta=0.0, loss="hinge"), tmp_path / "b", quiet=True)
    assert plain.losses == off.losses
    rows = train(given(llama, thumbs(), max_steps=2), tmp_path / "c", quiet=True)
    assert rows.counts["left out: a thumb down"] == 2
    assert (rows.counts["examples"], rows.counts["rows"]) == (5, 3)


def renderer() -> Renderer:
    return Renderer(tiny_tokenizer())


def test_what_is_left_out_is_counted(llama: Path) -> None:
    first = pairs(1).examples[0]
    twins = dataclasses.replace(first, id="twins", rejected=first.turns[-1:])
    long = dataclasses.replace(first, id="long", rejected=(Turn("assistant", TEXT[0] * 9),))
    prompt = dataclasses.replace(first, id="prompt", turns=(Turn("user", TEXT[0] * 3), first.turns[-1]))
    made = dpo(given(llama, Few((first, twins, long, prompt, *thumbs(2).examples), "bad"), max_length=40))
    prepared = prepare_answers(made, renderer())
    assert [[one.part for one in row] for row in prepared.rows] == [["chosen", "rejected"], [""]]
    assert prepared.counts["left out: chosen and rejected are the same tokens"] == 1
    assert prepared.counts["left out: longer than 40 tokens"] == 2
    assert prepared.counts["left out: a thumb down"] == 1
    assert (prepared.counts["examples"], prepared.counts["pairs"], prepared.counts["ordinary rows"]) == (6, 1, 1)
    cut = dpo(given(llama, Few((first, prompt), "cut"), max_length=40, truncate=True))
    assert prepare_answers(cut, renderer()).counts["left out: no token of an answer is left"] == 1


class Shifting(Renderer):
    """Writes another first token before long answers, as a template might."""

    def render(self, example: Example) -> Any:
        tokens = super().render(example)
        ids = tokens.ids.copy()
        ids[0] += len(example.turns[-1].text) > 10
        return dataclasses.replace(tokens, ids=ids)


def test_prompts_that_differ_within_a_pair(llama: Path) -> None:
    made = dpo(given(llama, Few(pairs(3).examples[2:], "one")))
    with pytest.raises(DataError, match=r"0 of 1 examples can be used as pairs: left out: prompts differ.*: 1"):
        prepare_answers(made, Shifting(tiny_tokenizer()))


def test_mismatched_answers_stand_behind_other_prompts(llama: Path) -> None:
    rows = prepare_answers(kto(given(llama, pairs(4))), renderer()).rows
    assert Counter(row[0].part for row in rows) == {"desirable": 4, "undesirable": 4}
    for place, (one, other) in enumerate(rows):
        assert other.part == MISMATCHED
        start = int(one.output.argmax())
        assert np.array_equal(one.ids[:start], other.ids[:start])
        behind = rows[place - 1][0]
        assert np.array_equal(other.ids[other.output], behind.ids[behind.output])
        assert not np.array_equal(behind.ids[: int(behind.output.argmax())], one.ids[:start])


def test_what_cannot_be_meant_is_refused(llama: Path, tmp_path: Path) -> None:
    base = given(llama, pairs())
    refused: list[tuple[Plan, type[Exception], str]] = [
        (token_mask(dpo(base)), UsageError, "dpo with TokenMask: weighs single tokens"),
        (dpo(given(llama, pairs(), packing=True)), UsageError, "cannot be packed"),
        (dpo(given(llama, Few(chats(3, "new"), "c"))), DataError, "0 of 3 examples can be used as pairs"),
        (
            kto(given(llama, Few(thumbs(3).examples[1:], "up"))),
            DataError,
            "all 2 answers are desirable: kto needs both",
        ),
        (given(llama, Few(thumbs(1).examples, "down")), DataError, r"none to learn \(left out: a thumb down: 1\)"),
    ]
    for stage, error, words in refused:
        with pytest.raises(error, match=words):
            train(stage, tmp_path, quiet=True)


def test_another_reference(llama: Path, tmp_path: Path) -> None:
    """Of the same vocabulary it is compared with; one of another is refused."""
    other = save_tiny(tmp_path / "other", seed=5)
    base = given(llama, pairs(), max_steps=1)
    learned = dpo(base, reference_model=str(other))
    own, theirs = log_probs(llama, learned), log_probs(other, learned)
    logits = np.array([0.1 * ((a - c) - (b - d)) for (a, b, *_), (c, d, *_) in zip(own, theirs, strict=True)])
    result = train(learned, tmp_path / "run", quiet=True)
    assert result.losses[0][1] == pytest.approx(np.log1p(np.exp(-logits)).mean(), rel=1e-5)
    assert result.noted["reward margin"][0][1] == pytest.approx(logits.mean(), rel=1e-4)
    tokenizer = tiny_tokenizer(vocabulary=380)
    from tests.tiny import tiny_model

    small = tmp_path / "small"
    tiny_model(tokenizer).save_pretrained(small)
    tokenizer.save_pretrained(small)
    for method in (dpo, kto):
        with pytest.raises(ModelError, match="its tokenizer has other tokens"):
            train(method(base, reference_model=str(small)), tmp_path / "no", quiet=True)
