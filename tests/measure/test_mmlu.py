"""MMLU's published files: prompts and verdicts are those of lm-evaluation-harness; bad files are refused by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.measure.ask import measure
from mnemos.measure.compare import summary
from mnemos.measure.suite import Suite, load_suites
from tests.measure.fakes import FakeModel, text_of

SUBJECTS = {"abstract_algebra": 3, "world_religions": 1}
TASK = """
task: mmlu_{0}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {1}/{0}_test.jsonl, dev: {1}/{0}_dev.jsonl}}}}
description: "The following are multiple choice questions (with answers) about {2}.\\n\\n"
"""


def published(folder: Path) -> None:
    """Folders test and dev of one CSV a subject, as MMLU comes, and the same rows as the harness reads them."""
    for split, number in (("test", None), ("dev", 5)):
        (folder / split).mkdir(parents=True)
        for subject, questions in SUBJECTS.items():
            made: list[dict[str, Any]] = [
                {"question": f' {subject} {split} {n}, "why"?', "choices": [f"{n}{c}" for c in "abcd"], "answer": n % 4}
                for n in range(number or questions)
            ]
            lines = [[one["question"], *one["choices"], "ABCD"[one["answer"]]] for one in made]
            cells = "".join(",".join('"' + c.replace('"', '""') + '"' for c in line) + "\n" for line in lines)
            (folder / split / f"{subject}_{split}.csv").write_text(cells, encoding="utf-8")
            (folder / f"{subject}_{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in made))


def mmlu(folder: Path, **more: Any) -> Suite:
    spec = {"name": "m", "kind": "mmlu", "data": str(folder / "test"), "examples": str(folder / "dev"), **more}
    (made,) = load_suites([spec], folder)
    return made


@pytest.mark.slow
def test_prompts_and_verdicts_are_those_of_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    published(tmp_path)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    template = Path(lm_eval.__file__).parent / "tasks/mmlu/default/_default_template_yaml"
    for subject in SUBJECTS:
        own = TASK.format(subject, tmp_path, subject.replace("_", " "))
        text = template.read_text(encoding="utf-8").replace("dataset_path: cais/mmlu\n", "")
        (tasks / f"{subject}.yaml").write_text(text + own, encoding="utf-8")
    group = f"group: ours\ntask: [{', '.join(f'mmlu_{one}' for one in SUBJECTS)}]\n"
    (tasks / "group.yaml").write_text(group, encoding="utf-8")
    spec = {"name": "h", "kind": "lm_eval", "task": "ours", "include_path": "tasks", "num_fewshot": 5}
    (harness,) = load_suites([spec], tmp_path)

    def likelihood(prompt: str, option: str) -> float:
        # A model that is right about some questions: the letter depends on the question's number.
        number = int(prompt.rpartition(" test ")[2].partition(",")[0])
        return 0.0 if option == f" {'ABCD'[number % 4 if number < 2 else 0]}" else -5.0

    models = [FakeModel(likelihood=likelihood), FakeModel(likelihood=likelihood)]
    theirs = measure(models[0], [harness])["h"]
    ours = measure(models[1], [mmlu(tmp_path)])["m"]
    assert set(models[0].calls) == set(models[1].calls)
    assert len(models[1].calls) == 4
    assert models[1].calls[0].count("Answer: ") == 5
    assert [one.value for one in theirs.scores] == [one.value for one in ours.scores] == [1, 1, 0, 1]
    assert {answer.item.partition("/")[0] for answer in theirs.answers} == {f"mmlu_{one}" for one in SUBJECTS}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_questions_count_alike_unless_subjects_shall(tmp_path: Path) -> None:
    published(tmp_path)
    right = {"abstract_algebra": -1.0, "world_religions": 0.0}

    def likelihood(prompt: str, option: str) -> float:
        subject = "abstract_algebra" if "abstract algebra" in prompt.splitlines()[0] else "world_religions"
        return right[subject] if option == " A" else -0.5

    means = []
    for balanced in (False, True):
        made = mmlu(tmp_path, balanced=balanced)
        assert {item.category for item in made.items} == set(SUBJECTS)
        means.append(summary(measure(FakeModel(likelihood=likelihood), [made])["m"].scores, made)["mean"])
    # Of three questions on algebra, "B" (the first that is not A) is right for the second alone; the other is A.
    assert means == [pytest.approx(2 / 4), pytest.approx((1 / 3 + 1) / 2)]


def test_rows_are_read_as_json_and_as_csv_with_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"question": "q", "subject": "s_t", "choices": ["w", "x", "y", "z"], "answer": 2}\n'
        '{"question": "r", "subject": "s_t", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "D"}\n'
    )
    (tmp_path / "b.csv").write_text(",Question,A,B,C,D,Answer,Subject\n0,q,w,x,y,z,C,s_t\n1,r,w,x,y,z,D,s_t\n")
    suites = [mmlu(tmp_path, data=str(tmp_path / name), shots=0, examples=None) for name in ("a.jsonl", "b.csv")]
    assert suites[0].items == suites[1].items
    assert suites[0].fingerprint == suites[1].fingerprint
    assert [item.true for item in suites[0].items] == [(2,), (3,)]
    assert text_of(suites[0].items[0].prompt).endswith(" about s t.\n\nq\nA. w\nB. x\nC. y\nD. z\nAnswer:")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q,w,x,y,z\n", r"a_test.csv:1.*5 cells"),
        ("r,w,x,y,z,E\n", r"a_test.csv:1.*answer = 'E'.*letter A to D"),
        ("q,w,,y,z,A\n", r"a_test.csv:1.*B = ''.*not empty"),
        ('q,"w,x,y,z,A\n', r"a_test.csv.*comma-separated"),
        ("", r"has no items"),
        ("q,w,x,y,z,A\n", r"subject 'a'.*0 examples.*shots"),
    ],
)
def test_files_that_cannot_be_asked_are_refused(tmp_path: Path, text: str, words: str) -> None:
    for split in ("test", "dev"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "b_dev.csv").write_text("q,w,x,y,z,A\n" * 5 if split == "dev" else "")
    (tmp_path / "test" / "a_test.csv").write_text(text)
    with pytest.raises(DataError, match=rf"(?s){words}"):
        mmlu(tmp_path)


def test_absent_data_say_where_they_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMOS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)mmlu/dev.*does not exist.*2009\.03300"):
        load_suites(["mmlu"], tmp_path)
    with pytest.raises(UsageError, match="examples: names the folder"):
        mmlu(tmp_path, examples=None)
    with pytest.raises(UsageError, match="rows: is not for kind mmlu"):
        mmlu(tmp_path, rows=[1, 2])
