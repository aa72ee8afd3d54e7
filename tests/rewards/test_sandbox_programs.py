"""Answers beside their tests: what is right scores 1, what is wrong 0, and tests that nobody can meet are missing."""

import math

import pytest

from mnemos.rewards import checks
from mnemos.rewards.sandbox.box import Code, Limits, Sandbox
from tests.rewards.test_sandbox import namespaces

pytestmark = pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")

RIGHT, TEST = "def f(x):\n    return x + 1", "assert f(1) == 2"
NO_NUMPY = "the tests import no_such_module, which the sandbox lacks"
FRAMES = "import sys\nframe = sys._getframe()\nwhile frame:\n    print(frame.f_locals)\n    frame = frame.f_back\n"
UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(1), 2)\n"

CASES = {
    # Tests that no answer can meet.
    "cut short": (RIGHT, "assert f(2)==", "the tests do not compile"),
    "an import that is not here": (RIGHT, f"import no_such_module\n{TEST}", NO_NUMPY),
    "an import of a name that is not here": (
        RIGHT,
        f"from typing import no_such_name\n{TEST}",
        "the tests import typing, which the sandbox lacks",
    ),
    "an import in a function": (RIGHT, f"def g():\n    import no_such_module\n{TEST}\ng()", NO_NUMPY),
    "an import in a function that nobody calls": (RIGHT, f"def g():\n    import no_such_module\n{TEST}", 1),
    "an import that may fail": (RIGHT, f"try:\n    import no_such_module\nexcept ImportError:\n    pass\n{TEST}", 1),
    "an import for another Python": (RIGHT, f"import sys\nif not sys:\n    import no_such_module\n{TEST}", 1),
    "an import before the answer": (RIGHT, f"import no_such_module\n# ANSWER\n{TEST}", NO_NUMPY),
    "a module that the lines before make": (
        RIGHT,
        f"import sys\nsys.modules['no_such_module'] = sys\n# ANSWER\nimport no_such_module\n{TEST}",
        1,
    ),
    "a module that the tests make": (
        RIGHT,
        f"import sys\nsys.modules['no_such_module'] = sys\nimport no_such_module\n{TEST}",
        1,
    ),
    "tests at fault beside an answer that does not compile": (
        "def f(",
        f"open('/data.csv')\n# ANSWER\n{TEST}",
        "the lines before the answer fail",
    ),
    "lines before the answer that fail": (
        RIGHT,
        f"open('/data.csv')\n# ANSWER\n{TEST}",
        "the lines before the answer fail",
    ),
    "the tests' from __future__": (RIGHT, f"from __future__ import annotations\n{TEST}", 1),
    "the answer's from __future__": (f"from __future__ import annotations\nx: Unknown = 1\n{RIGHT}", TEST, 1),
    "from __future__ of the lines before": (
        f"x: Unknown = 1\n{RIGHT}",
        f"from __future__ import annotations\n# ANSWER\ny: Unknown = 1\n{TEST}",
        1,
    ),
    "no from __future__ of ours": (f"y: int = 1\n{RIGHT}", "assert __annotations__ == {'y': int}", 1),
    "the answer's from __future__ is not the tests'": (
        "from __future__ import barry_as_FLUFL\ndef f(x): return x",
        "assert f(1) != 2",
        1,
    ),
    "unittest.main": (RIGHT, f"{UNITTEST}unittest.main()", 1),
    "unittest.main of a wrong answer": ("def f(x): return x", f"{UNITTEST}unittest.main()", 0),
    "the source of the answer": (RIGHT, f"import inspect\nassert 'x + 1' in inspect.getsource(f)\n{TEST}", 1),
    # Cheats.
    "a swallowed line": ("def f(x): return x\nif False:\\", TEST, 0),
    "a swallowed block": ("def f(x): return x\nx = '''", f"{TEST}\n'''\n'''", 0),
    "a broken guard": ('import os\nos.write(3, b\'{"guard": "no"}\')\nos._exit(0)', TEST, 0),
    "a bad reference": ('import os\nos.write(3, b\'{"reference": "no"}\')\nos._exit(0)', TEST, 0),
    "bad tests by the sandbox's own exception": (
        f"{FRAMES}import gc\n"
        "for one in gc.get_objects():\n    if getattr(one, '__name__', '') == 'BadTests': raise one('no')",
        TEST,
        0,
    ),
    "a module that the tests import made unfit": ("import sys\nsys.modules['math'] = None", f"import math\n{TEST}", 0),
    "another exec": ("import builtins\nbuiltins.exec = lambda *more: None", TEST, 0),
    "other builtins": ("import builtins\nbuiltins.len = lambda x: 3", "assert len('') == 3", 0),
    "builtins of its own": ("__builtins__ = {'len': lambda x: 3}", "assert len('') == 3", 0),
    "a tracer": ("import sys\nsys.settrace(lambda *more: sys.exit())\ndef f(x): return x", TEST, 0),
    "an exception that exits": (
        "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\ndef f(x): raise E",
        TEST,
        0,
    ),
    "an exit": ("def f(x): raise SystemExit(0)", TEST, 0),
    "an import by the answer": (f"import no_such_module\n{RIGHT}", TEST, 0),
    # Streams are the answer's business.
    "no stdout": (f"import sys\nsys.stdout = None\n{RIGHT}", TEST, 1),
    "no stdout, and tests that print": (f"import sys\nsys.stdout = sys.stderr = None\n{RIGHT}", f"print(1)\n{TEST}", 1),
    "no stdout from within": ("import sys\ndef f(x):\n    sys.stdout = None\n    return x + 1", TEST, 1),
    "stdout deleted": (f"import sys\ndel sys.stdout, sys.stderr\n{RIGHT}", f"print(1)\n{TEST}", 1),
    "stdout closed": (f"import sys\nsys.stdout.close()\nsys.stderr.close()\n{RIGHT}", f"print(1)\n{TEST}", 1),
    "the descriptor closed": (f"import os\nos.close(1)\nos.close(2)\n{RIGHT}", f"print(1)\n{TEST}", 1),
    "a stdout that fails": (
        f"import sys\nclass S:\n    closed = False\n    def flush(self): raise SystemExit\nsys.stdout = S()\n{RIGHT}",
        TEST,
        1,
    ),
    "a wrong answer without stdout": ("import sys\nsys.stdout = None\ndef f(x): return x", TEST, 0),
    # The answer's place.
    "a body": ("    return x + 1", f"def f(x):\n    'says x + 1'\n# ANSWER\n{TEST}", 1),
    "a function for a body": (RIGHT, f"def f(x):\n    'says x + 1'\n# ANSWER\n{TEST}", 1),
    "a wrong body": ("    return x", f"def f(x):\n    'says x + 1'\n# ANSWER\n{TEST}", 0),
    "a body that swallows": ("    return x\nif False:\\", f"def f(x):\n# ANSWER\n{TEST}", 0),
    "the middle of a body": ("    b = 1", f"def f(x):\n    a = x\n# ANSWER\n    return a + b\n{TEST}", 1),
    "a place that is indented, with Windows' line ends": (
        "    b = 1\r\n",
        f"def f(x):\r\n    a = x\r\n    # ANSWER\r\n    return a + b\r\n{TEST}\r\n",
        1,
    ),
    "the middle of a list": ("1, 2", "x = [\n# ANSWER\n]\nassert x == [1, 2]", 1),
    "a decorated beginning": (
        "    return x + 1",
        f"import functools\n@functools.cache\ndef f(x):\n# ANSWER\n{TEST}\nf.cache_info()",
        1,
    ),
}


@pytest.fixture(scope="module")
def found():
    made = checks.scores("code", [answer for answer, *_ in CASES.values()], [test for _, test, _ in CASES.values()])
    return dict(zip(CASES, made, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_an_answer_beside_its_tests(found, name):
    expected = CASES[name][2]
    if isinstance(expected, str):
        assert math.isnan(found[name].value)
        assert found[name].reason == expected
    else:
        assert found[name].value == expected


LOOK = """
import gc
word = "".join(["a word in ", "the tests"])
print([one for one in gc.get_objects() if not (isinstance(one, dict) and "word" in one) and word in repr(one)])
"""


def test_a_running_answer_sees_neither_its_tests_nor_what_a_report_begins_with():
    with Sandbox(limits=Limits(wall_seconds=4), workers=1) as sandbox:
        frames, objects = sandbox.run([Code(one, "assert 'a word in the tests'") for one in (FRAMES, LOOK)])
    assert (frames.status, objects.status) == ("passed", "passed")
    assert "'job': {}" in frames.output
    assert "a word in the tests" not in frames.output
    assert "token" not in frames.output
    assert "a word in the tests" not in objects.output


def test_what_fails_is_said_with_its_line():
    with Sandbox(limits=Limits(wall_seconds=2), workers=1) as sandbox:
        tests, answer = sandbox.run([Code(RIGHT, "x = 1\n# ANSWER\n\nassert f(1) =="), Code("import nothing", TEST)])
    assert tests.status == "bad reference"
    assert tests.detail == "the tests do not compile: invalid syntax (<tests>, line 4)"
    assert (answer.status, answer.detail) == ("failed", "ModuleNotFoundError: No module named 'nothing'")
