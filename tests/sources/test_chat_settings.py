"""What a study gives to its chat template renders as if every conversation had said it itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemos.core.errors import ModelError, UsageError
from mnemos.core.nouns import Example, Prompt, Turn, frozen
from mnemos.sources.chat_settings import ChatSettings, literal
from mnemos.sources.render import Renderer
from tests.sources.families import GEMMA, LLAMA3, QWEN3, QWEN25
from tests.tiny import tiny_tokenizer

THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}"
)
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] }}{% endif %}{% endfor %}"
)
ASKED = (Turn("user", "What is two?"), Turn("assistant", "It is 2."))


def tokenizer(template: str | None, chat: ChatSettings | None = None) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made if chat is None else chat.apply(made)


def ids(made: Any, turns: tuple[Turn, ...]) -> list[int]:
    return list(Renderer(made).render(Example("x", "messages", turns)).ids)


@pytest.mark.parametrize(
    "template", [LLAMA3, QWEN25, QWEN3, THINKING, "\n" + THINKING, "\n\n  {{ bos_token }}" + THINKING]
)
@pytest.mark.parametrize("system", ["Be brief.", 'Say "yes" {% or %} {{ no }}\n\\n, 中文 \U0001f600 {# tools #}'])
def test_a_system_prompt_renders_like_a_system_turn(template: str, system: str) -> None:
    plain, given = tokenizer(template), tokenizer(template, ChatSettings.of(system=system))
    own = (Turn("system", system), *ASKED)
    assert ids(given, ASKED) == ids(plain, own)
    assert ids(given, own) == ids(plain, own)
    prompts = [Renderer(one).prompt_ids(Prompt(turns)) for one, turns in ((given, ASKED[:1]), (plain, own[:2]))]
    assert prompts[0] == prompts[1]
    other = (Turn("system", "Another."), *ASKED)
    assert ids(given, other) == ids(plain, other)


def test_variables_stand_where_a_row_gives_none() -> None:
    given = Renderer(tokenizer(THINKING, ChatSettings.of(variables={"enable_thinking": False})))
    plain = Renderer(tokenizer(THINKING))
    assert given.prompt_ids(Prompt(ASKED[:1])) == plain.prompt_ids(
        Prompt(ASKED[:1], frozen({"enable_thinking": False}))
    )
    assert given.prompt_ids(Prompt(ASKED[:1], frozen({"enable_thinking": True}))) == plain.prompt_ids(Prompt(ASKED[:1]))


def test_another_template_takes_the_models_place() -> None:
    assert ids(tokenizer(QWEN25, ChatSettings.of(LLAMA3)), ASKED) == ids(tokenizer(LLAMA3), ASKED)
    assert ids(tokenizer(None, ChatSettings.of(LLAMA3)), ASKED) == ids(tokenizer(LLAMA3), ASKED)


def test_the_templates_hash_tells_and_a_second_application_changes_nothing() -> None:
    chat = ChatSettings.of(system="Be brief.", variables={"enable_thinking": False})
    assert chat is not None
    once = tokenizer(THINKING, chat)
    name, text = Renderer(once).template_fingerprint, once.chat_template
    assert name != Renderer(tokenizer(THINKING)).template_fingerprint
    assert chat.apply(once).chat_template == text
    assert chat.fingerprint != ChatSettings.of(system="Be brief.").fingerprint  # type: ignore[union-attr]


def test_several_templates_by_name_are_all_given_it() -> None:
    made = tiny_tokenizer()
    made.chat_template = {"default": THINKING, "tool_use": THINKING}
    ChatSettings.of(system="Be brief.").apply(made)  # type: ignore[union-attr]
    assert all("Be brief." in one for one in made.chat_template.values())


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
        max_leaves=6,
    )
)
def test_literals_are_read_by_jinja_as_what_they_were(value: Any) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    seen: list[Any] = []
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["see"] = lambda one: seen.append(one) or ""
    environment.from_string("{%- set x = " + literal(value) + " -%}{{ see(x) }}").render()
    assert seen == [value]


@pytest.mark.parametrize(
    ("template", "chat", "message"),
    [
        (THINKING, {"variables": {"enable_thinkin": False}}, r"kwargs\.enable_thinkin: (?s:.*)enable_thinking"),
        (LLAMA3, {"variables": {"enable_thinking": False}}, "the template has none"),
        (GEMMA, {"system": "Be brief."}, "system: is refused by the model's chat template.*System role not supported"),
        (WITHOUT_SYSTEM, {"system": "Be brief."}, "system: is left out"),
    ],
)  # fmt: skip
def test_what_the_template_has_no_use_for_is_refused(template: str, chat: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tokenizer(template, ChatSettings.of(**chat))


def test_what_cannot_be_meant_is_refused() -> None:
    assert ChatSettings.of() is None
    for chat, message in (
        ({"system": " \n"}, "system: is empty"),
        ({"variables": {"messages": []}}, "messages: is no variable"),
        ({"variables": {"not a name": 1}}, "is no variable"),
        ({"variables": {"x": float("nan")}}, "cannot be written as JSON"),
    ):
        with pytest.raises(UsageError, match=message):
            ChatSettings.of(**chat)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no chat template"):
        tokenizer(None, ChatSettings.of(system="Be brief."))


def test_words_of_the_system_prompt_are_no_variables_of_the_template() -> None:
    given = Renderer(tokenizer(THINKING, ChatSettings.of(system="Use the name and tool_calls of documents.")))
    assert not any(given.template.knows(name) for name in ("name", "tool_calls", "documents"))
    assert given.template.knows("enable_thinking")
