"""The README's commands are run as they stand; its make targets exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:bash|console|sh)\n(.*?)```", README, flags=re.S)
LINES = [line.split("   #")[0].rstrip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("mnemos ")]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {target for line in LINES if line.startswith("make ") for target in line.split()[1:]}
    assert {"demo", "test"} <= named <= targets


def test_ci_calls_what_the_readme_names() -> None:
    assert {"make test", "make check"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder with the data file that the README talks about."""
    place = tmp_path_factory.mktemp("readme")
    rows = [f'{{"prompt": "Say {n} twice.", "completion": "{n} {n}"}}' for n in range(60)]
    (place / "data.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return place


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_runs(line: str, folder: Path) -> None:
    if "study.yaml" in line and not (folder / "study.yaml").is_file():
        # Whoever reads from the top has written it by now; tests may be carried out in another order.
        carried_out(next(command for command in COMMANDS if command.startswith("mnemos init ")), folder)
    done = carried_out(line, folder)
    expected = {0, 3, 4} if line.startswith("mnemos gate ") else {0}
    assert done.returncode in expected, f"{line}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def carried_out(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in the folder, by the `mnemos` of this Python."""
    words = shlex.split(line)
    words[0] = shutil.which("mnemos", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "mnemos"
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
