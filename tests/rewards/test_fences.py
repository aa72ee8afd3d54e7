"""Fences in answers: whatever its form, the code that is meant is the code that is run."""

import sqlite3

import pytest

from mnemos.rewards import checks, fences
from tests.rewards.test_sandbox import namespaces

CODE = "def f(x):\n    return x + 1"
ANSWERS = {
    "no fence": CODE,
    "a plain one": f"```\n{CODE}\n```",
    "Windows' line ends": f"Here:\n```python\n{CODE}\n```\nDone.\n".replace("\n", "\r\n"),
    "a title": f"```python title=x\n{CODE}\n```",
    "attributes": f"```{{.python .numberLines startFrom=1}}\n{CODE}\n```",
    "a language with a version": f"```Python3\n{CODE}\n```",
    "tildes": f"~~~python\n{CODE}\n~~~",
    "tildes around backticks": f'~~~\n{CODE}\n"""\n```\n"""\n~~~',
    "four backticks": f'````python\n{CODE}\n"""\n```\n"""\n````',
    "sample output behind": f"```python\n{CODE}\n```\nOutput:\n```\n2\n```",
    "sample output behind an unmarked one": f"```\n{CODE}\n```\nOutput:\n```\n2\n```",
    "sample output before": f"It gives\n```\n2\n```\nby\n```\n{CODE}\n```",
    "a use of it before": f"Call it so:\n```python\nprint(f(1))\n```\n```python\n{CODE}\n```",
    "a use of it behind": f"```python\n{CODE}\n```\nCall it so:\n```python\nf(0) / 0\n```",
    "a shell before": f"```bash\npip install x\n```\n```python\n{CODE}\n```",
    "one that does not parse before": f"```python\ndef f(x):\n    return x +\n```\nNo:\n```python\n{CODE}\n```",
    "indented in a list": "1. First:\n\n   ```python\n   def f(x):\n       return x + 1\n   ```\n",
    "indented by a tab": "\t```python\n\tdef f(x):\n\t    return x + 1\n\t```",
    "not closed": f"Here:\n```python\n{CODE}\n",
    "not closed, cut short behind": f"```python\n{CODE}\n```\n```python\nprint(f(",
    "opened by the prompt": f"{CODE}\n```\nThis adds one.",
    "opened by the prompt, with output": f"{CODE}\n```\nIt gives\n```\n2\n```",
    "a fence in a docstring": 'def f(x):\n    """\n    ```python\n    f(1)\n    ```\n    """\n    return x + 1',
}
QUERY = "SELECT a FROM t WHERE a > 1"
QUERIES = {
    "no fence": f"{QUERY};",
    "a fence": f"```sql\n{QUERY};\n```",
    "a table behind": f"```sql\n{QUERY};\n```\n```\n| a |\n|---|\n| 2 |\n```",
    "another language before": f"```python\nimport sqlite3\n```\n~~~SQL title=x\r\n{QUERY}\r\n~~~",
    "opened by the prompt": f"{QUERY}\n```\nThat is all.",
}


@pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")
def test_code_is_found_in_any_fence():
    found = checks.scores("code", list(ANSWERS.values()), ["assert f(1) == 2"] * len(ANSWERS))
    assert dict(zip(ANSWERS, [one.value for one in found], strict=True)) == dict.fromkeys(ANSWERS, 1.0)


@pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")
def test_a_query_is_found_in_any_fence(tmp_path):
    path = tmp_path / "t.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript("create table t(a); insert into t values (1), (2)")
    connection.close()
    found = checks.scores("sql", list(QUERIES.values()), [QUERY] * len(QUERIES), str(path))
    assert dict(zip(QUERIES, [one.value for one in found], strict=True)) == dict.fromkeys(QUERIES, 1.0)


def test_the_first_of_two_right_ones_is_taken():
    first, second = "def f(x): return 1", "def f(x): return 2"
    text = f"```python\n{first}\n```\n```\n{second}\n```"
    assert checks.candidates(text, checks.PYTHON) == [text, first, second]


def test_what_stands_before_a_fence():
    assert fences.before("a\r\nb\r\n```\nc") == "a\nb"
    assert fences.before("a `b` ```c``` d\ne") == "a `b` ```c``` d\ne"
    assert fences.before("") == ""


@pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")
def test_answers_without_end_have_a_reason_in_bounded_time():
    many, long = "```python\n1\n```\n" * 20_000, "x" * 300_000
    found = checks.scores("code", [many[:190_000], long, "\ud800```\n\ud800", "(" * 100_000], ["assert f(1) == 2"] * 4)
    assert [one.reason for one in found] == [None, "an answer of more than 200,000 characters", None, None]
    assert [one.value for one in found if one.reason is None] == [0.0, 0.0, 0.0]
    assert len(checks.candidates(many, checks.PYTHON)) <= checks.MOST_FENCES + 2
