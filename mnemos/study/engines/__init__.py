"""Who executes the steps of a run: one module each, and one row in ENGINES."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from mnemos.core.errors import UsageError, nearest
from mnemos.core.method import validated
from mnemos.study.engines.engine import Engine
from mnemos.study.sections import EngineSettings

ENGINES = {
    "local": "mnemos.study.engines.local",
    "pool": "mnemos.study.engines.pool",
    "ray": "mnemos.study.engines.ray",
}
"""Name -> module with a function `make(settings, quiet) -> Engine`, imported when it is asked for: an engine may need a
package that is not installed."""

AskedEngine = Engine | str | Mapping[str, Any] | None
"""What a caller may say of the engine: a name of ENGINES, keys of `EngineSettings`, or an engine of its own."""


def engine(
    asked: AskedEngine = None,
    *,
    jobs: int | None = None,
    study: EngineSettings | str | None = None,
    quiet: bool = False,
) -> Engine:
    """The engine that is asked for; without a name, local for one job and pool for several. study: what the study file
    says, of which every key holds that is not asked for otherwise. Raises UsageError."""
    if asked is not None and not isinstance(asked, str | Mapping):
        return asked
    settings = settings_of(asked, jobs=jobs, study=study)
    chosen = settings.name or ("local" if settings.jobs in (None, 1) else "pool")
    if chosen not in ENGINES:
        raise UsageError(f"engine {chosen!r}", "is not known", nearest(chosen, ENGINES))
    made: Engine = importlib.import_module(ENGINES[chosen]).make(settings, quiet)
    return made


def settings_of(
    asked: str | Mapping[str, Any] | None, *, jobs: int | None = None, study: EngineSettings | str | None = None
) -> EngineSettings:
    """The settings in force: what is asked for, before what the study says. Raises UsageError."""
    given: dict[str, Any] = {"name": asked} if isinstance(asked, str) else dict(asked or {})
    if jobs is not None:
        given["jobs"] = jobs
    own = {"name": study} if isinstance(study, str) else study.model_dump(exclude_defaults=True) if study else {}
    if given.get("name", own.get("name")) != own.get("name"):
        # An address or a share of GPUs means nothing to another engine: the file runs on a laptop as it stands.
        own = {}
    settings: EngineSettings = validated(EngineSettings, {**own, **given}, where="engine")
    return settings
