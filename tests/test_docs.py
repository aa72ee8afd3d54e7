"""Pages: every command parses and names what is there, links lead somewhere, lines fit a screen. Commands are carried
out by test_docs_run.py."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from mnemos.cli import app
from tests.pages import PAGES, ROOT, commands
from tools.site import MADE, OUTSIDE

WIDEST = 120

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
        if not target.startswith("http") and target not in (*MADE, *OUTSIDE):
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
