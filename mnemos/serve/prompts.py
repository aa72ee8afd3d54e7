"""What was asked: prompts and references of a run's suites, from its study or its results.

Files of answers hold no prompts. The suites are read again where they were read then; where they are gone or have
changed the answers are shown without, and the page says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from mnemos.core.errors import MnemosError
from mnemos.core.yaml_text import read_yaml
from mnemos.measure.flips import gold_words, prompt_words
from mnemos.measure.suite import Suite, load_suites
from mnemos.serve.index import stamp_of
from mnemos.serve.places import RESULTS, Run
from mnemos.serve.summary import results_of
from mnemos.sources.chat_settings import ChatSettings
from mnemos.study.config import chat_settings, load_study
from mnemos.study.experiment import suites_of


@dataclass(frozen=True)
class Asked:
    """items: id -> (prompt, reference). better: which way its score is better. generates: whether answers are texts
    that a model wrote. note: why there are no prompts, or what is to be known of them."""

    items: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    better: str = "higher"
    generates: bool = True
    note: str = ""


class Prompts:
    """Suites of the runs that were looked at last."""

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._kept: OrderedDict[tuple[Path, str], Mapping[str, Asked]] = OrderedDict()
        self._lock = Lock()

    def of(self, run: Run, suite: str) -> Asked:
        """What the suite of that name asked."""
        stamp = f"{stamp_of(run.path / 'study.yaml')}/{stamp_of(run.path / RESULTS)}"
        with self._lock:
            found = self._kept.get((run.path, stamp))
        if found is None:
            found = _asked(run)
            with self._lock:
                self._kept[run.path, stamp] = found
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)
        return found.get(suite) or found[""]


def _asked(run: Run) -> dict[str, Asked]:
    """By suite; under "" what is to be said of all others."""
    entries = _entries(run)
    try:
        suites = _suites(run, entries)
    except MnemosError as error:
        return {"": Asked(note=f"The prompts cannot be shown: {error.value}: {error.bound}.")}
    except Exception as error:  # a study of another version, or one that somebody wrote by hand
        return {"": Asked(note=f"The prompts cannot be shown ({type(error).__name__}: {error})."[:500])}
    out = {"": Asked(note="The prompts cannot be shown: they stand in no file that the run names.")}
    for suite in suites:
        entry = entries.get(suite.name, {})
        note = ""
        if entry.get("fingerprint") and _changed(suite, str(entry["fingerprint"])):
            note = "The suite has changed since it was measured: a prompt may not be the one that was answered."
        items = {item.id: (prompt_words(item.prompt), gold_words(item)) for item in suite.items}
        out[suite.name] = Asked(items, suite.better, suite.ask in ("generate", "act"), note)
    return out


def _entries(run: Run) -> dict[str, Mapping[str, Any]]:
    """The suites as results.json has them; nothing where there is none, or none that can be read."""
    try:
        listed = results_of(run.path / RESULTS)["manifest"]["suites"]
        return {str(one["name"]): one for one in listed if isinstance(one, Mapping)}
    except (MnemosError, KeyError, TypeError):
        return {}


def _suites(run: Run, entries: Mapping[str, Mapping[str, Any]]) -> Sequence[Suite]:
    if (run.path / "study.yaml").is_file():
        study, folder = load_study(run.path / "study.yaml")
        return suites_of(study, folder)[0]
    # A comparison keeps no study. What it kept of a suite is enough where its items lie in a file.
    specs = []
    for name, entry in entries.items():
        settings = entry.get("settings")
        if isinstance(settings, Mapping) and settings.get("data"):
            specs.append({**settings, "name": name, "kind": entry.get("kind")})
    return load_suites(specs, run.path)


def _changed(suite: Suite, fingerprint: str) -> bool:
    # Of a suite that is scored by a model the fingerprint hashes gigabytes, and the items are not what differs.
    if getattr(suite.settings, "model", None) is not None or suite.ask == "harness":
        return False
    return suite.fingerprint != fingerprint


def model_of(run: Run, name: str) -> Path | None:
    """The directory of the model before, or of a comparison's model after, as the run names it; None where it is none
    on this machine."""
    key = {"before": "model", "after": "after"}.get(name)
    if key is None:
        return None
    try:
        found = results_of(run.path / RESULTS)["manifest"][key]["path"]
    except (MnemosError, KeyError, TypeError):
        found = _named_model(run) if key == "model" else None
    return Path(found) if isinstance(found, str) and "\0" not in found and Path(found).is_dir() else None


def chat_of(run: Run) -> ChatSettings | None:
    """What the study gave to the chat template of the model before: without it, that model would be asked otherwise
    than it was measured, and than the models that were trained. Raises UsageError where its template is gone."""
    study = _study(run)
    return chat_settings(study.get("chat_template"), study.get("chat_template_kwargs"), study.get("system"))


def _named_model(run: Run) -> str | None:
    study = _study(run)
    return str(study["model"]) if "model" in study else None


def _study(run: Run) -> Mapping[str, Any]:
    """The keys of the run's study; none of a comparison."""
    try:
        found = read_yaml(run.path / "study.yaml")
    except (MnemosError, OSError):
        return {}
    return found if isinstance(found, Mapping) else {}
