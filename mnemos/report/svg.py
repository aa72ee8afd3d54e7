"""matplotlib figures as SVG that lives inside a page: real text, the page's colours, no stray ids.

Colours are drawn in their light value and leave as `var(--name, #light)`, so a figure follows the
page into dark mode and print, and still stands alone as a file. Text stays text in the page's own
font. The same figure gives the same bytes: ids are salted, there is no date.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from mnemos.report.words import typeset

PALETTE: dict[str, tuple[str, str]] = {
    # name: (on light paper, on dark paper)
    "paper": ("#fcfbf8", "#14171a"),
    "panel": ("#fffefd", "#1b1f23"),
    "ink": ("#1c1d1f", "#ecebe6"),
    "muted": ("#625f59", "#a5a39c"),
    "rule": ("#dedad1", "#33383d"),
    "band": ("#efece4", "#242a2f"),
    "gained": ("#0a6c80", "#58c4d8"),
    "lost": ("#b3301a", "#ff8c73"),
    "kept": ("#4d5a66", "#aab6c1"),
    "unclear": ("#8a5d00", "#e3b34f"),
    "arm-0": ("#b8331d", "#ff8a71"),
    "arm-1": ("#1d6eb5", "#6fb4f4"),
    "arm-2": ("#2b8649", "#69cd8c"),
    "arm-3": ("#8448b0", "#c99df2"),
    "arm-4": ("#a06f00", "#e8bf52"),
    "arm-5": ("#0c8587", "#5ed2d4"),
    "arm-6": ("#ad3779", "#f48ec5"),
    "arm-7": ("#5b5f67", "#b9bdc5"),
}
LIGHT = {name: pair[0] for name, pair in PALETTE.items()}
WIDE, NARROW = 860, 340
"""Pixels across of the two drawings of a figure."""

SHAPES = ("X", "o", "s", "^", "D", "v", "P", "p", "h", "<", ">")
"""Markers by arm; with eight colours no two of the first 88 arms look alike."""

VERDICT_SHAPES = {"gained": "^", "lost": "v", "kept": "s", "unclear": "D"}
_VARIABLES = {light: f"var(--{name}, {light})" for name, (light, _) in PALETTE.items()}
_SETTINGS = {"svg.fonttype": "none", "font.family": "DejaVu Sans", "path.simplify": False, "axes.unicode_minus": True}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


def arm_colour(place: int) -> str:
    """The palette name of the arm at this place."""
    return f"arm-{place % 8}"


def arm_shape(place: int) -> str:
    """The marker of the arm at this place."""
    return SHAPES[place % len(SHAPES)]


def draw(paint: Callable[[Sheet], None], width: float, height: float, *, name: str, title: str, desc: str) -> str:
    """One figure as an `<svg>` element.

    paint: draws on the sheet. width, height: pixels at full size; one point is
    one pixel. name: prefix of every id inside, unique in the page. title, desc: read aloud in
    place of the picture. An artist with gid "mark-…" comes out with the attribute data-mark.
    """
    with warnings.catch_warnings(), matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's own style sheet must not change the bytes
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        # Names in other scripts are measured with DejaVu's empty box but shown in the page's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # matplotlib counts in inches and points of 1/72 inch: at 72 dots an inch one point is one pixel.
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        paint(Sheet(figure))
        raw = io.BytesIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(raw, format="svg", transparent=True, metadata=metadata)
    return _finish(raw.getvalue(), width, height, name=name, title=title, desc=desc)


class Sheet:
    """A figure seen as a sheet of paper: pixels from the top left, colours by palette name."""

    def __init__(self, figure: Figure) -> None:
        width, height = (72 * inches for inches in figure.get_size_inches())
        self.ax: Any = figure.add_axes((0, 0, 1, 1))
        self.ax.set_xlim(0, width)
        # Turned round: y grows downwards, as on a page.
        self.ax.set_ylim(height, 0)
        self.ax.set_axis_off()

    def write(self, x: float, y: float, text: str, *, size: float = 12, colour: str = "ink", **settings: Any) -> None:
        """Text with its base line at y, never read as mathematics whatever dollars it holds."""
        settings.setdefault("va", "baseline")
        self.ax.text(x, y, text, parse_math=False, size=size, color=LIGHT.get(colour, colour), **settings)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], *, colour: str = "rule", width: float = 1, **more: Any
    ) -> None:
        """A polyline."""
        self.ax.plot(xs, ys, color=LIGHT.get(colour, colour), linewidth=width, clip_on=False, **more)

    def box(self, x: float, y: float, width: float, height: float, *, fill: str, **more: Any) -> None:
        """A rectangle, top left corner at (x, y), without an outline unless asked for."""
        more.setdefault("linewidth", 0)
        self.ax.add_patch(Rectangle((x, y), width, height, facecolor=LIGHT.get(fill, fill), clip_on=False, **more))

    def mark(
        self, x: float, y: float, shape: str, *, colour: str, edge: str = "paper", gid: str = "", **more: Any
    ) -> None:
        """One marker. edge: colour of its outline. gid: see `draw`. more: size (8), zorder (4), …"""
        settings = {"markeredgewidth": 1, "zorder": 4, "markersize": more.pop("size", 8), **more}
        settings["markerfacecolor"] = LIGHT.get(colour, colour)
        settings["markeredgecolor"] = LIGHT.get(edge, edge)
        self.ax.plot([x], [y], shape, clip_on=False, gid=gid or None, **settings)


@dataclass(frozen=True)
class Scale:
    """Data to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        # Of an upward axis `start` is the larger pixel, since pixels count downwards.
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the scale, zero among them if it is."""
        found = MaxNLocator(nbins=about, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        # tick_values gives one beyond either end, and rounding may put 0.1 + 0.2 beside 0.3.
        slack = 1e-9 * (self.high - self.low)
        return [0.0 if abs(t) < slack else float(t) for t in found if self.low - slack <= t <= self.high + slack]

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, margin: float = 0.05) -> Scale:
        """A scale over values with a margin on both sides; never empty."""
        known = list(values) or [0.0]
        low, high = min(known), max(known)
        pad = margin * (high - low) or max(abs(high), 1.0) * 0.5
        return cls(low - pad, high + pad, start, end)


def tick_text(value: float) -> str:
    """A tick's label: no more digits than it has, a true minus sign."""
    return typeset(f"{value:.6g}")


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = 12, weight: str = "normal") -> float:
    """Pixels that a text takes in DejaVu Sans, wider than the fonts a page is likely to use; a
    character that the font lacks counts as a full square."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    narrow = "".join(char for char in text if ord(char) < 0x2E80)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        width: float = text_to_path.get_text_width_height_descent(narrow, font, ismath=False)[0] if narrow else 0.0
    return width + size * (len(text) - len(narrow))


def fit(text: str, width: float, size: float = 12, weight: str = "normal") -> str:
    """The text, or as much of its start and end as fits with an ellipsis between."""
    if text_width(text, size, weight) <= width:
        return text
    for keep in range(min(len(text) - 1, 80), 1, -1):
        # Two thirds from the start, one from the end, where names of arms often differ.
        head = (keep * 2 + 2) // 3
        short = f"{text[:head].rstrip()}\u2026{text[len(text) - (keep - head) :].lstrip()}"
        if text_width(short, size, weight) <= width:
            return short
    return "\u2026"


def _finish(raw: bytes, width: float, height: float, *, name: str, title: str, desc: str) -> str:
    root = ET.fromstring(raw)
    for style in root.iter(f"{_SVG}defs"):
        for child in list(style):
            if child.tag == f"{_SVG}style":  # it would reach the whole page
                style.remove(child)
    used = {match for node in root.iter() for match in _references(node)}
    for node in root.iter():
        _tidy(node, name, used)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}defs" and not len(child):
                parent.remove(child)
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "style": "stroke-linejoin: round; font-family: var(--sans, system-ui, sans-serif)",
        }
    )
    for place, (tag, text) in enumerate((("title", title), ("desc", desc))):
        node = ET.Element(f"{_SVG}{tag}", {"id": f"{name}-{tag}"})
        node.text = text
        root.insert(place, node)
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    return ET.tostring(root, encoding="unicode")


def _references(node: ET.Element) -> list[str]:
    return [match for text in node.attrib.values() for match in re.findall(r"(?:^#|url\(#)([\w.-]+)", text)]


def _tidy(node: ET.Element, name: str, used: set[str]) -> None:
    """Page-safe attributes: prefixed ids, plain href, palette variables, short numbers, no fonts."""
    found = node.attrib.pop("id", None)
    if found and found.startswith("mark-"):
        node.set("data-mark", found.removeprefix("mark-"))
    elif found in used:
        node.set("id", f"{name}-{found}")
    if _HREF in node.attrib:
        node.set("href", f"#{name}-{node.attrib.pop(_HREF)[1:]}")
    if "clip-path" in node.attrib:
        node.set("clip-path", node.attrib["clip-path"].replace("url(#", f"url(#{name}-"))
    if "d" in node.attrib:
        node.set("d", re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", " ".join(node.attrib["d"].split())))
    for key in ("x", "y", "transform"):
        if key in node.attrib:
            node.set(key, re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", node.attrib[key]))
    if node.attrib.get("transform", "").startswith("rotate(-0 "):
        del node.attrib["transform"]
    if "style" in node.attrib:
        style = re.sub(r"\s*font-family:[^;]*;?", "", node.attrib["style"])
        node.set("style", re.sub(r"#[0-9a-f]{6}", lambda match: _VARIABLES.get(match[0], match[0]), style))


@dataclass(frozen=True)
class Drawing:
    """The same figure at WIDE and NARROW pixels. A figure that is merely scaled down is unreadable on a phone, so it
    is drawn twice and the page shows the one that fits; one that is small anyway has no narrow drawing."""

    wide: str
    narrow: str

    def __bool__(self) -> bool:
        return bool(self.wide)


def both(make: Callable[..., str], name: str) -> Drawing:
    """make: takes the keywords width (pixels) and name (prefix of ids)."""
    return Drawing(make(width=WIDE, name=f"{name}-wide"), make(width=NARROW, name=f"{name}-narrow"))
