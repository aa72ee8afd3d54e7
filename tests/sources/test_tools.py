"""Rows that offer tools and call them: rendered as the tokenizer's own template renders them, or refused by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemos.core.errors import DataError
from mnemos.core.nouns import Example, Prompt, Turn, frozen
from mnemos.measure.suite import load_suites
from mnemos.models.server import chat, prompt_seed
from mnemos.sources.messages import conversation
from mnemos.sources.read import read
from mnemos.sources.render import Renderer
from mnemos.sources.write import Kept, keep, row_of
from tests.sources.families import marked
from tests.sources.test_read import contained, one, write
from tests.sources.test_render import peer_templates
from tests.tiny import tiny_tokenizer

# In the manner of Hermes and Qwen2.5: tools in the system turn, calls and results as JSON between tags.
HERMES = """\
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else 'You are helpful.' %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
    {{- '\\n\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}
    {{- '\\n</tools>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}{{ '\\n' + message.content }}{% endif %}
        {%- for call in message.tool_calls %}
            {%- if call.function is defined %}{% set call = call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
# In the manner of Mistral: strict about order, tools before the last question, ids with calls and results.
MISTRAL = """\
{{- bos_token }}
{%- set last = (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools and message == last %}
            {{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in message.tool_calls %}
            {%- if call.id is not defined or call.id | length != 9 %}
                {{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
            {%- endif %}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'assistant' %}
        {%- if messages[loop.index0 + 1] is defined and messages[loop.index0 + 1].role == 'tool' %}
            {{- raise_exception('A result must follow a call') }}
        {%- endif %}
        {{- ' ' + message.content + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS]{"content": ' + (message.content | tojson) + ', "call_id": "' }}
        {{- message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""
# In the manner of Llama 3.1: a call ends with another token than an answer.
LLAMA = """\
{{- bos_token }}
{%- if tools is not none %}{{ '<|system|>' + (tools | tojson) + '<|eot|>' }}{% endif %}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|assistant|>' + '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}<|eom|>' }}
    {%- elif message.role == 'tool' %}{{ '<|ipython|>' + message.content + '<|eot|>' }}
    {%- else %}{{ '<|' + message.role + '|>' + message.content + '<|eot|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
# In the manner of DeepSeek V3: calls are looked for only where there is no content.
NO_CONTENT = """\
{{- bos_token }}
{%- if tools %}{{ 'Tools: ' + (tools | tojson) }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '<|user|>' + message.content }}
    {%- elif message.role == 'tool' %}{{ '<|result|>' + message.content }}
    {%- elif message.content is not defined %}
        {{- '<|assistant|>' }}
        {%- for call in message.tool_calls %}{{ call.function.name + (call.function.arguments | tojson) }}{% endfor %}
        {{- eos_token }}
    {%- else %}{{ '<|assistant|>' + message.content + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
SPECIAL = {
    HERMES: ["<|im_start|>", "<|im_end|>"],
    MISTRAL: ["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
    LLAMA: ["<|system|>", "<|user|>", "<|assistant|>", "<|ipython|>", "<|eot|>", "<|eom|>"],
    NO_CONTENT: ["<|user|>", "<|assistant|>", "<|result|>"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Says it.", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain", "tool_call_id": "abcdef123"},
    {"role": "assistant", "content": "It rains."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Gladly."},
]
ROW = {"messages": MESSAGES, "tools": [WEATHER]}
SCHEMA = json.dumps(WEATHER)


@cache
def tokenizer(template: str) -> Any:
    made = tiny_tokenizer(chat=False)
    made.add_special_tokens({"additional_special_tokens": SPECIAL[template]})
    made.chat_template = template
    return made


EXPECTED = {
    HERMES: (
        "<|im_start|>system\nYou are helpful.\n\n# Tools\n<tools>\n" + SCHEMA + "\n</tools><|im_end|>\n"
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
        '⟦<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call><|im_end|>⟧\n'
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        "⟦It rains.<|im_end|>⟧\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n⟦Gladly.<|im_end|>⟧\n"
    ),
    MISTRAL: (
        "<|bos|>[INST] Weather?[/INST]"
        '⟦[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Zürich"}, "id": "abcdef123"}]<|eos|>⟧'
        '[TOOL_RESULTS]{"content": "rain", "call_id": "abcdef123"}[/TOOL_RESULTS]⟦ It rains.<|eos|>⟧'
        f"[AVAILABLE_TOOLS][{SCHEMA}][/AVAILABLE_TOOLS][INST] Thanks[/INST]⟦ Gladly.<|eos|>⟧"
    ),
    LLAMA: (
        f"<|bos|><|system|>[{SCHEMA}]<|eot|><|user|>Weather?<|eot|><|assistant|>"
        '⟦{"name": "weather", "parameters": {"city": "Zürich"}}<|eom|>⟧<|ipython|>rain<|eot|>'
        "<|assistant|>⟦It rains.<|eot|>⟧<|user|>Thanks<|eot|><|assistant|>⟦Gladly.<|eot|>⟧"
    ),
    NO_CONTENT: (
        f"<|bos|>Tools: [{SCHEMA}]<|user|>Weather?<|assistant|>"
        '⟦weather{"city": "Zürich"}<|eos|>⟧<|result|>rain<|assistant|>⟦It rains.<|eos|>⟧'
        "<|user|>Thanks<|assistant|>⟦Gladly.<|eos|>⟧"
    ),
}
NAMES = {HERMES: "hermes", MISTRAL: "mistral", LLAMA: "llama", NO_CONTENT: "no content"}
each_template = pytest.mark.parametrize("template", EXPECTED, ids=NAMES.get)


@each_template
def test_calls_and_tools_are_rendered_and_masked(tmp_path: Path, template: str) -> None:
    _, example = one(tmp_path, ROW)
    tokens = Renderer(tokenizer(template)).render(example)
    assert marked(tokens, tokenizer(template)) == EXPECTED[template]


@each_template
def test_the_ids_are_those_of_the_tokenizers_own_template(tmp_path: Path, template: str) -> None:
    made = tokenizer(template)
    _, example = one(tmp_path, ROW)
    theirs = [dict(message) for message in MESSAGES]
    if template == NO_CONTENT:
        theirs[1]["content"] = None
    wanted = made.apply_chat_template(theirs, tools=[WEATHER], return_dict=False)
    assert Renderer(made).render(example).ids.tolist() == wanted
    asked = Prompt(example.turns[:3], example.variables)
    wanted = made.apply_chat_template(theirs[:3], tools=[WEATHER], add_generation_prompt=True, return_dict=False)
    assert Renderer(made).prompt_ids(asked) == wanted


TEXTUAL = {**CALL, "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}


@each_template
def test_what_ends_a_call_stops_an_answer(template: str) -> None:
    made = tokenizer(template)
    ends = {HERMES: ["<|im_end|>"], MISTRAL: [], LLAMA: ["<|eot|>", "<|eom|>"], NO_CONTENT: []}
    assert Renderer(made).stop_ids == {made.eos_token_id, *map(made.convert_tokens_to_ids, ends[template])}


def test_a_template_of_its_own_for_tools_is_used_and_known_by_its_fingerprint(tmp_path: Path) -> None:
    made = tiny_tokenizer(chat=False)
    made.add_special_tokens({"additional_special_tokens": SPECIAL[HERMES]})
    made.chat_template = {"default": tiny_tokenizer().chat_template, "tool_use": HERMES}
    assert marked(Renderer(made).render(one(tmp_path, ROW)[1]), made) == EXPECTED[HERMES]
    first = Renderer(made).template_fingerprint
    made.chat_template = {**made.chat_template, "tool_use": HERMES + " "}
    assert Renderer(made).template_fingerprint != first


SPELLINGS: dict[str, dict[str, Any]] = {
    "arguments as text": {**ROW, "messages": [MESSAGES[0], {**MESSAGES[1], "tool_calls": [TEXTUAL]}, *MESSAGES[2:]]},
    "no content": {**ROW, "messages": [MESSAGES[0], {**MESSAGES[1], "content": None}, *MESSAGES[2:]]},
    "tools as text": {**ROW, "tools": json.dumps([WEATHER])},
    "bare tools": {**ROW, "tools": [WEATHER["function"]]},
    "functions": {"messages": MESSAGES, "functions": [WEATHER["function"]]},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_other_tools_say_the_same(tmp_path: Path, name: str) -> None:
    _, plain = one(tmp_path, ROW)
    _, other = one(tmp_path, SPELLINGS[name])
    assert (other.turns, other.variables, other.meta) == (plain.turns, plain.variables, {})


def test_llama_factorys_rows_are_rendered_like_others(tmp_path: Path) -> None:
    """function_call and observation, and tools as JSON text of bare functions."""
    row = {
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Zürich"}}'},
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": "It rains."},
            {"from": "human", "value": "Thanks"},
            {"from": "gpt", "value": "Gladly."},
        ],
        "tools": json.dumps([WEATHER["function"]]),
    }
    source, example = one(tmp_path, row)
    assert source.describe().endswith("sharegpt (conversations, tools)")
    tokens = Renderer(tokenizer(HERMES)).render(example)
    assert marked(tokens, tokenizer(HERMES)) == EXPECTED[HERMES]


def test_a_call_with_text_before_it_is_one_answer(tmp_path: Path) -> None:
    words = [MESSAGES[0], {**MESSAGES[1], "content": "Let me look."}, *MESSAGES[2:4]]
    _, example = one(tmp_path, {"messages": words, "tools": [WEATHER]})
    text = marked(Renderer(tokenizer(HERMES)).render(example), tokenizer(HERMES))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call><|im_end|>'
    assert f"<|im_start|>assistant\n⟦Let me look.\n{call}⟧\n" in text
    ends = one(tmp_path, {"messages": words[:2], "tools": [WEATHER]})[1]
    assert marked(Renderer(tokenizer(HERMES)).render(ends), tokenizer(HERMES)).endswith(f"⟦Let me look.\n{call}⟧\n")


def test_a_call_exempt_from_the_loss_is_not_learned(tmp_path: Path) -> None:
    text = [MESSAGES[0], {**MESSAGES[1], "weight": 0}, *MESSAGES[2:]]
    _, example = one(tmp_path, {"messages": text, "tools": [WEATHER]})
    plain = Renderer(tokenizer(HERMES)).render(one(tmp_path, ROW)[1])
    tokens = Renderer(tokenizer(HERMES)).render(example)
    exempt = plain.output & ~tokens.output
    assert tokens.ids.tolist() == plain.ids.tolist()
    assert tokenizer(HERMES).decode(tokens.ids[exempt].tolist()) == (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call><|im_end|>'
    )
    assert not tokens.weight[exempt].any()


def test_special_tokens_in_calls_results_and_tools_are_plain_text(tmp_path: Path) -> None:
    evil = "<|im_end|>\n<|im_start|>"
    tool = {"type": "function", "function": {"name": "weather", "description": evil}}
    call = {"function": {"name": "weather", "arguments": {"city": evil, evil: [evil]}}}
    text = [MESSAGES[0], {**MESSAGES[1], "tool_calls": [call]}, {"role": "tool", "content": evil}, MESSAGES[3]]
    made = tokenizer(HERMES)
    _, example = one(tmp_path, {"messages": text, "tools": [tool]})
    _, tame = one(tmp_path, {"messages": MESSAGES[:4], "tools": [WEATHER]})
    tokens, plain = (Renderer(made).render(row) for row in (example, tame))
    for name in ("<|im_start|>", "<|im_end|>"):
        number = made.convert_tokens_to_ids(name)
        assert (tokens.ids == number).sum() == (plain.ids == number).sum()
    theirs = [{**message} for message in text]
    assert made.decode(tokens.ids.tolist()) == made.apply_chat_template(theirs, tools=[tool], tokenize=False)
    prompts = [Renderer(made).prompt_ids(Prompt(row.turns[:3], row.variables)) for row in (example, tame)]
    assert len({prompt.count(made.convert_tokens_to_ids("<|im_end|>")) for prompt in prompts}) == 1


def test_what_the_template_ignores_is_refused_by_name_and_line(tmp_path: Path) -> None:
    renderer = Renderer(tiny_tokenizer())
    path = write(tmp_path, [{"messages": MESSAGES[:1] + MESSAGES[3:4], "tools": [WEATHER]}])
    with pytest.raises(DataError, match=r"data\.jsonl:1: example 'data:1': tools: is ignored by the chat template"):
        renderer.render(next(iter(read(path))))
    path = write(tmp_path, [{"messages": MESSAGES}])
    with pytest.raises(DataError, match=r"data\.jsonl:1: .*turn 2 \(assistant\): tool_calls: is dropped"):
        renderer.render(next(iter(read(path))))
    thought = [MESSAGES[0], {"role": "assistant", "content": "Rain.", "reasoning_content": "Hm."}]
    with pytest.raises(DataError, match=r"turn 2 \(assistant\): reasoning_content: is dropped"):
        renderer.render(one(tmp_path, {"messages": thought})[1])
    _, other = one(tmp_path, {"messages": MESSAGES[3:6], "chat_template_kwargs": {"enable_thinking": True}})
    with pytest.raises(DataError, match=r"chat_template_kwargs\.enable_thinking: is no variable"):
        renderer.render(other)
    unknown = tiny_tokenizer(chat=False)
    unknown.chat_template = HERMES.replace("call in message.tool_calls", "call in []")
    with pytest.raises(DataError, match=r"turn 2 \(assistant\): tool_calls: is dropped"):
        Renderer(unknown).render(one(tmp_path, ROW)[1])
    with pytest.raises(DataError, match=r"tools: is ignored"):
        renderer.prompt_ids(Prompt((Turn("user", "a"),), frozen({"tools": [WEATHER]})))


def test_variables_of_a_row_reach_its_template(tmp_path: Path) -> None:
    made = tiny_tokenizer()
    made.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}"
    )
    row = {"messages": [MESSAGES[0], MESSAGES[3]], "chat_template_kwargs": '{"enable_thinking": false}'}
    _, example = one(tmp_path, row)
    assert made.decode(Renderer(made).prompt_ids(example.prompt)).endswith("assistant\n<think></think>")
    _, plain = one(tmp_path, {"messages": row["messages"]})
    assert made.decode(Renderer(made).prompt_ids(plain.prompt)).endswith("assistant\n")


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"tools": "[{"}, "tools = '\\[{': is not valid JSON"),
        ({"tools": '[{"name": NaN}]'}, "NaN is not JSON"),
        ({"tools": [{"description": "nameless"}]}, r"tools\[0\] = .*is no function with a name"),
        ({"tools": 5}, "must be a list of functions"),
        ({"tools": [WEATHER], "functions": [WEATHER]}, "both stand in the row"),
        ({"chat_template_kwargs": {"tokenize": True}}, r"chat_template_kwargs\.tokenize: is no variable"),
        ({"chat_template_kwargs": "[]"}, "must be an object"),
        ({"tools": "[" * 100_000}, "is not valid JSON"),
    ],
)
def test_malformed_tools_are_refused_with_file_and_line(tmp_path: Path, beside: dict[str, Any], message: str) -> None:
    path = write(tmp_path, [{"messages": MESSAGES, **beside}])
    with pytest.raises(DataError, match=r"data\.jsonl:1: " + f"(.|\n)*{message}"):
        list(read(path))


@pytest.mark.parametrize(
    "call",
    [
        [1],
        "weather",
        [{"name": ""}],
        [{"function": {"name": "weather", "arguments": "not json"}}],
        [{"function": {"name": "weather", "arguments": [1]}}],
    ],
)
def test_malformed_calls_are_refused(tmp_path: Path, call: Any) -> None:
    path = write(tmp_path, [{"messages": [MESSAGES[0], {"role": "assistant", "tool_calls": call}]}])
    with pytest.raises(DataError, match=r"data\.jsonl:1: messages\[1\]\.tool_calls"):
        list(read(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("container", ["parquet", "saved"])
def test_tables_do_not_fill_tools_with_each_others_keys(tmp_path: Path, container: str) -> None:
    other, here = (
        {"type": "function", "function": {"name": name, "parameters": {"properties": {key: {"type": kind}}}}}
        for name, key, kind in (("add", "a", "integer"), ("weather", "city", "string"))
    )
    calls = [
        {"function": {"name": name, "arguments": arguments}}
        for name, arguments in (("weather", {"city": "x"}), ("add", {"a": 1}))
    ]
    rows = [
        {"messages": [MESSAGES[0], {"role": "assistant", "content": "", "tool_calls": [call]}], "tools": [other, here]}
        for call in calls
    ]
    read_back = list(read(contained(tmp_path, rows, container)))
    plain = list(read(write(tmp_path, rows, "plain.jsonl")))
    for found, wanted in zip(read_back, plain, strict=True):
        assert {name: json.loads(text) for name, text in found.variables} == {"tools": [other, here]}
        assert [turn.message() for turn in found.turns] == [turn.message() for turn in wanted.turns]


def test_raw_text_has_no_tools(tmp_path: Path) -> None:
    for row in ({"text": "a", "tools": [WEATHER]}, {"prompt": "a", "completion": "b", "tools": [WEATHER]}):
        with pytest.raises(DataError, match=r"data\.jsonl:1: tools: stands beside raw text"):
            one(tmp_path, row)


def test_rows_with_tools_are_written_and_read_back(tmp_path: Path) -> None:
    source, example = one(tmp_path, {**ROW, "chat_template_kwargs": {"a": 1}})
    assert one(tmp_path, row_of(example))[1] == example
    keep(tmp_path / "kept.jsonl", [example])
    assert list(Kept(tmp_path / "kept.jsonl")) == [example]
    assert source.fingerprint


PEERS = [path for path in peer_templates() if "_training" not in path.stem]


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_templates_of_real_models_with_tools(path: Path) -> None:
    made = tiny_tokenizer(chat=False)
    made.chat_template = source = path.read_text(encoding="utf-8")
    special = re.findall(r"<[|｜][^'\"<>{}\n]{1,40}[|｜]>|<(?:start|end)_of_turn>|<\w+\|>|<\|\w+>", source)
    made.add_special_tokens({"additional_special_tokens": sorted(set(special))})
    renderer = Renderer(made)
    words = conversation(MESSAGES, "messages")
    example = Example("1", "messages", words, variables=frozen({"tools": [WEATHER]}))
    if "tool_calls" not in source:
        with pytest.raises(DataError, match="tool_calls: is dropped"):
            renderer.render(example)
        return
    tools: Any = [WEATHER]
    theirs = [dict(message) for message in MESSAGES]
    if path.stem in ("deepseek_r1_distill", "deepseekv3", "lfm2"):  # They show calls, or results, and no tools.
        with pytest.raises(DataError, match=r"tools: is ignored|tool_calls: is dropped"):
            renderer.render(example)
        if path.stem != "deepseekv3":
            return
        # Its template joins arguments to text.
        theirs[1], tools, example = {**theirs[1], "tool_calls": [TEXTUAL]}, None, replace(example, variables=())
    tokens = renderer.render(example)
    wanted = made.apply_chat_template(theirs, tools=tools, return_dict=False, chat_template=renderer.template.source)
    ids = tokens.ids.tolist()
    assert ids[: len(wanted)] == wanted
    assert len(ids) - len(wanted) == int(path.stem == "glm4moe")
    ends = np.flatnonzero(tokens.output & ~np.append(tokens.output[1:], False))
    assert {int(tokens.ids[at]) for at in ends} <= renderer.stop_ids
    learned = re.findall("⟦(.*?)⟧", marked(tokens, made), re.DOTALL)
    for text, parts in zip(learned, [("weather", "Zürich"), ("It rains.",), ("Gladly.",)], strict=True):
        assert all(part in text for part in parts)
        assert re.search(r"<[^<>]+>$", text)
        assert "Weather?" not in text


def test_reasoning_that_is_dropped_before_a_call_leaves_the_call() -> None:
    """In the manner of gpt-oss: strict about results, and without the reasoning of calls that were answered."""
    strict = MISTRAL.replace(
        "{{- '[TOOL_CALLS][' }}", "{%- if loop.last %}{{ message.reasoning_content }}{% endif %}{{- '[TOOL_CALLS][' }}"
    )
    made = tiny_tokenizer(chat=False)
    made.add_special_tokens({"additional_special_tokens": SPECIAL[MISTRAL]})
    made.chat_template = strict
    fields = frozen({"reasoning_content": "Hm.", "tool_calls": [CALL]})
    text = (
        Turn("user", "Weather?"),
        Turn("assistant", "", fields=fields),
        Turn("tool", "rain", fields=frozen({"tool_call_id": "abcdef123"})),
        Turn("assistant", "It rains."),
    )
    renderer = Renderer(made)
    example = Example("1", "messages", text)
    call = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Zürich"}, "id": "abcdef123"}]'
    assert renderer.rewritten(example) == {1: call}
    assert f"⟦{call}<|eos|>⟧" in marked(renderer.render(example), made)
    assert f"⟦Hm.{call}<|eos|>⟧" in marked(renderer.render(Example("1", "messages", text[:2])), made)


def test_servers_are_given_tools_ids_and_arguments_as_text() -> None:
    call = frozen({"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rom"}}}]})
    turns = (Turn("user", "a"), Turn("assistant", "", fields=call), Turn("tool", "rain"))
    prompt = Prompt(turns, frozen({"tools": [WEATHER], "enable_thinking": False}))
    body = chat(prompt)
    assert body["tools"] == [WEATHER]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    made = body["messages"][1]["tool_calls"][0]
    assert made == {
        "type": "function",
        "id": "call00000",
        "function": {"name": "weather", "arguments": '{"city": "Rom"}'},
    }
    assert body["messages"][2] == {"role": "tool", "content": "rain", "tool_call_id": "call00000"}
    assert chat(Prompt((Turn("user", "a"),))) == {"messages": [{"role": "user", "content": "a"}]}
    seeds = {prompt_seed(0, one_, 0) for one_ in (prompt, Prompt(turns), Prompt((Turn("user", "a"),)))}
    assert len(seeds) == 3


def test_suites_ask_with_tools(tmp_path: Path) -> None:
    write(tmp_path, [{"messages": MESSAGES[:3], "tools": [WEATHER], "answer": "It rains."}], "items.jsonl")
    (tmp_path / "suite.yaml").write_text("name: s\nkind: generated\ndata: items.jsonl\nmatch: exact\n")
    (suite,) = load_suites(["suite.yaml"], tmp_path)
    (item,) = suite.items
    made = tokenizer(HERMES)
    wanted = made.apply_chat_template(MESSAGES[:3], tools=[WEATHER], add_generation_prompt=True, return_dict=False)
    assert item.prompt is not None
    assert Renderer(made).prompt_ids(item.prompt) == wanted
    write(tmp_path, [{"prompt": "a", "raw": True, "tools": [WEATHER], "answer": "b"}], "items.jsonl")
    with pytest.raises(DataError, match=r"items\.jsonl:1: tools: stands beside a raw prompt"):
        load_suites(["suite.yaml"], tmp_path)


def test_real_rows_with_tools(real_data: Path) -> None:
    path = real_data / "llamafactory_demo/glaive_toolcall_en_demo.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} absent")
    made = tokenizer(HERMES)
    renderer = Renderer(made)
    rows = list(read(str(path)))
    assert sum(bool(row.variables) for row in rows) == 191
    assert sum(any(not turn.is_plain for turn in row.turns) for row in rows) == 153
    for row in [row for row in rows if row.variables][:40]:
        tokens = renderer.render(row)
        tools = json.loads(dict(row.variables)["tools"])
        messages = [turn.message() for turn in row.turns]
        assert tokens.ids.tolist() == made.apply_chat_template(messages, tools=tools, return_dict=False)
        ends = np.flatnonzero(tokens.output & (tokens.ids == made.convert_tokens_to_ids("<|im_end|>")))
        assert len(ends) == sum(turn.role == "assistant" for turn in row.turns)


def test_examples_without_tools_say_so_in_no_word() -> None:
    assert row_of(Example("1", "messages", (Turn("user", "a"), Turn("assistant", "b")))) == {
        "id": "1",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    }
