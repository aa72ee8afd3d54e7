"""The manifest: everything about a measurement but the model, frozen once for both sides."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import NotComparable
from mnemos.core.fingerprint import fingerprint
from mnemos.core.plan import ModelHandle
from mnemos.measure.suite import Suite

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "datasets",
    "numpy",
    "scipy",
    "py3langid",
    "jsonschema",
    "lm_eval",
)
"""Libraries whose version can change an answer or a score; those not installed are left out."""

FIRST_TOKENS = 50

COMPARED = ("suites", "decoding", "template_fingerprint", "first_tokens", "versions", "commit", "hardware")
"""What must be equal on both sides. Not here: the model, and the seeds of training."""


def manifest(
    *,
    model: ModelHandle,
    suites: Sequence[Suite],
    roles: Mapping[str, str],
    seeds: Sequence[int],
    template_fingerprint: str | None = None,
    first_tokens: Sequence[int] = (),
) -> dict[str, Any]:
    """The manifest of a measurement, as it stands in results.json.

    model: the model before. template_fingerprint: of the chat template; None is put where no suite
    is a chat. first_tokens: the first token ids that were rendered; 50 are kept. `fingerprint`
    changes exactly when a compared part does.
    """
    made: dict[str, Any] = {
        "model": {"path": str(model.path), "fingerprint": model.fingerprint},
        "suites": [_entry(suite, roles.get(suite.name, "old")) for suite in suites],
        "decoding": {suite.name: dataclasses.asdict(suite.decoding) for suite in suites if suite.decoding is not None},
        "template_fingerprint": template_fingerprint if any(suite.uses_chat for suite in suites) else None,
        "first_tokens": [int(token) for token in first_tokens[:FIRST_TOKENS]],
        "seeds": list(seeds),
        "versions": versions(),
        **source_state(),
        "hardware": hardware(),
    }
    return {"fingerprint": fingerprint({key: made[key] for key in COMPARED}), **made}


def _entry(suite: Suite, role: str) -> dict[str, Any]:
    settings = suite.settings.model_dump(mode="json", exclude={"items", "name", "kind", "tolerance", "better"})
    return {
        "name": suite.name,
        "kind": suite.kind,
        "role": role,
        "items": len(suite.items),
        "fingerprint": suite.fingerprint,
        "unit": suite.unit,
        "better": suite.better,
        "tolerance": suite.tolerance,
        "settings": {key: value for key, value in settings.items() if value not in (None, {}, [], "")},
        # By name, so that a judge or a prompt that drifted between two measurements is what a refusal names.
        **({"judged": {key: value for key, value in suite.judged.items() if key != "shown"}} if suite.judged else {}),
    }


def versions() -> dict[str, str]:
    """Versions of mnemos, Python and the libraries that can change a score."""
    from mnemos import __version__

    found = {"mnemos": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def source_state() -> dict[str, Any]:
    """{commit, dirty} of mnemos' own sources; both None when it runs from an installed package."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Inside some other repository (a virtual environment within a project) the commit would be that one's.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "dirty": None}
    # Untracked files are left out: caches and results beside the sources change no code.
    changes = git("status", "--porcelain", "--untracked-files=no", ".")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """{machine, cpu, cores, device, threads, dtype}: what floating-point results depend on. dtype: what a model
    computes in here unless it is told otherwise."""
    import torch

    from mnemos.models.precision import fast_dtype, processor

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "machine": platform.machine(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "device": device,
        "threads": torch.get_num_threads(),
        "dtype": fast_dtype(),
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, other than the model and the seeds: one line each, with its
    place and both values. A commit is compared where both are known."""
    found: list[str] = []
    for key in COMPARED:
        if key == "suites":
            found += _suite_differences(a.get(key, ()), b.get(key, ()))
        elif key == "commit" and None in (a.get(key), b.get(key)):
            continue
        else:
            found += _values(key, a.get(key), b.get(key))
    return found


def _suite_differences(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[str]:
    first, second = ({entry["name"]: entry for entry in side} for side in (a, b))
    found = [f"suites.{name}: only on one side" for name in sorted(set(first) ^ set(second))]
    for name in sorted(set(first) & set(second)):
        lines = _values(f"suites.{name}", first[name], second[name])
        # The fingerprint follows from all the rest: it is named only where nothing else that differs can be.
        telling = [line for line in lines if not line.startswith(f"suites.{name}.fingerprint")]
        found += telling or [f"{line} (other items or settings)" for line in lines]
    return found


def _values(place: str, a: Any, b: Any) -> list[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return [line for key in sorted({*a, *b}) for line in _values(f"{place}.{key}", a.get(key), b.get(key))]
    return [] if a == b else [f"{place}: {_short(a)} against {_short(b)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def refuse_differences(a: Mapping[str, Any], b: Mapping[str, Any], *, allow: Collection[str] = ()) -> None:
    """Raise NotComparable naming every difference between two manifests other than the model.

    allow: parts by their place ("hardware", "versions.torch", "suites.english") that may differ,
    because the caller said so by name.
    """

    def allowed(line: str) -> bool:
        place = line.split(": ")[0]
        return any(place == part or place.startswith(f"{part}.") for part in allow)

    found = [line for line in differences(a, b) if not allowed(line)]
    if found:
        raise NotComparable(
            "before and after were not measured the same way",
            "; ".join(found),
            "measure both sides again with one suite file, on one machine, with one version of mnemos",
        )
