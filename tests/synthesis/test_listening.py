"""Seed lines, questions, and rows of three kinds of answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import AudioPart, Prompt
from mnemos.sources.described import Described
from mnemos.synthesis.listening import SYSTEM, Asking, asked_of, synthetic_share, write
from mnemos.synthesis.sound_questions import ATTRIBUTES, CAPTIONS, seed_line, with_options
from tests.laws import Handle
from tests.methods.contexts import FakeContext, Scripted, cut

MODEL, OTHER = Handle("m"), Handle("o")


def clip(name: str = "a", transcript: str = "Go on.", synthetic: bool | None = False, **more: Any) -> Described:
    measured: dict[str, Any] = {"seconds": 3.45, "volume_db": -30.0, "words_per_second": 0.6, "pitch_hz": 200.0}
    known = more.pop("known", {"gender": "female", "digit": "seven"})
    return Described(name, AudioPart(f"/clips/{name}.wav"), transcript, known, synthetic, **{**measured, **more})


def test_a_seed_line_says_what_is_known_in_the_papers_form() -> None:
    assert seed_line(clip()) == (
        '[00:00:00 - 00:00:04]: "Go on." (Gender: female, Pitch: high, Volume: medium, Speed: slow, '
        "Duration: 3.5 seconds)"
    )
    noisy = clip(transcript="", seconds=61.0, pitch_hz=None, volume_db=-10.0, words_per_second=None,
                 known={"noise": "vacuum cleaner", "snr": "5", "speaker": "Ada"})  # fmt: skip
    assert seed_line(noisy) == (
        "[00:00:00 - 00:01:01]: (Speaker: Ada, Volume: loud, Background noise: vacuum cleaner, SNR: 5 dB, "
        "Duration: 61.0 seconds)"
    )
    assert "\"a 'b' c\"" in seed_line(clip(transcript='a "b" c'))


@pytest.mark.parametrize(("hz", "name"), [(134.9, "low"), (135.0, "medium"), (189.9, "medium"), (190.0, "high")])
def test_levels_begin_at_their_bounds(hz: float, name: str) -> None:
    assert ATTRIBUTES["pitch"].value(clip(pitch_hz=hz)) == name


def test_only_what_is_known_is_asked_and_the_draw_is_the_clips_own() -> None:
    asking = Asking(per_clip=100)
    rows = asked_of([clip()], asking)
    attributes = [row.meta["attribute"] for _, row in rows]
    assert sorted(attributes[:-1]) == sorted(["transcript", "digit", "gender", "pitch", "volume", "speed", "duration"])
    assert attributes[-1] == "caption"
    labels = {row.meta["attribute"]: row.turns[-1].text for _, row in rows}
    assert (labels["digit"], labels["gender"], labels["caption"]) == ("seven", "female", "")
    few = Asking(per_clip=2, questions="attributes", seed=5)
    alone = [row for _, row in asked_of([clip("b")], few)]
    both = [row for _, row in asked_of([clip("a"), clip("b")], few)]
    assert both[2:] == alone
    assert [row.turns[1].text.split("\n\n")[1] for row in alone] == [row.meta["question"] for row in alone]


def test_only_the_named_attributes_are_asked_about() -> None:
    rows = asked_of([clip()], Asking("attributes", per_clip=100, attributes=("digit", "pitch", "emotion")))
    assert sorted(row.meta["attribute"] for _, row in rows) == ["digit", "pitch"]
    with pytest.raises(UsageError, match="did you mean 'digit'"):
        Asking(attributes=("digits",))


def written(targets: Any, say: Any = None, **more: Any) -> Any:
    models = {
        "m": Scripted(say or (lambda prompt, number: f"Mine {number}."), lambda text: 0.5 if "Mine" in text else 0.1),
        "o": Scripted(lambda prompt, number: f"Other {number}."),
    }
    context = FakeContext(models)
    asking = more.pop("asking", Asking(per_clip=1))
    other = OTHER if "other" in targets else None
    return write(context, more.pop("clips", [clip()]), asking, MODEL, targets, other, Path("/rows")), context


def test_a_share_of_the_questions_names_the_labels_of_all_clips() -> None:
    clips = [clip(f"{n}", known={"digit": digit}) for n, digit in enumerate(("seven", "one", "two") * 40)]
    one = {"questions": "attributes", "attributes": ("digit", "transcript"), "per_clip": 2}
    none, half, all_named = (
        [row.meta for _, row in asked_of(clips, Asking(**one, options=share))]  # type: ignore[arg-type]
        for share in (0.0, 0.5, 1.0)
    )
    end = " The answer could be one, seven, or two."
    assert [row["question"].removesuffix(end) for row in all_named if row["attribute"] == "digit"]
    assert all(row["question"].endswith(end) == (row["attribute"] == "digit") for row in all_named)
    # Every clip has the same transcript: no choice, so no options.
    assert not any("answer could be" in row["question"] for row in none)
    named = sum(row["question"].endswith(end) for row in half if row["attribute"] == "digit")
    # 120 draws at one half: outside of these bounds once in a million.
    assert 33 < named < 87
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="share from 0 to 1"):
            Asking(options=share)


def test_the_options_of_a_question_are_those_that_the_suites_read() -> None:
    from mnemos.measure.dynamic_superb import options_of

    assert options_of(with_options("Who?", ["b", "a", "c d", "a"])) == ("a", "b", "c d")
    assert with_options("Who?", ["a"]) == "Who?"
    assert with_options("Who?", map(str, range(17))) == "Who?"


def test_three_targets_of_the_same_questions() -> None:
    found, context = written(["self", "human", "other"])
    assert [len(found.rows[one]) for one in ("self", "human", "other")] == [2, 1, 2]
    first = found.rows["self"][0]
    assert (first["answer"], first["target"], first["audio"], first["system"]) == (
        "Mine 0.", "self", "../clips/a.wav", SYSTEM
    )  # fmt: skip
    assert {found.rows[one][0]["question"] for one in found.rows} == {first["question"]}
    assert found.dropped["human"] == {"people give no short label for a caption": 1}
    [(prompts, decoding)] = context.models["m"].calls
    assert (decoding.temperature, len(prompts)) == (0, 2)
    assert prompts[0] == Prompt(asked_of([clip()], Asking(per_clip=1))[0][1].turns[:-1])


def test_perplexity_is_of_all_tokens_over_rows_that_every_target_has() -> None:
    """Words of the model's own have probability 1/2 each, others 1/10; the caption, which people have no label for,
    is in none."""
    found, _ = written(["self", "human"])
    assert found.compared == 1
    assert found.perplexity["self"] == pytest.approx(2.0)
    assert found.perplexity["human"] == pytest.approx(10.0)


def test_perplexity_weighs_tokens_and_not_rows() -> None:
    clips = [clip("a", known={"gender": "x"}), clip("b", known={"gender": "x"})]
    answers = {0: "Mine", 1: "no no no"}
    found, _ = written(["self"], lambda prompt, number: answers[number],
                       clips=clips, asking=Asking("attributes", 1))  # fmt: skip
    nats = -(math.log(0.5) + 3 * math.log(0.1))
    assert found.perplexity["self"] == pytest.approx(math.exp(nats / 4))


def test_answers_without_an_end_are_left_out_and_counted() -> None:
    found, _ = written(["self"], lambda prompt, number: cut("On and") if number else "Mine.")
    assert len(found.rows["self"]) == 1
    assert found.dropped["self"] == {"the answer has no end": 1}
    with pytest.raises(DataError, match="empty answer: 2"):
        written(["self"], lambda prompt, number: " ")


def test_answers_that_refuse_or_deny_the_sound_are_left_out() -> None:
    texts = ["I'm sorry, but I can't assist with that.", "I cannot really hear it.",
             "The audio clips are not provided.", "She can hear the sea."]  # fmt: skip
    clips = [clip(name) for name in "abcd"]
    found, _ = written(["self"], lambda prompt, number: texts[number], clips=clips, asking=Asking("captions"))
    assert [row["answer"] for row in found.rows["self"]] == [texts[-1]]
    assert found.dropped["self"] == {"the answer refuses": 1, "the answer denies the sound": 2}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="no short label"):
        written(["human"], asking=Asking("captions"))
    with pytest.raises(UsageError, match="goes with another model"):
        write(FakeContext({}), [clip()], Asking(), MODEL, ["other"], None)
    with pytest.raises(DataError, match="named by two rows"):
        asked_of([clip(), clip()], Asking())


def test_captions_alone_ask_one_question() -> None:
    found, _ = written(["self"], asking=Asking("captions"))
    assert [row["question"] for row in found.rows["self"]] == [CAPTIONS[0]]


def test_a_row_keeps_what_is_known_but_no_column_that_another_format_reads() -> None:
    odd = clip(known={"gender": "female", "label": "no", "messages": "x", "question": "?"}, synthetic=None)
    found, _ = written(["human"], clips=[odd], asking=Asking("attributes", 1))
    row = found.rows["human"][0]
    assert row["gender"] == "female"
    assert not {"label", "messages", "synthetic"} & set(row)
    assert row["question"] != "?"
    assert row["measured"] == {"seconds": 3.45, "volume_db": -30.0, "words_per_second": 0.6, "pitch_hz": 200.0}


def test_the_share_of_synthetic_clips_is_counted_with_those_of_which_nobody_says() -> None:
    clips = [clip(synthetic=one) for one in (True, True, False, None)]
    assert synthetic_share(clips) == {"synthetic": 2, "real": 1, "not stated": 1}
