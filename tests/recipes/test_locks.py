"""A lock for each purpose says what that purpose needs, licences and the bill of materials what is locked."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mnemos import __version__
from mnemos.recipes import locks
from mnemos.recipes.locks import DEMO, DOCS, LICENCES, LOCK, ROOT, bill, closure, demo_lock, licence, locked, project
from tests.environments import linked, variables, words

HERE = {canonicalize_name(one.metadata["Name"]) for one in importlib.metadata.distributions()}
NOT_LOCKED = {"tensorboard"}
"""Of the group dev: one test reads what it writes, and is left out where it is absent."""


def cells(text: str) -> dict[str, list[str]]:
    """Canonical name -> cells, of the table of a page."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return {canonicalize_name(row[0]): row for row in rows[2:]}


def test_the_lock_is_what_pyproject_asks_for_and_brings() -> None:
    found = project()
    asked = [*found["project"]["dependencies"], *found["dependency-groups"]["dev"]]
    for extra in found["project"]["optional-dependencies"].values():
        asked += extra
    known = locked(ROOT / LOCK)
    missing = {canonicalize_name(Requirement(one).name) for one in asked} - set(known) - NOT_LOCKED
    assert not missing, "in pyproject.toml and not in requirements.lock"
    if set(known) <= HERE:
        assert closure(asked) - NOT_LOCKED == set(known)
    for one in map(Requirement, asked):
        version = known.get(canonicalize_name(one.name))
        assert version is None or one.specifier.contains(version), one


def test_what_is_locked_for_the_demo_is_a_part_at_the_same_versions() -> None:
    part, whole = (ROOT / DEMO).read_text().splitlines(), (ROOT / LOCK).read_text().splitlines()
    assert set(part) < set(whole)
    assert [line for line in whole if line in part] == part, "in the same order"
    without = set(project()["tool"]["mnemos"]["demo-does-without"])
    assert without < set(locked(ROOT / LOCK))
    assert not without & set(locked(ROOT / DEMO))
    assert demo_lock() == (ROOT / DEMO).read_text(), f"python -m {locks.__name__} writes it again"


def test_what_is_locked_for_the_site_agrees_with_the_other_lock() -> None:
    site, whole = locked(ROOT / DOCS), locked(ROOT / LOCK)
    assert {name: whole[name] for name in site.keys() & whole.keys()}.items() <= site.items()
    for one in map(Requirement, project()["dependency-groups"]["docs"]):
        assert one.specifier.contains(site[canonicalize_name(one.name)])
    if set(site) <= HERE:
        assert set(site) == closure(project()["dependency-groups"]["docs"])


def test_make_installs_the_demo_from_its_lock_and_the_tests_from_the_whole_one() -> None:
    """As make itself would do it in a bare checkout."""

    def planned(target: str) -> str:
        done = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    demo, test = planned("demo"), planned("test")
    assert demo.count("-m venv") == test.count("-m venv") == 1
    assert DEMO in demo
    assert LOCK not in demo.replace(DEMO, "")
    assert test.index(f"-r {DEMO}") < test.index(f"-r {LOCK}") < test.index("pytest")


@pytest.fixture(scope="module")
def demo_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked(locked(ROOT / DEMO), tmp_path_factory.mktemp("demo") / "site")


def test_only_what_is_linked_can_be_imported(demo_environment: Path) -> None:
    """Otherwise the two tests below could not fail."""
    code = "import importlib.util as u; print([n for n in ('torch', 'peft', 'trl', 'datasets', 'pytest', 'pyarrow') "
    code += "if u.find_spec(n)])"
    command = [*words()[:3], code]
    done = subprocess.run(command, env=variables(demo_environment), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['torch',", "'peft']"]


@pytest.mark.slow
def test_the_demo_runs_with_what_is_locked_for_it(demo_environment: Path, tmp_path: Path) -> None:
    command = words("run", "mnemos:demo.yaml", "--jobs", "2", "--set", "seeds=[0]", "--set", "train.max_steps=2")
    done = subprocess.run(command, cwd=tmp_path, env=variables(demo_environment), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs" / "demo" / "results.json").read_text())
    assert {row["arm"] for row in results["comparisons"]} == {"plain", "replay", "replay+kl", "half-way"}


@pytest.mark.slow
def test_the_session_of_the_readme_runs_with_what_is_locked_for_the_demo(
    demo_environment: Path, tmp_path: Path
) -> None:
    """All of it but what the README names as the work of the whole environment."""
    rows = [json.dumps({"prompt": f"Say {n} twice.", "completion": f"{n} {n}"}) for n in range(60)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows) + "\n")
    lines = (ROOT / "README.md").read_text().split("## A session")[1].split("```")[1].splitlines()
    session = [line.split("   #")[0] for line in lines if line.startswith("mnemos ")]
    assert len(session) > 8
    for line in session:
        command = words(*[part.strip("\"'") for part in re.findall(r'"[^"]*"|\S+', line)[1:]])
        done = subprocess.run(command, cwd=tmp_path, env=variables(demo_environment), capture_output=True, text=True)
        assert done.returncode in (0, 3, 4), f"{line}\n{done.stderr}"


def test_licences_are_those_of_what_is_locked() -> None:
    rows = cells((ROOT / LICENCES).read_text())
    versions = {**locked(ROOT / DOCS), **locked(ROOT / LOCK)}
    assert {name: row[1] for name, row in rows.items()} == versions, f"python -m {locks.__name__} writes it again"
    for name in rows.keys() & HERE:
        if importlib.metadata.version(name).split("+")[0] == versions[name]:
            assert rows[name][2] == licence(name), name
    assert {"demo", "mnemos"} == set(rows["torch"][3].split(", "))
    # What comes with mnemos is permissive, or copyleft of single files (MPL).
    basic = [row[2] for row in rows.values() if "mnemos" in row[3].split(", ")]
    assert not [text for text in basic if "GPL" in text or text == "not told"]


def test_the_bill_of_materials_is_closed_and_of_the_lock(tmp_path: Path) -> None:
    if not set(locked(ROOT / LOCK)) <= HERE:
        pytest.skip("not all of requirements.lock is installed")
    locks.main(["--sbom", str(tmp_path / "sbom.json")])
    found = json.loads((tmp_path / "sbom.json").read_text())
    assert found == bill()
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["version"] == __version__ == project()["project"]["version"]
    assert {canonicalize_name(one["name"]): one["version"] for one in found["components"]} == locked(ROOT / LOCK)
    references = {one["bom-ref"] for one in [*found["components"], found["metadata"]["component"]]}
    assert {one["ref"] for one in found["dependencies"]} == references
    requires = {one["ref"]: set(one["dependsOn"]) for one in found["dependencies"]}
    assert all(wanted <= references for wanted in requires.values())
    torch = next(ref for ref in references if ref.startswith("pkg:pypi/torch@"))
    assert torch in requires[found["metadata"]["component"]["bom-ref"]]
    assert any(ref.startswith("pkg:pypi/sympy@") for ref in requires[torch])
    assert all(one["licenses"][0]["license"]["name"] for one in found["components"])


def test_a_licence_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metadata(dict[str, str]):
        def get_all(self, _: str) -> list[str]:
            return self.get("classes", "").split(";")

        def __missing__(self, _: str) -> None:
            return None

    def found(**values: str) -> str:
        monkeypatch.setattr(importlib.metadata, "metadata", lambda _: Metadata(values))
        return licence("one")

    monkeypatch.setattr(Metadata, "__getitem__", lambda self, key: self.get(key))
    assert found(**{"License-Expression": "MIT", "License": "BSD"}) == "MIT"
    assert found(classes="License :: OSI Approved :: MIT License;Topic :: x", License="x") == "MIT License"
    assert found(classes="License :: OSI Approved", License="BSD | 3\nmany lines") == "BSD   3"
    assert found() == "not told"
