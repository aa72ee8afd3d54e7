"""Files that are unpacked into the cache."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from mnemos.core import cache
from mnemos.core.errors import DataError


def test_a_compressed_file_is_unpacked_once_and_another_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    plain, packed = tmp_path / "a.sqlite", tmp_path / "b.sqlite.gz"
    plain.write_bytes(b"text")
    packed.write_bytes(gzip.compress(b"text"))
    assert cache.unpacked(plain, ".sqlite") == plain
    found = cache.unpacked(packed, ".sqlite")
    assert found.read_bytes() == b"text"
    assert found.suffix == ".sqlite"
    assert [one.name for one in found.parent.iterdir()] == [found.name]
    packed.rename(tmp_path / "c.gz")
    assert cache.unpacked(tmp_path / "c.gz", ".sqlite") == found, "the content names it"


@pytest.mark.parametrize("damage", ["cut", "no gzip", "bomb"])
def test_what_cannot_be_unpacked_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MOST_UNPACKED", 1 << 20)
    whole = gzip.compress(bytes(2 << 20) if damage == "bomb" else b"text" * 100)
    path = tmp_path / "a.gz"
    path.write_bytes({"cut": whole[:-10], "no gzip": b"text", "bomb": whole}[damage])
    with pytest.raises(DataError, match="more than" if damage == "bomb" else "no whole gzip file"):
        cache.unpacked(path, ".sqlite")
    assert not [one for one in (tmp_path / "cache").rglob("*") if one.is_file()]
