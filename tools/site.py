"""The documentation as a site: pages of docs/ as they are, and reference pages made of the schema and the command line.

`make docs-site` has MkDocs call this module as a hook (mkdocs.yml). Nothing is copied: CHANGELOG.md, CONTRIBUTING.md
and LOG.md are read where they lie, and pages that mkdocs.yml does not list come under "More".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTSIDE = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "log.md": "LOG.md"}
"""Page of the site -> file beside docs/."""

MADE = ("study-file.md", "commands.md")
"""Pages that are made of the schema and of the command line."""

SHIM = "https://unpkg.com/iframe-worker/shim"

ABOUT = {"arms": "Ways to train, by name: each a list of methods, applied left to right. `plain` is always there."}
"""What the schema leaves without a description."""


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name under "More", so that none is lost."""
    named = set(_leaves(config.nav))
    more = sorted(path.name for path in Path(config.docs_dir).glob("*.md") if path.name not in named)
    if more:
        config.nav.append({"More": more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside of docs/ and those that are made."""
    from mkdocs.structure.files import File

    made = {page: beside_docs((ROOT / source).read_text(encoding="utf-8")) for page, source in OUTSIDE.items()}
    made |= dict(zip(MADE, (study_page(), commands_page()), strict=True))
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Put our own script where the theme's plugin would have the reader's browser ask a server for one."""
    return output.replace(SHIM, "offline-search.js")


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """Likewise in what is no page of docs/: 404.html."""
    return output_content.replace(SHIM, "offline-search.js")


def _leaves(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Mapping):
        for value in entry.values():
            yield from _leaves(value)
    else:
        for one in entry or ():
            yield from _leaves(one)


def beside_docs(text: str) -> str:
    """Links of a file of the root as they are from a page of docs/; those to what is no page become plain code."""
    text = re.sub(r"\]\(docs/", "](", text)
    for page, source in OUTSIDE.items():
        text = text.replace(f"]({source})", f"]({page})")
    return text


# --------------------------------------------------------------------------- the study file


def study_page() -> str:
    """Every key of a study file, from the JSON schema that `mnemos schema` prints."""
    from mnemos.study.config import schema as study_schema

    schema = study_schema()
    parts = [
        "# The study file",
        "",
        "Every key, with its type, default and bounds, from the schema that `mnemos schema` prints.",
    ]
    parts += ["Methods of an arm have a page of their own: [methods](methods.md).", ""]
    parts += ["## Top level", "", *table(schema["properties"], schema.get("required", ()))]
    for name, one in schema["$defs"].items():
        if one.get("properties"):
            title = f"Suites of kind {name.removeprefix('suite_')}" if name.startswith("suite_") else words(name)
            about = " ".join(str(one.get("description", "")).split())
            parts += ["", f"## {title}", "", escaped(about), "", *table(one["properties"], one.get("required", ()))]
    return "\n".join(parts) + "\n"


def table(properties: Mapping[str, Any], required: Iterable[str]) -> list[str]:
    """Rows of a table, a key each."""
    needed = set(required)
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, one in properties.items():
        if one is False:
            # A key that may not be there: JSON schema's way to tell two kinds of entry apart.
            continue
        about = " ".join(str(one.get("description", "")).split()) or ABOUT.get(key, "")
        default = "required" if key in needed else _default(one)
        lines.append(f"| `{key}` | {escaped(kind(one))}{bounds(one)} | {default} | {escaped(about)} |")
    return lines


def _default(one: Mapping[str, Any]) -> str:
    if "default" not in one:
        return ""
    # Those of a mapping stand in its own table.
    return "" if isinstance(one["default"], Mapping) else f"`{json.dumps(one['default'])}`".replace("null", "none")


def kind(one: Mapping[str, Any]) -> str:
    """A type in words: `number`, `list of text`, `one of a, b`, or the name of a definition."""
    if "$ref" in one:
        return words(one["$ref"].rsplit("/", 1)[-1])
    if "enum" in one or "const" in one:
        return "one of " + ", ".join(map(str, one.get("enum", [one.get("const")])))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in one:
            found = dict.fromkeys(kind(part) for part in one[key] if part.get("type") != "null")
            return " or ".join(found)
    name = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}
    if one.get("type") == "array":
        items = one.get("items")
        return f"list of {kind(items)}" if isinstance(items, Mapping) and items else "list"
    return name.get(str(one.get("type")), str(one.get("type", "anything")))


def bounds(one: Mapping[str, Any]) -> str:
    """ ", at least 0, at most 1" of a number."""
    parts = one.get("anyOf", [one])
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {word} {part[key]:g}" for part in parts for key, word in names.items() if key in part)


def words(name: str) -> str:
    """A definition's name as a heading: TrainSettings -> Train settings."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").capitalize()


def escaped(text: str) -> str:
    """Text as Markdown shows it in a cell."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text) if "`" not in text else text.replace("|", "\\|")


# --------------------------------------------------------------------------- the command line


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    import typer

    from mnemos.cli import app

    parts = ["# Commands", "", "What `mnemos COMMAND --help` says, for every command. Exit codes: 0 done, 1 failed,"]
    parts += ["2 cannot be meant, 3 a loss is proven, 4 cannot tell, 130 and 143 stopped.", ""]
    parts += _command(typer.main.get_command(app), "mnemos")
    return "\n".join(parts) + "\n"


def _command(command: Any, name: str) -> list[str]:
    context = command.context_class(command, info_name=name)
    if hasattr(command, "list_commands"):
        found: list[str] = []
        for verb in command.list_commands(context):
            one = command.get_command(context, verb)
            if one is not None and not one.hidden:
                found += _command(one, f"{name} {verb}")
        if found:
            return found
    lines = [f"## {name}", "", escaped(" ".join(str(command.help or "").split())), ""]
    rows = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    if rows:
        lines += ["| argument or option | meaning |", "|---|---|"]
        lines += [f"| {_option(one)} | {escaped(' '.join(str(one.help or '').split()))} |" for one in rows]
    return [*lines, ""]


def _option(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"`{one.metavar or str(one.name).upper()}`"
    return ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
