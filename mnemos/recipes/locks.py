"""What is installed for what: the locks beside requirements.lock, the licences, and a bill of materials.

    python -m mnemos.recipes.locks                     writes requirements-demo.lock, requirements-docs.lock and
                                                       docs/licences.md again, from requirements.lock and pyproject.toml
    python -m mnemos.recipes.locks --sbom sbom.json    writes CycloneDX 1.6 of what is installed of the lock instead

All of it is read from the metadata of installed packages: nothing is asked of any index.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK, DEMO, DOCS, LICENCES = "requirements.lock", "requirements-demo.lock", "requirements-docs.lock", "docs/licences.md"


def project(root: Path = ROOT) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def locked(path: Path) -> dict[str, str]:
    """Canonical name -> exact version, of a lock file."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of what requirements bring on this machine, by what the installed packages require.

    A package that is not installed is told by its name, without what it would bring.
    """
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        one = todo.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in _requires(one.name):
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                todo.append(more)
    return {name for name, _ in seen}


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def demo_requirements(pyproject: Mapping[str, Any]) -> list[str]:
    """What mnemos requires, but for what no step of the demo imports."""
    without = set(pyproject["tool"]["mnemos"]["demo-does-without"])
    return [one for one in pyproject["project"]["dependencies"] if Requirement(one).name not in without]


def demo_lock(root: Path = ROOT) -> str:
    """requirements-demo.lock: the lines of requirements.lock that the demo needs."""
    return _lines(root / LOCK, closure(demo_requirements(project(root))))


def docs_lock(root: Path = ROOT) -> str:
    """requirements-docs.lock: what the site is built with, at the versions of requirements.lock where that has them."""
    names = closure(project(root)["dependency-groups"]["docs"])
    both = locked(root / LOCK)
    lines = {name: f"{_named(name)}=={both.get(name) or importlib.metadata.version(name)}\n" for name in names}
    return "".join(lines[name] for name in sorted(lines))


def _lines(lock: Path, names: set[str]) -> str:
    lines = {
        str(canonicalize_name(line.split("==")[0])): line for line in lock.read_text(encoding="utf-8").splitlines()
    }
    return "".join(f"{lines[name]}\n" for name in sorted(names))


def _named(name: str) -> str:
    return importlib.metadata.metadata(name)["Name"]


def licence(name: str) -> str:
    """The licence of an installed distribution: its SPDX expression, its classifiers, or its own words' first line."""
    found = importlib.metadata.metadata(name)
    if found["License-Expression"]:
        return str(found["License-Expression"])
    classes = [one for one in found.get_all("Classifier") or [] if one.startswith("License :: ")]
    short = [one.split(" :: ")[-1] for one in classes if one != "License :: OSI Approved"]
    if short:
        return ", ".join(sorted(set(short)))
    # Some put the whole text there.
    words = str(found["License"] or "").strip().split("\n")[0]
    return re.sub(r"[|<>]", " ", words)[:60] or "not told"


HEAD = """# Licences of what is installed

mnemos is under Apache-2.0. It contains no code of the packages below: pip installs them beside it, at the versions
of `requirements.lock`. *demo* says what `make demo` installs, *mnemos* what `pip install mnemos` brings, an extra's or
a group's name who else asks for it. The licence is what a package's own metadata tells.

Written by `python -m mnemos.recipes.locks`; `python -m mnemos.recipes.locks --sbom sbom.json` writes the same as a
CycloneDX bill of materials, for programs.

| package | version | licence | for |
|---|---|---|---|
"""


def licences(root: Path = ROOT) -> str:
    """docs/licences.md."""
    uses = purposes(root)
    versions = {**locked(root / DOCS), **locked(root / LOCK)}
    rows = [f"| {_named(n)} | {versions[n]} | {licence(n)} | {', '.join(uses[n])} |" for n in sorted(versions)]
    return HEAD + "\n".join(rows) + "\n"


def purposes(root: Path = ROOT) -> dict[str, list[str]]:
    """Canonical name -> who asks for it: demo, mnemos, extras in brackets, groups of those who work on mnemos."""
    found = project(root)
    asked: dict[str, list[str]] = {"demo": demo_requirements(found), "mnemos": found["project"]["dependencies"]}
    asked |= {f"[{name}]": list(some) for name, some in found["project"]["optional-dependencies"].items()}
    asked |= {name: list(some) for name, some in found["dependency-groups"].items()}
    out: dict[str, list[str]] = {}
    basic = closure(asked["mnemos"])
    for purpose, requirements in asked.items():
        brought = closure(requirements)
        for name in brought if purpose in ("demo", "mnemos") else brought - basic:
            out.setdefault(name, []).append(purpose)
    return out


def bill(root: Path = ROOT) -> dict[str, Any]:
    """CycloneDX 1.6 of requirements.lock: each package with version, licence and purl, and who requires whom."""
    found, versions = project(root), locked(root / LOCK)
    own = f"pkg:pypi/mnemos@{found['project']['version']}"
    purls = {name: f"pkg:pypi/{name}@{version}" for name, version in versions.items()}
    parts = [
        {"type": "library", "bom-ref": purls[name], "name": _named(name), "version": version, "purl": purls[name],
         "licenses": [{"license": {"name": licence(name)}}]}
        for name, version in sorted(versions.items())
    ]  # fmt: skip
    links = [{"ref": purls[name], "dependsOn": _direct(_requires(name), purls)} for name in sorted(purls)]
    links.insert(0, {"ref": own, "dependsOn": _direct(found["project"]["dependencies"], purls)})
    main = {"type": "application", "bom-ref": own, "name": "mnemos", "version": found["project"]["version"],
            "purl": own, "licenses": [{"license": {"id": found["project"]["license"]}}]}  # fmt: skip
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": main},
            "components": parts, "dependencies": links}  # fmt: skip


def _direct(requirements: Iterable[str], purls: Mapping[str, str]) -> list[str]:
    found = [Requirement(text) for text in requirements]
    here = {canonicalize_name(one.name) for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}
    return sorted(purls[name] for name in here & purls.keys())


def main(arguments: list[str] | None = None) -> None:
    """Write the files."""
    about, _, usage = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m mnemos.recipes.locks", description=about, epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--sbom", type=Path, help="write the bill of materials there, and nothing else")
    given = parser.parse_args(arguments)
    if not (ROOT / LOCK).is_file():
        parser.error(f"{ROOT} is no checkout of mnemos: there is no {LOCK}")
    if given.sbom is not None:
        given.sbom.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
        return
    for name, make in ((DEMO, demo_lock), (DOCS, docs_lock), (LICENCES, licences)):
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
