from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache
from html import unescape

import pytest

from mnemos.report import plots
from mnemos.report.facts import Facts
from mnemos.report.plot_curve import replay_shares
from mnemos.report.plot_forest import panels
from mnemos.report.plot_losses import LONGEST_CURVE, stretched
from mnemos.report.plot_plane import Mean, frontier
from mnemos.report.reading import read
from mnemos.report.sections import present
from mnemos.report.svg import PALETTE, Drawing, fit, text_width
from tests.report import synthetic

SVG = "{http://www.w3.org/2000/svg}"


def marks(svg: str) -> list[str]:
    return [node.attrib["data-mark"] for node in ET.fromstring(svg).iter() if "data-mark" in node.attrib]


@cache
def drawings(kind: str) -> list[str]:
    facts = read(synthetic.ALL[kind]())
    found = [plots.learning_forgetting(facts), *plots.deltas(facts, "new", "old"), *plots.deltas(facts, "health")]
    found += drawn(facts)
    return [svg for drawing in found for svg in (drawing.wide, drawing.narrow) if svg]


def drawn(facts: Facts) -> list[Drawing]:
    """The drawings of every section."""
    figures = [figure for section, record in present(facts) for figure in section.figures(facts, record)]
    return [figure.drawing for figure in figures]


@pytest.mark.parametrize("kind", synthetic.ALL)
def test_svg_is_safe_inside_a_page(kind: str) -> None:
    ids: list[str] = []
    for svg in drawings(kind):
        root = ET.fromstring(svg)
        tags = {node.tag.removeprefix(SVG) for node in root.iter()}
        assert not tags & {"script", "style", "image", "foreignObject", "metadata", "a"}
        title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None
        assert title.text
        assert desc is not None
        assert root.attrib["aria-labelledby"] == f"{title.attrib['id']} {desc.attrib['id']}"
        own = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        ids += own
        for node in root.iter():
            for value in node.attrib.values():
                for target in re.findall(r"(?:^#|url\(#)([\w.-]+)", value):
                    assert target in own
                assert "http" not in value
        colours = set(re.findall(r"(?<!, )#[0-9a-f]{6}", " ".join(v for n in root.iter() for v in n.attrib.values())))
        assert colours <= {"#000000"}, "a colour outside the palette does not follow dark mode"
    assert len(ids) == len(set(ids))


def test_plane_has_one_mark_per_arm_and_seed() -> None:
    drawing = plots.learning_forgetting(read(synthetic.study()))
    arms, seeds = list(synthetic.ARMS), (0, 1, 2)
    for svg in (drawing.wide, drawing.narrow):
        found = marks(svg)
        assert sorted(m for m in found if m.startswith("run ")) == sorted(
            f"run {a}: seed {s}" for a in arms for s in seeds
        )
        assert sorted(m for m in found if m.startswith("mean ")) == sorted(f"mean {arm}" for arm in arms)
        assert ">before<" in svg


def test_forest_has_one_mark_per_comparison() -> None:
    facts = read(synthetic.study())
    found = [m for d in plots.deltas(facts, "new", "old", "health") for m in marks(d.wide)]
    assert sorted(found) == sorted(f"change {c.arm}: {c.suite}" for c in facts.changes)


TEXT = re.compile(
    r'<text style="(?:font-weight: (\d+); )?font-size: ([\d.]+)px; text-anchor: (\w+);[^"]*"'
    r' x="([-\d.]+)" y="([-\d.]+)">([^<]*)</text>'
)


def written(svg: str) -> list[tuple[float, float, float, str]]:
    """(left, right, y, text) of every text."""
    found = []
    for weight, size, anchor, x, y, text in TEXT.findall(svg):
        wide = text_width(unescape(text), float(size), "bold" if weight else "normal")
        left = float(x) - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        found.append((left, left + wide, float(y), text))
    return found


@pytest.mark.parametrize("names", [("refusals", "plain"), ("s", "a")])
def test_no_text_of_the_forest_stands_on_another(names: tuple[str, str]) -> None:
    """The title of a panel may be longer than every name in it."""
    results = synthetic.study()
    keep = [{**row, "suite": names[0], "arm": names[1]} for row in results["comparisons"] if row["role"] == "old"][:1]
    drawing = plots.deltas(read({**results, "comparisons": keep}), "old")[0]
    for svg in (drawing.wide, drawing.narrow):
        texts = written(svg)
        assert len(texts) > 8
        for place, (left, right, y, text) in enumerate(texts):
            for other_left, other_right, other_y, other in texts[place + 1 :]:
                assert abs(y - other_y) > 4 or right <= other_left or other_right <= left, (text, other)


def test_a_missing_change_is_said_not_drawn() -> None:
    found = plots.deltas(read(synthetic.ugly()), "old")
    assert not any("json-answers" in mark for d in found for mark in marks(d.wide))
    assert "240 missing" in found[0].wide


def test_names_are_text_not_paths_or_mathematics() -> None:
    svg = plots.learning_forgetting(read(synthetic.study())).wide
    text = {node.text for node in ET.fromstring(svg).iter(f"{SVG}text")}
    assert {"plain", "replay", "before", "points forgotten, mean over the old suites"} <= text
    assert any("$x$" in (node.text or "") for d in drawings("ugly") for node in ET.fromstring(d).iter(f"{SVG}text"))


def test_matrix_prints_every_cell_and_frames_the_diagonal() -> None:
    facts = read(synthetic.sequence())
    text = [node.text for node in ET.fromstring(drawn(facts)[0].wide).iter(f"{SVG}text")]
    for row in (facts.grids[0].before, *facts.grids[0].rows, facts.grids[0].joint or ()):
        for cell in row:
            assert f"{cell:.1f}" in text


@pytest.mark.parametrize("kind", ["compare"])
def test_no_plane_for_one_model(kind: str) -> None:
    facts = read(synthetic.ALL[kind]())
    assert not plots.learning_forgetting(facts)
    assert drawn(facts) == []


def test_nothing_gives_nothing() -> None:
    facts = read({"comparisons": []})
    assert plots.deltas(facts, "old") == []
    assert not plots.learning_forgetting(facts)


def test_frontier_is_pareto() -> None:
    points = [
        Mean(0, 0.0, 50.0, 1),
        Mean(1, 5.0, 40.0, 1),
        Mean(2, 5.0, 90.0, 1),
        Mean(3, 9.0, 90.0, 1),
        Mean(4, -1.0, 1.0, 1),
    ]
    assert [mean.arm for mean in frontier(points)] == [4, 0, 2]
    for mean in points:
        beaten = any(
            o.forgetting <= mean.forgetting and o.learning >= mean.learning and o.arm != mean.arm for o in points
        )
        assert (mean in frontier(points)) != beaten


def test_replay_shares_group_by_the_other_methods() -> None:
    groups = replay_shares(read(synthetic.study()))
    assert len(groups) == 1
    assert groups[0].also == ""
    assert [share for share, _ in groups[0].arms] == [0.0, 0.01, 0.1]
    assert [list(synthetic.ARMS)[arm] for _, arm in groups[0].arms] == ["plain", "replay-1pc", "replay"]
    results = synthetic.study(arms=("plain", "replay", "lora+replay"))
    assert replay_shares(read(results)) == []


def test_among_many_arms_a_suite_is_sorted_by_its_change() -> None:
    few = panels(read(synthetic.study()), ["old"])[0].suites[0]
    assert [change.arm for change in few] == list(synthetic.ARMS)
    names = tuple(f"arm-{n}" for n in range(14))
    rates = {name: {"biographies": 0.1 + 0.05 * ((5 * n) % 14)} for n, name in enumerate(names)}
    (suite, *_) = panels(read(synthetic.study((0,), names, more=rates)), ["old"])[0].suites
    gains = [change.gain for change in suite]
    assert gains == sorted(gains, reverse=True)
    assert {change.arm for change in suite} == set(names)


def test_loss_curves_are_thinned_and_stages_joined() -> None:
    curve = stretched([(float(i), 1.0) for i in range(1000)])
    assert len(curve) <= LONGEST_CURVE
    joined = stretched([(1, 3.0), (2, 2.0), (1, 1.5), (2, 1.0)])
    assert [step for step, _ in joined] == [1, 2, 3, 4]


def test_long_names_keep_both_ends() -> None:
    name = "a-very-long-name-of-an-arm-that-ends-in-0.1"
    short = fit(name, 120)
    assert text_width(short) <= 120
    assert short[0] == "a"
    assert short.endswith("1")
    assert "\u2026" in short
    assert fit("short", 120) == "short"


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1])
def test_text_colours_can_be_read(side: int) -> None:
    for name in ("ink", "muted", "gained", "lost", "kept", "unclear"):
        assert contrast(PALETTE[name][side], PALETTE["paper"][side]) >= 4.5, name
    for name in PALETTE:
        if name.startswith("arm-"):
            assert contrast(PALETTE[name][side], PALETTE["panel"][side]) >= 3, name
