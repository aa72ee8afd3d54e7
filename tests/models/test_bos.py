"""BOS stands before raw text where the tokenizer puts it there, whether or not one is set: three kinds of
tokenizer against lm-evaluation-harness and against the tokenizer itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mnemos.core.nouns import Decoding, Example, Prompt, Turn
from mnemos.methods.magpie import pre_query
from mnemos.models import choose
from mnemos.models.language import LocalModel
from mnemos.sources.opening import begun, prefix_ids, stand_in_ids
from mnemos.sources.render import Renderer
from tests.models.families import sharp
from tests.tiny import TEMPLATE, tiny_tokenizer

KINDS = ("qwen", "gemma", "gpt2")
CONTEXTS = ["The river runs", "What is two plus three? ", "Ada", "in 1912.\n", ""]
CHOICES = [
    [" past", " under the old mill"],
    ["five", "The answer is five."],
    [" Lane", " and", "m"],
    ["She", " She", "I"],
    ["Ada", "The river", "0 1"],
]
TEXTS = ["The river runs past the old mill.", "0 1 2 3", "Ada Lane", "{"]


def kind(name: str) -> Any:
    """qwen: no BOS. gemma: adds BOS by itself. gpt2: BOS, which is EOS too, is set and not added."""
    made = tiny_tokenizer(adds_bos=name == "gemma")
    if name == "qwen":
        made.bos_token = None
        made.chat_template = TEMPLATE.replace("{{ bos_token }}", "")
    if name == "gpt2":
        made.bos_token = made.eos_token
        made.chat_template = TEMPLATE.replace("{{ bos_token }}", "")
    return made


def model_of(name: str, seed: int = 4) -> LocalModel:
    made = sharp("llama", seed=seed)
    return LocalModel(made.model, kind(name), name, f"{name}-{seed}")


def raw(text: str) -> Prompt:
    return Prompt((Turn("prompt", text),))


@pytest.mark.parametrize("name", KINDS)
def test_what_stands_before_a_text_is_what_the_tokenizer_says(name: str) -> None:
    made = kind(name)
    bos = made.bos_token_id
    assert prefix_ids(made) == {"qwen": [], "gemma": [bos], "gpt2": []}[name]
    assert stand_in_ids(made) == [made.eos_token_id if name == "qwen" else bos]
    assert begun(prefix_ids(made), [bos, 7]) == [bos, 7]


@pytest.mark.parametrize("name", KINDS)
def test_rows_and_prompts_are_those_of_the_tokenizer(name: str) -> None:
    made, eos = kind(name), kind(name).eos_token_id
    renderer = Renderer(made)
    text = renderer.render(Example("1", "text", (Turn("text", TEXTS[0]),)))
    assert text.ids.tolist() == [*made(TEXTS[0])["input_ids"], eos]
    pair = (Turn("prompt", "The answer is"), Turn("completion", " five."))
    row = renderer.render(Example("1", "completion", pair))
    assert row.ids.tolist() == [*made("The answer is five.")["input_ids"], eos]
    assert row.output.tolist() == [i >= len(made("The answer is")["input_ids"]) for i in range(len(row))]
    assert renderer.prompt_ids(raw("The answer is")) == made("The answer is")["input_ids"]
    chat = (Turn("user", "What is two?"), Turn("assistant", "Five."))
    messages = [{"role": turn.role, "content": turn.content} for turn in chat]
    assert renderer.render(Example("1", "messages", chat)).ids.tolist() == made.apply_chat_template(
        messages, return_dict=False
    )
    asked = made.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    assert renderer.prompt_ids(Prompt(chat[:1])) == asked
    given = renderer.prompt_ids(Prompt((Turn("rendered", pre_query(renderer).before),)))
    assert given == asked[: len(given)]
    # An empty prompt is given as something that a model can go on from, in training as in use.
    empty = renderer.render(Example("1", "completion", (Turn("prompt", ""), Turn("completion", "Five."))))
    assert empty.ids[:1].tolist() == renderer.prompt_ids(raw("")) == stand_in_ids(made)
    assert empty.weight[1:].all()


def test_an_added_bos_tells_two_templates_apart() -> None:
    assert (
        Renderer(tiny_tokenizer()).template_fingerprint != Renderer(tiny_tokenizer(adds_bos=False)).template_fingerprint
    )


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_prompt_is_answered(name: str) -> None:
    found = model_of(name).generate([raw("")], Decoding(max_new_tokens=3))[0]
    assert found.ids or found.finished


@pytest.fixture(scope="module")
def peers() -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    out = {}
    for name in KINDS:
        ours = model_of(name)
        ours.model.config.name_or_path = "tiny"
        out[name] = (ours, HFLM(pretrained=ours.model, tokenizer=ours.tokenizer, device="cpu", batch_size=3))
    return out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a third party's
@pytest.mark.parametrize("name", KINDS)
def test_choices_are_those_of_lm_evaluation_harness(name: str, peers: dict[str, Any]) -> None:
    """Log-probabilities, and what mc1 and mc2 of TruthfulQA and multiple choice make of them."""
    from lm_eval.api.instance import Instance
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    ours, peer = peers[name]
    requests = [
        Instance("loglikelihood", {}, (context, option), i)
        for i, (context, options) in enumerate(zip(CONTEXTS, CHOICES, strict=True))
        for option in options
    ]
    theirs = iter(peer.loglikelihood(requests, disable_tqdm=True))
    for row in ours.choose([raw(context) for context in CONTEXTS], CHOICES):
        expected = [next(theirs) for _ in row]
        assert [score.log_prob for score in row] == pytest.approx([value for value, _ in expected], abs=1e-4)
        assert [score.greedy for score in row] == [greedy for _, greedy in expected]
        labels = [1, *([0] * (len(row) - 1))]
        mass = torch.tensor([score.log_prob for score in row]).double().softmax(-1)
        theirs_mc2 = process_results_mc2({"mc2_targets": {"labels": labels}}, expected)["acc"]
        assert float(mass[0]) == pytest.approx(theirs_mc2, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_bits_per_byte_are_those_of_lm_evaluation_harness(name: str, peers: dict[str, Any]) -> None:
    from lm_eval.api.instance import Instance

    ours, peer = peers[name]
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(TEXTS)]
    # Where the tokenizer adds BOS by itself, the harness writes two and counts the second unless told not to.
    peer.add_bos_token = False
    theirs = peer.loglikelihood_rolling(requests, disable_tqdm=True)
    peer.add_bos_token = None
    assert [-nats for nats, _ in ours.nats(TEXTS)] == pytest.approx(theirs, abs=1e-3)
    if name != "gemma":
        assert peer.loglikelihood_rolling(requests, disable_tqdm=True) == pytest.approx(theirs, abs=1e-6)


def test_a_bos_that_is_set_and_not_used_changes_scores() -> None:
    """The trap itself: the same options behind a BOS that the model never saw score otherwise."""
    ours = model_of("gpt2")
    item = choose.tokenized(ours.tokenizer, ours.renderer, [raw("The river runs")], [[" past"]])[0]
    behind = choose.Item([ours.tokenizer.bos_token_id, *item.context], item.options)
    with torch.inference_mode():
        (right,), (wrong,) = choose.score_options(ours.model, [item, behind], 400)
    assert abs(right.log_prob - wrong.log_prob) > 0.1
