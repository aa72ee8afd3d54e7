"""Stopping a run from outside: SIGTERM ends it as Ctrl-C does, with a word and without leaving workers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mnemos.study import processes


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what a scheduler or `kill` sends. A kind of interrupt, so that what tidies up behind Ctrl-C
    tidies up here too."""

    exit_code = 143
    """128 + SIGTERM, as shells report it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises Terminated in the main thread. Left as it is: a handler of somebody else's, and
    under a launcher, which ends all of its processes together."""
    alone = threading.current_thread() is threading.main_thread() and processes.count() == 1
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
