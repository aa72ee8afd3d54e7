"""Whatever stands in the known fields of a row: an example that reads back alike, or an error of the row."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example
from mnemos.sources.bad_row import RowError
from mnemos.sources.files import Raw
from mnemos.sources.formats import COLUMNS, FORMATS, detect, example_of
from mnemos.sources.media import COLUMNS as MEDIA
from mnemos.sources.messages import FIELDS, LOSS, REFUSED, ROLES
from mnemos.sources.render import Renderer
from mnemos.sources.thumbs import Labels
from mnemos.sources.write import row_of
from tests.sources.test_tools import HERMES, WEATHER, tokenizer

TEXTS = st.sampled_from(["", "a", "[]", "{}", '{"name": "f"}', "<image>", "true", "0"]) | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(["name", "function", "arguments", "id", "type", "text", "role", "content"]) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
ODD = st.fixed_dictionaries(
    {"role": st.sampled_from([*ROLES, "x"])},
    optional=dict.fromkeys(("content", "value", "tool_calls", "function_call", *LOSS, *FIELDS, *REFUSED), VALUES),
)
CALL = st.just([{"name": "f", "arguments": '{"a": 1.10}'}])
GIVEN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.sampled_from(["a", "b", "<|im_end|>"])},
    optional={"weight": st.sampled_from([0, 1]), "name": st.just("n")},
)
ANSWER = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.sampled_from(["z", "y", "<tool_call>"])},
    optional={"loss": st.booleans(), "tool_calls": CALL},
)
CHAT = st.tuples(st.lists(GIVEN, max_size=3), ANSWER).map(lambda both: [*both[0], both[1]])
BASES = st.one_of(
    st.fixed_dictionaries({"messages": CHAT}),
    st.fixed_dictionaries({"conversations": CHAT}),
    st.fixed_dictionaries({"messages": st.lists(ODD | GIVEN, max_size=4)}),
    st.just({"prompt": "q", "completion": "a"}),
    st.fixed_dictionaries({"conversations": CHAT, "kto_tag": st.booleans()}),
    st.just({"instruction": "q", "output": "a"}),
    st.fixed_dictionaries({"prompt": st.just("q"), "chosen": ANSWER, "rejected": ANSWER}),
)
MORE = [*sorted(COLUMNS), *MEDIA, "x", "label", "tools", "rejected_response"]
EXTRA = st.dictionaries(st.sampled_from(MORE), VALUES | st.just([{"name": "g"}]) | st.booleans(), max_size=2)
ROWS = st.tuples(BASES, EXTRA).flatmap(lambda both: st.sampled_from([{**both[0], **both[1]}, {**both[1], **both[0]}]))
BACK = {"label": "label", "preference": "preference", "messages": "messages"}


@settings(max_examples=250, deadline=None)
@given(ROWS, st.sampled_from(sorted(FORMATS)), st.sampled_from(["ask", "class", "thumb"]))
def test_a_row_is_an_example_or_an_error_of_its_own(row: dict[str, Any], format: str, labels: Labels) -> None:
    raw = Raw("file:1", "file:1", row)
    try:
        example = example_of(raw, detect([row], labels) or format, labels)
    except RowError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert refused.startswith("file:1: ")
        return
    assert isinstance(hash(example.prompt), int)
    written = json.loads(json.dumps(row_of(example)))
    if example.kind in BACK:
        again = example_of(Raw("file:1", "file:1", written), BACK[example.kind], "class")
        compared = [(one.kind, one.turns, one.rejected, one.label, one.variables) for one in (again, example)]
        assert compared[0] == compared[1]


@settings(max_examples=60, deadline=None)
@given(CHAT, st.booleans())
def test_whatever_chat_is_rendered_as_by_the_tokenizer(turns: list[dict[str, Any]], tools: bool) -> None:
    made = tokenizer(HERMES)
    example = example_of(
        Raw("file:1", "file:1", {"messages": turns, "tools": [WEATHER] if tools else None}), "messages"
    )
    try:
        tokens = Renderer(made).render(example)
    except DataError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "drops" in refused or "refuses" in refused
        return
    messages = [turn.message() for turn in example.turns]
    text = made.apply_chat_template(messages, tools=[WEATHER] if tools else None, tokenize=False)
    assert made.decode(tokens.ids.tolist()) == text
    learned = [turn for turn in example.turns if turn.role == "assistant" and turn.learn]
    ends = tokens.output & (tokens.ids == made.convert_tokens_to_ids("<|im_end|>"))
    assert int(ends.sum()) == len(learned)


def test_the_properties_meet_examples_of_every_kind() -> None:
    """The strategies are no use if every row that they give is refused."""
    met = set()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(ROWS)
    def look(row: dict[str, Any]) -> None:
        try:
            found: Example = example_of(Raw("file:1", "file:1", row), detect([row], "class") or "messages", "class")
        except RowError:
            return
        met.add(found.kind)
        met.update({"tools"} if found.variables else ())
        met.update({"calls"} if any(not turn.is_plain for turn in found.turns) else ())

    look()
    assert met >= {"messages", "completion", "preference", "label", "tools", "calls"}
