"""Power sampling against the exact distribution of models small enough to be enumerated."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import Decoding, Generation, PowerDecoding, Prompt, Turn
from mnemos.core.progress import Count
from mnemos.measure.ask import measure
from mnemos.measure.suite import load_suites
from mnemos.models import power
from mnemos.models.language import LocalModel
from mnemos.models.power import State, _continued, chains, log_ratio
from mnemos.models.server import refuse_local
from tests.tiny import tiny_model, tiny_tokenizer

STOP = 0
Ids = tuple[int, ...]


@dataclass
class Table:
    """A language model of a few tokens, STOP among them: ln p(next | what stands before), drawn at random."""

    vocabulary: int
    spread: float = 1.5

    def __post_init__(self) -> None:
        self.rows: dict[tuple[Ids, float], list[float]] = {}

    def nats(self, before: Ids, temperature: float = 1.0) -> list[float]:
        if (before, temperature) not in self.rows:
            seed = [self.vocabulary, len(before), *before]
            logits = np.random.default_rng(seed).normal(0, self.spread, self.vocabulary)
            self.rows[before, temperature] = log_softmax(logits / temperature).tolist()
        return self.rows[before, temperature]

    def written(self, ids: Ids, temperature: float) -> State:
        p = tuple(float(self.nats(ids[:t])[token]) for t, token in enumerate(ids))
        q = tuple(float(self.nats(ids[:t], temperature)[token]) for t, token in enumerate(ids))
        return State(ids, p, q, ids[-1] == STOP)

    def answers(self, longest: int) -> list[Ids]:
        """Every answer: up to the first STOP, or of the full length."""
        others = range(1, self.vocabulary)
        ended = [(*ids, STOP) for n in range(longest) for ids in itertools.product(others, repeat=n)]
        return [*ended, *itertools.product(others, repeat=longest)]

    def power(self, longest: int, alpha: float) -> dict[Ids, float]:
        """The exact p^alpha."""
        answers = self.answers(longest)
        weights = np.exp([alpha * sum(self.written(one, 1.0).p) for one in answers])
        return dict(zip(answers, weights / weights.sum(), strict=True))

    def go_on(self, temperature: float) -> Callable[..., list[State]]:
        def write(places: Any, begun: Sequence[Ids], left: Sequence[int], uniform: Any) -> list[State]:
            out = []
            for before, room, draws in zip(begun, left, uniform, strict=True):
                ids: Ids = ()
                while len(ids) < room and ids[-1:] != (STOP,):
                    mass = list(itertools.accumulate(map(math.exp, self.nats((*before, *ids), temperature))))
                    ids = (*ids, min(bisect.bisect(mass, draws[len(ids)]), self.vocabulary - 1))
                whole = self.written((*before, *ids), temperature)
                out.append(State(ids, whole.p[len(before) :], whole.q[len(before) :], ids[-1] == STOP))
            return out

        return write


def kernel(table: Table, longest: int, alpha: float, temperature: float, ratio: Any = log_ratio) -> Any:
    """The transition matrix of one Metropolis-Hastings step."""
    answers = table.answers(longest)
    states = [table.written(one, temperature) for one in answers]
    out = np.zeros((len(answers), len(answers)))
    for a, x in enumerate(states):
        for place in range(len(x.ids)):
            for b, y in enumerate(states):
                if a != b and y.ids[:place] == x.ids[:place] and len(y.ids) > place:
                    drawn = math.exp(sum(y.q[place:])) / len(x.ids)
                    out[a, b] += drawn * min(1.0, math.exp(min(0.0, ratio(x, y, place, alpha))))
        out[a, a] = 1 - out[a].sum()
    return out


def shortcut(current: State, new: State, place: int, alpha: float) -> float:
    """As published code has it: only as many tokens of both as the shorter one has, and no count of places."""
    end = min(len(current.ids), len(new.ids))
    cut = [State(one.ids[:end], one.p[:end], one.q[:end]) for one in (current, new)]
    return log_ratio(cut[0], cut[1], place, alpha)


def uncounted(current: State, new: State, place: int, alpha: float) -> float:
    """Without the numbers of places."""
    return log_ratio(current, new, place, alpha) - math.log(len(current.ids)) + math.log(len(new.ids))


@pytest.mark.parametrize(("alpha", "temperature"), [(4.0, 0.25), (2.0, 1.0), (1.0, 1.0), (0.5, 0.7)])
def test_the_step_leaves_the_power_distribution_as_it_is(alpha: float, temperature: float) -> None:
    table = Table(4)
    target = np.array(list(table.power(3, alpha).values()))
    moved = target @ kernel(table, 3, alpha, temperature)
    assert np.abs(moved - target).max() < 1e-12
    for wrong in (shortcut, uncounted):
        biased = target @ kernel(table, 3, alpha, temperature, wrong)
        assert np.abs(biased - target).sum() > 1e-3, wrong.__name__


def variation(found: Sequence[Ids], target: dict[Ids, float]) -> tuple[float, float]:
    """Total variation from the target, and what is expected of as many independent draws from it."""
    counts, n = Counter(found), len(found)
    assert set(counts) <= set(target)
    distance = 0.5 * sum(abs(counts[one] / n - share) for one, share in target.items())
    # E|X/n - p| of a binomial, by the normal distribution.
    noise = 0.5 * sum(math.sqrt(2 * share * (1 - share) / (math.pi * n)) for share in target.values())
    return distance, noise


def distribution(table: Table, decoding: PowerDecoding, longest: int) -> dict[Ids, float]:
    """The exact distribution of a chain's answers, after as few steps as it takes."""
    alpha, temperature = decoding.power, decoding.temperature
    here: dict[Ids, float] = {(): 1.0}
    for end in range(decoding.block, longest + decoding.block, decoding.block):
        reach = min(end, longest)
        answers = table.answers(reach)
        # By the proposal from what there was; an answer that is over stays.
        begun = np.array([_extended(table, here, ids, temperature) for ids in answers])
        moved = begun @ np.linalg.matrix_power(kernel(table, reach, alpha, temperature), decoding.steps)
        here = dict(zip(answers, moved, strict=True))
    return here


def _extended(table: Table, here: dict[Ids, float], ids: Ids, temperature: float) -> float:
    start = next(n for n in range(len(ids), -1, -1) if ids[:n] in here)
    return here[ids[:start]] * math.exp(sum(table.written(ids, temperature).q[start:]))


def test_many_steps_end_in_the_power_distribution() -> None:
    """Exactly: by the powers of the transition matrices. Low temperature alone is another distribution."""
    table, few = Table(4), PowerDecoding(3, 0.5, power=4.0, block=2, steps=0)
    target = table.power(3, 4.0)

    def distance(steps: int) -> float:
        found = distribution(table, replace(few, steps=steps), 3)
        assert sum(found.values()) == pytest.approx(1)
        return 0.5 * sum(abs(found[one] - share) for one, share in target.items())

    distances = [distance(steps) for steps in (0, 5, 10, 40)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.2
    assert distances[-1] < 1e-3


def test_chains_are_distributed_as_their_steps_say() -> None:
    """Two thousand chains of three steps a block, far from the target yet, beside their exact distribution."""
    table, decoding = Table(4), PowerDecoding(3, 0.5, power=2.0, block=2, steps=3)
    states, spent = chains([[7]] * 2000, [3] * 2000, decoding, table.go_on(0.5))
    distance, noise = variation([state.ids for state in states], distribution(table, decoding, 3))
    assert distance < 1.6 * noise
    assert sum(spent) >= 2000 * 2 * 3
    assert all(own >= len(state.ids) for own, state in zip(spent, states, strict=True))


@pytest.mark.slow
def test_twenty_thousand_chains_end_in_the_power_distribution() -> None:
    """Five tokens, four places, one block."""
    table = Table(5)
    decoding = PowerDecoding(4, 0.5, power=4.0, block=4, steps=40)
    states, _ = chains([[7]] * 20_000, [4] * 20_000, decoding, table.go_on(0.5))
    assert variation([state.ids for state in states], table.power(4, 4.0))[0] < 0.02


def test_a_row_has_one_answer_whatever_stands_beside_it() -> None:
    table = Table(5)
    decoding = PowerDecoding(4, 0.5, power=2.0, block=2, steps=3, seed=4)

    def asked(rows: list[list[int]], room: list[int]) -> list[State]:
        return chains(rows, room, decoding, table.go_on(0.5))[0]

    together = asked([[1], [2], [1], [3]], [4, 3, 4, 0])
    assert together[:1] == asked([[1]], [4])
    assert together[1:2] == asked([[2]], [3])
    assert len(together[1].ids) <= 3
    assert together[3] == State()
    assert asked([[1]] * 20, [4] * 20) != asked([[1]] * 20, [4] * 20)[::-1], "equal rows draw anew"


def local() -> LocalModel:
    tokenizer = tiny_tokenizer()
    return LocalModel(tiny_model(tokenizer), tokenizer, "tiny", "tiny")


def test_a_real_model_tells_the_probabilities_of_what_it_wrote() -> None:
    model = local()
    decoding = PowerDecoding(5, 0.5, power=2.0)
    rows, room = [[1, 30, 41], [1, 9]], [5, 3]
    uniform = [np.random.default_rng(n).random(size) for n, size in enumerate(room)]
    with torch.inference_mode():
        found = _continued(model.model, rows, room, frozenset({4}), decoding, uniform, 4096, Count(2, "rows"))
    for row, own in zip(rows, found, strict=True):
        for at, token in enumerate(own.ids):
            with torch.no_grad():
                logits = model.model(torch.tensor([[*row, *own.ids[:at]]])).logits[0, -1].double().numpy()
            assert own.p[at] == pytest.approx(log_softmax(logits)[token], abs=1e-4)
            assert own.q[at] == pytest.approx(log_softmax(logits / 0.5)[token], abs=1e-4)


def test_a_model_is_asked_by_it_as_by_any_decoding() -> None:
    model = local()
    prompts = [Prompt((Turn("user", f"What is {n}?"),)) for n in range(3)]
    decoding = PowerDecoding(6, 0.5, power=2.0, block=3, steps=2)
    found = model.generate(prompts, decoding)
    assert found == model.generate(prompts, decoding)
    assert [model.generate([prompt], decoding)[0].ids for prompt in prompts] == [one.ids for one in found]
    assert all(0 < len(one.ids) <= 6 for one in found)
    assert found != model.generate(prompts, PowerDecoding(6, 0.5, power=2.0, block=3, steps=2, seed=1))


def test_what_was_written_and_given_up_counts_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = local(), []

    def counted(*given: Any) -> list[State]:
        found = _continued(*given)
        seen.extend(len(one.ids) for one in found)
        return found

    monkeypatch.setattr(power, "_continued", counted)
    prompts = [Prompt((Turn("user", f"What is {n}?"),)) for n in range(3)]
    plain = model.generate(prompts, PowerDecoding(6, 0.5, power=2.0, block=3, steps=0))
    assert [one.discarded for one in plain] == [0, 0, 0]
    seen.clear()
    found = model.generate(prompts, PowerDecoding(6, 0.5, power=2.0, block=3, steps=4))
    assert sum(seen) == sum(one.written + one.finished for one in found), "the stop token is written as well"
    items = [{"prompt": f"What is {n}?", "answer": "3"} for n in range(3)]
    power_of = {"alpha": 2, "block": 3, "steps": 4}
    asked = {"name": "s", "kind": "generated", "items": items, "power": power_of, "max_new_tokens": 6, "chat": True}
    measured = measure(model, load_suites([asked], Path(".")))["s"]
    assert [one.tokens for one in measured.answers] == [one.written for one in found]


def test_an_empty_answer_stays_empty_however_much_was_given_up_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read along an answer's tokens reports it as missing; what it cost does not make it longer."""
    model = local()
    items = [{"prompt": f"What is {n}?", "answer": "3"} for n in range(2)]
    asked = {"name": "s", "kind": "generated", "items": items, "power": {"alpha": 2}, "chat": True}
    suites = load_suites(
        [asked, {"name": "shift", "kind": "token_shift", "of": "s"}, {"name": "kl", "kind": "kl", "of": "s"}], Path(".")
    )
    made = [Generation("", (), True, discarded=4), Generation("five", (9, 8), True, discarded=4)]
    monkeypatch.setattr(model, "generate", lambda *_: made)
    before = measure(model, suites)
    assert [one.tokens for one in before["s"].answers] == [4, 6]
    frozen = {name: one.answers for name, one in before.items()}
    for found in (before, measure(model, suites, before=local(), before_answers=frozen)):
        for name in ("shift", "kl"):
            empty, whole = found[name].scores
            assert math.isnan(empty.value)
            assert math.isfinite(whole.value)
        assert found["shift"].scores[0].reason == "an empty answer"
        assert found["kl"].scores[1].weight == before["kl"].scores[1].weight


@pytest.mark.parametrize(
    "decoding",
    [
        PowerDecoding(4, 0.5, top_k=3),
        PowerDecoding(4, 0.5, top_p=0.9),
        PowerDecoding(4, 0.5, stop=("\n",)),
        PowerDecoding(4, 0.0),
        PowerDecoding(4, 0.5, power=0),
        PowerDecoding(4, 0.5, block=0),
    ],
)
def test_settings_under_which_it_is_another_distribution_are_refused(decoding: Decoding) -> None:
    with pytest.raises(UsageError, match="power"):
        local().generate([Prompt((Turn("user", "What?"),))], decoding)


def test_suites_ask_by_it_and_keep_their_name_without_it() -> None:
    def suite(**more: Any) -> Any:
        return load_suites([{"name": "s", "kind": "stop_rate", "items": [{"prompt": "a"}], **more}], Path("."))[0]

    asked = suite(power={"alpha": 4, "block": 8, "steps": 3}, max_new_tokens=16)
    assert asked.decoding == PowerDecoding(16, 0.25, power=4.0, block=8, steps=3)
    assert suite(power={}, temperature=0.5).decoding == PowerDecoding(64, 0.5)
    assert type(suite().decoding) is Decoding
    assert suite().fingerprint != suite(power={}).fingerprint
    with pytest.raises(UsageError, match="alpha"):
        suite(power={"alpha": 0})


def test_engines_that_tell_no_probabilities_refuse() -> None:
    refuse_local("far", Decoding(4))
    with pytest.raises(ModelError, match="whole answers"):
        refuse_local("far", PowerDecoding(4, 0.25))
