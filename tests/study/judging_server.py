"""A model behind an OpenAI-compatible server that knows what it likes: answers with the word river.

python -m tests.study.judging_server [PORT] prints its address and answers until it is ended. Model "judge" compares
two answers and takes the first place where it likes neither more; "mute" gives no verdict; "editor" criticises, and
revises an answer by putting the word into it.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIKED = "river"


def reply(model: str, text: str) -> str:
    """What the model says to a text."""
    if model == "mute":
        return "I would rather not say."
    if "Reply with (A) or (B) only" in text:
        first, second = text.split("(A) ")[1].split("\n\nReply")[0].split("\n\n(B) ")
        return "(B)" if (LIKED in second) > (LIKED in first) else "(A)"
    draft = text.split("Answer:\n")[1].split("\n\n")[0]
    if "Give the critique only" in text:
        return "It does not name the water."
    return draft if LIKED in draft else f"{LIKED} {draft}"


class Handler(BaseHTTPRequestHandler):
    """Answers /v1/chat/completions."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = reply(body["model"], body["messages"][-1]["content"])
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice], "usage": {"completion_tokens": len(text.split())}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    http = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print(f"http://127.0.0.1:{http.server_port}/v1", flush=True)
    http.serve_forever()


if __name__ == "__main__":
    main()
