"""One study under torchrun or accelerate: who leads, and waiting for each other."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def count() -> int:
    """Processes of this launch; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which process of this launch this is; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process writes results."""
    return rank() == 0


def _group() -> Any:
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState()  # joins the process group with the backend that the hardware has
    return dist


def barrier() -> None:
    """Wait until every process is here; nothing to wait for with one."""
    if count() > 1:
        _group().barrier()


def wait_for(path: Path, pause: float = 0.2) -> None:
    """Wait until the main process has written `path`. A barrier would give up after some minutes,
    and a model may write rows for hours; when the main process fails, the launcher ends this one."""
    while not path.exists():
        time.sleep(pause)


def agreed(value: Any) -> Any:
    """The main process's value, in every process: a decision is taken once."""
    if count() == 1:
        return value
    # Every process has to come here, or those that did wait for the others.
    box = [value]
    _group().broadcast_object_list(box, src=0)
    return box[0]
