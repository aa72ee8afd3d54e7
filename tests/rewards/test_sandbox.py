"""Programs and queries that try to get out of the sandbox, and lose."""

import ctypes
import os
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from mnemos.core.errors import UsageError
from mnemos.rewards import checks
from mnemos.rewards.sandbox import box, guard, inside, queries, syscalls
from mnemos.rewards.sandbox.box import Code, Limits, Query, Sandbox

QUICK = Limits(wall_seconds=1.0, cpu_seconds=1)


def namespaces() -> bool:
    """Whether this machine lets its users make namespaces."""
    child = os.fork()
    if not child:
        try:
            guard.own_namespaces()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


pytestmark = pytest.mark.skipif(not namespaces(), reason="the kernel gives users no namespaces here")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    database = tmp_path_factory.mktemp("db") / "a # shop?.sqlite"
    with sqlite3.connect(database) as connection:
        connection.executescript("create table t(a, b); insert into t values (2, 'x'), (1, 'y'), (1, 'y');")
    connection.close()
    with Sandbox((str(database),), QUICK, workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def outcomes(sandbox):
    """One outcome a program of `LOSERS`, run all at once."""
    return dict(zip(LOSERS, sandbox.run([Code(program) for program, *_ in LOSERS.values()]), strict=True))


ERRNO = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
LOSERS = {
    "fork bomb": ("import os\nfor _ in range(50): os.fork()", "failed", "Operation not permitted"),
    "fork bomb in C": (ERRNO + "assert libc.fork() >= 0", "failed", "AssertionError"),
    "vfork by number": (ERRNO + "assert libc.syscall(58) >= 0", "failed", "AssertionError"),
    "thread bomb": (
        "import threading, time\nfor _ in range(5000): threading.Thread(target=time.sleep, args=(9,)).start()",
        "failed",
        "can't start new thread",
    ),
    "another program": ("import subprocess\nsubprocess.run(['/bin/ls'])", "failed", "PermissionError"),
    "a shell in C": (ERRNO + "assert libc.system(b'true') == 0", "failed", "AssertionError"),
    "endless loop": ("while True: pass", "time", ""),
    "endless sleep": ("import time\ntime.sleep(1000)", "time", ""),
    "endless loop behind closed pipes": ("import os\nos.closerange(1, 64)\nwhile True: pass", "time", ""),
    "signals ignored": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "time",
        "",
    ),
    "huge output": ("print('x' * 10**7)", "output", ""),
    "huge memory": ("x = 'a' * 10**10", "memory", ""),
    "huge file": ("open('f', 'wb').write(bytes(20 << 20))", "failed", "OSError"),
    "many files": ("for n in range(5000): open(str(n), 'w').close()", "failed", "No space left"),
    "the users of the machine": ("open('/etc/passwd').read()", "failed", "FileNotFoundError"),
    "up and away": ("open('../../../../etc/passwd').read()", "failed", "FileNotFoundError"),
    "writing outside": ("open('/evil', 'w')", "failed", "Read-only file system"),
    "changing the library": ("import os\nos.remove(os.__file__)", "failed", "Read-only file system"),
    "a socket": ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "failed", "PermissionError"),
    "a socket in C": (ERRNO + "assert libc.socket(2, 1, 0) >= 0", "failed", "AssertionError"),
    "import tricks": ("__import__('os').system('true') and 1/0", "failed", "ZeroDivisionError"),
    "this package": ("import mnemos", "failed", "ModuleNotFoundError"),
    "killing the parent": ("import os\nos.kill(os.getppid(), 9)", "failed", "PermissionError"),
    "killing everybody in C": (ERRNO + "assert libc.kill(-1, 9) == 0", "failed", "AssertionError"),
    "the parent's memory": ("open('/proc/1/mem', 'rb')", "failed", "FileNotFoundError"),
    "tracing the parent": (ERRNO + "assert libc.ptrace(16, 1, 0, 0) == 0", "failed", "AssertionError"),
    "reading the parent": (ERRNO + "assert libc.syscall(310, 1, 0, 0, 0, 0, 0) >= 0", "failed", "AssertionError"),
    "killing itself by a descriptor": (
        "import fcntl, os, signal\nend, _ = os.pipe()\nfcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)",
        "failed",
        "PermissionError",
    ),
    "owning a descriptor's signals": (
        "import fcntl, os\nend, _ = os.pipe()\nfcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())",
        "failed",
        "PermissionError",
    ),
    "killing itself": ("import signal\nsignal.raise_signal(signal.SIGKILL)", "failed", "PermissionError"),
    "mounting": (ERRNO + "assert libc.mount(b'n', b'/scratch', b'proc', 0, None) == 0", "failed", "AssertionError"),
    "a way back to rights": ("import os\nos.setuid(0)", "failed", "PermissionError"),
    "new namespaces": (ERRNO + "assert libc.unshare(0x10000000) == 0", "failed", "AssertionError"),
    "higher limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "failed",
        "Error",
    ),
    "leaving early": ("import os\nos._exit(0)", "left early", ""),
    "exit": ("raise SystemExit(0)", "failed", "SystemExit"),
    "a pass of its own making": ("import os\nos.write(3, b'passed')\nos._exit(0)", "failed", "Bad file descriptor"),
    "a pass for every descriptor": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'passed')\n    except OSError: pass\nos._exit(0)",
        "left early",
        "",
    ),
    "a guard that is broken": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'guard no')\n    except OSError: pass\nos._exit(0)",
        "left early",
        "",
    ),
    "crashing the interpreter": ("import ctypes\nctypes.string_at(0)", "killed", "signal 11"),
    "a wrong answer": ("assert 1 + 1 == 3", "failed", "AssertionError"),
    "no Python": ("def (", "failed", "SyntaxError"),
    "a null byte": ("\0", "failed", "Error"),
    "half a character": ("'\ud800'", "failed", "Error"),
}


@pytest.mark.parametrize("name", LOSERS)
def test_what_tries_to_get_out_loses(outcomes, name):
    _, status, detail = LOSERS[name]
    assert outcomes[name].status == status, outcomes[name]
    assert detail in outcomes[name].detail
    assert len(outcomes[name].output) <= QUICK.output_bytes


def test_nobody_is_reached_where_somebody_listens(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        program = LOSERS["a socket"][0].replace("9))", f"{server.getsockname()[1]}))")
        assert sandbox.run([Code(program)])[0].status == "failed"
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_environment_holds_no_secret(monkeypatch):
    monkeypatch.setenv("API_KEY", "s3cret")
    with Sandbox(limits=QUICK, workers=1) as made:
        (found,) = made.run([Code("import os\nprint(dict(os.environ), os.listdir('/'))")])
    assert found.status == "passed"
    assert "s3cret" not in found.output
    assert "API_KEY" not in found.output
    assert "home" not in found.output


def test_a_check_leaves_nothing_to_the_next_one(sandbox):
    leave = "import os, builtins\nopen('here', 'w').write('x')\nbuiltins.left = 1\nos.environ['LEFT'] = '1'"
    look = "import os, builtins\nassert os.listdir('.') == [] and not hasattr(builtins, 'left')\n"
    look += "assert 'LEFT' not in os.environ"
    found = sandbox.run([Code(leave)] * 4 + [Code(look)] * 4)
    assert [one.status for one in found] == ["passed"] * 8, found


def test_ordinary_programs_pass(sandbox):
    programs = [
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.001)\n    return 3\nassert asyncio.run(f()) == 3",
        "import threading\ndone = []\nt = threading.Thread(target=done.append, args=(1,))\nt.start()\n"
        "t.join()\nassert done == [1]",
        "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
        "with ThreadPoolExecutor(32) as pool:\n    assert not any(pool.map(time.sleep, [0.01] * 64))",
        "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n    f.write('x')\n"
        "    f.seek(0)\n    assert f.read() == 'x'",
        "import re, json, math, random, hashlib, decimal, zlib, uuid\n"
        "assert json.loads('[1]') == [1]\nprint(uuid.uuid4())",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\nassert A(1) == A(1)",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(1, 1)\n"
        "assert unittest.main(exit=False, argv=['x']).result.wasSuccessful()",
    ]
    found = sandbox.run([Code(program) for program in programs])
    assert [one.status for one in found] == ["passed"] * len(programs), found


def test_outcomes_keep_the_order_of_many_checks(sandbox):
    found = sandbox.run([Code(f"print({i})\nassert {i} % 3") for i in range(40)])
    assert [int(one.output.split()[0]) for one in found] == list(range(40))
    assert [one.status == "passed" for one in found] == [bool(i % 3) for i in range(40)]


def test_the_process_of_a_worker_may_die(sandbox):
    with Sandbox(limits=QUICK, workers=1) as made:
        assert made.run([Code("pass")])[0].status == "passed"
        process = made._all[0].process
        process.kill()
        process.wait()
        assert made.run([Code("pass")])[0].status == "passed"
        assert made.level == "full"
    assert threading.active_count() < 50


@pytest.fixture
def no_namespaces(monkeypatch):
    """As on a machine that gives none: the process inside meets EPERM."""
    start = (
        "import mnemos.rewards.sandbox.guard as g\ndef no(): raise OSError(1, 'not permitted')\ng.own_namespaces = no\n"
    )
    popen = box.subprocess.Popen

    def spoiled(command, **more):
        head, body = command[-1].split("; from ", 1)
        return popen([*command[:-1], f"{head}\n{start}from {body}"], **more)

    monkeypatch.setattr(box.subprocess, "Popen", spoiled)


def test_weak_walls_are_refused_unless_asked_for(no_namespaces, monkeypatch):
    with Sandbox(limits=QUICK, workers=1) as made, pytest.raises(UsageError, match=r"not permitted.*cannot be closed"):
        made.run([Code("pass")])
    monkeypatch.setenv(box.WEAK, "1")
    with Sandbox(limits=QUICK, workers=1) as made:
        found = made.run([Code("pass"), Code(LOSERS["fork bomb"][0]), Code("while True: pass")])
        found += made.run([Code("import socket\nsocket.socket()"), Code("import os\nos.kill(os.getppid(), 9)")])
        assert made.level == "weak"
    assert [one.status for one in found] == ["passed", "failed", "time", "failed", "failed"]


# SQL --------------------------------------------------------------------------------------


def asked(sandbox, answer, reference="select a, b from t"):
    return sandbox.run([Query(sandbox.readable[0], reference, answer)])[0]


@pytest.mark.parametrize(
    ("answer", "reference", "status"),
    [
        ("select a, b from t order by a", "select a, b from t", "passed"),
        ("select a, b from t order by a", "select a, b from t order by a desc", "failed"),
        ("select distinct a, b from t", "select a, b from t", "failed"),
        ("select b, a from t", "select a, b from t", "failed"),
        ("select a * 1.0, b from t", "select a, b from t", "passed"),
        ("select a from t where a = 1", "select a from t where a in (select 1 order by 1)", "passed"),
        ("select 0.1 + 0.2", "select 0.3", "passed"),
        ("select null", "select 'None'", "failed"),
        ("select 2000000000.0", "select 2000000000", "passed"),
        ("select 1e9, 1e9 + 1", "select 1000000000, 1000000001", "passed"),
        ("select -0.0", "select 0", "passed"),
        ("select -0.0 union all select 0", "select 0 union all select 0.0", "passed"),
        ("select 9e15", "select 9000000000000000", "passed"),
        ("select 2000000001.0", "select 2000000000", "failed"),
        ("select 2000000001", "select 2000000000", "failed"),
        ("select 1234567891", "select 1234567890.0", "failed"),
        ("select 1000000000.5", "select 1000000000", "passed"),
        ("select 1000000002.5", "select 1000000000", "failed"),
        ("select 9e999", "select 9e999", "passed"),
        ("select '1'", "select 1", "failed"),
        ("select x'31'", "select '1'", "failed"),
        ("select 0.1 + 0.2, 1 union all select 0.3, 2", "select 0.3, 1 union all select 0.3, 2", "passed"),
        ("select 0.1 + 0.2, 1 union all select 0.3, 2", "select 0.3, 1 union all select 0.3, 3", "failed"),
        ("select null, 1 union all select 'a', 2", "select 'a', 2 union all select null, 1", "passed"),
        (
            "select 1 union all select 'a' union all select null",
            "select null union all select 1 union all select 'a'",
            "passed",
        ),
        ("select 1", "select nothing", "bad reference"),
    ],
)
def test_queries_pass_when_they_give_the_same_rows(sandbox, answer, reference, status):
    assert asked(sandbox, answer, reference).status == status


@pytest.mark.parametrize(
    "answer",
    [
        "ATTACH DATABASE '/scratch/x.sqlite' AS x",
        "drop table t",
        "insert into t values (1, 2)",
        "pragma writable_schema = 1",
        "vacuum into '/scratch/copy'",
        "select load_extension('/lib/evil.so')",
        "select readfile('/etc/passwd')",
        "select 1; drop table t",
        "create temp table x as select 1",
        "nonsense",
        "",
    ],
)
def test_queries_that_do_more_than_read_fail(sandbox, answer):
    before = Path(sandbox.readable[0]).read_bytes()
    assert asked(sandbox, answer).status == "failed"
    assert Path(sandbox.readable[0]).read_bytes() == before


def test_an_endless_query_ends(sandbox):
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    assert asked(sandbox, endless).status in ("failed", "time")
    assert asked(sandbox, endless.replace("count(*)", "i")).status in ("failed", "time", "memory")


def test_order_is_asked_for_by_the_outermost_query_only():
    assert queries.is_ordered("select 1 ORDER\n BY 2")
    assert not queries.is_ordered("select * from (select a from t order by (a))")
    assert not queries.is_ordered("select 'order by' -- order by\n /* order by */ from \"order by\"")


# the verifiers ------------------------------------------------------------------------------


def test_a_fenced_answer_is_its_code():
    tests = "assert f(1) == 2"
    right = "Here:\n```python\ndef f(x):\n    return x + 1\n```\nDone."
    found = checks.scores("code", [right, "def f(x): return x", "", "```\nbroken"], [tests] * 4)
    assert [one.value for one in found] == [1.0, 0.0, 0.0, 0.0]


def test_the_answer_may_have_a_place_in_its_tests():
    reference = "def f(x):\n# ANSWER\nassert f(1) == 2"
    found = checks.scores("code", ["    return x + 1", "    return x"], [reference] * 2)
    assert [one.value for one in found] == [1.0, 0.0]


def test_a_broken_sandbox_and_a_bad_reference_are_missing_not_wrong(sandbox, monkeypatch):
    path = sandbox.readable[0]
    (found,) = checks.scores("sql", ["select 1"], ["select nothing"], path)
    assert found.reason == "the reference query fails"
    text = {"output": "", "ended": None, "signal": 0, "report": "12\ntguard OSError: no"}
    assert checks._rewarded(box.outcome(text, "t")).reason == "the sandbox failed"
    with pytest.raises(UsageError, match="needs a database"):
        checks.scores("sql", ["select 1"], ["select 1"])


def test_both_lists_of_system_calls_leave_the_dangerous_ones_out():
    for arch, calls in syscalls.ALLOWED.items():
        assert len(set(calls)) == len(calls)
        limited = (syscalls.CLONE, syscalls.IOCTL, syscalls.FCNTL, syscalls.PRLIMIT)
        assert not {syscalls.CLONE3, *(one[arch] for one in limited)} & set(calls)
        assert len(syscalls.program(arch)) % 8 == 0
    forbidden = {41, 42, 56, 57, 58, 59, 62, 101, 161, 165, 166, 272, 308, 310, 311, 321, 322, 434, 435}
    assert not forbidden & set(syscalls.ALLOWED[syscalls.X86_64])
    assert not {40, 97, 117, 129, 130, 131, 198, 203, 221, 270, 271, 280, 281, 434} & set(
        syscalls.ALLOWED[syscalls.AARCH64]
    )


def test_messages_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "m"
    with path.open("wb") as stream:
        inside.write_message(stream, {"a": "é\ud800"})
    with path.open("rb") as stream:
        assert inside.read_message(stream) == {"a": "é\ud800"}
        assert inside.read_message(stream) is None


def test_calls_have_the_numbers_that_libseccomp_knows_them_by() -> None:
    """Ours, so that no library is needed where the sandbox runs; libseccomp is the reference where it is there."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    resolve = library.seccomp_syscall_resolve_name_arch
    resolve.argtypes, resolve.restype = [ctypes.c_uint32, ctypes.c_char_p], ctypes.c_int
    for arch, numbers in syscalls.NUMBERS.items():
        assert len(numbers) > 80
        assert {name: resolve(arch, name.encode()) for name in numbers} == numbers
