"""Every command of the README and the pages is carried out, and what it needs is made before.

WAYS says how, once for each command: as it stands; with a stand-in for a model, a server or a file that is not there;
or smaller. What is smaller, and why:

- `mnemos reproduce NAME` and the studies of the catalogue and of self-rewarding are real-size work of up to many hours
  and run with --dry-run, but for the two reproductions of about two minutes, which run as they stand;
- the demo and the sweep over it run on the shipped patient with all arms and suites, one seed, two steps an arm;
- `mnemos sweep study.yaml` and `mnemos recommend` run on a tiny model (tests/study/worlds.py), whose ranks end at 32;
- `mnemos teach` runs on a tiny model that knows one thing (tests/study/teach_world.py), with a learning rate at which
  it learns, and without the built-in suites, of which it can do nothing.

Verbs whose rooms have tests with files of their own (laws, tokenizers, filters, streams) are carried out there;
ELSEWHERE says where. What takes more than a few seconds is marked slow. The blocks of the README that begin with a
command are carried out by tests/test_readme.py in the order in which they stand there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnemos.cli import app
from mnemos.study.teach import look as looking
from mnemos.study.teach import propose as proposing
from tests.pages import PAGES, ROOT, commands, modules, snippets
from tests.study.teach_world import make_world, new_rows
from tests.study.test_feedback import judging
from tests.study.worlds import make_study, write_jsonl
from tests.test_readme import COMMANDS as OF_THE_README
from tests.tiny import save_tiny

ALL = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
HERE = [line for line in ALL if line not in OF_THE_README]

MODELS = {
    "models/llama-zh": "mnemos:patients/chat",
    "models/llama-chat": "mnemos:patients/chat",
    "models/llama": "mnemos:patients/base",
    "base=…": "base=mnemos:patients/base",
    "…": "mnemos:patients/chat",
}
"""The checkpoints that pages add and subtract, longer names first, and what a test has in their place."""

SMALL = "--set seeds=[0] --set train.max_steps=2"
PROVEN = frozenset({0, 3, 4})
"""Exit codes that say what was proven."""


def rows(folder: Path) -> None:
    """Rows to teach, and pairs of a good and a bad answer."""
    asked = [f"Say {n} twice." for n in range(60)]
    write_jsonl(folder / "rows.jsonl", [{"prompt": text, "completion": "once"} for text in asked])
    pairs = [{"prompt": text, "chosen": "By the river.", "rejected": "No."} for text in asked]
    write_jsonl(folder / "pairs.jsonl", pairs)
    save_tiny(folder / "model")


def study(folder: Path) -> None:
    """A study of a second, for two seeds."""
    replay = {"replay": {"data": "old.jsonl", "share_of_final": 0.25}}
    make_study(folder, arms={"replay": [replay], "lora": [{"lora": {"rank": 4}}]}, seeds=[0, 1])


def teaching(folder: Path) -> None:
    """A model that knows one thing, rows of another and of a third, and a suite of what it knows."""
    make_world(folder)
    (folder / "suites").mkdir()
    for name in ("old.yaml", "old-items.jsonl"):
        (folder / name).rename(folder / "suites" / name.replace("old.yaml", "mine.yaml"))
    (folder / "new.jsonl").rename(folder / "data.jsonl")
    more = [{**row, "id": f"more-{n}"} for n, row in enumerate(new_rows())]
    write_jsonl(folder / "more.jsonl", json.loads(json.dumps(more).replace("Weather", "Wind").replace("rain", "west")))


@dataclass(frozen=True)
class Way:
    """How commands are carried out.

    pattern: of whole commands. instead: pattern in a command -> what a test has there. more: words behind it.
    made: what lies in its folder. after: commands that come before it there. small: `teach` on the tiny model.
    """

    pattern: str
    instead: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    made: Callable[[Path], None] | None = None
    after: tuple[str, ...] = ()
    codes: frozenset[int] = frozenset({0})
    slow: bool = False
    small: bool = False

    def line(self, command: str) -> str:
        """What is carried out."""
        command = f"{command} {self.more}".strip()
        for there, here in self.instead.items():
            command = re.sub(there, lambda _, here=here: here, command)
        return command


TAUGHT = "mnemos teach data.jsonl --model M --budget 2h"
PLANNED = "mnemos teach data.jsonl --model M --plan-only"
TEACHING = {r"\bM\b": "model"}
SWEPT = "mnemos sweep study.yaml --over replay.share_of_final=0,0.01,0.03,0.1,0.3"

WAYS = (
    # Listings and arithmetic.
    Way(r"mnemos (methods|models|suites|schema|schema --suites|reproduce --list|asr methods|listen bridges)"),
    Way(r"mnemos methods NAME", {"NAME": "replay"}),
    Way(r"mnemos (merge|vector) .* \S+=\S+.*", MODELS),
    Way(r"mnemos merge \"rm \+ 0.3\*\(domain - base\)\"", MODELS, "rm=… domain=… base=…"),
    # A verb that a sentence names.
    Way(r"mnemos judge (calibrate|probe|vote|table|rates|categories|export)", more="--help"),
    Way(r"mnemos (stream serve|sweep)", more="--help"),
    Way(
        r"mnemos (data show|model show|reward train|runs clean|vector save|gate|init|merge|recommend|run|teach)",
        more="--help",
    ),
    # Rows, pairs, rewards.
    Way(r"mnemos init rows.jsonl .*", {r"Qwen/\S+": "model"}, made=rows),
    Way(r"mnemos reward train pairs.jsonl .*", made=rows),
    Way(r"mnemos reward judge pairs.jsonl .*", {r"http://localhost:8000/v1#\S+": "SERVER#judge"}, made=rows),
    # Studies.
    Way(r"mnemos run mnemos:full_size/(rehearsal|listening|speech_noise).yaml --dry-run"),
    Way(r"mnemos sweep study.yaml .*", {"4,16,64": "4,8,16"}, made=study, slow=True),
    Way(r"mnemos model export runs/study .*", made=study, after=("mnemos run study.yaml",), slow=True),
    Way(r"mnemos recommend runs/study-sweep", made=study, after=(SWEPT,), slow=True),
    Way(r"mnemos recommend runs/study", made=study, after=("mnemos run study.yaml",), slow=True),
    Way(r"mnemos runs clean RUN", {"RUN": "runs/study"}, made=study, after=("mnemos run study.yaml",), slow=True),
    Way(r"mnemos run study.yaml --jobs 2", made=study, slow=True),
    Way(r"mnemos run mnemos:demo.yaml --jobs 2", more=SMALL, slow=True),
    Way(r"mnemos sweep mnemos:demo.yaml .*", more=SMALL, slow=True),
    Way(r"mnemos sweep mnemos:chat_vector.yaml .*", slow=True),
    Way(r"mnemos run mnemos:(catalogue|self_rewarding).yaml", more="--dry-run", slow=True),
    # Teaching.
    Way(r"mnemos teach data.jsonl .* --plan-only", TEACHING, made=teaching, slow=True, small=True),
    Way(
        r"mnemos teach data.jsonl .* --plan runs/teach-data/plan.yaml",
        TEACHING,
        made=teaching,
        after=(PLANNED,),
        codes=PROVEN,
        slow=True,
        small=True,
    ),
    Way(r"mnemos teach data.jsonl .*", TEACHING, made=teaching, codes=PROVEN, slow=True, small=True),
    Way(r"mnemos teach more.jsonl .*", made=teaching, after=(TAUGHT,), codes=PROVEN, slow=True, small=True),
    Way(r"mnemos runs clean runs/teach-data", made=teaching, after=(TAUGHT,), slow=True),
    # Reproductions.
    Way(r"mnemos reproduce (reward-hacking|chat-vector-chinese)", slow=True),
    Way(r"mnemos reproduce NAME", {"NAME": "chat-vector"}, "--dry-run", slow=True),
    Way(r"mnemos reproduce \S+ --dry-run", slow=True),
    Way(r"mnemos reproduce .*", more="--dry-run", slow=True),
)


ELSEWHERE = {
    r"mnemos laws fit .*": ("cli/test_laws.py", '"laws", "fit"'),
    r"mnemos laws emergence .*": ("cli/test_laws.py", '"laws", "emergence"'),
    r"mnemos tokenizer train .*": ("cli/test_tokenizer.py", 'invoke("train"'),
    r"mnemos tokenizer compare .*": ("cli/test_tokenizer.py", 'invoke("compare"'),
    r"mnemos tokenizer extend .*": ("cli/test_tokenizer.py", 'invoke("extend"'),
    r"mnemos listen units (fit|encode) .*": ("cli/test_listen_units.py", '"listen", "units", "fit"'),
    r"mnemos pretrain .*": ("cli/test_pretrain.py", 'invoke(text, "--out", out'),
    r"mnemos run school/study.yaml .*": ("cli/test_pretrain.py", '["run", str(out / "study.yaml")'),
    r"mnemos data classifier .*": ("cli/test_classifier.py", '"data", *map(str, words)'),
    r"mnemos data filter .*": ("cli/test_filter.py", '"data", "filter"'),
    r"mnemos data mix .*": ("cli/test_mix.py", '"data", "mix"'),
    r"mnemos labels( .*)?": ("cli/test_labels.py", 'invoke(data, "--model"'),
    r"mnemos memorised( .*)?": ("measure/test_memorised.py", 'words = ["memorised"'),
    r"mnemos know( .*)?": ("cli/test_know.py", 'invoke(data, "--model"'),
    r"mnemos judge (table|export) .*": ("study/commands/test_judge_rows.py", 'call("table"'),
    r"mnemos judge rates .*": ("study/commands/test_judge_rates.py", "rates(place, "),
    r"mnemos judge categories .*": ("study/commands/test_judge_rows.py", "categories(str(suite)"),
    r"mnemos judge calibrate .*": ("cli/test_judge.py", 'invoke("calibrate"'),
    r"mnemos judge probe .*": ("cli/test_judge.py", 'invoke("probe"'),
    r"mnemos judge vote .*": ("cli/test_judge.py", 'invoke("vote"'),
    r"mnemos cluster check( .*)?": ("study/engines/test_ray.py", '"cluster", "check"'),
    r"mnemos run study.yaml --engine ray .*": ("study/engines/test_ray.py", 'words(world, nodes, "short", "ray")'),
    r"mnemos serve runs/( --port 0)?": ("cli/test_serve.py", '"serve", "runs/"'),
    r"mnemos asr head .*": ("cli/test_asr.py", '"asr", "head"'),
    r"mnemos asr adapt .*": ("cli/test_asr.py", '"asr", "adapt", "clips"'),
    r"mnemos listen new --cascade .*": ("cli/test_listen.py", '"listen", "new", "--cascade"'),
    r"mnemos listen new( .*)?": ("cli/test_listen.py", '"listen", "new", "--encoder"'),
    r"mnemos listen sweep .*": ("cli/test_listen.py", '"listen", "sweep", "adapter"'),
    r"mnemos listen ask( .*)?": ("cli/test_listen.py", '"listen", "ask"'),
    r"mnemos listen rows( .*)?": ("study/commands/test_listen_rows.py", '"listen", "rows"'),
    r"mnemos stream agents": ("study/test_streams.py", '["stream", "agents"]'),
    r"mnemos stream memory .*": ("study/test_streams.py", '["stream", "memory"'),
    r"mnemos stream serve .*": ("stream/test_serve.py", "serve("),
    r"mnemos run study.yaml --dry-run --probe": ("study/test_room.py", "probe=True"),
    r"mnemos run study.yaml --keep-going": ("study/test_keep_going.py", '"run", str(study)'),
    r"mnemos (stream|run) (study.yaml|STUDY)( --dry-run)?": ("study/test_streams.py", "mnemos.run(study("),
}
"""Commands -> the test of their room that carries the verb out on files of its own, and what stands in it there."""


def way_of(command: str) -> Way:
    """The first way whose pattern is the whole command."""
    found = next((way for way in WAYS if re.fullmatch(way.pattern, command)), None)
    assert found is not None, f"{command}: say in WAYS how a test carries it out"
    return found


def elsewhere(command: str) -> bool:
    """Whether the test of another room carries it out."""
    return any(re.fullmatch(pattern, command) for pattern in ELSEWHERE)


OWN = [line for line in HERE if any(re.fullmatch(way.pattern, line) for way in WAYS)]
QUICK = [line for line in OWN if not way_of(line).slow]
SLOW = [line for line in OWN if way_of(line).slow]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a command, in which everything that it needs is made once."""
    made: dict[str, Path] = {}

    def world(command: str) -> Path:
        way = way_of(command)
        # A command that follows another one stands where that one does.
        key = way.after[0] if way.after else command
        if key not in made:
            made[key] = tmp_path_factory.mktemp("docs")
            if way.made is not None:
                way.made(made[key])
        return made[key]

    return world


@contextlib.contextmanager
def served(line: str) -> Iterator[str]:
    """The line, with the address of a judge where it names a server."""
    if "SERVER" not in line:
        yield line
        return
    with judging() as address:
        yield line.replace("SERVER", address)


@pytest.mark.parametrize("command", QUICK)
def test_a_quick_command_runs(command: str, worlds: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the process of the tests."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    way = way_of(command)
    monkeypatch.chdir(worlds(command))
    with served(way.line(command)) as line:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
    assert done.exit_code in way.codes, (line, done.output, done.exception)
    assert done.output.strip()


LEARNING = """
from mnemos.study.teach import look, propose
look.abilities = lambda *a, **k: ()
propose.RATES = ((float("inf"), 3e-3),)
"""
"""What stands before `teach` on the tiny model."""


def carried_out(line: str, folder: Path, small: bool) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    code = f"{LEARNING if small else ''}\nimport sys\nfrom mnemos.cli import main\nsys.exit(main())"
    words = [sys.executable, "-c", code, *shlex.split(line)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_a_slow_command_runs(command: str, worlds: Callable[[str], Path]) -> None:
    """Each in a process of its own. What it follows was run before it, or is now."""
    way = way_of(command)
    folder = worlds(command)
    for before in way.after:
        earlier = way_of(before) if before in OWN else way
        done = carried_out(earlier.line(before), folder, earlier.small)
        assert done.returncode in earlier.codes, f"{before}\n{done.stdout}\n{done.stderr}"
    line = way.line(command)
    done = carried_out(line, folder, way.small)
    if "its data are absent" in done.stdout + done.stderr:
        pytest.skip(f"{line}: real data absent (set MNEMOS_DATA)")
    assert done.returncode in way.codes, f"{line}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def test_every_command_of_a_page_is_carried_out() -> None:
    for line in HERE:
        assert elsewhere(line) or way_of(line)


def test_every_way_is_of_a_command_that_a_page_names() -> None:
    assert {way.pattern for way in WAYS} == {way_of(line).pattern for line in OWN}


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_the_tests_of_other_rooms_carry_their_verbs_out(pattern: str) -> None:
    file, text = ELSEWHERE[pattern]
    assert text in (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert any(re.fullmatch(pattern, line) for line in ALL), "no page names it any more"


def test_a_command_that_nobody_carries_out_is_found() -> None:
    with pytest.raises(AssertionError, match="say in WAYS"):
        way_of("mnemos run other.yaml")


MODULES = sorted({name for page in PAGES for name in modules(page)})


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_a_page_runs_is_there(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_a_page_runs_says_what_it_takes(name: str) -> None:
    """With --help: they measure for minutes to hours, or write pages of docs."""
    words = [sys.executable, "-m", name, "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_snippet_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model; both sides of the comparison are that model."""
    make_study(tmp_path, arms={})
    for name in ("before", "after"):
        (tmp_path / name).symlink_to(tmp_path / "model")
    (tmp_path / "old.yaml").rename(tmp_path / "suites.yaml")
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("old.yaml", "suites.yaml"))
    monkeypatch.chdir(tmp_path)
    (code,) = snippets(ROOT / "README.md")
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "study" / "results.json").is_file()


@pytest.mark.slow
def test_the_tutorial_can_be_followed_to_its_end(tmp_path: Path) -> None:
    """Its rows, its commands, in their order, in one folder; the training is cut short."""
    page = ROOT / "docs" / "tutorial.md"
    (code,) = snippets(page)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert len((tmp_path / "data.jsonl").read_text().splitlines()) == 60
    followed = [line for line in commands(page) if line.startswith(("mnemos data", "mnemos init", "mnemos run "))]
    followed += [line for line in commands(page) if line == "mnemos recommend runs/study"]
    assert len(followed) == 5
    for line in followed:
        short = f"{line} --set train.max_steps=2" if "--jobs" in line else line
        done = carried_out(short, tmp_path, False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "runs" / "study" / "report.html").is_file()


def test_the_snippet_of_the_page_on_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(tmp_path, arms={})
    monkeypatch.chdir(tmp_path)
    (code,) = snippets(ROOT / "docs" / "python.md")
    exec(compile(code, "python.md", "exec"), {})
    assert capsys.readouterr().out.startswith("plain ")


@pytest.mark.slow
def test_the_snippet_of_the_page_on_teaching_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the commands of that page."""
    teaching(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(looking, "abilities", lambda *_, **__: ())
    monkeypatch.setattr(proposing, "RATES", ((float("inf"), 3e-3),))
    (code,) = snippets(ROOT / "docs" / "teach.md")
    found: dict[str, Any] = {}
    exec(compile("import mnemos\n" + code.replace('"M"', '"model"'), "teach.md", "exec"), found)
    assert found["taught"].exit_code in PROVEN
