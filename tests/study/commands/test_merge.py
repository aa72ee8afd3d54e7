"""Sweeps, soups and the command line of merging, with real measuring."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mnemos.core.errors import UsageError
from mnemos.study.commands import merge as merging
from mnemos.weights.merge import How
from tests.tiny import save_tiny
from tests.weights.checkpoints import tensors

ROOT = Path(__file__).parents[3]
NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, a and b, and a suite that each of them scores differently on."""
    root = tmp_path_factory.mktemp("merging")
    for seed, name in enumerate(("base", "a", "b")):
        save_tiny(root / name, seed=seed)
    items = [{"id": str(n), "text": f"The river runs past mill {n}."} for n in range(4)]
    (root / "english.yaml").write_text(yaml.safe_dump({"name": "english", "kind": "bits_per_byte", "items": items}))
    return root


def bound(world: Path, text: str, **numbers: float) -> merging.Bound:
    names = [name for name in ("base", "a", "b") if name in merging.names_in(text)]
    return merging.bind(text, [f"{name}={world / name}" for name in names], numbers)


def test_axes() -> None:
    assert merging.axis("rho=0:1.5:0.5") == ("rho", [0, 0.5, 1.0, 1.5])
    assert merging.axis("rho=0:1:0.1")[1] == [round(i / 10, 10) for i in range(11)]
    assert merging.axis("x=1:0:-0.5") == ("x", [1, 0.5, 0])
    for wrong in ("rho", "rho=0:1", "rho=0:1:0", "rho=1:0:0.1", "rho=0:1:1e-9", "rho=a:1:0.1", "rho=0:inf:1"):
        with pytest.raises(UsageError):
            merging.axis(wrong)


def test_names_are_bound_once_and_all(world: Path) -> None:
    pairs = [f"a={world / 'a'}", f"b={world / 'b'}"]
    with pytest.raises(UsageError, match=r"base: does not stand in the expression\n.*did you mean 'bse'"):
        merging.bind("a + bse", [*pairs[:1], f"base={world / 'base'}"], {})
    with pytest.raises(UsageError, match="c: does not stand"):
        merging.bind("a + b", [*pairs, "c=x"], {})
    with pytest.raises(UsageError, match="a: is given twice"):
        merging.bind("a + b", [*pairs, "a=x"], {})
    with pytest.raises(UsageError, match="NAME=DIRECTORY"):
        merging.bind("a + b", ["a"], {})
    with pytest.raises(UsageError, match="is neither a checkpoint nor a number"):
        merging.bind("a + rho*b", pairs, {})
    assert str(merging.bind("a + rho*b", pairs, {"rho": 2}).expression) == "a + 2.0*b"


@pytest.mark.parametrize(
    ("text", "trunk"),
    [
        ("a + b", "a"),
        ("-b + a", "a"),
        ("ties(base, a, b)", "base"),
        ("0.5*slerp(b, a, 0.2)", "b"),
        ("where('x', 0, a)", "a"),
    ],
)
def test_the_trunk_is_what_the_rest_is_added_to(world: Path, text: str, trunk: str) -> None:
    one = bound(world, text)
    assert merging.trunk_of(one.expression, one.places) == trunk


def scores(world: Path, tmp_path: Path, places: dict[str, Path]) -> dict[str, float]:
    judge = merging.Judge([str(world / "english.yaml")], tmp_path / "judge.json")
    return {name: judge.measure(name, name, place)["score"] for name, place in places.items()}


@pytest.mark.parametrize("keep", ["best", "all"])
def test_a_sweep_measures_each_point_and_keeps_the_best(world: Path, tmp_path: Path, keep: Any) -> None:
    out, text = tmp_path / "out", []
    given = bound(world, "base + rho*(a - base)", rho=0.0)
    axes = [merging.axis("rho=0:1:0.5")]
    rows = merging.sweep(given, axes, out, [str(world / "english.yaml")], how=How(), keep=keep, say=text.append)
    assert [row["point"] for row in rows] == [{"rho": 0.0}, {"rho": 0.5}, {"rho": 1.0}]
    alone = scores(world, tmp_path, {"base": world / "base", "a": world / "a"})
    assert rows[0]["score"] == pytest.approx(alone["base"], abs=1e-6)
    assert rows[2]["score"] == pytest.approx(alone["a"], abs=1e-6)
    assert all(row["score"] == -row["suites"]["english"] for row in rows)  # bits: less is better
    best = max(rows, key=lambda row: row["score"])
    kept = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert kept == ([Path(best["path"]).name] if keep == "best" else ["rho=0", "rho=0.5", "rho=1"])
    assert len(text) == 3
    expected = tensors(world / "base")[NAME].lerp(tensors(world / "a")[NAME], best["point"]["rho"])
    torch.testing.assert_close(tensors(Path(best["path"]))[NAME], expected)


def test_a_sweep_continues_without_measuring_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    given = bound(world, "base + rho*(a - base)", rho=0.0)
    suites = [str(world / "english.yaml")]
    whole = merging.sweep(given, [merging.axis("rho=0:1:0.5")], out, suites, how=How(), say=str)
    kept = json.loads((out / merging.SWEEP).read_text())
    first = next(iter(kept["measured"]))
    (out / merging.SWEEP).write_text(json.dumps({**kept, "measured": {first: kept["measured"][first]}}))
    for folder in out.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    import mnemos.measure.ask as ask

    asked, real = [], ask.measure
    monkeypatch.setattr(ask, "measure", lambda *given, **more: asked.append(1) or real(*given, **more))
    assert merging.sweep(given, [merging.axis("rho=0:1:0.5")], out, suites, how=How(), say=str) == whole
    assert len(asked) == 2


@pytest.mark.parametrize("keep", ["best", "all"])
def test_a_sweep_never_gives_the_folder_of_another_expression_back(world: Path, tmp_path: Path, keep: Any) -> None:
    axes, suites = [merging.axis("rho=0.5:1:0.5")], [str(world / "english.yaml")]
    for other in ("a", "b", "a"):
        given = bound(world, f"base + rho*({other} - base)", rho=0.0)
        rows = merging.sweep(given, axes, tmp_path / "out", suites, how=How(), keep=keep, say=str)
        places = [row for row in rows if row["path"]]
        assert len(places) == (1 if keep == "best" else 2)
        for row in places:
            expected = tensors(world / "base")[NAME].lerp(tensors(world / other)[NAME], row["point"]["rho"])
            torch.testing.assert_close(tensors(Path(row["path"]))[NAME], expected)
    # A merge that was killed left a folder without its key.
    (Path(places[0]["path"]) / merging.POINT).unlink()
    (Path(places[0]["path"]) / "model.safetensors").write_bytes(b"half")
    merging.sweep(given, axes, tmp_path / "out", suites, how=How(), keep=keep, say=str)
    assert NAME in tensors(Path(places[0]["path"]))


def test_a_soup_takes_what_does_not_lower_the_score(world: Path, tmp_path: Path) -> None:
    alone = scores(world, tmp_path, {name: world / name for name in ("base", "a", "b")})
    ranked = sorted(alone, key=lambda name: -alone[name])
    judge = merging.Judge([str(world / "english.yaml")], tmp_path / "by-hand.json")
    chosen = ranked[:1]
    level = alone[ranked[0]]
    for name in ranked[1:]:
        text = f"mean({', '.join([*chosen, name])})"
        merging.merge(bound(world, text), tmp_path / name, how=How())
        score = judge.measure(text, text, tmp_path / name)["score"]
        if score >= level:
            chosen, level = [*chosen, name], score
    made = merging.soup(
        bound(world, "soup(base, a, b)"), tmp_path / "out", [str(world / "english.yaml")], how=How(), say=str
    )
    assert made.names == tuple(chosen)
    expected = sum(tensors(world / name)[NAME] for name in chosen) / len(chosen)
    torch.testing.assert_close(tensors(tmp_path / "out")[NAME], expected)
    assert not list(tmp_path.glob(".out*"))
    for wrong in ("a + soup(a, b)", "soup(a, 2*b)"):
        with pytest.raises(UsageError, match="soup"):
            merging.soup_names(merging.parse(wrong))


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mnemos.cli", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_line(world: Path, tmp_path: Path) -> None:
    names = [f"{name}={world / name}" for name in ("base", "a", "b")]
    done = command("merge", "base + rho*(a - base)", *names[:2], "--let", "rho=0.25", "--suites",
                   world / "english.yaml", "--shard-size", "20KB", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0.75*base + 0.25*a" in done.stdout
    assert "english" in done.stdout
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Measured" in card
    assert "english" in card
    torch.testing.assert_close(
        tensors(tmp_path / "out")[NAME], tensors(world / "base")[NAME].lerp(tensors(world / "a")[NAME], 0.25)
    )
    again = command("merge", "base", names[0], "--out", tmp_path / "out")
    assert again.returncode == 1
    assert "is there already" in again.stderr
    done = command("vector", "save", "a - base", *names[:2], "--out", tmp_path / "tau")
    assert done.returncode == 0, done.stderr
    shown = command("vector", "show", "a - base", "tau", "b - base", *names, f"tau={tmp_path / 'tau'}",
                    "--html", tmp_path / "v.html", "--svg", tmp_path / "v.svg")  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    last = shown.stdout.splitlines()[-1].split()
    assert last[0] == "all"
    assert last[1] == last[2]
    assert last[4] == "1.000"
    assert "<svg" in (tmp_path / "v.html").read_text()
    assert (tmp_path / "v.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "a +"], "is not an expression"),
        (["merge", "a + b", "a=mnemos:patients/chat"], "b in 'a + b': is neither"),
        (["merge", "a / b", "a=mnemos:patients/chat", "b=mnemos:patients/base"], "divides by a checkpoint"),
        (["merge", "a", "a=mnemos:patients/chat", "--shard-size", "big"], "must be a size"),
        (["merge", "r*a", "a=mnemos:patients/chat", "--let", "r=x"], "must be NAME=NUMBER"),
        (["merge", "r*a", "a=mnemos:patients/chat", "--sweep", "r=0:1:0.5"], "--suites: is missing"),
        (["merge", "a", "a=mnemos:patients/chat", "--config", "b"], "b: is no checkpoint"),
        (["vector", "show", "a=mnemos:patients/chat"], "names no difference"),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], message: str, tmp_path: Path) -> None:
    more = [] if words[0] == "vector" else ["--out", str(tmp_path / "out")]
    done = command(*words, *more)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
