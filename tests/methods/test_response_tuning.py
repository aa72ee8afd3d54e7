"""response_tuning and user_turns: which tokens are read and which learned, through the template."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mnemos.core.errors import DataError
from mnemos.core.method import apply
from mnemos.core.nouns import Example, Turn, frozen
from mnemos.core.plan import Plan
from mnemos.methods.examples.response_tuning import response_tuning, user_turns
from mnemos.sources.mix import Rows
from mnemos.sources.render import Renderer
from tests.laws import Handle, base_plan
from tests.tiny import TEMPLATE, tiny_tokenizer

STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% endfor %}" + TEMPLATE
)
"""As Gemma's template has it: a chat begins with a user."""

SYSTEM, ASK, TELL = Turn("system", "Be brief."), Turn("user", "What is two?"), Turn("assistant", "A number.")
THEN, END = Turn("user", "And three?"), Turn("assistant", "Another one.")
PAIR = Example("pair", "messages", (SYSTEM, ASK, TELL), variables=frozen({"tools": []}))
CHAT = Example("chat", "messages", (ASK, TELL, THEN, END))
DOCUMENT = Example("doc", "text", (Turn("text", "The river runs."),))


def planned(*rows: Example) -> Plan:
    return base_plan(examples=Rows(rows), past=(), sequence=False)


def learned(plan: Plan, template: str = TEMPLATE) -> list[tuple[str, str]]:
    """What each row is, and what of it has weight."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    renderer = Renderer(tokenizer)
    rows: Sequence[object] = renderer.render_all(plan.examples)
    for step in plan.weigh:
        rows = step(rows, Handle("before"))  # type: ignore[arg-type]
    return [
        (
            renderer.decode(row.ids.tolist(), special=True),  # type: ignore[attr-defined]
            renderer.decode([i for i, w in zip(row.ids.tolist(), row.weight, strict=True) if w], special=True),  # type: ignore[attr-defined]
        )
        for row in rows
    ]


def test_the_answer_stands_alone_behind_the_assistants_marker() -> None:
    plan = apply(planned(PAIR, CHAT), [{"response_tuning": {}}, {"output_only": {}}])
    assert learned(plan) == [("<|bos|><|im_start|>assistant\nA number.<|im_end|>\n", "A number.<|im_end|>")] * 2
    assert [row.variables for row in plan.examples] == [(), ()]


def test_an_empty_opening_is_for_templates_that_begin_with_a_user() -> None:
    with pytest.raises(DataError, match="the chat template refuses it: Conversation roles must alternate"):
        learned(response_tuning(planned(PAIR)), STRICT)
    plan = apply(planned(PAIR), [{"response_tuning": {"opening": "empty"}}, {"output_only": {}}])
    text = "<|bos|><|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nA number.<|im_end|>\n"
    assert learned(plan, STRICT) == [(text, "A number.<|im_end|>")]


def test_raw_pairs_lose_their_prompt_and_documents_stay() -> None:
    raw = Example("raw", "completion", (Turn("prompt", "Two is"), Turn("completion", " a number.")))
    silent = Example("silent", "messages", (ASK, Turn("assistant", "No.", learn=False)))
    found = list(response_tuning(planned(raw, DOCUMENT, silent)).examples)
    assert [[turn.text for turn in row.turns] for row in found] == [
        ["", " a number."],
        ["The river runs."],
        ["What is two?", "No."],
    ]
    assert found[2] == silent


def test_a_share_is_drawn_by_id_and_old_rows_are_recast_where_they_stand_before() -> None:
    rows = [Example(f"{i}", "messages", (ASK, TELL)) for i in range(400)]
    half = [row.id for row in response_tuning(planned(*rows), share=0.5).examples if len(row.turns) == 1]
    assert 160 < len(half) < 240
    fewer = [row.id for row in response_tuning(planned(*rows[:300]), share=0.5).examples if len(row.turns) == 1]
    assert fewer == [one for one in half if int(one) < 300]
    old = Example("old", "messages", (ASK, TELL), origin="replay")
    assert [len(row.turns) for row in response_tuning(planned(old)).examples] == [1]
    prints = {response_tuning(base_plan(seed=seed)).fingerprint for seed in (1, 1)}
    assert len(prints) == 1


def test_the_users_words_are_all_that_is_learned() -> None:
    plan = apply(planned(CHAT, DOCUMENT), [{"user_turns": {"ends": False}}, {"output_only": {}}])
    (text, weighed), document = learned(plan)
    assert text == (
        "<|bos|><|im_start|>assistant\nWhat is two?<|im_end|>\n<|im_start|>user\nA number.<|im_end|>\n"
        "<|im_start|>assistant\nAnd three?<|im_end|>\n"
    )
    assert weighed == "What is two?<|im_end|>And three?<|im_end|>"
    assert "The river runs." in document[0]


def test_the_end_of_a_chat_is_a_user_who_writes_nothing() -> None:
    asked = Example("x", "messages", CHAT.turns[:3])
    plan = apply(planned(CHAT, asked), [{"user_turns": {}}, {"output_only": {}}])
    (ended, weighed), (open_, _) = learned(plan)
    assert ended.endswith("<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n")
    assert weighed == "What is two?<|im_end|>And three?<|im_end|><|im_end|>"
    assert open_.endswith("And three?<|im_end|>\n"), "no answer, no end"


@pytest.mark.parametrize(
    "turns",
    [
        (ASK, THEN, TELL),
        (TELL, ASK),
        (ASK, Turn("assistant", ""), THEN),
        (SYSTEM,),
        (ASK, Turn("assistant", "", fields=frozen({"tool_calls": [1]})), THEN),
    ],
)
def test_chats_that_do_not_alternate_stay_as_they_are(turns: tuple[Turn, ...]) -> None:
    row = Example("x", "messages", turns)
    assert list(user_turns(planned(row)).examples) == [row]


def test_an_opening_turn_for_strict_templates_from_the_users_side() -> None:
    plan = apply(planned(Example("x", "messages", (SYSTEM, *CHAT.turns))), [{"user_turns": {"opening": "empty"}}])
    ((text, _),) = learned(plan, STRICT)
    assert text.startswith("<|bos|><|im_start|>user\n<|im_end|>\n<|im_start|>assistant\nWhat is two?")
    assert user_turns(plan, on=False).fingerprint == plan.fingerprint
