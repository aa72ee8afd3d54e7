"""Chat templates in the manner of the common model families, short and written here, with a tokenizer for each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from mnemos.core.nouns import Turn
from tests.tiny import TEXT, tiny_tokenizer

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# A default system turn where none is given, no BOS.
QWEN25 = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Thinking is kept only after the last user turn, and an empty block is written where there is none.
QWEN3 = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{% set content = m['content'] %}{% set thought = '' %}"
    "{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{% else %}{{ '<|im_start|>assistant\n' + content }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# No generation prompt: after [/INST] the model itself writes the space.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# The system text moves into the last user turn, wherever it stood.
MISTRAL_SYSTEM = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% set turns = messages[1:] if system else messages %}"
    "{{ bos_token }}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{% set last = loop.last or (loop.index0 == turns | length - 2 and turns[-1]['role'] == 'assistant') %}"
    "{{ '[INST] ' + (system + '\n\n' if system and last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# The generation prompt lacks the newline that the turn has: the model writes it.
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"
)
PHI = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# History without thoughts, a generation prompt that opens one.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% elif m['role'] == 'system' %}{{ m['content'] }}"
    "{% else %}{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
# The end of a turn is written only when another turn follows.
LATE_END = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if not loop.last %}{{ '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|end|>\n<|assistant|>' }}{% endif %}"
)
# No end at all: the next turn's opening token is what stops the model.
GLM = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# No special tokens at all.
PLAIN = (
    "{{ bos_token }}{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """system: the template takes a system turn. trims: it trims contents. bos: it writes BOS.
    stop: what ends an assistant turn. lead: what the model writes before the content.
    appended: the renderer adds the last turn's end, which the template leaves out."""

    template: str
    special: tuple[str, ...]
    stop: str
    system: bool = True
    trims: bool = False
    bos: bool = True
    lead: str = ""
    last_lead: str = ""
    appended: bool = False
    eos: str | None = None


FAMILIES = {
    "llama3": Family(LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>", trims=True),
    "qwen25": Family(QWEN25, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", bos=False),
    "qwen3": Family(
        QWEN3, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", bos=False, last_lead="<think>\n\n</think>\n\n"
    ),
    "gemma": Family(GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", system=False, trims=True),
    "mistral": Family(MISTRAL, ("[INST]", "[/INST]"), "<|eos|>", system=False, lead=" ", last_lead=" "),
    "mistral_system": Family(MISTRAL_SYSTEM, ("[INST]", "[/INST]"), "<|eos|>", lead=" ", last_lead=" "),
    "zephyr": Family(ZEPHYR, ("<|user|>", "<|assistant|>"), "<|eos|>", bos=False, lead="\n", last_lead="\n"),
    "phi": Family(PHI, ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), "<|end|>"),
    "r1": Family(R1, ("<|User|>", "<|Assistant|>"), "<|eos|>"),
    "late_end": Family(LATE_END, ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), "<|end|>", appended=True),
    "glm": Family(GLM, ("<|user|>", "<|assistant|>", "<|system|>"), "<|user|>", appended=True),
}


@cache
def tokenizer(name: str) -> Any:
    """The tiny byte-level tokenizer with a family's special tokens and template."""
    made = tiny_tokenizer(chat=False)
    if name == "plain":
        made.chat_template = PLAIN
        return made
    made.add_special_tokens({"additional_special_tokens": list(FAMILIES[name].special)})
    made.chat_template = FAMILIES[name].template
    return made


@cache
def sentencepiece_like() -> Any:
    """A tokenizer in Llama-2's manner: ▁ for spaces, one before the first word, bytes for the rest."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<|bos|>", "<|eos|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=special, show_progress=False)
    core.train_from_iterator([*TEXT, "Five. Yes, I am. Sure? / <| _ |>"] * 4, trainer)
    # Bytes must be plain vocabulary: as special tokens their names would be found in texts.
    model = json.loads(core.to_str())
    model["added_tokens"] = [token for token in model["added_tokens"] if not token["content"].startswith("<0x")]
    core = Tokenizer.from_str(json.dumps(model))
    core.add_special_tokens([AddedToken(text, special=True) for text in ("[INST]", "[/INST]")])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|bos|>", eos_token="<|eos|>", unk_token="<unk>")
    made.chat_template = MISTRAL
    return made


def turns(*texts: str) -> tuple[Turn, ...]:
    """`user: …`, `assistant: …`, in short."""
    split = [text.split(": ", 1) for text in texts]
    return tuple(Turn(role, content) for role, content in split)


def marked(tokens: Any, tokenizer: Any) -> str:
    """The decoded text, with ⟦ ⟧ around what is in the output mask."""
    parts: list[str] = []
    at = 0
    ids, output = tokens.ids.tolist(), tokens.output.tolist()
    while at < len(ids):
        end = at
        while end < len(ids) and output[end] == output[at]:
            end += 1
        text = tokenizer.decode(ids[at:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parts.append(f"⟦{text}⟧" if output[at] else text)
        at = end
    return "".join(parts)
