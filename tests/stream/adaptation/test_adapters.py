"""Each method on a tiny wav2vec 2.0, beside the same written down in the plainest way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from mnemos.core.errors import ModelError, UsageError
from mnemos.stream.adaptation import objectives as of
from mnemos.stream.adaptation.methods import METHODS, carries, make, settings_of
from tests.stream.adaptation.ears import TinyEars, clip
from tests.stream.adaptation.test_moving import as_collected

RATE = 3e-3
"""Of these tests: a hundred times the methods' own, so that a few steps of a tiny model show."""


def hear(adapter: Any, seeds: range | list[int]) -> list[Any]:
    return [adapter.hear(adapter.ears.sound(str(seed), clip(seed))) for seed in seeds]


def given(name: str, **more: Any) -> dict[str, Any]:
    rates = {"learning_rate", "coherent_learning_rate"} & set(METHODS[name].settings.model_fields)
    return dict.fromkeys(rates, RATE) | more


def plainly(ears: TinyEars, what: str, steps: int, loss: Callable[[torch.Tensor], torch.Tensor], seed: int) -> Any:
    """A copy of the whole model, torch's own optimiser, the logits after the last step."""
    network = copy.deepcopy(ears.network)
    listed = list(dict.fromkeys(as_collected(network)))
    norms = {
        id(one) for module in network.modules() if isinstance(module, torch.nn.LayerNorm) for one in module.parameters()
    }
    front = {id(one) for one in network.wav2vec2.feature_extractor.parameters()}
    front |= {id(one) for one in network.wav2vec2.feature_projection.parameters()}
    wanted = [
        one for one in listed if {"norms": id(one) in norms, "norms+front": True, "front": id(one) in front}[what]
    ]
    for one in network.parameters():
        one.requires_grad_(any(one is other for other in wanted))
    optimiser = torch.optim.AdamW(wanted, lr=RATE, weight_decay=0.0, foreach=False)
    features = ears.features([clip(seed)])
    for _ in range(steps):
        optimiser.zero_grad()
        loss(network(features).logits[0]).backward()
        optimiser.step()
    return network(features).logits[0].detach()


LOSSES: Mapping[str, tuple[str, int, Callable[[torch.Tensor], torch.Tensor]]] = {
    "suta": ("norms+front", 10, lambda z: of.suta(z, 0)),
    "tent": ("norms", 1, lambda z: of.entropy_minimisation(z, 0, 1.0)),
    "sdpl": ("norms+front", 10, lambda z: of.transcript_loss(z, of.labels_of(z, 0), 0)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_one_utterance_is_that_of_a_copied_model(name: str) -> None:
    ears = TinyEars()
    what, steps, loss = LOSSES[name]
    expected = plainly(ears, what, steps, loss, 3)
    adapter = make(name, ears, given(name))
    found = adapter.hear(adapter.ears.sound("a", clip(3)))
    logits = adapter.ears.asked(adapter.ears.sound("a", clip(3)))
    assert torch.allclose(logits, expected, atol=1e-4)
    assert found.steps == steps
    assert found.loss[1] < found.loss[0]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_hears_and_gives_the_model_back(name: str) -> None:
    ears = TinyEars(dropout=0.1)
    before = {key: one.clone() for key, one in ears.network.state_dict().items()}
    adapter = make(name, ears, given(name))
    found = hear(adapter, range(2))
    assert all(isinstance(one.text, str) and one.refused == 0 for one in found)
    assert not ears.network.training
    assert adapter.carries == bool(adapter.tensors()) == carries(name)
    if not adapter.carries:
        # Restored before each utterance: the order does not matter.
        assert hear(adapter, [0])[0] == found[0]
    adapter.ears.close()
    assert all(torch.equal(before[key], one) for key, one in ears.network.state_dict().items())
    assert hear(make("source", ears), range(3)) == hear(make("source", TinyEars(dropout=0.1)), range(3))


@pytest.mark.parametrize("name", ["tent", "csuta", "dsuta", "dsuta-fixed", "dsuta-dynamic", "dsuta-oracle", "awmc"])
def test_put_back_it_goes_on_with_the_same_bits(name: str) -> None:
    settings = given(name, steps=2)
    if name.startswith("dsuta"):
        settings |= {"buffer": 2, "window": 6, "every": 4}
    whole = make(name, TinyEars(dropout=0.1), settings, borders=(5,))
    first = hear(whole, range(7))
    state, tensors = copy.deepcopy(whole.state()), [one.clone() for one in whole.tensors()]
    rest = hear(whole, range(7, 10))
    again = make(name, TinyEars(dropout=0.1), settings, borders=(5,))
    again.load(state, tensors, lambda name: again.ears.sound(name, clip(int(name))))
    assert hear(again, range(7, 10)) == rest
    assert len(first) == 7
    assert whole.state() == again.state()
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors(), again.tensors(), strict=True))


def test_never_restored_it_is_one_long_training() -> None:
    ears = TinyEars()
    network = copy.deepcopy(ears.network)
    listed = list(dict.fromkeys(as_collected(network)))
    optimiser = torch.optim.AdamW(listed, lr=RATE, weight_decay=0.0, foreach=False)
    for seed in range(4):
        optimiser.zero_grad()
        of.suta(network(ears.features([clip(seed)])).logits[0], 0).backward()
        optimiser.step()
    adapter = make("csuta", ears, given("csuta"))
    hear(adapter, range(4))
    for one, other in zip(ears.network.parameters(), network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_fast_copy_begins_with_the_slow_optimiser_s_moments() -> None:
    ears = TinyEars()
    network = copy.deepcopy(ears.network)
    listed = list(dict.fromkeys(as_collected(network)))
    slow = torch.optim.AdamW(listed, lr=RATE, weight_decay=0.0, foreach=False)

    def step(optimiser: torch.optim.Optimizer, seeds: list[int]) -> None:
        optimiser.zero_grad()
        for seed in seeds:
            (of.suta(network(ears.features([clip(seed)])).logits[0], 0) / len(seeds)).backward()
        optimiser.step()

    expected = []
    for seeds in ([0, 1], [2, 3]):
        for seed in seeds:
            values, moments = copy.deepcopy(network.state_dict()), copy.deepcopy(slow.state_dict())
            for _ in range(3):
                step(slow, [seed])  # the same optimiser: its moments and its count go on
            expected.append(network(ears.features([clip(seed)])).logits[0].detach())
            network.load_state_dict(values)
            slow.load_state_dict(moments)
        step(slow, seeds)
    adapter = make("dsuta", ears, given("dsuta", steps=3, buffer=2))
    for seed in range(4):
        sound = adapter.ears.sound(str(seed), clip(seed))
        slow_before = adapter.slow
        found = adapter.hear(sound)
        moving = adapter.ears.moves
        # The fast copy again, from where the slow model was.
        moving.restore(slow_before)
        for _ in range(3):
            torch.autograd.backward(adapter.loss(sound))
            moving.step(RATE)
        assert torch.allclose(adapter.ears.asked(sound), expected[seed], atol=1e-3)
        assert adapter.ears.text(adapter.ears.asked(sound)) == found.text
    assert adapter.slow.counts == (2,) * len(adapter.slow.counts)


def test_fixed_and_oracle_resets_fall_at_full_buffers() -> None:
    fixed = make("dsuta-fixed", TinyEars(), given("dsuta", steps=1, buffer=2, every=3))
    assert [one.reset for one in hear(fixed, range(8))] == [False, False, False, True, False, True, False, False]
    oracle = make("dsuta-oracle", TinyEars(), given("dsuta", steps=1, buffer=2), borders=(3, 6))
    found = hear(oracle, range(8))
    assert [one.reset for one in found] == [False, False, False, True, False, True, False, False]
    oracle = make("dsuta-oracle", TinyEars(), given("dsuta", steps=1, buffer=2), borders=(2,))
    hear(oracle, range(2))
    assert all(torch.equal(a, b) for a, b in zip(oracle.slow.values, oracle.ears.moves.source.values, strict=True))


def test_the_dynamic_reset_measures_against_a_frozen_copy() -> None:
    adapter = make("dsuta-dynamic", TinyEars(), given("dsuta", steps=1, buffer=2, window=6, patience=1, z=100))
    hear(adapter, range(3))
    domain = [one.clone() for one in adapter.domain]
    assert adapter.dynamic.collected == []
    hear(adapter, [3, 4])
    # Behind the copy, before the fit: utterances 4 and 5.
    sounds = [adapter.ears.sound(str(seed), clip(seed)) for seed in (3, 4)]
    gains = []
    for sound in sounds:
        losses = []
        for values in (domain, adapter.ears.moves.source.values):
            adapter.ears.moves.put(values)
            losses.append(float(of.suta(adapter.ears.asked(sound), 0)))
        gains.append(losses[0] - losses[1])
    assert adapter.dynamic.collected == pytest.approx(gains)
    assert all(torch.equal(a, b) for a, b in zip(domain, adapter.domain, strict=True))
    found = hear(adapter, [5, 6, 7])
    assert [one.z is not None for one in found] == [False, False, True]


def test_the_leader_is_a_moving_mean_of_the_chaser() -> None:
    adapter = make("awmc", TinyEars(), {"learning_rate": RATE, "mean": 0.9, "steps": 2})
    source = [one.clone() for one in adapter.ears.moves.source.values]
    hear(adapter, [0])
    one = [a.clone() for a in adapter.way]
    hear(adapter, [1])
    assert all(bool(way.any()) for way in one)
    single = make("awmc", TinyEars(), {"learning_rate": RATE, "mean": 0.9, "steps": 1})
    hear(single, [0])
    moved = single.ears.moves.values()
    for way, chaser, zero in zip(single.way, moved, source, strict=True):
        assert torch.allclose(way, 0.1 * (chaser - zero), atol=1e-7)


def test_the_step_that_reads_best_is_taken() -> None:
    # Without a language model: the lowest loss.
    plain = make("suta-lm", TinyEars(), given("suta-lm", steps=6))
    found = plain.hear(plain.ears.sound("a", clip(3)))
    assert found.chosen == found.steps == 6
    assert found.loss[1] < found.loss[0]
    # A language model that likes nothing better than the first transcript: that of step 0, and an early end.
    source = hear(make("source", TinyEars()), [3])[0].text

    def likes(text: str) -> float:
        return 0.0 if text == source else -100.0

    chosen = make("suta-lm", TinyEars(), given("suta-lm", certain=-100.0, patience=2, beam=1), language=likes)
    found = hear(chosen, [3])[0]
    assert (found.text, found.chosen) == (source, 0)
    # Never sure enough: the last step stands.
    unsure = make("suta-lm", TinyEars(), given("suta-lm", certain=-1e-9, steps=4, beam=1), language=likes)
    found = hear(unsure, [3])[0]
    assert (found.chosen, found.steps) == (4, 4)


def test_a_cosine_of_the_rate() -> None:
    adapter = make("sgem", TinyEars(), {"steps": 10})
    rates = [adapter.rate(step) for step in range(10)]
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.SGD(weights, lr=4e-5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10, eta_min=2e-5)
    expected = []
    for _ in range(10):
        expected.append(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    assert rates == pytest.approx(expected)


def test_steps_end_where_the_loss_hardly_falls() -> None:
    adapter = make("suta", TinyEars(), {"learning_rate": 1e-9, "least_fall": 0.001})
    assert hear(adapter, [0])[0].steps == 2


def test_the_kept_front_changes_no_number() -> None:
    spared = make("suta", TinyEars(), given("suta", moves="norms"))
    sound = spared.ears.sound("a", clip(1))
    assert sound.front is not None
    once = spared.hear(sound)
    plain = make("suta", TinyEars(), given("suta", moves="norms"))
    without = plain.ears.sound("a", clip(1))
    object.__setattr__(without, "front", None)
    assert plain.hear(without) == once
    assert make("suta", TinyEars()).ears.sound("a", clip(1)).front is None


def test_refusals() -> None:
    with pytest.raises(UsageError, match="did you mean 'dsuta'"):
        make("dsuta2", TinyEars())
    with pytest.raises(UsageError, match="step"):
        settings_of("suta", {"step": 3})
    with pytest.raises(UsageError, match="learning_rate"):
        settings_of("suta", {"learning_rate": -1})
    sequence = TinyEars()
    sequence.kind = "sequence"
    with pytest.raises(ModelError, match="token by token"):
        make("suta", sequence)
    for name, row in METHODS.items():
        assert row.summary
        assert settings_of(name)
        assert row.paper or name == "source"
