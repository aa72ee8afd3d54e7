"""The README and the pages, and the commands on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """Lines of code blocks, without prompts and comments."""
    found = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    return [re.split(r"\s{2,}#", line)[0].removeprefix("$ ").strip() for block in found for line in block.splitlines()]


def commands(page: Path) -> list[str]:
    """Whole commands: lines of code blocks, and spans of code in the text, be they a verb's name alone."""
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"```\w*\n.*?```", "", text, flags=re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`(mnemos [^`]+)`", outside)]
    return [line for line in [*blocks(page), *spans] if re.match(r"mnemos [a-z]", line)]


def modules(page: Path) -> list[str]:
    """Modules of this repository that a page runs by `python -m`."""
    return re.findall(r"python -m ((?:mnemos|benchmarks)[\w.]*)", page.read_text(encoding="utf-8"))


def snippets(page: Path) -> list[str]:
    """Code blocks in Python."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
