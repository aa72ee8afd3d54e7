"""Suites that bring a tool of their own: a text classifier, lm-evaluation-harness."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import ModelError, UsageError
from mnemos.measure.ask import measure
from mnemos.measure.suite import Suite, load_suites
from mnemos.rewards.classifier import label_scores
from tests.measure.fakes import FakeModel
from tests.tiny import tiny_tokenizer

TEXTS = ["The river runs.", "x", "What is two plus three? " * 40, "Ada Lane"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random three-class Llama classifier."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    path = tmp_path_factory.mktemp("classifier")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "kind", 1: "rude", 2: "toxic"},
        label2id={"kind": 0, "rude": 1, "toxic": 2},
        initializer_range=0.5,
    )
    LlamaForSequenceClassification(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_classifier_scores_are_transformers_own(classifier: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    expected, labels = [], []
    for text in TEXTS:
        with torch.inference_mode():
            encoded = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            p = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits.softmax(-1)[0]
        expected.append(float(p[2]))
        labels.append(float(int(p.argmax()) == 2))
    assert label_scores(str(classifier), "toxic", TEXTS, "probability") == pytest.approx(expected, abs=1e-5)
    assert label_scores(str(classifier), "toxic", TEXTS, "label") == labels


def test_classifier_suite_looks_at_another_suites_answers(classifier: Path) -> None:
    specs = [
        {"name": "g", "kind": "generated", "items": [{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "x"}]},
        {
            "name": "toxic",
            "kind": "classifier",
            "model": classifier.name,
            "label": "toxic",
            "of": "g",
            "better": "lower",
        },
    ]
    suites = load_suites(specs, classifier.parent)
    found = measure(FakeModel({"p": "The river runs.", "q": ""}), suites)["toxic"].scores
    assert 0 < found[0].value < 1
    assert found[1].reason == "empty answer: nothing to classify"
    first = suites[1].fingerprint
    config = json.loads((classifier / "config.json").read_text(encoding="utf-8"))
    (classifier / "config.json").write_text(json.dumps({**config, "note": "changed"}), encoding="utf-8")
    assert load_suites(specs, classifier.parent)[1].fingerprint != first


def test_classifier_errors(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'toxic'"):
        label_scores(str(classifier), "toxik", ["a"], "label")
    with pytest.raises(ModelError, match="cannot be loaded"):
        label_scores(str(tmp_path), "toxic", ["a"], "label")


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICE = """
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: options
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
GENERATE = """
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{options[gold]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lm_eval")
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"question": f"q{i}", "options": [f"a{i}", f"bb{i}", f"c{i}"], "gold": i % 3} for i in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, body in (("pick", CHOICE), ("write", GENERATE)):
        head = TASK.format(name=name, data=folder / "rows.jsonl")
        (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    return folder


def harness(tasks: Path, task: str, **more: Any) -> Suite:
    spec = {"name": "h", "kind": "lm_eval", "task": task, "include_path": tasks.name, **more}
    return load_suites([spec], tasks.parent)[0]


def second(prompt: str, option: str) -> float:
    """A model that always likes the second option."""
    return 0.0 if option.strip().startswith("bb") else -5.0


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


def test_a_local_choice_task(tasks: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import numpy as np

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    np.random.seed(3)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    model = FakeModel(likelihood=second)
    found = measure(model, [harness(tasks, "pick")])["h"]
    assert [score.value for score in found.scores] == [float(i % 3 == 1) for i in range(6)]
    assert len({answer.item for answer in found.answers}) == 6
    assert model.calls[0] == "Q: q0\nA:"
    assert len(model.calls) == 6
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_a_local_generation_task(tasks: Path) -> None:
    answers = {f"Q: q{i}\nA:": f" {'abc'[i % 3] * (1 + (i % 3 == 1))}{i}\nQ: more" for i in range(6)}
    model = FakeModel(answers)
    found = measure(model, [harness(tasks, "write")])["h"]
    assert model.decodings[0].max_new_tokens == 8
    assert found.answers[0].text == " a0"
    assert len(found.scores) == 6
    assert all(score.reason is None for score in found.scores)


def test_a_chat_goes_through_the_models_own_template(tasks: Path) -> None:
    class Listening(FakeModel):
        roles: list[str]

        def choose(self, contexts: Any, options: Any) -> Any:
            self.roles = [turn.role for turn in contexts[0].turns]
            return super().choose(contexts, options)

    model = Listening(likelihood=second)
    found = measure(model, [harness(tasks, "pick", chat=True, system="Be brief.", limit=3)])["h"]
    assert model.roles == ["system", "user"]
    assert model.calls[0] == "Q: q0\nA:"
    assert [score.value for score in found.scores] == [0.0, 1.0, 0.0]


def test_a_document_that_does_not_fit_is_missing(tasks: Path) -> None:
    model = FakeModel(likelihood=lambda prompt, option: math.nan if "q2" in prompt else second(prompt, option))
    found = measure(model, [harness(tasks, "pick")])["h"].scores
    assert [score.reason for score in found] == [None, None, "prompt longer than the context", None, None, None]


def test_harness_errors_name_the_cure(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean 'acc'"):
        measure(FakeModel(likelihood=second), [harness(tasks, "pick", metric="ac")])
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match=r"mnemos\[lm-eval\]"):
        measure(FakeModel(), [harness(tasks, "pick")])


@pytest.mark.slow
def test_a_misspelt_task_names_the_nearest(tasks: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'pick'"):
        measure(FakeModel(), [harness(tasks, "pikc")])


def test_the_task_folder_is_part_of_the_fingerprint(tasks: Path) -> None:
    first = harness(tasks, "pick").fingerprint
    with (tasks / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert harness(tasks, "pick").fingerprint != first
