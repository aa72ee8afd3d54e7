"""text_run_kl and diva in the one loop, against distributions and distances by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from transformers import AutoModelForCausalLM

pytest.importorskip("soundfile", reason="the extra [speech] is not installed")

import mnemos.methods  # noqa: F401 - fills the catalogue
from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import apply
from mnemos.core.plan import Plan
from mnemos.core.settings import TrainSettings
from mnemos.models.load import Checkpoint, load_model
from mnemos.models.renderer import renderer_of
from mnemos.models.speech.files import make
from mnemos.sources.in_words import TextRuns
from mnemos.sources.read import read
from mnemos.sources.sound_marks import FIRST_SOUND
from mnemos.train.frozen import Before
from mnemos.train.likelihood import train
from tests.models.speech.making import clip
from tests.tiny import save_tiny
from tests.tiny_speech import tiny_whisper

WORDS = ("one two three four five six", "seven", "eight nine")
ANSWERS = ("Ada.", "it is five, I think", "no")
T = 2.0


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A listener, rows of sound with their words, and rows of text."""
    root = tmp_path_factory.mktemp("runs")
    # Eight times the usual random weights: what comes next depends on what is read.
    language = save_tiny(root / "language")
    model = AutoModelForCausalLM.from_pretrained(language)
    with torch.no_grad():
        for value in model.parameters():
            value *= 8 if value.dim() == 2 else 1
    model.save_pretrained(language)
    ears, bridge = tiny_whisper(root / "ears"), {"kind": "mlp", "stack": 4}
    make(root / "listener", language=str(language), encoder=str(ears), bridge=bridge)
    rows = [
        {"audio": clip(root, 0.3 + 0.2 * n, n).name, "question": "Who?", "answer": ANSWERS[n], "text": WORDS[n]}
        for n in range(3)
    ]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}, yes"}]}
        for n in range(2)
    ]
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
    return root


def plan(world: Path, *arm: dict[str, Any], data: str = "rows.jsonl", **settings: Any) -> Plan:
    asked = {"max_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "bf16": False, **settings}
    before = Checkpoint(str(world / "listener"))
    made = Plan(read(str(world / data)), before, task="new", seed=0, train=TrainSettings(**asked))
    return apply(made, [{"output_only": {}}, *arm])


def runs(world: Path) -> list[Any]:
    """Of each row: logits float[N, V] and last states float[N, H] at the answer behind the sound and behind the words,
    the answer's tokens, and the ids of the sound."""
    model = load_model(str(world / "listener"))
    renderer = renderer_of(Checkpoint(str(world / "listener")))
    source = read(str(world / "rows.jsonl"))
    out = []
    for row, text in zip(source, TextRuns(source, "text"), strict=True):
        found: list[Any] = []
        sounds: list[int] = []
        for example, network in ((row, model), (text, model.language)):
            tokens = renderer.render(example)
            at = np.flatnonzero(tokens.output)
            with torch.no_grad():
                made = network(input_ids=torch.tensor(tokens.ids.astype(np.int64))[None], output_hidden_states=True)
            found += [made.logits[0, at - 1].double().numpy(), made.hidden_states[-1][0, at - 1].double().numpy()]
            targets = tokens.ids[at]
            sounds += tokens.ids[tokens.ids >= FIRST_SOUND].tolist()
        out.append((*found, targets, sounds))
    return out


def first_loss(world: Path, out: Path, *arm: dict[str, Any], **more: Any) -> Any:
    result = train(plan(world, *arm, **more), out, quiet=True)
    return result.losses[0][1], result


def test_the_divergence_is_that_of_the_two_runs(world: Path, tmp_path: Path) -> None:
    each = [
        (
            rel_entr(softmax(words / T, -1), softmax(sound / T, -1)).sum(-1),
            -log_softmax(sound, -1)[np.arange(len(y)), y],
        )
        for sound, _, words, _, y, _ in runs(world)
    ]
    divergence, nll = (np.concatenate(parts) for parts in zip(*each, strict=True))
    loss, result = first_loss(world, tmp_path / "a", {"text_run_kl": {"coefficient": 0.5}})
    assert loss == pytest.approx(0.5 * T**2 * divergence.mean(), rel=1e-4)
    assert result.noted["KL(text || sound)"][0][1] == pytest.approx(divergence.mean(), rel=1e-4)
    both, _ = first_loss(world, tmp_path / "b", {"text_run_kl": {"coefficient": 0.5, "likelihood": 0.25}})
    assert both == pytest.approx(0.5 * T**2 * divergence.mean() + 0.25 * nll.mean(), rel=1e-4)
    # One row a pass, three to a step: the same step.
    cut, _ = first_loss(world, tmp_path / "c", {"text_run_kl": {"coefficient": 0.5}},
                        per_device_train_batch_size=1, gradient_accumulation_steps=3)  # fmt: skip
    assert cut == pytest.approx(loss, rel=1e-5)


def test_the_distances_are_those_of_states_and_of_embeddings(world: Path, tmp_path: Path) -> None:
    model = load_model(str(world / "listener"))
    tokenizer = renderer_of(Checkpoint(str(world / "listener"))).tokenizer
    states, aligned, short = [], [], 0
    for (_, sound, _, words, _, ids), text in zip(runs(world), WORDS, strict=True):
        states.append(np.linalg.norm(sound[0] - words[0]))
        with torch.no_grad():
            vectors = model.vectors(torch.tensor(ids)).double().numpy()
            named = model.get_input_embeddings()(torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]))
        count = min(len(vectors), len(named))
        short += len(vectors) < len(named)
        aligned.append(np.linalg.norm(vectors[-count:] - named.double().numpy()[-count:], axis=-1).mean())
    assert 0 < short < 3  # of one sound the vectors are too few, of another the words
    loss, _ = first_loss(world, tmp_path / "a", {"diva": {"distillation": 2.0, "alignment": 0.5}})
    assert loss == pytest.approx(2.0 * np.mean(states) + 0.5 * np.mean(aligned), rel=1e-4)
    one, _ = first_loss(world, tmp_path / "b", {"diva": {"alignment": 0.0}})
    assert one == pytest.approx(np.mean(states), rel=1e-4)


@pytest.mark.parametrize("method", ["text_run_kl", "diva"])
def test_only_the_bridge_moves_and_towards_the_text_run(
    world: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A language model that stands still reads the words itself: no second one is loaded.
    monkeypatch.setattr(Before, "_copy", lambda self: pytest.fail("a copy was loaded"))
    result = train(plan(world, {method: {}}, max_steps=12, logging_steps=1), tmp_path / "out", quiet=True)
    losses = [loss for _, loss in result.losses]
    assert losses[-1] < 0.9 * losses[0]
    before, after = (load_model(place).state_dict() for place in (str(world / "listener"), result.model))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("bridge.") for name in moved)


@pytest.mark.parametrize("method", ["text_run_kl", "diva"])
def test_replayed_text_keeps_its_likelihood_and_adapters_may_move(world: Path, tmp_path: Path, method: str) -> None:
    texts, shared = {"data": str(world / "texts.jsonl"), "share_of_final": 0.4}, ({"lora": {"rank": 2}},)
    plain, _ = first_loss(world, tmp_path / "a", {"replay": texts}, *shared)
    ours, result = first_loss(world, tmp_path / "b", {method: {"column": "text"}}, {"replay": texts}, *shared)
    assert result.counts["origin replay"] == 2
    # By hand: what the sounds' rows add is the term; what the texts add is in both.
    alone, _ = first_loss(world, tmp_path / "c", *shared)
    weights = sum(len(one[4]) for one in runs(world))
    total = result.supervised_tokens
    texts_nll = plain * total - alone * weights
    by_term, _ = first_loss(world, tmp_path / "d", {method: {}}, *shared)
    expected = by_term * weights / total if method == "text_run_kl" else by_term
    assert ours == pytest.approx(expected + texts_nll / total, rel=1e-3)


def test_what_has_no_text_run_is_refused_by_name(world: Path, tmp_path: Path) -> None:
    long = [json.loads(line) for line in (world / "rows.jsonl").read_text().splitlines()]
    long[1]["text"] = "seven " * 200
    (world / "long.jsonl").write_text("\n".join(map(json.dumps, long)))
    for method in ("text_run_kl", "diva"):
        with pytest.raises(DataError, match="has no transcript: column 'line' is no text"):
            train(plan(world, {method: {"column": "line"}}), tmp_path / "a", quiet=True)
        with pytest.raises(UsageError, match="holds no sound"):
            train(plan(world, {method: {}}, data="texts.jsonl"), tmp_path / "b", quiet=True)
        with pytest.raises(DataError, match="the text run is longer than max_length"):
            train(plan(world, {method: {}}, data="long.jsonl", max_length=120), tmp_path / "c", quiet=True)
        with pytest.raises(UsageError, match="there is no likelihood whose place"):
            plan(world, {method: {}}, {method: {}})


def test_a_model_without_a_bridge_has_no_vectors_to_align(world: Path, tmp_path: Path) -> None:
    make(tmp_path / "cascade", language=str(save_tiny(tmp_path / "llm")), encoder=None, bridge=None,
         recogniser=str(tiny_whisper(tmp_path / "ears")))  # fmt: skip
    given = plan(world, {"diva": {}})
    with pytest.raises(UsageError, match="has no bridge whose vectors could be aligned"):
        train(dataclasses.replace(given, before=Checkpoint(str(tmp_path / "cascade"))), tmp_path / "out", quiet=True)


def test_an_answer_of_which_other_tokens_are_learned_than_in_its_text_run_is_refused(
    world: Path, tmp_path: Path
) -> None:
    given = plan(world, {"text_run_kl": {}})
    cut = dataclasses.replace(given, weigh=(*given.weigh, ShortRows()))
    with pytest.raises(DataError, match=r"tokens of the answer are learned: its text run has"):
        train(cut, tmp_path / "out", quiet=True)


@dataclasses.dataclass(frozen=True)
class ShortRows:
    """Masks the last token of rows that hold a sound, as a method that looks at losses might."""

    def __call__(self, rows: Any, before: Any) -> Any:
        def cut(row: Any) -> Any:
            weight = row.weight.copy()
            weight[np.flatnonzero(weight)[-1:]] = 0
            return dataclasses.replace(row, weight=weight)

        return [cut(row) if (row.ids >= FIRST_SOUND).any() else row for row in rows]
