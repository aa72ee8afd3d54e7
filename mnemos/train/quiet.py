"""Progress bars and chatter of the libraries underneath."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Inside: no bars where stderr is no terminal, and when `quiet` only errors are logged.
    Afterwards transformers' logging is as it was."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    if quiet or not sys.stderr.isatty():
        logging.disable_progress_bar()
    if quiet:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
