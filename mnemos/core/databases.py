"""What SQLite does not wait for by itself."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any


def patiently(act: Callable[[], Any], seconds: float) -> None:
    """Do something that may find the database locked, again and again for so many seconds.

    Several that open a new file at once contend for the switch to a write-ahead log, which busy_timeout does not cover.
    Raises sqlite3.OperationalError where it stays locked.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            act()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
