"""From examples to token ids, weights and output masks: one renderer for training, measuring and use.

Guards: the ids of a chat are those of the tokenizer's own ``apply_chat_template``; masks come from
where the template puts each turn (`spans`), never from searching decoded text; BOS stands before raw
text where the tokenizer itself puts it there, once; the token that ends a turn is part of what the
model learns to write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mnemos.core.errors import DataError, ModelError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, Frozen, Prompt, Tokens, Turn, frozen, thawed
from mnemos.sources.chat_template import PROBE_CALL, Template
from mnemos.sources.encoding import Encoded, Encoder, Span, borders
from mnemos.sources.opening import begun, prefix_ids, stand_in_ids
from mnemos.sources.sound_marks import FIRST_SOUND, Hear, Placed, around, folded, placed, unfolded, unfolded_tokens
from mnemos.sources.spans import Located, Spans

RAW_ROLES = frozenset({"prompt", "completion", "text", "rendered"})
"""Turns that are joined as they are, without a chat template. rendered: text that a template wrote, which holds
its special tokens already and gets none."""

MOST_TEMPLATES = 64
"""Kept at a time: one for the tools, or other variables, of each row that has some."""


class Renderer:
    """Renders with one tokenizer and its chat template.

    options: variables for the template, such as ``{"enable_thinking": False}``. A template that
    prints today's date gets a fixed one, or tokens would change overnight. hear: what a model that listens reads for
    a sound; None for a model of text alone, which refuses sounds.

    Text that spells a special token inside a chat turn (``</s>`` in a web page) is encoded as
    plain characters: it neither ends a turn nor adds a second BOS. Raw text is taken at its word.
    Raises ModelError for a tokenizer without character offsets (a slow one).
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any] | None = None, hear: Hear | None = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"tokenizer {getattr(tokenizer, 'name_or_path', '')!r} ({type(tokenizer).__name__})",
                "gives no character offsets, so masks cannot be made",
                "save the model with a fast tokenizer (tokenizer.json)",
            )
        self.tokenizer, self.hear = tokenizer, hear
        self._options = dict(options or {})
        self._encoder = Encoder(tokenizer)
        self._spans: dict[Frozen, Spans] = {}
        self._stops: frozenset[int] | None = None
        self._tails: dict[tuple[str, ...], list[int]] = {}
        added = tokenizer.added_tokens_decoder
        self._added = frozenset(added)
        self._special = tuple(token.content for token in added.values() if token.special and token.content)

    @property
    def template(self) -> Template:
        """The chat template; ModelError with the cure if there is none."""
        return self._of(()).template

    def _of(self, variables: Frozen) -> Spans:
        """The template with what a row gives it. Rows with the same tools share what was found out about it."""
        if variables not in self._spans:
            if len(self._spans) > MOST_TEMPLATES:
                self._spans = {name: one for name, one in self._spans.items() if not name}
            self._spans[variables] = Spans(Template(self.tokenizer, self._options, thawed(variables)))
        return self._spans[variables]

    @property
    def template_fingerprint(self) -> str:
        """Changes exactly when the same rows could be rendered differently with the same vocabulary."""
        template = self.template if self.tokenizer.chat_template else None
        tokens: dict[str, Any] = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        if self._prefix != [self.tokenizer.bos_token_id]:
            tokens["before raw text"] = self._prefix
        if template is None:
            return fingerprint({"template": None, "tokens": tokens})
        source = self.tokenizer.chat_template  # several by name, where tools have one of their own
        named = {"named": source} if isinstance(source, dict) else {}
        return fingerprint({"template": template.source, "options": template.options, "tokens": tokens, **named})

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's EOS and whatever the template puts after an
        assistant turn, of words or a call of a tool, found by rendering them."""
        if self._stops is None:
            eos = self.tokenizer.eos_token_id
            found = set() if eos is None else {int(eos)}
            if self.tokenizer.chat_template:
                for turns in self._probes():
                    try:
                        tokens, ends = self._chat(Placed(turns), "a probe of the chat template")
                    except DataError:
                        continue
                    found.update(int(tokens.ids[at]) for at in ends)
            self._stops = frozenset(found)
        return self._stops

    def _probes(self) -> list[tuple[Turn, ...]]:
        """Short conversations whose answers end in every way that the template knows."""
        chat = (Turn("user", "a"), Turn("assistant", "b"))
        if "tool_calls" not in self.template.source:
            return [chat, chat * 2]
        result = Turn("tool", "c", fields=frozen({"tool_call_id": PROBE_CALL["id"], "name": "probe"}))
        called = (chat[0], Turn("assistant", "", fields=frozen({"tool_calls": [PROBE_CALL]})))
        return [chat, chat * 2, called, (*called, result, chat[1])]

    def render(self, example: Example) -> Tokens:
        """Token ids with weight 1 on everything except token 0 and turns with ``learn=False``, and
        `output` on what the model writes itself, each turn's end-of-turn token included.

        text: ``tokenizer(text)`` and EOS. completion: ``tokenizer(prompt)``, completion and EOS, behind BOS
        (EOS where there is none) where the prompt is empty. The other kinds: the chat template; of a
        preference, the chosen conversation. Raises DataError where the
        template refuses the conversation, ModelError where it or a stop token is missing.
        """
        where = place_of(example)
        turns = self._placed(example.turns, where)
        if all(turn.role in RAW_ROLES for turn in turns.turns):
            tokens = self._raw(turns.turns, where)
        else:
            tokens, _ = self._chat(turns, where, example.variables)
        tokens = unfolded_tokens(tokens, turns.spelled)
        return Tokens(tokens.ids, tokens.weight, tokens.output, example.id, example.origin)

    def _placed(self, turns: Sequence[Turn], where: str) -> Placed:
        """The turns with marks where sounds are. DataError for sounds that this model cannot be given."""
        if not any(turn.sounds for turn in turns):
            return Placed(tuple(turns))
        if self.hear is None or any(turn.role in RAW_ROLES for turn in turns):
            _refuse_sounds(turns, where)
        assert self.hear is not None
        return placed(turns, self.hear)

    def rewritten(self, example: Example) -> dict[int, str]:
        """Of the turns that are to be learned, those of which the chat template left out, or changed, more than white
        space, and what it made of them. Raises as `render` does, but renders no ids."""
        if all(turn.role in RAW_ROLES for turn in example.turns):
            return {}
        found = self._of(example.variables)
        located = found.locate(self._placed(example.turns, place_of(example)).turns, place_of(example))
        return {i: located.text[slice(*located.written[i])] for i in located.rewritten if example.turns[i].learn}

    def render_in_use(self, example: Example) -> Tokens:
        """A chat whose last answer stands as the model would have to write it (`Spans.in_use`), with weight on it and
        its end alone. The prompt's ids are those of `prompt_ids`."""
        where = place_of(example)
        made = self._placed(example.turns, where)
        turns, found = made.turns, self._of(example.variables)
        located = found.in_use(turns, where)
        ((start, end),) = located.written.values()
        plain = self._spelled(found.template, located.text[:start], turns[:-1], generation=True, where=where)
        spelled = any(token in turns[-1].text for token in self._special)
        # An empty span cuts the text there, so that no token straddles the border.
        marks = made.spans(located.text, where)
        tokens, _ = self._located(located, [*plain, (start, end if spelled else start)], turns, marks=marks)
        tokens = unfolded_tokens(tokens, made.spelled)
        return Tokens(tokens.ids, tokens.output.astype(np.float32), tokens.output, example.id, example.origin)

    def render_all(self, examples: Iterable[Example]) -> list[Tokens]:
        """`render` for each example, in order."""
        return [self.render(example) for example in examples]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """What a model is given before it answers: the chat with the generation prompt, or the raw
        text as ``tokenizer(text)`` begins it (BOS alone, or EOS, where it is empty). Rendering the
        answered example begins with the same ids wherever the template and the tokenizer allow it."""
        where = "the prompt"
        made = self._placed(prompt.turns, where)
        if all(turn.role in RAW_ROLES for turn in prompt.turns):
            raw = "".join(turn.text for turn in prompt.turns)
            if any(turn.role == "rendered" for turn in prompt.turns):
                return self._encoder.encode(raw)[0]
            return self._given(raw)
        template = self._of(prompt.variables).template
        template.refuse_unused(made.turns, where)
        text = template.text(made.turns, generation=True, where=where)
        plain = self._spelled(template, text, made.turns, generation=True)
        return unfolded(self._encode(text, plain, made.spans(text, where))[0], made.spelled)

    def takes_tools(self, prompt: Prompt) -> bool:
        """Whether the chat template shows the model the prompt's tools. Raises ModelError where there is no template,
        DataError where it refuses the prompt."""
        turns = self._placed(prompt.turns, "the prompt").turns
        return self._of(prompt.variables).template.shows_tools(turns, "the prompt")

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text of token ids, without special tokens unless asked for; sounds have none."""
        text: str = self.tokenizer.decode(
            [int(i) for i in ids if i < FIRST_SOUND],
            skip_special_tokens=not special,
            clean_up_tokenization_spaces=False,
        )
        return text

    def is_special(self, token: int) -> bool:
        """Whether a token id is one of the vocabulary's added tokens, such as an end of turn."""
        return int(token) in self._added

    def _raw(self, turns: Sequence[Turn], where: str) -> Tokens:
        eos = self.tokenizer.eos_token_id
        if eos is None:
            raise ModelError(
                f"{where}: the tokenizer",
                "has no EOS token, so a text's end cannot be taught",
                "set tokenizer.eos_token",
            )
        given, written = _split_raw(turns, where)
        # A document begins as the tokenizer begins it; a completion goes on from what stands before it in use.
        prompt = self._given(given) if len(turns) > 1 else self._prefix
        ids = begun(self._prefix if given else prompt, self._encoder.encode(given + written)[0])
        if given and ids[: len(prompt)] != prompt:
            # A token would straddle the border; in use the prompt is tokenised alone, so train on that.
            ids = prompt + self._encoder.inner(written, False)[0]
        if ids[-1:] != [eos] or len(ids) <= len(prompt):
            ids = [*ids, eos]
        weight = np.ones(len(ids), np.float32)
        output = np.arange(len(ids)) >= len(prompt)
        if not turns[-1].learn:
            weight[output] = 0.0
            output = np.zeros(len(ids), np.bool_)
        weight[0] = 0.0
        return Tokens(np.array(ids, np.int32), weight, output, where)

    @cached_property
    def _prefix(self) -> list[int]:
        return prefix_ids(self.tokenizer)

    def _given(self, text: str) -> list[int]:
        """A raw prompt as in use."""
        return begun(self._prefix, self._encoder.encode(text)[0]) or stand_in_ids(self.tokenizer)

    def _encode(self, text: str, plain: Sequence[Span], marks: Sequence[Span] = ()) -> Encoded:
        """Ids and spans, each mark one id below 0."""
        if not marks:
            return self._encoder.encode(text, plain)
        return folded(self._encoder.encode(text, around(plain, marks)), marks)

    def _chat(self, made: Placed, where: str, variables: Frozen = ()) -> tuple[Tokens, list[int]]:
        """The rendered chat and the positions of its end-of-turn tokens."""
        found, turns = self._of(variables), made.turns
        template = found.template
        located = found.locate(turns, where)
        plain = self._spelled(template, located.text, turns, where=where)
        silent = (i for i, turn in enumerate(turns) if not turn.learn and i not in located.written)
        quiet = [(located.contents or {}).get(i) or template.content(turns, i, where=where) for i in silent]
        return self._located(located, plain, turns, quiet, made.spans(located.text, where))

    def _located(
        self,
        located: Located,
        plain: Sequence[Span],
        turns: Sequence[Turn],
        quiet: Sequence[Span] = (),
        marks: Sequence[Span] = (),
    ) -> tuple[Tokens, list[int]]:
        """plain: where no special token is meant. quiet: where nothing is learned, beside answers that say so. marks:
        of sounds."""
        ids, spans = self._encode(located.text, plain, marks)
        starts, ends = borders(spans)
        regions: list[tuple[int, int, bool]] = []
        stops: list[int] = []
        for i, (a, b) in located.written.items():
            first = int(np.searchsorted(ends, a, side="right"))
            after = int(np.searchsorted(starts, b, side="left"))
            later = min((span[0] for j, span in located.written.items() if j > i), default=len(located.text))
            stop = self._stop_after(located.text, ids, starts, ends, after, (located.own[i], later))
            if stop is None and i == len(turns) - 1:
                ids = ids + self._tail(tuple(turn.role for turn in turns))
                stop = len(ids) - 1
            if stop is not None:
                stops.append(stop)
                after = stop + 1
            regions.append((first, after, turns[i].learn))
        weight = np.ones(len(ids), np.float32)
        output = np.zeros(len(ids), np.bool_)
        for first, after, learn in regions:
            output[first:after] = learn
            weight[first:after] = float(learn)
        for start, end in quiet:
            weight[np.searchsorted(ends, start, side="right") : np.searchsorted(starts, end, side="left")] = 0.0
        weight[:1] = 0.0
        return Tokens(np.array(ids, np.int32), weight, output, ""), stops

    def _stop_after(
        self, text: str, ids: list[int], starts: Any, ends: Any, after: int, limits: tuple[int, int]
    ) -> int | None:
        """Position of the last special token that ends a content.

        The first special token behind the content counts (only whitespace may stand between), up to
        the next turn's answer, limits[1]; further ones directly behind it up to limits[0], where the
        text is the same whatever comes next.
        """
        while after < len(starts) and ends[after] <= limits[1] and not self._ends_turn(text, ids, starts, ends, after):
            if text[starts[after] : ends[after]].strip():
                return None
            after += 1
        if after >= len(starts) or ends[after] > limits[1]:
            return None
        while after + 1 < len(starts) and ends[after + 1] <= limits[0]:
            if not self._ends_turn(text, ids, starts, ends, after + 1):
                break
            after += 1
        return after

    def _ends_turn(self, text: str, ids: list[int], starts: Any, ends: Any, at: int) -> bool:
        # Some vocabularies hold line ends as added tokens.
        return ids[at] in self._added and not text[starts[at] : ends[at]].isspace()

    def _tail(self, roles: tuple[str, ...]) -> list[int]:
        """Ids that end the last turn where the template writes its end only before a further turn."""
        if roles not in self._tails:
            self._tails[roles] = self._find_tail([Turn(role, "a") for role in roles])
        return self._tails[roles]

    def _find_tail(self, turns: Sequence[Turn]) -> list[int]:
        try:
            text = self.template.text(turns)
            longer = self.template.text([*turns, Turn("user", "a")])
        except DataError:
            text, longer = "a text", ""
        if longer.startswith(text):
            rest = longer[len(text) :]
            ids, spans = self._encoder.encode(rest)
            starts, ends = borders(spans)
            stop = self._stop_after(rest, ids, starts, ends, 0, (0, len(rest)))
            if stop is not None:
                return ids[: stop + 1]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                "the chat template",
                "ends an assistant turn with no special token, and the tokenizer has no EOS",
                "set tokenizer.eos_token: without a stop token no answer would ever end",
            )
        return [int(self.tokenizer.eos_token_id)]

    def _spelled(
        self, template: Template, text: str, turns: Sequence[Turn], *, generation: bool = False, where: str = "prompt"
    ) -> list[Span]:
        """Where contents, calls of tools and tools spell special tokens, which are then encoded as plain characters."""
        found = [
            template.content(turns, i, generation=generation, where=where)
            for i, turn in enumerate(turns)
            if any(token in turn.text for token in self._special)
        ]
        beside = [value for turn in turns for _, value in turn.fields] + [json.dumps(template.row, ensure_ascii=False)]
        spelled = [token for token in self._special if any(token in value for value in beside)]
        return found + template.fields_spelling(text, turns, spelled, generation, where) if spelled else found


def place_of(example: Example) -> str:
    """What errors call the example: file and line, where they are known, and its id."""
    return f"{example.place + ': ' if example.place else ''}example {example.id!r}"


def _refuse_sounds(turns: Sequence[Turn], where: str) -> None:
    for turn in turns:
        if turn.sounds:
            raise DataError(
                f"{where}: {turn.sounds[0].path}", "is a sound, and this model reads text alone", "give its transcript"
            )


def _split_raw(turns: Sequence[Turn], where: str) -> tuple[str, str]:
    roles = tuple(turn.role for turn in turns)
    if roles == ("text",):
        return "", turns[0].text
    if roles == ("prompt", "completion"):
        return turns[0].text, turns[1].text
    raise DataError(
        f"{where} (roles: {', '.join(roles)})", "raw turns are one text, or a prompt and a completion", "use chat roles"
    )
