"""Item by item, benchmarks by name give the verdicts of lm-evaluation-harness' own task code on the same answers.

Here GSM8K, HumanEval and IFEval; BBH and MMLU have tests of their own."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
import random
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.nouns import Answer
from mnemos.measure.ask import measure, score
from mnemos.measure.items import Item
from mnemos.measure.suite import Suite, load_suites
from tests.measure.fakes import FakeModel
from tests.measure.test_benchmarks import mbpp_row
from tests.rewards.test_instructions import PEERS
from tests.rewards.test_instructions import peer as peer  # the fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning"),
]


def by_name(name: str, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("MNEMOS_DATA", str(data))
    (made,) = load_suites([name], folder)
    return made


def verdicts(made: Suite, items: Sequence[Item], texts: Sequence[str]) -> list[float]:
    """The suite's scores of these answers to these of its items; an item may stand there several times."""
    some = dataclasses.replace(made, items=tuple(items))
    answers = [Answer(made.name, item.id, text) for item, text in zip(items, texts, strict=True)]
    return [one.value for one in score(some, answers)]


def module_at(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# GSM8K: the task's own YAML, whose flexible filter is what `match: number` is meant as ------------

ENDS: dict[str, Callable[[str], str]] = {
    "its own form": lambda gold: f"First, 3 + 4 = 7.\n#### {gold}",
    "words": lambda gold: f"3 and 4 make 7, so the answer is {gold}.",
    "dollars": lambda gold: f"He pays 2 times 3, so ${gold}",
    "boxed": lambda gold: f"Therefore \\boxed{{{gold}}}",
    "unit": lambda gold: f"That is **{gold}** eggs",
    "wrong": lambda gold: f"So it is {gold}7.",
    "too early": lambda gold: f"It is {gold}, which took 61 steps",
    "none": lambda gold: "I do not know.",
    "empty": lambda gold: "",
    "text behind": lambda gold: f"The answer is {gold} because it is.",
}


def test_gsm8k(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    made = by_name("gsm8k", real_data, tmp_path, monkeypatch)
    made = dataclasses.replace(made, items=made.items[:200])
    rows = [
        {"question": item.prompt.turns[-1].text, "answer": item.answers[0]}
        for item in made.items
        if item.prompt is not None
    ]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = (Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text(encoding="utf-8")
    # Its rows from a file, and the second of its two filters alone: a suite takes the first that stands there.
    strict = text[text.index('  - name: "strict-match"') : text.index('  - name: "flexible-extract"')]
    text = text.replace(strict, "").replace("dataset_path: openai/gsm8k\ndataset_name: main\n", "dataset_path: json\n")
    text = text.replace("task: gsm8k\n", "task: gsm8k_here\n").replace(
        "training_split: train\nfewshot_split: train\n", ""
    )
    text += f"dataset_kwargs: {{data_files: {{test: {tasks / 'rows.jsonl'}}}}}\n"
    (tasks / "task.yaml").write_text(text, encoding="utf-8")
    spec = {"name": "h", "kind": "lm_eval", "task": "gsm8k_here", "include_path": "tasks", "num_fewshot": 0}
    (harness,) = load_suites([spec], tmp_path)
    names = list(ENDS)
    ends = {row["question"]: (number, row["answer"].rpartition("#### ")[2]) for number, row in enumerate(rows)}

    def answers(prompt: str) -> str:
        question = prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
        number, gold = ends[question]
        return ENDS[names[number % len(names)]](gold)

    theirs = measure(FakeModel(answers), [harness])["h"].scores
    ours = measure(FakeModel(answers), [made])["gsm8k"].scores
    assert [one.value for one in theirs] == [one.value for one in ours]
    assert sum(one.value for one in ours) == 120, "six of ten endings are right"


def test_where_numbers_are_read_otherwise(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says of the difference: a number that is written in another way is the same number here."""
    made = by_name("gsm8k", real_data, tmp_path, monkeypatch)
    item = next(item for item in made.items if item.answers[0].endswith("#### 18"))
    assert verdicts(made, [item] * 4, ["18.00", "18.", "$18.0", "36/2"]) == [1, 1, 1, 1]


# HumanEval: the task's own functions that build programs and count passes ----------------------------


class CodeEval:
    """In place of the metric that the task downloads: a program passes where Python runs it with its test behind."""

    def compute(self, references: list[str], predictions: list[list[str]], k: list[int]) -> Any:
        assert k == [1]
        passed = [
            self.run(f"{one}\n{test}") for test, some in zip(references, predictions, strict=True) for one in some
        ]
        return {"pass@1": sum(passed) / len(passed)}, {}

    @staticmethod
    def run(program: str) -> bool:
        try:
            return not subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=20).returncode
        except subprocess.TimeoutExpired:
            return False


def test_human_eval(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate, "load", lambda name: CodeEval())
    utils = module_at(Path(lm_eval.__file__).parent / "tasks/humaneval/utils.py", "humaneval_utils")
    made = by_name("human-eval", real_data, tmp_path, monkeypatch)
    rows = {row["task_id"]: row for row in gzipped(real_data / "human_eval/human_eval.jsonl.gz")}
    items, texts = [], []
    for number, item in enumerate(made.items[:60:2]):
        body = rows[item.id]["canonical_solution"]
        wrong = [
            "    return None\n",
            "    pass",
            body.replace("return", "return not", 1),
            "    return (",
            body + "\n    x",
        ]
        items += [item, item]
        texts += [body, wrong[number % len(wrong)]]
    docs = [rows[item.id] for item in items]
    programs = utils.build_predictions([[text] for text in texts], docs)
    tests = [f"{doc['test']}\ncheck({doc['entry_point']})" for doc in docs]
    theirs = [utils.pass_at_k([test], [made_], k=[1])["pass@1"] for test, made_ in zip(tests, programs, strict=True)]
    ours = verdicts(made, items, texts)
    assert ours == theirs
    assert 30 <= sum(theirs) < 40


def test_mbpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On rows made here, in the published file's form, and on answers in a fence, which is how the harness' task for
    chat models reads them."""
    lm_eval = pytest.importorskip("lm_eval")
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate, "load", lambda name: CodeEval())
    utils = module_at(Path(lm_eval.__file__).parent / "tasks/mbpp/utils.py", "mbpp_utils")
    rows = [*utils.list_fewshot_samples(), mbpp_row(5)]
    lines = "".join(json.dumps({"test_setup_code": "", **row}) + "\n" for row in rows)
    (tmp_path / "mbpp.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    spec = {"like": "mbpp", "data": str(tmp_path / "mbpp.jsonl"), "rows": None}
    (made,) = load_suites([spec], tmp_path)
    changes: list[Callable[[str], str]] = [
        lambda code: code,
        lambda code: code.replace("return", "return not"),
        lambda code: code.replace("def ", "def other_"),
        lambda code: code + "\n  (",
        lambda code: "",
    ]
    found, meant = [], []
    for item, row in zip(made.items, rows, strict=True):
        texts = [f"```python\n{change(row['code'])}\n```" for change in changes]
        found += verdicts(made, [item] * len(texts), texts)
        # The harness' prompt has opened the fence, and its answer begins behind that.
        programs = utils.build_predictions([[one.removeprefix("```")] for one in texts], [row] * len(texts))
        meant += [utils.pass_at_1(["\n".join(row["test_list"])], [one]) for one in programs]
    assert found == meant
    assert sum(found) == len(rows)


def gzipped(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# IFEval: the task's own verdict on a prompt, strict and loose ------------------------------------------


@pytest.mark.parametrize("reading", ["strict", "loose"])
def test_ifeval(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: Any, reading: str) -> None:
    """On prompts whose instructions are all of the twenty kinds that need nothing trained or downloaded."""
    lm_eval = pytest.importorskip("lm_eval")
    made = by_name("ifeval", real_data, tmp_path, monkeypatch)
    made = dataclasses.replace(made, settings=made.settings.model_copy(update={"reading": reading}))
    registry: Any = types.ModuleType("lm_eval.tasks.ifeval.instructions_registry")
    registry.INSTRUCTION_DICT = {name: getattr(peer, kind) for name, kind in PEERS.items()}
    package: Any = types.ModuleType("lm_eval.tasks.ifeval")
    package.instructions_registry = registry
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval.instructions_registry", registry)
    utils = module_at(Path(lm_eval.__file__).parent / "tasks/ifeval/utils.py", "ifeval_utils")
    rows = {str(row["key"]): row for row in gzipped(real_data / "ifeval/ifeval.jsonl.gz")}
    known = [item for item in made.items if set(rows[item.id]["instruction_id_list"]) <= set(PEERS)]
    draw = random.Random(0)
    texts = [answer_to(rows[item.id], draw) for item in known]
    key = f"prompt_level_{reading}_acc"
    theirs = [float(utils.process_results(rows[i.id], [t])[key]) for i, t in zip(known, texts, strict=True)]
    ours = verdicts(made, known, texts)
    differing = [(i.id, t[:80]) for i, t, a, b in zip(known, texts, theirs, ours, strict=True) if a != b]
    assert not differing
    assert len(known) > 250
    assert 40 < sum(theirs) < len(known) - 40


def answer_to(row: dict[str, Any], draw: random.Random) -> str:
    """An answer that follows some of the row's instructions, put together of what they ask for."""
    parts = ["Sure, here it is:"] if draw.random() < 0.3 else []
    for given in row["kwargs"]:
        parts += [
            part(given, name, value, draw) for name, value in given.items() if draw.random() < 0.8 and value is not None
        ]
    asked = set(row["instruction_id_list"])
    if "detectable_format:title" in asked:
        parts.insert(0, "<<title>>")
    if "combination:two_responses" in asked:
        parts += ["******", "another one"]
    if "detectable_format:constrained_response" in asked:
        parts.append("My answer is yes.")
    text = "\n".join(parts) + draw.choice(["", " and more, with commas", "\n\nlast line"])
    return f'"{text}"' if "startend:quotation" in asked and draw.random() < 0.7 else text


def part(given: dict[str, Any], name: str, value: Any, draw: random.Random) -> str:
    """What one argument of an instruction asks for, or nearly."""
    made = {
        "num_words": ("word ", [-1, 0, 1]),
        "num_bullets": ("* a point\n", [0, 0, 1]),
        "num_placeholders": ("[place] ", [0]),
        "num_highlights": ("*high* ", [0]),
        "frequency": (f"{given.get('keyword', '')} ", [0]),
        "let_frequency": (f"{given.get('letter', 'a')} ", [0, -1]),
    }
    if name in made:
        text, more = made[name]
        return text * (int(value) + draw.choice(more))
    if name == "num_paragraphs":
        return "\n***\n".join(["paragraph"] * int(value))
    if name == "num_sections":
        return "".join(f"{given.get('section_spliter', 'Section')} {n + 1}\ntext\n" for n in range(int(value)))
    return " ".join(value) if isinstance(value, list) else str(value)
