"""Progress bars and chatter of the libraries underneath."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


@contextmanager
def no_bars() -> Iterator[None]:
    """Inside: tqdm, which all libraries underneath draw their bars with, draws none, whatever they ask for."""
    from tqdm.std import tqdm

    made = tqdm.__init__

    def undrawn(self: Any, *given: Any, **settings: Any) -> None:
        made(self, *given, **{**settings, "disable": True})

    tqdm.__init__ = undrawn
    try:
        yield
    finally:
        tqdm.__init__ = made


@contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """Inside: no bars when `quiet` or where stderr is no terminal, when `quiet` only errors are logged, and no
    warnings that only the libraries can mend. Afterwards logging is as it was."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    if quiet:
        logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), no_bars() if quiet or not sys.stderr.isatty() else nullcontext():
            # peft 0.19 still asks transformers by the old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            # It wants to know whether embedding rows were added; mnemos adds none.
            warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
            yield
    finally:
        logging.set_verbosity(level)
        # A model that is loaded without a terminal turns them off for good.
        if bars:
            logging.enable_progress_bar()
