"""Progress bars and chatter of the libraries underneath."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """Inside: no bars where stderr is no terminal, when `quiet` only errors are logged, and no
    warnings that only the libraries can mend. Afterwards logging is as it was."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    if quiet or not sys.stderr.isatty():
        logging.disable_progress_bar()
    if quiet:
        logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # peft 0.19 still asks transformers by the old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            # It wants to know whether embedding rows were added; mnemos adds none.
            warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
