"""Remedies through a whole training: what they leave on disk, and what terms see of other models."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.outputs import Whole
from mnemos.core.plan import Likelihood, PastTask
from mnemos.methods.gradient.orthogonal import orthogonal
from mnemos.methods.objective.divergence import Distilled, SelectiveLikelihood
from mnemos.methods.trainable.parts import block_expansion
from mnemos.methods.weigh.tokens import TokenMask
from mnemos.models.load import Checkpoint, load_model
from mnemos.sources.mix import Mixture
from mnemos.sources.render import Renderer
from mnemos.train.documents import Way, micro_batch, reordered
from mnemos.train.likelihood import train
from mnemos.train.schedule import Schedule, join
from tests.tiny import save_tiny, tiny_tokenizer
from tests.train.making import Lora, Output, pairs, plan, texts, weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_new_blocks_are_trained_saved_and_trained_again(llama: Path, tmp_path: Path) -> None:
    result = train(block_expansion(plan(llama), every=1), tmp_path / "one", quiet=True)
    assert result.losses[-1][1] < result.losses[0][1]
    after, before = weights(result.model), weights(llama)
    moved = {name.split(".")[2] for name in after if name.startswith("model.layers") and name not in before}
    assert moved == {"2", "3"}
    assert load_model(result.model).config.num_hidden_layers == 4
    for old, new in (("0", "0"), ("1", "2")):
        name = "model.layers.{}.mlp.down_proj.weight"
        assert torch.equal(after[name.format(new)], before[name.format(old)])
    assert after["model.layers.1.mlp.down_proj.weight"].abs().sum() > 0
    again = train(block_expansion(plan(Path(result.model), max_steps=1), every=2), tmp_path / "two", quiet=True)
    assert load_model(again.model).config.num_hidden_layers == 6


def _overlap(first: Path, second: Path) -> float:
    from safetensors.torch import load_file

    one, other = (load_file(folder / "model" / "adapter_model.safetensors") for folder in (first, second))
    return sum(float((one[name] @ other[name].T).abs().sum()) for name in one if "lora_A" in name)


def test_a_second_adapter_turns_away_from_the_first(llama: Path, tmp_path: Path) -> None:
    first = train(orthogonal(plan(llama, sequence=True), rank=2), tmp_path / "first", quiet=True)
    past = (PastTask("one", None, Checkpoint(first.model)),)
    overlaps = []
    for penalty in (0.0, 0.5):
        given = orthogonal(plan(Path(first.model), sequence=True, past=past), rank=2, penalty=penalty)
        train(given, tmp_path / f"{penalty}", quiet=True)
        overlaps.append(_overlap(tmp_path / "first", tmp_path / f"{penalty}"))
    assert overlaps[1] < 0.9 * overlaps[0]


def test_masked_tokens_are_counted_and_not_learned(llama: Path, tmp_path: Path) -> None:
    plain = train(plan(llama), tmp_path / "a", quiet=True)
    mask = TokenMask(0.25, None, "highest", 0)
    masked = train(plan(llama, weigh=(Output(), mask)), tmp_path / "b", quiet=True)
    count = masked.counts["tokens masked by TokenMask"]
    assert count == round(0.25 * plain.counts["supervised tokens"])
    assert masked.counts["supervised tokens"] == plain.counts["supervised tokens"] - count


@dataclass(frozen=True)
class Spy:
    """Keeps what a term sees."""

    handle: Any = None
    seen: list[Any] = field(default_factory=list, compare=False)

    def loss(self, view: Any) -> Any:
        theirs = view.references.logits_of(self.handle) if self.handle is not None else None
        self.seen.append((view.targets, view.rehearsed, theirs, view.logits.detach()))
        return 0 * view.logits.sum()


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_another_checkpoint_is_asked_in_its_own_way(llama: Path, tmp_path: Path, family: str) -> None:
    """Whatever way it can be run, its logits come in the order of the micro-batch."""
    if family == "opt":
        from tests.methods.families import build

        other = tmp_path / "other"
        build("opt").save_pretrained(other)
        tiny_tokenizer().save_pretrained(other)
    else:
        other = save_tiny(tmp_path / "other", family, seed=5)
    spy = Spy(Checkpoint(str(other)))
    given = plan(llama, objective=(Likelihood(), spy), max_steps=1)
    train(given, tmp_path / "out", quiet=True)
    renderer = Renderer(AutoTokenizer.from_pretrained(llama))
    rows = Output()([renderer.render(example) for example in pairs()], given.before)
    model, wanted = AutoModelForCausalLM.from_pretrained(other).eval(), []
    for index in next(iter(Schedule([len(row) for row in rows], 4, 0).chunks(0))):
        ids = torch.tensor(rows[index].ids.astype(np.int64))
        with torch.no_grad():
            wanted.append(model(input_ids=ids[None]).logits[0, :-1][torch.tensor(rows[index].weight[1:] != 0)])
    torch.testing.assert_close(spy.seen[0][2], torch.cat(wanted), rtol=1e-3, atol=1e-4)


def test_a_reference_with_other_tokens_is_refused(llama: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other")
    tiny_tokenizer(vocabulary=300).save_pretrained(other)
    given = plan(llama, objective=(SelectiveLikelihood(Checkpoint(str(other)), 0.5),))
    with pytest.raises(ModelError, match="its tokenizer has other tokens"):
        train(given, tmp_path / "out", quiet=True)


def test_arrangements_of_a_batch_can_be_exchanged() -> None:
    """Joined, padded, and padded in several passes: the same targets in another order."""
    renderer = Renderer(tiny_tokenizer())
    rows = [(row,) for row in Output()([renderer.render(e) for e in pairs(9)], None)]  # type: ignore[arg-type]
    inputs = join(rows)
    made = [micro_batch(inputs, Way(*way)) for way in ((True, True), (False, True, False), (False, False, True))]
    assert len(made[2].passes) > 1
    for one in made:
        for other in made:
            assert torch.equal(reordered(Whole(one.targets), one, other).whole(), other.targets)
            assert torch.equal(reordered(Whole(one.place), one, other).whole(), other.place)


@pytest.mark.parametrize("adapters", [False, True])
def test_terms_know_rehearsed_rows(llama: Path, tmp_path: Path, adapters: bool) -> None:
    renderer, spy = Renderer(AutoTokenizer.from_pretrained(llama)), Spy()
    mixed = Mixture(pairs(6), texts(4), 0.4, 0)
    more: dict[str, Any] = {"trainable": Lora()} if adapters else {}
    train(plan(llama, objective=(Likelihood(), spy), examples=mixed, num_train_epochs=1, **more), tmp_path, quiet=True)
    old = [renderer.render(e) for e in mixed if e.origin == "replay"]
    assert sum(int(seen[1].sum()) for seen in spy.seen) == sum(len(row) - 1 for row in old)
    assert sum(int((~seen[1]).sum()) for seen in spy.seen) > 0


def test_rehearsed_rows_must_be_there(llama: Path, tmp_path: Path) -> None:
    given = plan(llama, objective=(Likelihood(), Distilled(1.0, 2.0, "rehearsed")))
    with pytest.raises(UsageError, match="no row of this stage is rehearsed"):
        train(given, tmp_path / "a", quiet=True)
    mixed = dataclasses.replace(given, examples=Mixture(pairs(6), texts(4), 0.4, 0))
    assert train(mixed, tmp_path / "b", quiet=True).steps > 0
