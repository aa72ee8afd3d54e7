"""BOS stands before raw text where the tokenizer puts it there, whether or not one is set: three kinds of
tokenizer against lm-evaluation-harness and against the tokenizer itself."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemos.core.nouns import Decoding, Example, Prompt, Turn
from mnemos.measure.ask import measure
from mnemos.measure.suite import load_suites
from mnemos.models import choose
from mnemos.models.language import LocalModel
from mnemos.sources.opening import begun, prefix_ids, stand_in_ids
from mnemos.sources.render import Renderer
from mnemos.synthesis.magpie import pre_query
from tests.models.families import sharp
from tests.tiny import TEMPLATE, TEXT, tiny_tokenizer

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
    messages = [{"role": turn.role, "content": turn.text} for turn in chat]
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


def questions(delimiter: str) -> list[dict[str, Any]]:
    """Forty questions whose prompts end in all the ways that prompts end. The harness writes the delimiter behind an
    empty prompt and behind white space too, where no word ends, so those stand only where there is none."""
    draw = random.Random(0)
    words = sorted({word for text in TEXT for word in text.split() if not word.isdigit()})
    lead = "" if delimiter else " "
    rows = []
    for number in range(40):
        start = " ".join(draw.sample(words, number % 5 + (delimiter != "")))
        end = draw.choice(["", "", " ", "\n", ": "]) if start and not delimiter else ""
        options = [lead * draw.randint(0, 1) + word for word in draw.sample(words, 4)]
        options[1] += f" {draw.choice(words)}"
        true = sorted(draw.sample(range(4), draw.randint(1, 3)))
        rows.append({"prompt": start + end, "options": options, "right": true, "labels": [i in true for i in range(4)]})
    return rows


def harness_values(peer: Any, rows: list[dict[str, Any]], metric: str, **config: Any) -> list[float]:
    """The harness's own value of each row, in their order: its prompts, its requests, its metric."""
    from datasets import Dataset
    from lm_eval import evaluate
    from lm_eval.api.task import ConfigurableTask

    given = {"task": "tiny", "test_split": "test", "num_fewshot": 0, **config}
    task = ConfigurableTask(config={"custom_dataset": lambda **_: {"test": Dataset.from_list(rows)}, **given})
    found = evaluate(peer, {"tiny": task}, bootstrap_iters=0, log_samples=True, verbosity="ERROR")
    return [sample[metric] for sample in sorted(found["samples"]["tiny"], key=lambda sample: sample["doc_id"])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("delimiter", [" ", ""])
@pytest.mark.parametrize("kind", ["choice", "choice by bytes", "mc1", "mc2"])
@pytest.mark.parametrize("name", KINDS)
def test_suites_score_as_tasks_of_lm_evaluation_harness(
    name: str, kind: str, delimiter: str, peers: dict[str, Any]
) -> None:
    """Whole suites against whole tasks, empty prompts among them."""
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    ours, peer = peers[name]
    rows = questions(delimiter)
    task: dict[str, Any] = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{right[0]}}",
        "target_delimiter": delimiter,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    if kind == "mc2":
        task["process_results"] = lambda doc, results: process_results_mc2({"mc2_targets": doc}, results)
    theirs = harness_values(peer, rows, "acc_norm" if kind == "choice by bytes" else "acc", **task)
    items = [
        {
            "prompt": row["prompt"],
            "options": row["options"],
            "answers": row["right"] if kind == "mc2" else row["right"][:1],
        }
        for row in rows
    ]
    settings = {"normalisation": "bytes"} if kind == "choice by bytes" else {}
    made = {"name": "s", "kind": kind.split()[0], "delimiter": delimiter, "items": items, **settings}
    (suite,) = load_suites([made], Path("."))
    found = [score.value for score in measure(ours, [suite])["s"].scores]
    assert found == pytest.approx(theirs, abs=1e-5)
    assert 0.1 < sum(found) / len(found) < 0.9
    assert (delimiter == "") == any(row["prompt"] == "" for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_suite_of_texts_has_the_bits_per_byte_of_the_harness(name: str, peers: dict[str, Any]) -> None:
    ours, peer = peers[name]
    peer.add_bos_token = False
    bits = harness_values(
        peer,
        [{"text": text} for text in TEXTS],
        "bits_per_byte",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte"}],
    )
    peer.add_bos_token = None
    (suite,) = load_suites([{"name": "s", "kind": "bits_per_byte", "items": [{"text": t} for t in TEXTS]}], Path("."))
    found = measure(ours, [suite])["s"].scores
    assert [score.weight for score in found] == [size for _, size in bits]
    for score, (nats, size) in zip(found, bits, strict=True):
        assert score.value == pytest.approx(-nats / size / math.log(2), abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_training_rows_begin_as_the_harness_reads_them(name: str, peers: dict[str, Any]) -> None:
    """What is learned stands behind the very ids that the harness asks with: raw texts and chats."""
    ours, peer = peers[name]
    renderer = Renderer(ours.tokenizer)
    for text in (*TEXTS, "<|bos|>The river"):
        row = renderer.render(Example("1", "text", (Turn("text", text),)))
        assert row.ids.tolist() == [*peer.tok_encode(text), ours.tokenizer.eos_token_id]
    for question, answer in (("The answer is", " five."), ("Ada Lane was born in", " Orford")):
        pair = (Turn("prompt", question), Turn("completion", answer))
        row = renderer.render(Example("1", "completion", pair))
        context, continuation = peer._encode_pair(question, answer)
        assert row.ids.tolist() == [*context, *continuation, ours.tokenizer.eos_token_id]
        assert row.ids[row.output].tolist()[: len(continuation)] == continuation
    for turns in (("What is two?", "Five."), ("Ada?", "Lane.", "Who?", "She.")):
        chat = [Turn("user" if n % 2 == 0 else "assistant", words) for n, words in enumerate(turns)]
        history = [{"role": turn.role, "content": turn.text} for turn in chat]
        row = renderer.render(Example("1", "messages", tuple(chat)))
        asked = peer.tok_encode(peer.apply_chat_template(history[:-1]))
        batched, _ = peer.tok_batch_encode([peer.apply_chat_template(history[:-1])])
        assert row.ids.tolist()[: len(asked)] == asked == batched[0].tolist()
        assert renderer.decode(row.ids.tolist()[len(asked) :]).strip() == turns[-1]
