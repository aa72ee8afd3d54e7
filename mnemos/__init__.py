"""mnemos: post-training without forgetting.

    taught = mnemos.teach("data.jsonl", "M", budget="2h")
    record = mnemos.run("study.yaml")
    record = mnemos.compare("before/", "after/", ["suites.yaml"])

Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Record", "Taught", "compare", "run", "sweep", "teach"]

if TYPE_CHECKING:
    from mnemos.study.commands.compare import compare as compare
    from mnemos.study.commands.sweep import sweep as sweep
    from mnemos.study.commands.teach import Taught as Taught
    from mnemos.study.commands.teach import teach as teach
    from mnemos.study.run import Record as Record
    from mnemos.study.run import run as run


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    # `mnemos.run` stays the function although mnemos.study has a module of that name.
    if name in ("run", "Record"):
        from mnemos.study import run as module

        return getattr(module, name)
    if name in ("teach", "Taught"):
        from mnemos.study.commands import teach as command

        return getattr(command, name)
    if name == "sweep":
        from mnemos.study.commands.sweep import sweep

        return sweep
    if name == "compare":
        from mnemos.study.commands.compare import compare

        return compare
    raise AttributeError(f"module 'mnemos' has no attribute {name!r}")
