"""The server: one process, one port of the loopback address, until somebody stops it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from mnemos.core.cache import cache_folder
from mnemos.core.errors import UsageError
from mnemos.core.packages import require

LOOPBACK = "127.0.0.1"
PORT = 8642
NEEDED = ("starlette", "uvicorn")


def bound(port: int) -> socket.socket:
    """A socket on the loopback address. port: 0 for any free one. Raises UsageError for a port that is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port whose connections are still closing is free again; one that somebody listens on is not.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((LOOPBACK, port))
        found.listen(256)
    except OSError as error:
        found.close()
        raise UsageError(
            f"port {port}", f"cannot be used ({error.strerror})", "name another with --port; 0 takes a free one"
        ) from None
    return found


def serve(root: Path, *, port: int = PORT, seed: int = 0, say: Callable[[str], None] = print) -> None:
    """Serve the page of the runs below `root` until the process is stopped.

    port: of 127.0.0.1, which no other machine reaches. seed: draws the orders of votes. say: takes the line with the
    address. Raises UsageError where packages are missing, the folder is none or the port is taken.
    """
    require("mnemos serve", *NEEDED)
    import uvicorn

    from mnemos.serve.app import application
    from mnemos.serve.guard import Keys

    keys = Keys()
    app = application(root, keys, cache=cache_folder() / "serve", seed=seed)
    listening = bound(port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        # Headers of the page's own; and pages that watch a run would hold the server back for ever.
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    say(f"http://{LOOPBACK}:{listening.getsockname()[1]}/?token={keys.token}")
    uvicorn.Server(config).run(sockets=[listening])
