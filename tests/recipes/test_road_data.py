"""The roads' data: three parts that share no dialogue, table or command, and answers as the tasks mean them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mnemos.recipes.roads import prepare
from mnemos.recipes.roads.prepare import held_out, tasks


def test_a_salt_makes_another_split() -> None:
    rows = [{"id": str(number)} for number in range(400)]
    first, second = ([held_out(row, 0.3, salt) for row in rows] for salt in ("", "choose "))
    assert 80 < sum(first) < 160
    assert 80 < sum(second) < 160
    assert 15 < sum(a and b for a, b in zip(first, second, strict=True)) < 60


def test_no_part_of_a_task_shares_anything_with_another(real_data: Path) -> None:
    for name, parts in tasks(real_data).items():
        keys = [{row.get("cluster") or row["id"] for row in part} for part in parts]
        if name == "woz":  # dialogues of the two files are numbered apart
            keys = [{row["id"].rsplit("-", 1)[0] for row in part} for part in parts]
        assert all(parts)
        assert len(set.union(*keys)) == sum(map(len, keys)), name


def test_no_answer_is_right_half_the_time(real_data: Path) -> None:
    for name, parts in tasks(real_data).items():
        for part in parts:
            often = Counter(row["completion"] for row in part).most_common(1)[0][1]
            assert 2 * often < len(part), name


def test_lamol_writes_the_same_bytes_each_time(real_data: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        prepare.lamol(real_data, tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 18
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    row = json.loads((tmp_path / "a/data/wikisql.jsonl").read_text().splitlines()[0])
    assert row["completion"].split()[1] == "where"
