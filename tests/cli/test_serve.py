"""`mnemos serve` as people start it: a process that prints an address, serves it, and ends with Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")


def test_the_printed_address_opens_the_page_and_no_other_does(tmp_path: Path) -> None:
    import httpx2

    (tmp_path / "runs").mkdir()
    command = [sys.executable, "-m", "mnemos", "serve", "runs/", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\S*token=\S+", process.stdout.readline())
        assert found is not None
        with httpx2.Client(timeout=60, trust_env=False, follow_redirects=True) as client:
            page = client.get(found[0])
            assert page.status_code == 200
            assert "mnemos" in page.text
        assert httpx2.get(found[0].split("?")[0], timeout=60, trust_env=False).status_code in (401, 403)
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "has ended" in rest
