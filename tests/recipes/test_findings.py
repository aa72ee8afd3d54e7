"""Findings: the registry is sound, and a verdict follows from an interval and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnemos.methods  # noqa: F401  fills the registry
from mnemos.core.errors import DataError, UsageError
from mnemos.core.method import REGISTRY
from mnemos.recipes.findings import (
    CANNOT_TELL,
    DOES_NOT,
    HOLDS,
    NOT_TESTED,
    Finding,
    Ordering,
    Outcome,
    judge,
    load_findings,
    main,
    outcome,
    page,
    read_results,
    side_by_side,
)

EXPECTATIONS = ("lower", "higher", "same", "not_lower", "not_higher")
OPPOSITE = {"lower": "higher", "higher": "lower", "same": "same", "not_lower": "not_higher", "not_higher": "not_lower"}


def ordering(**more: Any) -> Ordering:
    return Ordering(**{"arm": "replay", "than": "plain", "measure": "forgotten", "expect": "lower", **more})


def test_the_registry_is_sound() -> None:
    found = load_findings()
    assert len(found) >= 20
    for finding in found:
        assert finding.statement.endswith(".")
        assert finding.paper.startswith("arXiv:")
        assert finding.numbers
    assert {"token-mask-forgets-less", "lora-learns-less", "replay-keeps", "lamol-beats-ewc"} <= {f.id for f in found}


def test_findings_are_about_registered_methods() -> None:
    """Spelling: a method named here and not registered is close to none that is."""
    import difflib

    named = {method for finding in load_findings() for method in finding.methods} - set(REGISTRY)
    for name in named:
        assert not difflib.get_close_matches(name, REGISTRY, cutoff=0.85), name


@pytest.mark.parametrize(
    ("expect", "low", "high", "verdict"),
    [
        ("lower", -9, -2, HOLDS),
        ("lower", 2, 9, DOES_NOT),
        ("lower", -0.5, 0.5, DOES_NOT),
        ("lower", -9, 2, CANNOT_TELL),
        ("higher", 2, 9, HOLDS),
        ("higher", -0.2, 0.9, DOES_NOT),
        ("same", -0.5, 0.5, HOLDS),
        ("same", 2, 9, DOES_NOT),
        ("same", -0.5, 3, CANNOT_TELL),
        ("not_lower", -0.5, 3, HOLDS),
        ("not_lower", -9, -2, DOES_NOT),
        ("not_lower", -3, 3, CANNOT_TELL),
        ("not_higher", -3, 0.5, HOLDS),
        ("not_higher", 2, 9, DOES_NOT),
        ("lower", None, None, CANNOT_TELL),
    ],
)
def test_verdicts_by_hand(expect: Any, low: float | None, high: float | None, verdict: str) -> None:
    assert judge(ordering(expect=expect), low, high) == verdict


@given(st.floats(-50, 50), st.floats(0, 30), st.sampled_from(EXPECTATIONS))
def test_a_mirrored_interval_has_the_mirrored_verdict(low: float, width: float, expect: Any) -> None:
    mirrored = judge(ordering(expect=OPPOSITE[expect]), -(low + width), -low)
    assert judge(ordering(expect=expect), low, low + width) == mirrored


def results(**more: Any) -> dict[str, Any]:
    rows = [
        {"arm": arm, "suite": suite, "unit": "points", "delta": -0.3, "low": -0.4, "high": -0.2}
        for arm in ("plain", "replay")
        for suite in ("refusals", "repetition:new")
    ]
    return {
        "study": "catalogue",
        "arms": [{"arm": arm, "runs": [{}, {}]} for arm in ("plain", "replay", "freeze-a", "freeze-b")],
        "comparisons": rows,
        "frontier": {"points": [{"arm": "replay", "forgotten": {"mean": 0.02, "low": 0.01, "high": 0.03}}]},
        "contrasts": {
            "arms": ["plain", "replay", "freeze-a", "freeze-b"],
            "suites": {"refusals": [[0, 1, -0.5, -0.6, -0.4], [0, 2, 0.1, 0.05, 0.2], [0, 3, 0.1, -0.05, 0.2]]},
            "forgotten": [[0, 1, 0.4, 0.3, 0.5]],
        },
        **more,
    }


def outcome_of(*tests: Ordering, study: str = "catalogue") -> Any:
    finding = Finding(id="x", paper="p", methods=[], statement="S.", numbers="n", study=study, tests=list(tests))
    return outcome(finding, {"catalogue": results()})


def test_a_contrast_is_read_from_either_side_in_points() -> None:
    found = outcome_of(ordering())
    assert found.verdict == HOLDS
    (difference,) = found.differences
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-40, -50, -30))
    assert outcome_of(ordering(arm="plain", than="replay", expect="higher")).verdict == HOLDS
    assert outcome_of(ordering(arm="plain", than="replay")).verdict == DOES_NOT
    assert outcome_of(ordering(measure="refusals", expect="higher")).verdict == HOLDS


def test_the_model_before_is_an_arm_to_compare_with() -> None:
    assert outcome_of(ordering(than="before", expect="higher")).verdict == HOLDS
    assert outcome_of(ordering(than="before", measure="repetition:*", expect="lower")).verdict == HOLDS


def test_a_reward_is_read_from_the_curve_over_training() -> None:
    test = ordering(than="before", measure="reward", expect="higher")
    finding = Finding(id="x", paper="arXiv:1", methods=[], statement="A.", numbers="1", tests=[test], study="s")
    rise = {"mean": 0.3, "low": 0.1, "high": 0.5}
    results = {"arms": [{"arm": "replay", "runs": [{}, {}]}], "trajectory": {"arms": [{"arm": "replay", "rise": rise}]}}
    found = outcome(finding, {"s": results})
    assert found.verdict == HOLDS
    assert [(d.mean, d.low, d.high) for d in found.differences] == [(30.0, 10.0, 50.0)]
    assert outcome(finding, {"s": {"arms": [{"arm": "replay"}]}}).verdict == NOT_TESTED


def test_the_joint_arm_is_read_from_the_sequences_gap() -> None:
    gap = {"mean": 0.02, "low": 0.01, "high": 0.04}
    sequence = results(matrix={"arms": {"replay": {"metrics": {"gap_to_joint": gap}}}})
    finding = Finding(id="x", paper="p", methods=[], statement="S.", numbers="n", tests=[ordering()])

    def of(**more: Any) -> Any:
        test = ordering(than="joint", measure="learned", **more)
        return outcome(finding.model_copy(update={"tests": [test]}), {"catalogue": sequence})

    found = of(expect="not_lower", margin=5)
    (difference,) = found.differences
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-2, -4, -1))
    assert [of(expect="not_lower", margin=m).verdict for m in (5, 3, 0.5)] == [HOLDS, CANNOT_TELL, DOES_NOT]
    assert of(expect="not_lower", arm="plain").verdict == NOT_TESTED


def test_a_star_means_every_arm_and_all_tests_must_hold() -> None:
    found = outcome_of(ordering(arm="freeze*", measure="refusals", expect="lower"))
    assert [difference.verdict for difference in found.differences] == [HOLDS, CANNOT_TELL]
    assert found.verdict == CANNOT_TELL
    assert outcome_of(ordering(), ordering(expect="higher")).verdict == DOES_NOT


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"arm": "ewc"}, "no arm ewc"),
        ({"than": "ewc"}, "no arm ewc"),
        ({"measure": "biographies"}, "no suite biographies"),
        ({"measure": "learned"}, "was not measured"),
    ],
)
def test_what_is_not_there_is_not_tested(more: dict[str, Any], reason: str) -> None:
    found = outcome_of(ordering(**more))
    assert found.verdict == NOT_TESTED
    assert reason in found.reason
    assert "no results of the study sequence" in outcome_of(ordering(), study="sequence").reason


def test_an_arm_whose_own_answers_were_all_refused_tests_nothing() -> None:
    def judged(*rates: float) -> Any:
        written = [{"notes": {"acceptance rate": rate}} for rate in rates]
        plain = {"arm": "plain", "runs": [{}, {}]}
        study = results(arms=[plain, {"arm": "replay", "runs": [{"written": written}, {}]}])
        finding = Finding(
            id="x", paper="p", methods=[], statement="S.", numbers="n", study="catalogue", tests=[ordering()]
        )
        return outcome(finding, {"catalogue": study})

    assert judged(0.0, 0.0).verdict == NOT_TESTED
    assert "was accepted in replay" in judged(0.0, 0.0).reason
    assert judged(0.0, 0.4).verdict == judged().verdict == HOLDS


def test_a_finding_is_about_training_and_one_seed_is_not() -> None:
    """The same numbers of a single run test nothing, whichever of the two arms it is."""
    finding = Finding(id="x", paper="p", methods=[], statement="S.", numbers="n", tests=[ordering()])
    for runs in ([{}], [{}, {}]), ([{}, {}], [{}]):
        arms = [{"arm": arm, "runs": own} for arm, own in zip(("plain", "replay"), runs, strict=True)]
        found = outcome(finding, {"catalogue": results(arms=arms)})
        assert found.verdict == NOT_TESTED
        assert "about that checkpoint, not about this way of training" in found.reason


def test_no_interval_in_points_passes_what_is_possible() -> None:
    wide = results(contrasts={"arms": ["plain", "replay"], "suites": {}, "forgotten": [[0, 1, 0.9, 0.6, 1.2]]})
    finding = Finding(id="x", paper="p", methods=[], statement="S.", numbers="n", tests=[ordering()])
    (difference,) = outcome(finding, {"catalogue": wide}).differences
    assert (difference.low, difference.high) == (-100.0, pytest.approx(-60.0))


def test_the_page_says_every_verdict_and_every_number(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results()))
    assert main(["--results", str(file), "--out", str(tmp_path / "findings.md")]) == 0
    text = (tmp_path / "findings.md").read_text()
    assert all(finding.id in text for finding in load_findings())
    assert "forgotten: replay - plain = -40.0 points [-50.0, -30.0] | **HOLDS** |" in text
    assert "not tested yet" in text
    assert page([], {}).startswith("# Findings")


def test_the_page_has_a_section_for_each_road_with_findings() -> None:
    found = [outcome(finding, {}) for finding in load_findings()]
    text = page(found, {})
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert [head[:20] for head in heads[:2]] == ["## A patient and a r", "## The catalogue as "]
    assert any("`mnemos reproduce safety`" in head for head in heads)
    assert len(set(heads)) == len(heads)
    assert all(text.count(f"**{one.finding.id}**") == 1 for one in found)


def test_mistakes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "findings.yaml"
    test = "{arm: x, than: y, measure: z, expct: lower}"
    row = f"- {{id: a, paper: p, methods: [], statement: S., numbers: n, tests: [{test}]}}"
    file.write_text(row)
    with pytest.raises(UsageError, match="expect"):
        load_findings(file)
    file.write_text("\n".join([row.replace("expct", "expect")] * 2))
    with pytest.raises(DataError, match="used twice"):
        load_findings(file)
    with pytest.raises(UsageError, match="does not exist"):
        main(["--results", str(tmp_path / "none.json"), "--out", str(tmp_path / "x.md")])


def study(**arms: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """arms: name -> learned, forgotten and refusals as (low, high); contrasts are their differences, exactly."""
    names = list(arms)

    def middle(arm: str, key: str) -> float:
        return sum(arms[arm][key]) / 2

    def contrast(key: str) -> list[list[float]]:
        pairs = [(a, b, middle(names[a], key) - middle(names[b], key)) for a in range(len(names)) for b in range(a)]
        return [[a, b, mean, mean - 0.02, mean + 0.02] for a, b, mean in pairs]

    rows = [
        {
            "arm": arm,
            "suite": suite,
            "role": role,
            "unit": "points",
            "better": "higher",
            "delta": middle(arm, key),
            "low": arms[arm][key][0],
            "high": arms[arm][key][1],
        }
        for arm in names
        for suite, role, key in (("task", "new", "learned"), ("refusals", "old", "refusals"))
    ]
    means = ("learned", "forgotten")
    points = [
        {"arm": a, **{m: {"mean": middle(a, m), "low": arms[a][m][0], "high": arms[a][m][1]} for m in means}}
        for a in arms
    ]
    return {
        "study": "catalogue",
        "arms": [{"arm": arm, "runs": [{}, {}]} for arm in names],
        "comparisons": rows,
        "frontier": {"points": points},
        "contrasts": {
            "arms": names,
            "suites": {"refusals": contrast("refusals"), "task": contrast("learned")},
            "learned": contrast("learned"),
            "forgotten": contrast("forgotten"),
        },
    }


PLAIN = {"learned": (0.4, 0.6), "forgotten": (0.3, 0.5), "refusals": (-0.5, -0.3)}
IDLE = {"learned": (-0.01, 0.01), "forgotten": (-0.01, 0.01), "refusals": (-0.01, 0.01)}
HALF = {"learned": (0.2, 0.3), "forgotten": (0.1, 0.2), "refusals": (-0.2, -0.1)}


def verdict_of(results: dict[str, Any], *tests: Ordering) -> Any:
    finding = Finding(id="x", paper="p", methods=[], statement="S.", numbers="n", tests=list(tests))
    return outcome(finding, {"catalogue": results})


def test_an_arm_that_learned_nothing_shows_no_ordering() -> None:
    of = study(plain=PLAIN, lora=IDLE, half=HALF)

    def verdict(arm: str, measure: str, expect: str, than: str = "plain") -> str:
        return str(verdict_of(of, ordering(arm=arm, than=than, measure=measure, expect=expect)).verdict)

    assert verdict("half", "learned", "lower") == verdict("half", "forgotten", "lower") == HOLDS
    assert verdict("half", "refusals", "higher") == HOLDS
    assert verdict("lora", "learned", "lower") == verdict("lora", "forgotten", "lower") == CANNOT_TELL
    assert verdict("lora", "refusals", "higher") == CANNOT_TELL
    # The same ordering told from the other side is as empty.
    assert verdict("plain", "forgotten", "higher", than="lora") == CANNOT_TELL
    assert verdict("plain", "task", "higher", than="lora") == HOLDS, "to learn more than nothing is to learn"
    # To have learned less than the other is a refutation of "no less", whoever did nothing.
    assert verdict("lora", "learned", "not_lower") == DOES_NOT
    assert verdict("plain", "learned", "not_lower", than="lora") == CANNOT_TELL
    # Beside the untouched model a loss is a loss; nothing lost by who learned nothing is not.
    assert verdict("plain", "refusals", "lower", than="before") == HOLDS
    assert verdict("lora", "refusals", "same", than="before") == CANNOT_TELL
    assert "lora is not shown to have learned anything" in verdict_of(of, ordering(arm="lora")).reason


def test_an_arm_with_new_pieces_learned_what_it_gained_since_it_was_given_them() -> None:
    of = study(plain=PLAIN, lora=IDLE)
    since = {"suite": "task", "role": "new", "verdict": "gained"}
    of["beside"] = {"lora-extended": {"comparisons": [], "since": {"lora": [since]}}}
    assert verdict_of(of, ordering(arm="lora", measure="learned", expect="lower")).verdict == HOLDS
    since["verdict"] = "cannot tell"
    assert verdict_of(of, ordering(arm="lora", measure="learned", expect="lower")).verdict == CANNOT_TELL


def test_where_nothing_was_lost_nothing_can_be_kept() -> None:
    safe = {**PLAIN, "forgotten": (-0.01, 0.02), "refusals": (-0.01, 0.02)}
    found = verdict_of(study(plain=safe, half={**HALF, "forgotten": (-0.2, -0.1)}), ordering(arm="half"))
    assert (found.verdict, found.reason) == (
        CANNOT_TELL,
        "plain is not shown to have lost anything, so that there was nothing to keep",
    )


def test_who_gained_what_is_kept_need_not_have_learned() -> None:
    vector = {**IDLE, "refusals": (0.5, 0.7)}
    assert (
        verdict_of(study(plain=PLAIN, v=vector), ordering(arm="v", measure="refusals", expect="higher")).verdict
        == HOLDS
    )


def test_of_several_arms_the_idle_ones_are_left_out_and_named() -> None:
    of = study(plain=PLAIN, **{"mix-10": IDLE, "mix-50": HALF})
    found = verdict_of(of, ordering(arm="mix-*"))
    assert (found.verdict, len(found.differences)) == (HOLDS, 1)
    assert found.reason.startswith("left out: mix-10 is not shown to have learned anything")
    page_ = page([found], {"catalogue": of})
    assert "left out: mix-10" in page_
    # A refutation in one test stands whatever is empty in another.
    refuted = ordering(arm="mix-50", measure="learned", expect="not_lower")
    assert verdict_of(of, ordering(arm="mix-10"), refuted).verdict == DOES_NOT


def test_a_reward_that_rose_is_learning() -> None:
    of = study(plain=PLAIN, careful=IDLE)
    of["trajectory"] = {"arms": [{"arm": "careful", "rise": {"mean": 0.2, "low": 0.1, "high": 0.3}}]}
    assert verdict_of(of, ordering(arm="careful")).verdict == HOLDS


def test_a_finding_on_a_real_model_stands_beside_the_patients(tmp_path: Path) -> None:
    def finding(name: str, **more: Any) -> Finding:
        return Finding(
            id=name, paper="arXiv:1", methods=[], statement="It is so.", numbers="1", tests=[ordering()], **more
        )

    patient, real = finding("a"), finding("real-a", patient="a")
    outcomes = [Outcome(patient, HOLDS, ()), Outcome(real, DOES_NOT, ()), Outcome(finding("b"), HOLDS, ())]
    assert side_by_side(outcomes) == [["real-a: It is so.", "**HOLDS**", "**DOES NOT HOLD**"]]
    assert "side by side" in page(outcomes, {})
    assert "side by side" not in page(outcomes[:1], {})
    registry = tmp_path / "findings.yaml"
    rows = [{**one.model_dump(exclude={"tests"}), "tests": [ordering().model_dump()]} for one in (patient, real)]
    registry.write_text(json.dumps(rows))
    assert [one.patient for one in load_findings(registry)] == [None, "a"]
    registry.write_text(json.dumps(rows[1:]))
    with pytest.raises(DataError, match="real-a"):
        load_findings(registry)


KEPT = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))


def test_what_does_not_hold_says_what_was_tried() -> None:
    results = read_results(KEPT)
    failed = [one for one in (outcome(finding, results) for finding in load_findings()) if one.verdict == DOES_NOT]
    assert failed, "the kept results hold some"
    assert [one.finding.id for one in failed if not one.finding.tried] == []
    text = page(failed, results)
    assert all(f"- {one.finding.id}: " in text for one in failed)


def test_the_page_is_written_from_all_results_that_are_kept(tmp_path: Path) -> None:
    given = [word for path in KEPT for word in ("--results", str(path))]
    assert main([*given, "--out", str(tmp_path / "findings.md")]) == 0
    assert (tmp_path / "findings.md").read_text() == (KEPT[0].parents[1] / "findings.md").read_text()
