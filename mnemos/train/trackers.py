"""Where trackers write: transformers' own integrations, with their files in the run that they watch.

A tracker is set up by environment variables. What a user has set counts; what is left out is set here for the time of
a training, so that by default nothing leaves the machine and nothing is written into the working directory.
"""

from __future__ import annotations

import contextlib
import io
import netrc
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = "tracking"
"""In the run's directory."""

PROJECT = "mnemos"

PACKAGES = ("wandb", "mlflow", "trackio")
"""Trackers whose package has their name, and reads where to write when it is imported: it is not imported before a
training."""


def variables(names: Sequence[str], folder: Path, title: str) -> dict[str, str]:
    """The environment variables that keep these trackers under `folder`. title: of the training."""
    found: dict[str, str] = {}
    if "tensorboard" in names:
        # It calls a run by its directory.
        found["TENSORBOARD_LOGGING_DIR"] = str(folder / title)
    if "wandb" in names:
        # Its own lines would stand between those of the run, and it would ask for a key in the middle of one.
        found |= {"WANDB_DIR": str(folder), "WANDB_PROJECT": PROJECT, "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
        found |= {"WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "online" if _logged_in() else "offline"}
    if "mlflow" in names:
        found |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": PROJECT}
        found |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    if "trackio" in names:
        found |= {"TRACKIO_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    return found


def _logged_in() -> bool:
    """Whether there is a key for wandb, in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    return known.authenticators(host) is not None


@contextlib.contextmanager
def tracked(names: Sequence[str], folder: Path, title: str) -> Iterator[None]:
    """Within it, the trackers of one training are set up; afterwards the environment is as it was."""
    if not names:
        yield
        return
    folder = folder.resolve()
    # A database is not made in a directory that is not there.
    folder.mkdir(parents=True, exist_ok=True)
    added = {name: value for name, value in variables(names, folder, title).items() if name not in os.environ}
    os.environ.update(added)
    # Trackio prints what it does, and nothing else prints while training.
    silence = contextlib.redirect_stdout(io.StringIO()) if "trackio" in names else contextlib.nullcontext()
    try:
        with silence:
            yield
    finally:
        wandb = sys.modules.get("wandb")
        if "wandb" in names and wandb is not None and wandb.run is not None:
            # transformers leaves its run open, and the next training of this process would be logged into it.
            wandb.finish()
        for name in added:
            os.environ.pop(name, None)
