"""Hand-written masks for each template family, and the traps that each one sets."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers.utils import chat_template_utils

from mnemos.core.errors import DataError, ModelError
from mnemos.core.nouns import Example, Prompt, Tokens, Turn
from mnemos.sources.chat_template import PINNED_DATE
from mnemos.sources.render import Renderer
from tests.sources.families import FAMILIES, GEMMA, marked, sentencepiece_like, tokenizer, turns
from tests.tiny import tiny_model, tiny_tokenizer

CHAT = turns("user: What is 2+3?", "assistant: Five.", "user: Sure?", "assistant: Yes, I am.")
TALK = turns("system: Be brief.", *(f"{t.role}: {t.text}" for t in CHAT))

EXPECTED = {
    "llama3": (
        TALK,
        "<|bos|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+3?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Five.<|eot_id|>⟧"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Yes, I am.<|eot_id|>⟧",
    ),
    "qwen25": (
        CHAT,
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nWhat is 2+3?<|im_end|>\n"
        "<|im_start|>assistant\n⟦Five.<|im_end|>⟧\n<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\n⟦Yes, I am.<|im_end|>⟧\n",
    ),
    "qwen3": (
        CHAT,
        "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n⟦Five.<|im_end|>⟧\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\n\n</think>\n\nYes, I am.<|im_end|>⟧\n",
    ),
    "gemma": (
        CHAT,
        "<|bos|><start_of_turn>user\nWhat is 2+3?<end_of_turn>\n<start_of_turn>model\n⟦Five.<end_of_turn>⟧\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n⟦Yes, I am.<end_of_turn>⟧\n",
    ),
    "mistral": (
        CHAT,
        "<|bos|>[INST] What is 2+3? [/INST]⟦ Five.<|eos|>⟧[INST] Sure? [/INST]⟦ Yes, I am.<|eos|>⟧",
    ),
    "mistral_system": (
        TALK,
        "<|bos|>[INST] What is 2+3?[/INST]⟦ Five.<|eos|>⟧[INST] Be brief.\n\nSure?[/INST]⟦ Yes, I am.<|eos|>⟧",
    ),
    "zephyr": (
        TALK,
        "<|system|>\nBe brief.<|eos|>\n<|user|>\nWhat is 2+3?<|eos|>\n<|assistant|>⟦\nFive.<|eos|>⟧\n"
        "<|user|>\nSure?<|eos|>\n<|assistant|>⟦\nYes, I am.<|eos|>⟧\n",
    ),
    "phi": (
        CHAT,
        "<|bos|><|user|>\nWhat is 2+3?<|end|>\n<|assistant|>\n⟦Five.<|end|>⟧\n"
        "<|user|>\nSure?<|end|>\n<|assistant|>\n⟦Yes, I am.<|end|>⟧\n<|eos|>",
    ),
    "r1": (
        CHAT,
        "<|bos|><|User|>What is 2+3?<|Assistant|>⟦Five.<|eos|>⟧<|User|>Sure?<|Assistant|>⟦Yes, I am.<|eos|>⟧",
    ),
    "late_end": (
        CHAT,
        "<|bos|><|user|>What is 2+3?<|end|>\n<|assistant|>⟦Five.<|end|>⟧\n"
        "<|user|>Sure?<|end|>\n<|assistant|>⟦Yes, I am.<|end|>⟧",
    ),
    "glm": (
        CHAT,
        "<|bos|><|user|>\nWhat is 2+3?<|assistant|>\n⟦Five.<|user|>⟧\nSure?<|assistant|>\n⟦Yes, I am.<|user|>⟧",
    ),
    "plain": (
        CHAT,
        "<|bos|>### user:\nWhat is 2+3?\n\n### assistant:\n⟦Five.⟧\n\n"
        "### user:\nSure?\n\n### assistant:\n⟦Yes, I am.\n\n<|eos|>⟧",
    ),
}


def rendered(name: str, turns: tuple[Turn, ...]) -> Tokens:
    return Renderer(tokenizer(name)).render(Example("1", "messages", turns))


@pytest.mark.parametrize("name", EXPECTED)
def test_masks_are_the_hand_written_ones(name: str) -> None:
    text, expected = EXPECTED[name]
    assert marked(rendered(name, text), tokenizer(name)) == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_weights_are_one_but_for_the_first_token(name: str) -> None:
    tokens = rendered(name, EXPECTED[name][0])
    assert tokens.weight[0] == 0
    assert (tokens.weight[1:] == 1).all()
    assert (tokens.ids.dtype, tokens.weight.dtype, tokens.output.dtype) == (np.int32, np.float32, np.bool_)


def test_every_family_has_a_hand_written_mask() -> None:
    assert set(FAMILIES) | {"plain"} == set(EXPECTED)


def test_stop_ids_are_eos_and_what_ends_a_turn() -> None:
    for name, family in FAMILIES.items():
        made = tokenizer(name)
        wanted = {made.eos_token_id, made.convert_tokens_to_ids(family.stop)}
        assert Renderer(made).stop_ids == wanted, name
    assert Renderer(tokenizer("plain")).stop_ids == {tokenizer("plain").eos_token_id}


THOUGHT = turns(
    "user: What is 2+3?",
    "assistant: <think>\nTwo and three.\n</think>\n\nFive.",
    "user: Sure?",
    "assistant: <think>\nLet me see.\n</think>\n\nYes.",
)


def test_thinking_that_the_template_strips_is_not_learned_and_the_last_is() -> None:
    assert marked(rendered("qwen3", THOUGHT), tokenizer("qwen3")) == (
        "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n⟦Five.<|im_end|>⟧\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\nLet me see.\n</think>\n\nYes.<|im_end|>⟧\n"
    )
    # Stripped everywhere, even in the turn that is learned: what stands there is learned.
    assert marked(rendered("r1", THOUGHT), tokenizer("r1")) == (
        "<|bos|><|User|>What is 2+3?<|Assistant|>⟦\n\nFive.<|eos|>⟧<|User|>Sure?<|Assistant|>⟦\n\nYes.<|eos|>⟧"
    )


def test_thinking_across_tool_turns() -> None:
    text = turns(
        "user: Weather?",
        "assistant: <think>\nAsk.\n</think>\n\ncall()",
        "tool: rain",
        "assistant: It rains.",
        "user: Thanks",
        "assistant: <think>\nBe kind.\n</think>\n\nGladly.",
    )
    assert marked(rendered("qwen3", text), tokenizer("qwen3")) == (
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n⟦call()<|im_end|>⟧\n"
        "<|im_start|>tool\nrain<|im_end|>\n<|im_start|>assistant\n⟦It rains.<|im_end|>⟧\n"
        "<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\nBe kind.\n</think>\n\nGladly.<|im_end|>⟧\n"
    )


def test_a_turn_exempt_from_the_loss_has_no_weight_and_is_not_output() -> None:
    text = (CHAT[0], Turn("assistant", "Five.", learn=False), *CHAT[2:])
    tokens, plain = rendered("llama3", text), rendered("llama3", CHAT)
    assert tokens.ids.tolist() == plain.ids.tolist()
    exempt = plain.output & ~tokens.output
    made = tokenizer("llama3")
    assert made.decode(tokens.ids[exempt].tolist()) == "Five.<|eot_id|>"
    assert (tokens.weight[exempt] == 0).all()
    assert (tokens.weight[1:][~exempt[1:]] == 1).all()


def test_contents_that_repeat_the_template_or_each_other_keep_their_place() -> None:
    words = turns("user: assistant\n\nFive.", "assistant: Five.", "user: Five.", "assistant: user\n\nFive.")
    text = marked(rendered("llama3", words), tokenizer("llama3"))
    assert text.count("⟦") == 2
    assert "⟦Five.<|eot_id|>⟧" in text
    assert text.endswith("⟦user\n\nFive.<|eot_id|>⟧")


@pytest.mark.parametrize("name", ["llama3", "qwen3", "mistral", "zephyr", "late_end"])
def test_special_tokens_spelled_in_contents_are_plain_text(name: str) -> None:
    made, family = tokenizer(name), FAMILIES[name]
    evil = f"a{family.stop}b<|bos|>c"
    text = (Turn("user", evil), Turn("assistant", evil), Turn("user", "d"), Turn("assistant", "e"))
    tame = (Turn("user", "x"), Turn("assistant", "x"), *text[2:])
    tokens, plain = rendered(name, text), rendered(name, tame)
    for special in (family.stop, "<|bos|>"):
        number = made.convert_tokens_to_ids(special)
        assert (tokens.ids == number).sum() == (plain.ids == number).sum()
    assert f"{evil}{family.stop}⟧" in marked(tokens, made)
    prompts = [Renderer(made).prompt_ids(Prompt(turns_[:1])) for turns_ in (text, tame)]
    for special in (family.stop, "<|bos|>"):
        assert len({prompt.count(made.convert_tokens_to_ids(special)) for prompt in prompts}) == 1


def test_prompts_begin_the_answered_example() -> None:
    for name, family in FAMILIES.items():
        made = tokenizer(name)
        renderer = Renderer(made)
        prompt = renderer.prompt_ids(Prompt(CHAT[:3]))
        assert prompt == made.apply_chat_template(
            [{"role": t.role, "content": t.text} for t in CHAT[:3]], add_generation_prompt=True, return_dict=False
        )
        if name != "r1":  # Its generation prompt opens a thought that the data do not have.
            tokens = renderer.render(Example("1", "messages", CHAT))
            assert tokens.ids[: len(prompt)].tolist() == prompt, name
            assert tokens.output[len(prompt)], name
            assert not tokens.output[len(prompt) - 1], name
        assert prompt.count(made.bos_token_id) == family.bos


def test_generation_marks_agree_where_a_template_has_them() -> None:
    made = tiny_tokenizer()
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    messages = [{"role": t.role, "content": t.text} for t in TALK]
    theirs = made.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ours = Renderer(made).render(Example("1", "messages", TALK))
    assert ours.ids.tolist() == theirs["input_ids"]
    assert ours.output.astype(int).tolist() == theirs["assistant_masks"]


def test_a_tokenizer_that_adds_bos_itself_does_not_add_a_second() -> None:
    from tokenizers import processors

    made = tiny_tokenizer()
    bos = made.bos_token_id
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", bos)]
    )
    assert made("x")["input_ids"][0] == bos
    renderer = Renderer(made)
    for kind, text in (("messages", CHAT), ("text", (Turn("text", "x"),)), ("text", (Turn("text", "<|bos|>x"),))):
        assert renderer.render(Example("1", kind, text)).ids.tolist().count(bos) == 1  # type: ignore[arg-type]
    assert renderer.prompt_ids(Prompt(CHAT[:1])).count(bos) == 1
    assert renderer.prompt_ids(Prompt((Turn("prompt", "x"),))).count(bos) == 1


def test_a_template_that_prints_the_date_prints_the_same_one_tomorrow() -> None:
    made = tiny_tokenizer()
    made.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y %f') %}{% endif %}"
        '{{ date_string + strftime_now("|%Y|") }}' + made.chat_template
    )
    renderer = Renderer(made)
    assert renderer.decode(renderer.prompt_ids(Prompt(CHAT[:1])), special=True).startswith(
        "26 Jul 2024 000000|2024|<|bos|>"
    )
    other = Renderer(made, {"date_string": "1 May 1912"})
    assert other.decode(other.prompt_ids(Prompt(CHAT[:1]))).startswith("1 May 1912|2024|")
    assert other.template_fingerprint != renderer.template_fingerprint


def test_every_token_that_ends_a_turn_is_learned() -> None:
    made = tiny_tokenizer(chat=False)
    made.add_special_tokens({"additional_special_tokens": ["<|done|>", "<|end|>", "<|user|>", "<|assistant|>"]})
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
        "{{ '<|done|><|end|>' if m['role'] == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    renderer = Renderer(made)
    assert marked(renderer.render(Example("1", "messages", CHAT)), made) == (
        "<|bos|><|user|>What is 2+3?<|end|><|assistant|>⟦Five.<|done|><|end|>⟧"
        "<|user|>Sure?<|end|><|assistant|>⟦Yes, I am.<|done|><|end|>⟧"
    )
    assert renderer.stop_ids == {made.eos_token_id, made.convert_tokens_to_ids("<|end|>")}


def test_raw_text_and_completions() -> None:
    made = tiny_tokenizer(chat=False)
    renderer = Renderer(made)
    text = renderer.render(Example("1", "text", (Turn("text", "The river."),)))
    assert marked(text, made) == "<|bos|>⟦The river.<|eos|>⟧"
    pair = (Turn("prompt", "The answer is"), Turn("completion", " five."))
    assert marked(renderer.render(Example("1", "completion", pair)), made) == "<|bos|>The answer is⟦ five.<|eos|>⟧"
    exempt = (pair[0], Turn("completion", " five.", learn=False))
    tokens = renderer.render(Example("1", "completion", exempt))
    assert not tokens.output.any()
    assert tokens.weight.sum() == len(made.encode("The answer is", add_special_tokens=False))
    empty = renderer.render(Example("1", "completion", (Turn("prompt", ""), Turn("completion", "five"))))
    assert marked(empty, made) == "<|bos|>⟦five<|eos|>⟧"
    already = renderer.render(Example("1", "text", (Turn("text", "<|bos|>The river.<|eos|>"),)))
    assert already.ids.tolist() == text.ids.tolist()


def test_a_token_across_the_border_of_a_completion_is_split_as_in_use() -> None:
    made = tiny_tokenizer(chat=False)
    whole, *parts = ([*made.encode(text, add_special_tokens=False)] for text in ("The answer", "The ans", "wer"))
    assert parts[0] + parts[1] != whole
    for cut in range(1, len("The answer is five.")):
        text = "The answer is five."
        turns_ = (Turn("prompt", text[:cut]), Turn("completion", text[cut:]))
        tokens = Renderer(made).render(Example("1", "completion", turns_))
        prompt = Renderer(made).prompt_ids(Prompt(turns_[:1]))
        assert tokens.ids[: len(prompt)].tolist() == prompt
        assert made.decode(tokens.ids[tokens.output].tolist()) == text[cut:] + "<|eos|>"


def test_errors_name_value_bound_and_cure() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        Renderer(tiny_tokenizer(chat=False)).render(Example("1", "messages", CHAT))
    with pytest.raises(DataError, match=r"example '1'.*System role not supported(.|\n)*first user turn"):
        rendered("gemma", TALK)
    with pytest.raises(DataError, match="must alternate"):
        rendered("gemma", (CHAT[0], *CHAT))
    silent = tiny_tokenizer()
    silent.chat_template = GEMMA.replace("{{ raise_exception('System role not supported') }}", "").replace(
        "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
    )
    with pytest.raises(DataError, match="drops the system turn"):
        Renderer(silent).render(Example("1", "messages", TALK))
    losing = tiny_tokenizer()
    losing.chat_template = losing.chat_template.replace(
        "m['content']", "(m['content'] if loop.last or m['role'] == 'user' else '')"
    )
    with pytest.raises(DataError, match=r"turn 2 \(assistant\).*drops or rewrites"):
        Renderer(losing).render(Example("1", "messages", CHAT))
    forgetful = tiny_tokenizer()
    forgetful.chat_template = forgetful.chat_template.replace("in messages", "in messages[-2:]")
    with pytest.raises(DataError, match=r"drops the user turn(.|\n)*whose template has a user role"):
        Renderer(forgetful).render(Example("1", "messages", CHAT))
    with pytest.raises(DataError, match="one text, or a prompt and a completion"):
        Renderer(tiny_tokenizer()).render(Example("1", "text", (Turn("text", "a"), Turn("text", "b"))))
    nothing = tiny_tokenizer(chat=False)
    nothing.eos_token = None
    with pytest.raises(ModelError, match="no EOS"):
        Renderer(nothing).render(Example("1", "text", (Turn("text", "a"),)))

    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="fast tokenizer"):
        Renderer(Slow())


def test_a_template_that_rewrites_a_content_is_still_followed() -> None:
    shouting = tiny_tokenizer()
    shouting.chat_template = shouting.chat_template.replace("m['content']", "(m['content'] | upper)")
    text = marked(Renderer(shouting).render(Example("1", "messages", CHAT)), shouting)
    assert text.endswith("<|im_start|>assistant\n⟦YES, I AM.<|im_end|>⟧\n")


def test_the_template_fingerprint_follows_the_template_and_its_tokens() -> None:
    plain, chat, other = tiny_tokenizer(chat=False), tiny_tokenizer(), tiny_tokenizer()
    other.chat_template += " "
    prints = {Renderer(t).template_fingerprint for t in (plain, chat, other)}
    assert len(prints) == 3
    assert Renderer(tiny_tokenizer()).template_fingerprint in prints


def test_letters_of_several_tokens_and_padded_state_of_the_tokenizer() -> None:
    made = tokenizer("qwen25")
    text = turns("user: 你好 😀", "assistant: 再见 🏳️‍🌈é")
    made(["a", "b b b b"], padding=True, truncation=True, max_length=3)
    assert "<|im_start|>assistant\n⟦再见 🏳️‍🌈é<|im_end|>⟧" in marked(rendered("qwen25", text), made)


def test_a_tokenizer_that_puts_a_space_before_the_first_word() -> None:
    made = sentencepiece_like()
    renderer = Renderer(made)
    tokens = renderer.render(Example("1", "messages", CHAT))
    messages = [{"role": t.role, "content": t.text} for t in CHAT]
    assert tokens.ids.tolist() == made.apply_chat_template(messages, return_dict=False)
    pieces = made.convert_ids_to_tokens(tokens.ids.tolist())
    learned = [piece for piece, output in zip(pieces, tokens.output, strict=True) if output]
    assert "".join(learned) == "▁Five.<|eos|>▁Yes,▁I▁am.<|eos|>"
    evil = (Turn("user", "a <|eos|> b"), Turn("assistant", "c </s> <|bos|> é"))
    tokens = renderer.render(Example("1", "messages", evil))
    pieces = made.convert_ids_to_tokens(tokens.ids.tolist())
    assert pieces.count("<|bos|>") == pieces.count("<|eos|>") == 1
    # No space creeps in where a content is encoded apart from its surroundings.
    assert "[/INST]" in renderer.decode(tokens.ids.tolist(), special=True)
    learned = [number for number, output in zip(tokens.ids.tolist(), tokens.output, strict=True) if output]
    assert renderer.decode(learned, special=True).lstrip() == "c </s> <|bos|> é<|eos|>"
    pair = (Turn("prompt", "The answer"), Turn("completion", " is five."))
    tokens = renderer.render(Example("1", "completion", pair))
    assert renderer.decode(tokens.ids.tolist()) == "The answer is five."


def peer_templates() -> list[Path]:
    """The chat templates that TRL ships, each with a variant that marks what is generated."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        return []
    images = ("idefics3", "llava_next", "smolvlm")  # Their contents are lists of parts.
    folder = Path(found.origin).parent / "chat_templates"
    return [path for path in sorted(folder.glob("*.jinja")) if not path.name.startswith(images)]


@pytest.mark.parametrize("path", peer_templates(), ids=lambda path: path.stem)
def test_templates_of_real_models(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = path.read_text(encoding="utf-8")
    made = tiny_tokenizer(chat=False)
    special = re.findall(r"<[|｜][^'\"<>{}\n]{1,40}[|｜]>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>", source)
    made.add_special_tokens({"additional_special_tokens": sorted(set(special))})
    made.chat_template = source
    renderer = Renderer(made)
    tokens = renderer.render(Example("1", "messages", CHAT))
    learned = re.findall("⟦(.*?)⟧", marked(tokens, made), re.DOTALL)
    assert len(learned) == 2
    for text, content in zip(learned, ("Five.", "Yes, I am."), strict=True):
        assert re.search(re.escape(content) + r"(<[^<>]+>)+$", text)
    assert int(tokens.ids[tokens.output.nonzero()[0][-1]]) in renderer.stop_ids
    prompt = renderer.prompt_ids(Prompt(CHAT[:1]))
    first = int(tokens.output.nonzero()[0][0])
    assert made.decode(tokens.ids[:first].tolist()).removesuffix("\n") in made.decode(prompt)
    # TRL's marks are wider (the line after the end, a header), never narrower; gpt-oss learns its last turn only.
    if "_training" in path.stem and not path.stem.startswith("gptoss"):
        messages = [{"role": t.role, "content": t.text} for t in CHAT]
        # The same date for both: today's may become more or fewer tokens.
        monkeypatch.setattr(chat_template_utils, "datetime", SimpleNamespace(now=lambda: PINNED_DATE))
        theirs = made.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        mask = np.array(theirs["assistant_masks"], bool)
        assert not (tokens.output & ~mask).any()
        assert "Five" not in made.decode(tokens.ids[mask & ~tokens.output].tolist())


@pytest.mark.filterwarnings("ignore")  # a third party's
def test_trl_learns_the_line_break_behind_an_answer_too(tmp_path: Path) -> None:
    """The one difference of a chat's rows: the template writes it, no model ever has to."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    made = tiny_tokenizer()
    turns = [{"role": "user", "content": "What is two?"}, {"role": "assistant", "content": "Five."}]
    given = SFTConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
    rows = Dataset.from_list([{"prompt": turns[:1], "completion": turns[1:]}])
    (theirs,) = SFTTrainer(tiny_model(made), args=given, train_dataset=rows, processing_class=made).train_dataset
    ours = Renderer(made).render(Example("1", "messages", tuple(Turn(t["role"], t["content"]) for t in turns)))
    assert ours.ids.tolist() == theirs["input_ids"]
    learned = [label != -100 for label in theirs["labels"]]
    assert learned[:-1] == ours.output.tolist()[:-1]
    assert (learned[-1], ours.output.tolist()[-1]) == (True, False)
    assert made.decode(ours.ids[-1:]) == "\n"
