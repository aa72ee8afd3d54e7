"""The benchmark's rows and what its two parts do with them."""

from __future__ import annotations

import pytest

from benchmarks import rehearsal_selection as bench


def test_a_quarter_of_the_rows_change_an_earlier_one() -> None:
    rows = bench.invented(400)
    assert rows == bench.invented(400)
    changed = 0
    for i in range(3, 400, 4):
        tokens = rows[i].rstrip("?").split()
        for earlier in rows[:i]:
            text = earlier.rstrip("?").split()
            changed += len(text) == len(tokens) and sum(a != b for a, b in zip(text, tokens, strict=True)) <= 1
    assert changed >= 100


def test_both_parts_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.choose(300)["kept"] == 30
    kept = bench.filter_chats(300)["kept"]
    assert 200 < kept < 300
    monkeypatch.setattr(bench, "_alone", lambda part: part(300))
    seconds, memory = bench.run()
    assert (seconds.peer, memory.peer) == (120.0, 2.0)
    assert seconds.ours == pytest.approx(seconds.details["ssr"]["seconds"] + seconds.details["magpie"]["seconds"])
    assert memory.ours == max(memory.details[part]["gigabytes"] for part in ("ssr", "magpie"))
