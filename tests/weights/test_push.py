"""A directory is pushed to a hub: a server on this machine that speaks its protocol, as far as small files need it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from mnemos.core.errors import ModelError, UsageError
from mnemos.weights.push import check_hub, push

WRITER, READER = "hf_writer", "hf_reader"


class Hub(BaseHTTPRequestHandler):
    """Who asks, a repository, and one commit; a token that only reads is refused where something is written."""

    files: dict[str, bytes]
    made: list[dict[str, Any]]

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            self.answer(404, {"error": "Repository not found"})
            return
        known = self.headers.get("Authorization", "").removeprefix("Bearer ") in (WRITER, READER)
        self.answer(200 if known else 401, {"name": "someone"} if known else {"error": "Invalid token"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {WRITER}":
            self.answer(403, {"error": "You have read access only"})
        elif self.path == "/api/repos/create":
            self.made.append(json.loads(body))
            self.answer(200, {"url": f"http://{self.headers['Host']}/someone/taught"})
        elif "/preupload/" in self.path:
            files = [{**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/someone/taught/commit/{'0' * 40}"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40, "success": True})
        else:
            self.answer(200, {})

    def answer(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {"files": {}, "made": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    close_session()
    yield handler
    server.shutdown()
    server.server_close()
    close_session()


def test_a_model_and_its_card_arrive(hub: type[Hub], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# taught\n")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    check_hub("someone/taught")
    address = push(tmp_path, "someone/taught")
    assert address.endswith("/someone/taught")
    assert hub.files == {"README.md": b"# taught\n", "model.safetensors": bytes(range(256))}
    assert hub.made[0]["visibility"] == "private"


def test_a_token_without_rights_is_named_and_the_model_stays(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("# taught\n")
    monkeypatch.setenv("HF_TOKEN", READER)
    check_hub("someone/taught")
    with pytest.raises(ModelError, match=r"refuses: .*; the model is in ") as refused:
        push(tmp_path, "someone/taught")
    assert "may write there" in refused.value.cure
    assert not hub.files
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with pytest.raises(ModelError, match="refuses"):
        check_hub("someone/taught")


def test_what_can_be_known_beforehand_is_refused_beforehand(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is no repository"):
        check_hub("a/b/c")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        check_hub("someone/taught")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    with pytest.raises(ModelError, match="no token is there"):
        check_hub("someone/taught")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        check_hub("someone/taught")
