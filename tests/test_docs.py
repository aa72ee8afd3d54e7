"""Pages: every command parses and names what is there, links lead somewhere, lines fit a screen."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mnemos.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WIDEST = 120


def blocks(page: Path) -> list[str]:
    """Lines of code blocks, without prompts and comments."""
    found = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    return [re.split(r"\s{2,}#", line)[0].removeprefix("$ ").strip() for block in found for line in block.splitlines()]


def commands(page: Path) -> list[str]:
    """Whole commands: lines of code blocks, and spans of code in the text that are more than a verb's name."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"```\w*\n.*?```", "", text, flags=re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`(mnemos [^`]+)`", outside)]
    return [line for line in [*blocks(page), *spans] if re.match(r"mnemos [a-z]", line)]


ALL = [(page, line) for page in PAGES for line in commands(page)]


def parsed(line: str) -> list[str]:
    """The verbs of a command; raises what the command line raises for options and values that do not exist."""
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    context, verbs = command.context_class(command, info_name="mnemos"), []
    while hasattr(command, "resolve_command"):
        verb, command, words = command.resolve_command(context, words)
        verbs.append(verb)
        context = command.context_class(command, info_name=verb, parent=context, **command.context_settings)
    if words:  # a verb alone is one that a sentence names
        command.parse_args(context, list(words))
    return verbs


@pytest.mark.parametrize(("page", "line"), ALL, ids=lambda part: part.name if isinstance(part, Path) else part[:60])
def test_every_command_of_a_page_is_one(page: Path, line: str) -> None:
    assert parsed(line)


@pytest.mark.parametrize("line", ["mnemos rum study.yaml", "mnemos run study.yaml --jobs many", "mnemos gate a"])
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|not a valid|missing|a valid") as caught:
        parsed(line)
    assert getattr(caught.value, "exit_code", None) == 2, caught.value


STAND_INS = {
    "models/llama-zh": "mnemos:patients/chat",
    "models/llama-chat": "mnemos:patients/chat",
    "models/llama": "mnemos:patients/base",
    "base=…": "base=mnemos:patients/base",
    "…": "mnemos:patients/chat",
}
"""The models that pages name, longer names first, and what a test has in their place."""
QUICK = re.compile("mnemos (merge|vector|methods|suites|schema)")
BLOCKS = [line for page in PAGES[1:] for line in blocks(page) if QUICK.match(line)]


@pytest.mark.parametrize("line", BLOCKS)
def test_arithmetic_and_listings_of_pages_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What trains is run by the tests of the README and of the shipped studies."""
    monkeypatch.chdir(tmp_path)
    for name, stand_in in STAND_INS.items():
        line = line.replace(name, stand_in)
    done = CliRunner().invoke(app, shlex.split(line)[1:])
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.strip()


def test_shipped_studies_and_reproductions_that_pages_name_are_there() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    recipes = ROOT / "mnemos" / "recipes"
    for name in set(re.findall(r"mnemos:([\w/]+\.yaml)", text)):
        assert (recipes / name).is_file() or list(recipes.rglob(name)), name
    registry = (recipes / "reproductions" / "reproductions.yaml").read_text(encoding="utf-8")
    for name in set(re.findall(r"mnemos reproduce ([a-z][\w-]+)", text)) - {"two"}:
        assert re.search(rf"^-? *(name: )?{name}:?$|name: {name}$", registry, flags=re.M), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_fit_a_screen(page: Path) -> None:
    """Rows of tables and headings are one line each."""
    long = [
        f"{page.name}:{number}"
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) >= WIDEST and not line.startswith(("|", "#"))
    ]
    assert not long
