"""Fields of rows and messages that other trainers know: honoured, or refused by name and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Turn
from mnemos.sources.mix import Joined
from mnemos.sources.read import read, skipped
from mnemos.sources.render import Renderer
from tests.sources.families import tokenizer, turns
from tests.sources.test_read import MESSAGES, NO, A, U, one, write

LOSSES = ["train", "training", "trainable", "loss", "weight", "loss_weight"]


@pytest.mark.parametrize("field", LOSSES)
@pytest.mark.parametrize("value", [False, 0, 0.0])
def test_the_loss_of_a_message_is_turned_off_in_every_spelling(tmp_path: Path, field: str, value: Any) -> None:
    text = [MESSAGES[0], {**MESSAGES[1], field: value}, *MESSAGES]
    _, example = one(tmp_path, {"messages": text})
    assert example.turns == (U, Turn("assistant", "Yes.", learn=False), U, A)
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes.", field: value}]
    _, other = one(tmp_path, {"conversations": shared})
    assert other.turns == (U, Turn("assistant", "Yes.", learn=False))
    _, on = one(tmp_path, {"messages": [MESSAGES[0], {**MESSAGES[1], field: 1}]})
    assert on.turns == (U, A)


@pytest.mark.parametrize(
    ("number", "fields", "reason"),
    [
        (1, {"weight": 0.5}, r"messages\[1\]\.weight = 0\.5: must be 0 or 1"),
        (1, {"loss": "no"}, r"messages\[1\]\.loss = 'no': must be 0 or 1"),
        (1, {"loss": False, "weight": 1}, r"messages\[1\]: loss and weight: say different things"),
        (0, {"train": True}, r"messages\[0\]\.train = true \(user\): cannot be honoured(.|\n)*output_only"),
        (1, {"reasoning_content": ["Hm."]}, r"messages\[1\]\.reasoning_content = \['Hm\.'\]: must be text"),
        (1, {"train_detail": [{"begin_offset": 0}]}, r"messages\[1\]\.train_detail: cannot be honoured"),
        (1, {"content": None, "refusal": "No."}, r"messages\[1\]\.refusal: cannot be honoured"),
        (0, {"images": ["a.png"]}, r"messages\[0\]\.images: cannot be learned from"),
        (1, {"audio": {"id": "a"}}, r"messages\[1\]\.audio: cannot be learned from"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, number: int, fields: dict[str, Any], reason: str) -> None:
    row = [dict(message) for message in MESSAGES]
    row[number].update(fields)
    path = write(tmp_path, [{"messages": row}])
    with pytest.raises(DataError, match=r"data\.jsonl:1: " + reason):
        list(read(path))


def test_a_weight_of_one_and_a_prompts_loss_turned_off_say_nothing_new(tmp_path: Path) -> None:
    row = [{**MESSAGES[0], "weight": 1, "train": False}, {**MESSAGES[1], "weight": 1}]
    with pytest.raises(DataError, match="say different things"):
        one(tmp_path, {"messages": row})
    row[0].pop("train")
    assert one(tmp_path, {"messages": row})[1].turns == (U, A)


def test_a_prompt_exempt_from_the_loss_has_no_weight_where_prompts_count() -> None:
    text = turns("system: Be brief.", "user: Sure?", "assistant: Yes.")
    quiet = (text[0], Turn("user", "Sure?", learn=False), text[2])
    made = tokenizer("llama3")
    tokens, plain = (Renderer(made).render(Example("1", "messages", one_)) for one_ in (quiet, text))
    silent = (plain.weight == 1) & (tokens.weight == 0)
    assert made.decode(tokens.ids[silent].tolist()) == "Sure?"
    assert tokens.ids.tolist() == plain.ids.tolist()
    assert tokens.output.tolist() == plain.output.tolist()


def test_skipped_rows_are_counted_for_a_training(tmp_path: Path) -> None:
    bad = [{"messages": MESSAGES, "images": ["a.png"]}, {"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0.5}]}]
    first = read(write(tmp_path, [{"messages": MESSAGES}, *bad, bad[0]]), on_bad="skip")
    source = Joined((first, read(write(tmp_path, [{"messages": MESSAGES}], "other.jsonl"))))
    assert len(list(source)) == 2
    assert skipped(source) == {"skipped: unsupported media": 2, "skipped: wrong type": 1}


PICTURES: list[tuple[dict[str, Any], str]] = [
    ({"messages": MESSAGES, "images": ["a.png"]}, "images"),
    ({"messages": MESSAGES, "image": "a.png"}, "image"),
    ({"messages": MESSAGES, "videos": ["a.mp4"]}, "videos"),
    ({"instruction": "a", "output": "b", "audios": ["a.wav"]}, "audios"),
    ({"messages": MESSAGES, "audio": {"path": "a.wav"}}, "audio"),
    ({"messages": [{"role": "user", "content": "<image>\nWhat is this?"}, *NO]}, r"messages\[0\]: <image>"),
    ({"messages": [{"role": "user", "content": "What is this? <image>"}, *NO]}, r"messages\[0\]: <image>"),
    ({"instruction": "What is said?\n<audio>\nAnswer.", "output": "b"}, "instruction: <audio>"),
    ({"prompt": "<video>Who?", "completion": "b"}, "prompt: <video>"),
    ({"prompt": "<image>Who?", "chosen": "b", "rejected": "c"}, "prompt: <image>"),
]


@pytest.mark.parametrize(("row", "reason"), PICTURES)
def test_pictures_and_sounds_are_refused_by_name_and_line(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, [row])
    with pytest.raises(DataError, match=rf"data\.jsonl:1: {reason}: (cannot be learned from|stands for a file)"):
        list(read(path))


def test_text_about_pictures_is_text(tmp_path: Path) -> None:
    for asked in ("Explain the <image> element of SVG.", "<video>\n<source src='a'>\n</video>", "a <b> c"):
        _, example = one(tmp_path, {"messages": [{"role": "user", "content": asked}, *NO], "images": [], "image": ""})
        assert (example.turns[0].text, example.meta) == (asked, {})


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES, "rejected_response": "No."},
        {"messages": MESSAGES, "rejected_messages": [MESSAGES[0], *NO]},
        {"messages": MESSAGES, "rejected_messages": NO},
        {"instruction": "Hi", "output": "Yes.", "rejected_response": "No."},
        {"prompt": "Hi", "completion": "Yes.", "rejected_response": "No."},
        {
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}],
            "rejected_response": "No.",
        },
    ],
)
def test_an_answer_beside_a_worse_one_is_a_pair(tmp_path: Path, row: dict[str, Any]) -> None:
    source, example = one(tmp_path, row)
    assert (source.format, example.kind, example.meta) == ("preference", "preference", {})
    assert (example.turns, example.rejected) == ((U, A), (Turn("assistant", "No."),))
    late = list(read(write(tmp_path, [*[{"messages": MESSAGES}] * 25, row] if "messages" in row else [row])))
    assert late[-1].rejected == (Turn("assistant", "No."),)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"rejected_response": "Yes."}, "are the same"),
        ({"rejected_response": " "}, "is empty"),
        ({"rejected_messages": [{"role": "user", "content": "Other"}, *NO]}, "must be another last answer"),
        ({"rejected_response": "No.", "label": False}, "says again, or otherwise"),
        ({"rejected_response": "No.", "rejected_images": ["a"]}, "rejected_images: cannot be learned"),
    ],
)
def test_pairs_that_are_none_are_refused(tmp_path: Path, beside: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, [{"messages": MESSAGES, **beside}])
    with pytest.raises(DataError, match=rf"data\.jsonl:1: .*{reason}"):
        list(read(path))
