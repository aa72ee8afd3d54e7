"""The rule of collapse, each of its three parts by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnemos.stream.adaptation.collapse import WINDOW, Collapse, Sight, distance


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


WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@given(WORDS, WORDS, WORDS)
def test_distance_is_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))
    # By recursion, the slow way.
    assert distance(a, b) == slowly(tuple(a), tuple(b))


def slowly(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    table = {(0, j): j for j in range(len(b) + 1)} | {(i, 0): i for i in range(len(a) + 1)}
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y))
    return table[len(a), len(b)]


def test_distance_by_hand() -> None:
    assert distance("kitten", "sitting") == 3
    assert distance(["one", "two", "three"], ["one", "three"]) == 1
