"""Units beside a vocabulary while text is learned: masked, they stay where they were, and are never written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import Decoding, Example, Prompt, Turn
from mnemos.core.plan import Likelihood
from mnemos.methods.objective.units import TextLikelihood, mask_units
from mnemos.models.load import Checkpoint
from mnemos.sources.units import text_of, tokens
from mnemos.study.commands.tokenizer import add_tokens
from mnemos.train.likelihood import train
from tests.tiny import save_tiny
from tests.train.making import Few, plan, texts, weights

COUNT = 12


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with tied embeddings, and units in them."""
    root = tmp_path_factory.mktemp("units")
    add_tokens(str(save_tiny(root / "model", "gemma")), tokens(COUNT), None, root / "extended", suppress=True)
    return root / "extended"


def embedding(place: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(place).get_input_embeddings().weight.detach().numpy()


def test_units_stay_where_they_were_while_text_is_learned(extended: Path, tmp_path: Path) -> None:
    start = embedding(extended)
    moved = {}
    for name, objective in (("masked", TextLikelihood(r"<\|unit_\d+\|>")), ("all", Likelihood())):
        given = plan(
            extended, examples=texts(), objective=(objective,), max_steps=3, weight_decay=0.0, learning_rate=1e-2
        )
        result = train(given, tmp_path / name, quiet=True)
        moved[name] = np.abs(embedding(Path(result.model)) - start).max(axis=1)
    assert (moved["masked"][-COUNT:] == 0).all()
    assert moved["masked"][:-COUNT].max() > 1e-3
    assert (moved["all"][-COUNT:] > 1e-3).all()


def test_where_units_are_taught_nothing_is_masked(extended: Path, tmp_path: Path) -> None:
    rows = [Example(f"u{n}", "text", (Turn("text", f"Units: {text_of([n, n + 1])}"),)) for n in range(4)]
    pair = [
        train(
            plan(extended, examples=Few(tuple(rows), "units"), objective=(term,), max_steps=2),
            tmp_path / name,
            quiet=True,
        )
        for name, term in (("masked", TextLikelihood(r"<\|unit_\d+\|>")), ("all", Likelihood()))
    ]
    assert [loss for _, loss in pair[0].losses] == pytest.approx([loss for _, loss in pair[1].losses])
    masked, every = (weights(Path(one.model)) for one in pair)
    assert all(torch.allclose(masked[name], every[name], atol=1e-6) for name in masked)


def test_a_model_without_units_is_refused_when_training_begins(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no added token of .* is such a one"):
        train(mask_units(plan(llama, max_steps=1)), tmp_path / "out", quiet=True)


def test_suppressed_tokens_have_no_probability_whatever_is_asked(extended: Path) -> None:
    model = Checkpoint(str(extended)).load()
    ids = json.loads((extended / "generation_config.json").read_text())["suppress_tokens"]
    assert ids == [model.tokenizer.convert_tokens_to_ids(one) for one in tokens(COUNT)]
    plain = AutoModelForCausalLM.from_pretrained(extended)
    text = "The river runs."
    read = model.renderer.tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([read])).logits[0].double().numpy()
    logits[:, ids] = -np.inf
    rows = log_softmax(logits[:-1], axis=-1)
    expected = -rows[np.arange(len(read) - 1), read[1:]].sum()
    [(nats, count)] = model.nats([text])
    assert nats == pytest.approx(expected, rel=1e-5)
    assert count == len(read) - 1
    # Units of the output layer are made the likeliest: none is written all the same, greedily or drawn.
    with torch.no_grad():
        model.model.get_input_embeddings().weight[ids] *= 1e3
    prompt = Prompt((Turn("user", "What is two plus three?"),))
    for decoding in (Decoding(max_new_tokens=8), Decoding(max_new_tokens=8, temperature=1.0, top_p=0.9)):
        [answer] = model.generate([prompt], decoding)
        assert answer.ids
        assert not set(answer.ids) & set(ids)
    [scores] = model.choose([prompt], [["yes", text_of([1])]])
    assert math.isfinite(scores[0].log_prob)
    assert scores[1].log_prob == -math.inf
    [(divergence, _)] = model.text_divergence(model, [text])
    assert divergence == 0


def test_suppressed_tokens_that_are_none_are_refused(extended: Path, tmp_path: Path) -> None:
    import shutil

    for number, value in enumerate((["1"], [10**9], "all", [-1], [True])):
        folder = shutil.copytree(extended, tmp_path / str(number))
        file = folder / "generation_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "suppress_tokens": value}))
        with pytest.raises(ModelError, match="suppress_tokens"):
            Checkpoint(str(folder)).load()
