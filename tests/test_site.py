"""The site of the documentation: every page has a place, reference pages are complete, nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml

from mnemos.cli import app
from mnemos.report.verdicts import GLOSSARY
from mnemos.study.config import schema
from tests.pages import ROOT
from tools import site

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
MADE = {*site.MADE, *site.OUTSIDE}


def leaves(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [leaf for one in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(one)]


def test_what_the_navigation_names_is_there_once() -> None:
    named = leaves(CONFIG["nav"])
    assert len(named) == len(set(named))
    assert set(named) - MADE <= {path.name for path in (ROOT / "docs").glob("*.md")}
    assert set(named) >= MADE


def test_a_page_that_it_does_not_name_comes_under_more(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text("# x\n")
    config = SimpleNamespace(nav=[{"Home": ["a.md"]}], docs_dir=str(tmp_path))
    assert site.on_config(config).nav == [{"Home": ["a.md"]}, {"More": ["b.md", "c.md"]}]
    assert len(site.on_config(config).nav) == 2


def test_no_font_and_no_other_thing_is_asked_of_a_server() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not {"repo_url", "extra_javascript"} & set(CONFIG)
    assert "analytics" not in CONFIG["extra"]


def test_links_from_the_root_are_turned() -> None:
    text = "[a](docs/teach.md) [b](CONTRIBUTING.md) [c](https://x)"
    assert site.beside_docs(text) == "[a](teach.md) [b](contributing.md) [c](https://x)"


def test_every_key_of_a_study_is_on_its_page() -> None:
    page, whole = site.study_page(), schema()
    keys = [*whole["properties"], *(key for one in whole["$defs"].values() for key in one.get("properties", {}))]
    assert len(keys) > 150
    for key in keys:
        assert f"| `{key}` |" in page
    for name in ("TrainSettings", "suite_generated"):
        assert len(whole["$defs"][name]["properties"]) > 5
    assert "| `learning_rate` | number, above 0, at most 100 | `5e-05` | Peak learning rate. |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in rows)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ({"type": "integer"}, "whole number"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"type": "array", "items": {"$ref": "#/$defs/TrainSettings"}}, "list of Train settings"),
        ({"enum": ["a", 2]}, "one of a, 2"),
        ({"anyOf": [{"type": "number"}, {"const": "auto"}]}, "number or one of auto"),
    ],
)
def test_types_are_words(one: dict[str, Any], expected: str) -> None:
    assert site.kind(one) == expected


def test_every_command_and_option_is_on_its_page() -> None:
    page = site.commands_page()

    def walk(command: Any, name: str) -> list[tuple[str, Any]]:
        context = command.context_class(command, info_name=name)
        if not hasattr(command, "list_commands"):
            return [(name, command)]
        verbs = [(verb, command.get_command(context, verb)) for verb in command.list_commands(context)]
        return [found for verb, one in verbs if not one.hidden for found in walk(one, f"{name} {verb}")]

    found = walk(typer.main.get_command(app), "mnemos")
    assert len(found) > 30
    sections = dict(re.findall(r"^## (mnemos [^\n]+)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    assert list(sections) == [name for name, _ in found]
    for name, command in found:
        for one in command.params:
            if one.param_type_name == "option" and one.name != "help" and not one.hidden:
                assert f"`{one.opts[0]}`" in sections[name], (name, one.opts)


def test_the_glossary_is_that_of_reports() -> None:
    page = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    for word, meaning in GLOSSARY:
        assert f"| **{word}** | {meaning} |" in page


@pytest.mark.slow
def test_the_site_is_built_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("requirements-docs.lock is not installed (make docs-site does it)")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", str(tmp_path / "site")]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "tutorial.html", "study-file.html", "commands.html", "changelog.html"} <= set(pages)
    asked = r"<(?:script|img|iframe|source)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?(?:https?:)?//"
    for name, text in pages.items():
        assert not re.search(asked, text), name
        assert "offline-search.js" in text
    for sheet in (tmp_path / "site").rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(['\"]?https?://|@import ['\"]?https?://", text), sheet.name
    assert "mnemos.core.errors.UsageError" in pages["python.html"]
    index = (tmp_path / "site" / "search" / "search_index.js").read_text(encoding="utf-8")
    found = json.loads(index[index.index("{") : index.rindex("}") + 1])
    assert any("vocabularies" in one["text"] for one in found["docs"])
