"""Published findings and whether they hold here: verdicts computed from the intervals of a study.

    python -m mnemos.recipes.findings --results docs/results/catalogue.json --out docs/findings.md

A finding (findings.yaml) is an ordering that a paper reports, with the two arms and the measure that
test it. Of the arm's difference to the other one, with its 95 % interval:

expect        HOLDS                      DOES NOT HOLD
lower         all of it below 0          all of it above 0, or inside the margin
higher        all of it above 0          all of it below 0, or inside the margin
same          inside the margin          outside the margin
not_lower     all of it above -margin    all of it below -margin
not_higher    all of it below +margin    all of it above +margin

Anything else is CANNOT TELL. A finding is about ways of training, so that arms of a single run are not tested. A
finding with several tests holds when all do and does not when one does not. Without its arms or suites in the
results it is not tested, nor where the ordering is empty (`substance`): who learned nothing forgets less than all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mnemos.core.errors import DataError, UsageError
from mnemos.core.files import read_json, write_text
from mnemos.core.method import validated
from mnemos.core.settings import Settings
from mnemos.core.yaml_text import read_yaml
from mnemos.recipes.pages import wrapped
from mnemos.recipes.reproductions.registry import load_reproductions, study_name
from mnemos.recipes.substance import BEFORE, JOINT, why_empty
from mnemos.report.markdown import escape, table
from mnemos.report.words import figure, interval

HERE = Path(__file__).parent
REGISTRY = HERE / "findings.yaml"
HOLDS, DOES_NOT, CANNOT_TELL, NOT_TESTED = "HOLDS", "DOES NOT HOLD", "CANNOT TELL", "not tested yet"
MEANS = ("learned", "forgotten")
REWARD = "reward"


class Ordering(Settings):
    """One ordering to test."""

    arm: str
    """The arm that the expectation is about; * matches several, and then each must fit."""
    than: str
    """The other arm, `before`, or `joint`: of a sequence, the model taught all tasks at once (measure: learned)."""
    measure: str
    """learned, forgotten, a suite's name (* as above), or reward: of a study that measures along its training, the
    last stretch's reward minus the first's (than: before)."""
    expect: Literal["lower", "higher", "same", "not_lower", "not_higher"]
    """How the arm should stand to the other."""
    margin: float = Field(1.0, gt=0)
    """The difference that counts as none, in points or the suite's unit."""


class Finding(Settings):
    """What a paper found."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    """Its name here."""
    paper: str
    """Where it was found."""
    methods: list[str]
    """The methods that it is about."""
    statement: str
    """One sentence."""
    numbers: str
    """The paper's own."""
    study: str = "catalogue"
    """The name of the study whose results test it."""
    patient: str | None = None
    """Of a finding tested on a real model: the id of the same finding as a patient of the package tests it."""
    tests: list[Ordering] = Field(min_length=1)
    """All must hold."""
    tried: str = ""
    """Where it does not hold here, or holds in another way than the paper's: what was tried, and what that says."""


@dataclass(frozen=True)
class Difference:
    """One test's numbers, in points or the suite's unit, and its verdict. empty: why it says nothing, if so."""

    what: str
    unit: str
    mean: float
    low: float | None
    high: float | None
    verdict: str
    empty: str = ""


@dataclass(frozen=True)
class Outcome:
    """A finding's verdict, the differences behind it, and why it or some of its arms were not tested, if so."""

    finding: Finding
    verdict: str
    differences: tuple[Difference, ...]
    reason: str = ""


def load_findings(path: Path = REGISTRY) -> list[Finding]:
    """The registry. Raises UsageError for a key that no finding has, DataError for an id used twice."""
    rows = read_yaml(path)
    found = [
        _finding({**row, "tests": [validated(Ordering, t, where=f"{row.get('id')}.tests") for t in row["tests"]]})
        for row in rows
    ]
    ids = [finding.id for finding in found]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice:
        raise DataError(f"{path.name}: {twice}", "is used twice", "rename one")
    stray = next((finding for finding in found if finding.patient and finding.patient not in ids), None)
    if stray is not None:
        raise DataError(f"{path.name}: {stray.id}: patient = {stray.patient}", "is no finding", "name the id of one")
    return found


def _finding(row: Mapping[str, Any]) -> Finding:
    made: Finding = validated(Finding, row, where=f"finding {row.get('id')}")
    return made


def judge(test: Ordering, low: float | None, high: float | None) -> str:
    """The verdict of one interval, by the table above."""
    if low is None or high is None:
        return CANNOT_TELL
    m = test.margin
    inside = -m <= low and high <= m
    holds, fails = {
        "lower": (high < 0, low > 0 or inside),
        "higher": (low > 0, high < 0 or inside),
        "same": (inside, low > m or high < -m),
        "not_lower": (low > -m, high < -m),
        "not_higher": (high < m, low > m),
    }[test.expect]
    return HOLDS if holds else DOES_NOT if fails else CANNOT_TELL


def above_zero(low: float | None, high: float | None) -> str:
    """The verdict on a difference that should be above 0, where none is small enough to count as none."""
    if low is None or high is None:
        return CANNOT_TELL
    return HOLDS if low > 0 else DOES_NOT if high < 0 else CANNOT_TELL


def outcome(finding: Finding, results: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """Test one finding. results: study name -> the content of its results.json."""
    if finding.study not in results:
        return Outcome(finding, NOT_TESTED, (), f"no results of the study {finding.study}")
    study = results[finding.study]
    made: list[Difference] = []
    empty: list[str] = []
    idle: list[str] = []
    for test in finding.tests:
        found = differences(test, study)
        if isinstance(found, str):
            return Outcome(finding, NOT_TESTED, tuple(made), found)
        informative = [one for one in found if not one.empty]
        made += informative
        # Of several arms that a name stands for, those that did nothing are left out.
        (idle if informative else empty).extend(one.empty for one in found if one.empty)
    verdicts = {difference.verdict for difference in made}
    if DOES_NOT not in verdicts and empty:
        # It was walked, and the arms cannot decide it: where nothing was learned there is nothing to compare.
        return Outcome(finding, CANNOT_TELL, tuple(made), empty[0])
    verdict = DOES_NOT if DOES_NOT in verdicts else CANNOT_TELL if CANNOT_TELL in verdicts else HOLDS
    return Outcome(finding, verdict, tuple(made), "; ".join(f"left out: {why}" for why in dict.fromkeys(idle)))


def differences(test: Ordering, results: Mapping[str, Any]) -> list[Difference] | str:
    """Every difference that the test is about, or the reason why there is none."""
    arms = [str(entry["arm"]) for entry in results.get("arms") or ()]
    chosen = [arm for arm in arms if fnmatchcase(arm, test.arm)]
    if not chosen:
        return f"no arm {test.arm}"
    if test.than not in (BEFORE, JOINT, *arms):
        return f"no arm {test.than}"
    others = () if test.than in (BEFORE, JOINT) else (test.than,)
    single = next((arm for arm in (*chosen, *others) if trained_once(results, arm)), None)
    if single is not None:
        return f"one seed of {single}: it tells about that checkpoint, not about this way of training"
    idle = next((arm for arm in (*chosen, test.than) if accepted_nothing(results, arm)), None)
    if idle is not None:
        return f"no answer of the model's own was accepted in {idle}, so it learned gold like plain training"
    suites = {str(row["suite"]): str(row["unit"]) for row in results.get("comparisons") or ()}
    # A contrast between arms may be of more than suites.
    suites |= dict.fromkeys(((results.get("contrasts") or {}).get("suites") or {}).keys() - suites.keys(), "points")
    measures = (
        [test.measure]
        if test.measure in (*MEANS, REWARD)
        else [name for name in suites if fnmatchcase(name, test.measure)]
    )
    if not measures:
        return f"no suite {test.measure}"
    out = []
    for arm in chosen:
        for measure in measures:
            found = _to_before(results, arm, measure) if test.than == BEFORE else None
            if test.than == JOINT and measure == "learned":
                found = _to_joint(results, arm)
            found = found or _between(results, arm, test.than, measure)
            if found is None:
                return f"{measure} of {arm} beside {test.than} was not measured"
            unit = suites.get(measure, "points")
            mean, low, high = (None if x is None else x * (100.0 if unit == "points" else 1.0) for x in found)
            if mean is None:
                return f"{measure} of {arm} is missing"
            what = f"{measure}: {arm} - {test.than}" if measure != REWARD else f"reward of {arm}: last - first stretch"
            empty = why_empty(results, arm, test.than, measure, test.expect, low, high)
            if unit == "points":
                low, high = None if low is None else max(-100.0, low), None if high is None else min(100.0, high)
            out.append(Difference(what, unit, mean, low, high, judge(test, low, high), empty))
    return out


def trained_once(results: Mapping[str, Any], arm: str) -> bool:
    """Whether an arm has a single run."""
    runs = [len(entry.get("runs") or ()) for entry in results.get("arms") or () if entry["arm"] == arm]
    return bool(runs) and max(runs) < 2


def accepted_nothing(results: Mapping[str, Any], arm: str) -> bool:
    """Whether an arm was to learn answers of the model's own and not one passed: then it shows nothing
    about such answers."""
    runs = [run for entry in results.get("arms") or () if entry["arm"] == arm for run in entry.get("runs") or ()]
    notes = [written.get("notes") or {} for run in runs for written in run.get("written") or ()]
    rates = [note["acceptance rate"] for note in notes if note.get("acceptance rate") is not None]
    return bool(rates) and max(rates) == 0


Numbers = tuple[float | None, float | None, float | None]


def _to_before(results: Mapping[str, Any], arm: str, measure: str) -> Numbers | None:
    if measure in MEANS:
        points = (results.get("frontier") or {}).get("points") or ()
        entry = next((point[measure] for point in points if point["arm"] == arm), None)
        return None if entry is None else (entry["mean"], entry["low"], entry["high"])
    if measure == REWARD:
        curves = (results.get("trajectory") or {}).get("arms") or ()
        rise = next((curve.get("rise") for curve in curves if curve["arm"] == arm), None)
        return None if rise is None else (rise["mean"], rise["low"], rise["high"])
    rows = results.get("comparisons") or ()
    row = next((row for row in rows if row["arm"] == arm and row["suite"] == measure), None)
    return None if row is None else (row["delta"], row["low"], row["high"])


def _to_joint(results: Mapping[str, Any], arm: str) -> Numbers | None:
    metrics = (((results.get("matrix") or {}).get("arms") or {}).get(arm) or {}).get("metrics") or {}
    gap = metrics.get("gap_to_joint") or {}
    mean, low, high = gap.get("mean"), gap.get("low"), gap.get("high")
    if mean is None or low is None or high is None:
        return None
    return -mean, -high, -low


def _between(results: Mapping[str, Any], arm: str, than: str, measure: str) -> Numbers | None:
    contrasts = results.get("contrasts") or {}
    names = list(contrasts.get("arms") or ())
    if arm not in names or than not in names:
        return None
    rows = contrasts.get(measure) if measure in MEANS else (contrasts.get("suites") or {}).get(measure)
    a, b = names.index(arm), names.index(than)
    for first, second, mean, low, high in rows or ():
        if (first, second) == (a, b):
            return mean, low, high
        if (first, second) == (b, a):
            return tuple(None if x is None else -x for x in (mean, high, low))  # type: ignore[return-value]
    return None


def read_results(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    """Study name -> results.json. Raises UsageError for a file that is absent or of no study."""
    out: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path}", "does not exist", "give a results.json")
        results = read_json(path)
        if not isinstance(results, Mapping) or "study" not in results:
            raise UsageError(f"{path}", "is not the content of a results.json", "give the file that `mnemos run` wrote")
        out[str(results["study"])] = results
    return out


def page(outcomes: Sequence[Outcome], results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/findings.md."""
    count = {verdict: sum(o.verdict == verdict for o in outcomes) for verdict in (HOLDS, DOES_NOT, CANNOT_TELL)}
    tested = sum(count.values())
    text = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    head = ("finding", "the paper", "here: difference [95 %]", "verdict")
    blocks = [
        "# Findings",
        "Published orderings, tested again in small. Written by `python -m mnemos.recipes.findings`: no verdict is "
        "typed by hand. Each is an ordering of two arms of one study, paired by item and seed; points are hundredths "
        "of a suite's scale. It DOES NOT HOLD where the opposite is proven, or where any difference is proven to be "
        "smaller than the margin; CANNOT TELL also where an arm is not shown to have learned anything, or the other "
        "to have lost anything, so that there is nothing to compare. On a model of a few million parameters a finding "
        "that does not hold says where it ends, not that the paper is wrong.",
        f"{tested} of {len(outcomes)} tested: {text}." if tested else f"None of {len(outcomes)} is tested yet.",
    ]
    pairs = side_by_side(outcomes)
    if pairs:
        blocks += [
            "## A patient and a real model, side by side",
            "The same published ordering on a patient of the package (1.3 million parameters) and on a real chat model "
            "of half a billion. Differences and papers are in the tables below.",
            table(("finding", "patient", "real model"), pairs),
        ]
    for title, studies in _sections(outcomes):
        rows = [_row(one) for one in outcomes if one.finding.study in studies]
        blocks += [f"## {title}", table(head, rows), *_tried(one for one in outcomes if one.finding.study in studies)]
        blocks += [_stands_on(name, results[name]) for name in studies if name in results]
    return wrapped("\n\n".join(blocks) + "\n")


def side_by_side(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Rows of (finding, the patient's verdict, the real model's) for each finding that was tested on both kinds."""
    by_id = {one.finding.id: one for one in outcomes}
    return [
        [f"{escape(one.finding.id)}: {escape(one.finding.statement)}", *(_verdict(by_id[patient]), _verdict(one))]
        for one in outcomes
        if (patient := one.finding.patient) in by_id
    ]


def _tried(outcomes: Iterable[Outcome]) -> list[str]:
    """One list of what was tried, if any of these was tested and has such words."""
    explained = [one.finding for one in outcomes if one.finding.tried and one.verdict != NOT_TESTED]
    return ["\n".join(f"- {escape(finding.id)}: {finding.tried}" for finding in explained)] if explained else []


def _verdict(one: Outcome) -> str:
    return one.verdict if one.verdict == NOT_TESTED else f"**{one.verdict}**"


def _sections(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    """(title, studies) of each reproduction, the catalogue first, of those that the outcomes are about."""
    about = dict.fromkeys(one.finding.study for one in outcomes)
    reproductions = [
        (
            f"{escape(reproduction.title)} (`mnemos reproduce {reproduction.name}`)",
            [study_name(part) for part in reproduction.parts],
        )
        for reproduction in load_reproductions()
    ]
    known = {name for _, studies in reproductions for name in studies}
    others = [
        (
            "The catalogue as one study (`mnemos run mnemos:catalogue.yaml`)" if name == "catalogue" else escape(name),
            [name],
        )
        for name in about
        if name not in known
    ]
    return [(title, studies) for title, studies in (*others, *reproductions) if about.keys() & set(studies)]


def _row(one: Outcome) -> list[str]:
    return [
        f"**{escape(one.finding.id)}**: {escape(one.finding.statement)}",
        f"{paper_link(one.finding.paper)}: {escape(one.finding.numbers)}",
        "<br>".join([*(escape(difference_words(d)) for d in one.differences), *filter(None, [escape(one.reason)])]),
        _verdict(one),
    ]


def difference_words(difference: Difference) -> str:
    """ "forgotten: token_mask - plain = -31.2 points [-35.0, -27.4]"."""
    around = interval(difference.low, difference.high, difference.unit, sign=True)
    size = figure(difference.mean, difference.unit, sign=True)
    return f"{difference.what} = {size} {difference.unit} {around}".rstrip()


def paper_link(paper: str) -> str:
    """arXiv:… as a link; anything else as it is."""
    return f"[{paper}](https://arxiv.org/abs/{paper[6:]})" if paper.startswith("arXiv:") else escape(paper)


def _stands_on(name: str, results: Mapping[str, Any]) -> str:
    manifest = results.get("manifest") or {}
    model, seeds = manifest.get("model") or {}, manifest.get("seeds") or ()
    return (
        f"Study {escape(name)}: {len(results.get('arms') or ())} arms, seeds {escape(', '.join(map(str, seeds)))}, "
        f"model {escape(Path(str(model.get('path', 'unknown'))).name)} ({escape(model.get('fingerprint', ''))}), "
        f"manifest {escape(manifest.get('fingerprint', ''))}, {escape(results.get('created', ''))}."
        + (" One seed: the intervals cover items, not the chance of training." if len(seeds) == 1 else "")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the page."""
    parser = argparse.ArgumentParser(prog="python -m mnemos.recipes.findings", description="Test published findings.")
    parser.add_argument("--results", type=Path, action="append", default=[], help="a results.json; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/findings.md"), help="the page (docs/findings.md)")
    given = parser.parse_args(arguments)
    results = read_results(given.results)
    write_text(given.out, page([outcome(finding, results) for finding in load_findings()], results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
