"""An OpenAI-compatible server whose model answers by a rule: what stands behind studies and servers in tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mnemos.core.nouns import Decoding, Prompt, Turn
from tests.stream.worlds import RuleModel


@contextmanager
def rule_server(model: RuleModel | None = None, *, hangs: float = 0.0) -> Iterator[str]:
    """Within it, the address of a model: http://127.0.0.1:PORT/v1#rule."""
    rule, lock = model or RuleModel(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hangs:
                threading.Event().wait(hangs)
            turns = tuple(Turn(one["role"], one["content"]) for one in body["messages"])
            with lock:
                text = rule.generate([Prompt(turns[-1:])], Decoding())[0].text
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            reply = json.dumps({"choices": [choice], "usage": {"completion_tokens": 1}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1#rule"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
