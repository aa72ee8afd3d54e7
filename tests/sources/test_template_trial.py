"""Templates that came with a model are tried before they are used, where they can do no harm."""

from __future__ import annotations

import pytest

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Turn
from mnemos.sources import template_trial
from mnemos.sources.chat_template import Template
from mnemos.sources.render import Renderer
from mnemos.sources.template_trial import MOST_SOURCE, try_template
from tests.sources.families import FAMILIES
from tests.tiny import TEMPLATE, tiny_tokenizer

SHOW = "{% for m in messages %}{{ m.content }}{% endfor %}"
DOUBLED = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SHOW + "{{ 'a' * 10**11 }}", "MiB of memory"),
        (SHOW + "{% if add_generation_prompt %}{{ 'a' * 10**11 }}{% endif %}", "MiB of memory"),
        (SHOW + "{{ '%9999999999d' % 1 }}", "MiB of memory"),
        (SHOW + "{{ 'a'.center(99999999999) }}", "MiB of memory"),
        (DOUBLED + SHOW, "MiB of memory|does not end"),
        (ENDLESS + SHOW, "does not end"),
        (SHOW + "{{ 'a' * 3000000 }}", "writes more than 1,048,576 characters"),
        ("You are a helpful assistant.", "writes the same 28 characters whatever the messages say"),
        ("{{ messages | length }}", "writes the same 1 characters"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}" + SHOW, "RecursionError"),
        ("{% for m in messages %}", "is no template"),
        ("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}", "is no template"),
        ("{{ 9 ** (9 ** 9) }}" + SHOW, "does not end|MiB of memory"),
        ("x" * (MOST_SOURCE + 1), "has 1,048,577 characters"),
        ("{{ messages[0].content / 2 }}", "fails on every conversation that was tried"),
    ],
)
def test_what_no_run_survives_is_refused(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_trial, "CPU_SECONDS", 1)
    with pytest.raises(ModelError, match=message) as error:
        try_template(source, {"bos_token": "<s>"}, "models/chat")
    assert "chat template of models/chat" in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        TEMPLATE,
        SHOW,
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% for m in messages %}{{ m.content | trim }}{{ tools | tojson(indent=2) }}{% break %}{% endfor %}",
        "{% if messages | length > 2 %}{{ raise_exception('one pair') }}{% endif %}" + SHOW,
        "{{ raise_exception('nobody may speak') }}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}",
        *[family.template for family in FAMILIES.values()],
    ],
)
def test_what_is_used_passes(source: str) -> None:
    try_template(source, {"bos_token": "<s>", "eos_token": "</s>"}, "models/chat")


def test_options_of_the_template_are_given() -> None:
    source = "{% if loud %}{{ 'a' * 10**11 }}{% endif %}" + SHOW
    try_template(source, {}, "m")
    with pytest.raises(ModelError, match="MiB of memory"):
        try_template(source, {"loud": True}, "m")


def test_a_tokenizer_with_such_a_template_is_refused_before_it_renders() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = SHOW + "{{ 'a' * 10**11 }}"
    with pytest.raises(ModelError, match="MiB of memory"):
        Renderer(tokenizer).template  # noqa: B018


def test_whatever_a_template_raises_is_said_of_the_conversation() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% if messages | length > 4 %}{{ messages[9].content.x.y }}{{ 1 / 0 }}{% endif %}" + SHOW
    template = Template(tokenizer, {})
    with pytest.raises(DataError, match="the chat template refuses it"):
        template.text([Turn("user", "a")] * 40)
