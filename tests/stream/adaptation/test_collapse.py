"""The rule of collapse, each of its three parts by hand."""

from __future__ import annotations

from mnemos.stream.adaptation.collapse import WINDOW, Collapse, Sight


def sight(text: str = "one two", source: str = "one two", blank: bool = False, entropy: float = 0.1) -> Sight:
    return Sight(blank, text, source, 1.0, entropy)


def verdict(sights: list[Sight]) -> str | None:
    rule, found = Collapse(), None
    for one in sights:
        found = rule.saw(one)
    return found


def test_nothing_is_wrong() -> None:
    assert verdict([sight()] * WINDOW) is None
    assert verdict([sight(entropy=0.0)] * WINDOW) is None  # sure, and agrees with the source
    assert verdict([sight("", "", blank=True)] * (WINDOW - 1)) is None  # too few to tell


def test_blank() -> None:
    blanks = WINDOW // 2
    few = [sight("", "one two", True)] * blanks
    assert verdict([*few, *[sight()] * (WINDOW - blanks)]) is None
    found = verdict([*few, sight("", "one two", True), *[sight()] * (WINDOW - blanks - 1)])
    assert found == "55 % of the last 20 utterances have no transcript"


def test_short() -> None:
    assert (
        verdict([sight("on", "0123456789")] * WINDOW) == "it writes 0.20 characters where the source model writes one"
    )
    assert verdict([sight("one", "0123456789", entropy=0.1)] * WINDOW) is None


def test_sure_of_something_else() -> None:
    found = verdict([sight("zzzzzzz", entropy=1e-4)] * WINDOW)
    assert found == "it is sure of everything, and agrees with the source model in nothing"
    assert verdict([sight("zzzzzzz", entropy=1e-2)] * WINDOW) is None
    assert verdict([sight("one zzz", entropy=1e-4)] * WINDOW) is None


def test_old_utterances_leave_the_window() -> None:
    assert verdict([*[sight("", "one", True)] * WINDOW, *[sight()] * WINDOW]) is None
