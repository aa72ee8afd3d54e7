"""Real programs and a real database in the sandbox: HumanEval (arXiv:2107.03374) and Chinook."""

import ast
import gzip
import json
import textwrap
from types import MappingProxyType

import pytest

from mnemos.core.nouns import Answer
from mnemos.measure.ask import score
from mnemos.measure.kinds import KINDS
from mnemos.measure.suite import load_suites
from mnemos.rewards import checks
from tests.rewards.test_sandbox import namespaces

pytestmark = pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")


@pytest.fixture(scope="module")
def problems(real_data):
    with gzip.open(real_data / "human_eval" / "human_eval.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def chinook(real_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("chinook") / "chinook.sqlite"
    path.write_bytes(gzip.decompress((real_data / "chinook" / "Chinook_Sqlite.sqlite.gz").read_bytes()))
    return path


def reference(problem):
    return f"{problem['prompt']}\n{checks.PLACE}\n{problem['test']}\ncheck({problem['entry_point']})"


class Spoil(ast.NodeTransformer):
    """Turns the first comparison round."""

    SWAPS = MappingProxyType(
        {ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
    )

    def __init__(self):
        self.done = False

    def visit_Compare(self, node):
        if not self.done and type(node.ops[0]) in self.SWAPS:
            self.done, node.ops[0] = True, self.SWAPS[type(node.ops[0])]()
        return node


def mutant(problem):
    """The problem's solution with one comparison turned round; None where it has none."""
    spoil = Spoil()
    tree = spoil.visit(ast.parse(problem["prompt"] + problem["canonical_solution"]))
    return ast.unparse(tree) if spoil.done else None


def test_all_canonical_solutions_pass_and_empty_ones_fail(problems):
    references = [reference(problem) for problem in problems]
    right = checks.scores("code", [problem["canonical_solution"] for problem in problems], references)
    empty = checks.scores("code", ["    return None"] * len(problems), references)
    assert len(problems) == 164
    assert [one.value for one in right] == [1.0] * 164
    assert [one.value for one in empty] == [0.0] * 164


FORMS = {
    "a body": "{body}",
    "a function": "{head}{body}",
    "a chat": "Here you are:\n\n```python\n{head}{body}```\n\nFor example:\n```\n>>> {name}(…)\n```\n```\n1\n```",
    "opened by the prompt": "{head}{body}\n```\nThis solves it.",
    "Windows' line ends": "```Python title=answer\r\n{head}{body}\r\n```",
    "in a list": "1. So:\n   ~~~\n{indented}\n   ~~~",
}


@pytest.mark.parametrize("form", FORMS)
def test_solutions_pass_in_whatever_form_they_are_written(problems, form):
    answers = []
    for problem in problems:
        head, body, name = problem["prompt"], problem["canonical_solution"], problem["entry_point"]
        indented = textwrap.indent(head + body, "   ")
        answers.append(FORMS[form].format(head=head, body=body, name=name, indented=indented))
    found = checks.scores("code", answers, [reference(problem) for problem in problems])
    assert [problem["task_id"] for problem, one in zip(problems, found, strict=True) if one.value != 1] == []


def test_no_tests_of_real_problems_are_at_fault(problems, tmp_path):
    items = [
        {"id": p["task_id"], "prompt": p["prompt"], "answer": reference(p), "canonical": p["canonical_solution"]}
        for p in problems
    ]
    spec = {"name": "programs", "kind": "generated", "match": "code", "columns": {"solution": "canonical"}}
    (suite,) = load_suites([{**spec, "items": items}], tmp_path)
    assert KINDS[suite.kind].tried(suite.settings, suite.items) == []


def test_mutated_solutions_fail(problems):
    made = [(mutant(problem), reference(problem)) for problem in problems]
    made = [(text, tests) for text, tests in made if text is not None]
    found = checks.scores("code", [text for text, _ in made], [tests for _, tests in made])
    assert len(made) > 80
    # A comparison may stand where either outcome gives the same (a shortcut, an early return).
    assert sum(one.value == 0 for one in found) / len(made) > 0.9


def test_code_and_sql_are_suites(problems, chinook, tmp_path):
    code = {
        "name": "programs",
        "kind": "generated",
        "match": "code",
        "items": [{"id": p["task_id"], "prompt": p["prompt"], "answer": reference(p)} for p in problems[:2]],
    }
    sql = {
        "name": "queries",
        "kind": "generated",
        "match": "sql",
        "database": str(chinook),
        "items": [{"id": "tracks", "prompt": "How many tracks?", "answer": "select count(*) from Track"}],
    }
    programs, queries = load_suites([code, sql], tmp_path)
    words = [problems[0]["canonical_solution"], "    return 0"]
    answers = [Answer("programs", item.id, text) for item, text in zip(programs.items, words, strict=True)]
    assert [one.value for one in score(programs, answers)] == [1.0, 0.0]
    text = "```sql\nSELECT COUNT(TrackId) FROM Track;\n```"
    assert [one.value for one in score(queries, [Answer("queries", "tracks", text)])] == [1.0]
    before = queries.fingerprint
    other = tmp_path / "other.sqlite"
    other.write_bytes(chinook.read_bytes() + b"\0")
    (changed,) = load_suites([{**sql, "database": str(other)}], tmp_path)
    assert changed.fingerprint != before


QUERIES = [
    ("select Name from Artist order by Name limit 3", "SELECT a.Name FROM Artist a ORDER BY a.Name ASC LIMIT 3", 1.0),
    ("select Name from Artist order by Name limit 3", "SELECT Name FROM Artist ORDER BY Name DESC LIMIT 3", 0.0),
    (
        "select g.Name, count(*) from Track t join Genre g using (GenreId) group by g.Name",
        "select Name, (select count(*) from Track where GenreId = Genre.GenreId) from Genre",
        1.0,
    ),
    ("select sum(Total) from Invoice", "select sum(UnitPrice * Quantity) from InvoiceLine", 1.0),
    ("select sum(Total) from Invoice", "select sum(Quantity) from InvoiceLine", 0.0),
    ("select count(*) from Track", "attach database '/tmp/x' as x", 0.0),
    ("select count(*) from Track", "delete from Track", 0.0),
]


def test_queries_on_a_real_database(chinook):
    found = checks.scores("sql", [answer for _, answer, _ in QUERIES], [right for right, _, _ in QUERIES], str(chinook))
    assert [one.value for one in found] == [value for *_, value in QUERIES]
