"""Does the model reach the goal by calling real functions, step by step? Pass rate, and win rate of two models.

The shape of ToolBench (arXiv:2307.16789): the model is asked, calls functions, is shown what they give, calls again,
and ends by an answer in words. Deviations: 1. functions are local ones that are run, not services of others; 2. whether
an item is passed is decided by its answer and by the state that the functions leave, where ToolBench asks a language
model; 3. an answer without a call ends the item, where ToolBench wants a call of Finish; 4. of two models that both
pass the one with fewer calls wins, and two that both fail tie.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnemos.core.errors import DataError, UsageError
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.nouns import Answer, Generation, Prompt, Score, Turn, frozen
from mnemos.core.progress import counting
from mnemos.measure.items import Item, read_rows
from mnemos.measure.settings import ToolStepsSettings
from mnemos.measure.tool_calls import offered
from mnemos.rewards import verifiers as verify
from mnemos.rewards.call_match import types_of
from mnemos.rewards.call_syntax import Call, calls_in
from mnemos.rewards.tool_functions import REASONS, Done, carry_out, check_state, read_source, signatures, tools_in

AGAINST = "against"
"""Key of Answer.data: how another model did on the item; see `facing`."""
STEPS = "steps"
"""Key of Answer.data: every call with its result, its end and the state that is left."""
RESULTS = "Results, in the order of the calls:\n{results}\n\nCall again, or answer in words if nothing is left to do."
"""What is shown where the chat template knows no tools."""
LONGEST_NAME = 100
"""Characters of a function's name that are kept, as a model may write anything there."""
ANSWERED, TOO_MANY, FULL = "answered", "too many calls", "the dialogue is longer than the context"
"""How an item ends."""

_BAD = re.compile(r"bad calls: ([^;]*)")
Scored = tuple[float, str | None, float, str]


@dataclass
class _Dialogue:
    """One item on its way. state: JSON. calls: carried out, or bad."""

    item: Item
    prompt: Prompt
    in_words: bool
    state: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    first: Generation | None = None
    text: str = ""
    tokens: int = 0
    end: str | None = None
    missing: str | None = None

    def takes(self, made: Generation, calls: Sequence[Call], most: int) -> bool:
        """Take what the model wrote; whether its calls are to be carried out."""
        self.first = self.first or made
        self.tokens += made.written
        self.text = made.text
        if not made.ids and not made.finished:
            self.end = FULL
        elif not calls:
            self.end = ANSWERED
        elif len(self.calls) + len(calls) > most:
            self.end = TOO_MANY
        return self.end is None

    def shown(self, calls: Sequence[Call], done: Done) -> None:
        """Add the calls and their results to the dialogue."""
        if done.missing is not None:
            self.missing, self.end = done.missing, ANSWERED
            return
        self.state = done.state
        made = [{"name": _clean(call.name[:LONGEST_NAME]), "arguments": _plain(call.arguments)} for call in calls]
        results = [_clean(result.text) for result in done.results]
        more = self._in_words(results) if self.in_words else self._as_messages(made, results)
        for one, text, result in zip(made, results, done.results, strict=True):
            self.calls.append({**one, "text": text, "fault": result.fault})
        self.prompt = Prompt((*self.prompt.turns, *more), self.prompt.variables)

    def _in_words(self, results: Sequence[str]) -> list[Turn]:
        # Not by format(): braces in a result are data.
        return [Turn("assistant", self.text), Turn("user", RESULTS.replace("{results}", "\n".join(results)))]

    def _as_messages(self, calls: Sequence[Mapping[str, Any]], results: Sequence[str]) -> list[Turn]:
        """As servers and chat templates take them. Ids of nine letters and digits, which Mistral's template wants."""
        ids = [f"call{len(self.calls) + at:05d}" for at in range(len(calls))]
        made = [{"id": i, "type": "function", "function": one} for i, one in zip(ids, calls, strict=True)]
        own = [Turn("assistant", "", fields=frozen({"tool_calls": made}))]
        named = zip(ids, calls, results, strict=True)
        return own + [Turn("tool", r, fields=frozen({"tool_call_id": i, "name": c["name"]})) for i, c, r in named]


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can spell and no tokenizer takes; something, where it is empty."""
    return text.encode("utf-8", "replace").decode() or "none"


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON has them; what it has no word for, as text."""
    try:
        text = json.dumps(arguments, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({str(name)[:100]: repr(value)[:200] for name, value in list(arguments.items())[:20]})
    made: dict[str, Any] = json.loads(_clean(text))
    return made


def act(model: Any, name: str, items: Sequence[Item], settings: ToolStepsSettings, decoding: Any) -> list[Answer]:
    """Lead the model through every item, all of them one turn at a time. Raises DataError where the functions cannot
    be run, UsageError where this machine gives no sandbox."""
    source = read_source(settings.functions)
    going = [_begun(model, item) for item in items]
    everything = tuple(going)
    with counting(len(items)) as count:
        while going:
            with counting(len(going), "answers"):  # the answers of a round are no items of the suite
                made: list[Generation] = model.generate([one.prompt for one in going], decoding)
            going = _round(going, made, source, settings.max_calls)
            count.to(len(items) - len(going))
    return [_answer(name, one, model) for one in everything]


def _round(going: Sequence[_Dialogue], made: Sequence[Generation], source: str, most: int) -> list[_Dialogue]:
    """Carry out what each dialogue's model has written; those that go on."""
    types = types_of(signatures(source))
    called = [calls_in(g.text, types) for g in made]
    some = [(one, calls) for one, g, calls in zip(going, made, called, strict=True) if one.takes(g, calls, most)]
    for (one, calls), done in zip(some, carry_out(source, [(o.state, c) for o, c in some]), strict=True):
        one.shown(calls, done)
    return [one for one, _ in some if one.end is None]


def _begun(model: Any, item: Item) -> _Dialogue:
    prompt = offered(model, item)
    assert item.goal is not None
    return _Dialogue(item, prompt, not any(name == "tools" for name, _ in prompt.variables), item.goal.state)


def _answer(suite: str, one: _Dialogue, model: Any) -> Answer:
    if one.missing is not None:
        return Answer(suite, one.item.id, data={"missing": one.missing})
    assert one.first is not None
    if one.first.ids == () and not one.first.finished:
        return Answer(suite, one.item.id, data={"missing": "prompt longer than the context"})
    steps = {"calls": one.calls, "end": one.end, "state": json.loads(one.state)}
    data: dict[str, Any] = {"ids": list(one.first.ids), STEPS: steps}
    if getattr(model, "opens_thought", lambda prompt: False)(one.prompt):
        data["thinks"] = True
    return Answer(suite, one.item.id, one.text, one.end == ANSWERED, one.tokens, data)


# items ----------------------------------------------------------------------------------------


def check(settings: ToolStepsSettings, item: Item, where: str) -> None:
    """Raise DataError for an item without a goal, or with one that nothing could reach."""
    if item.prompt is not None and any(name == "tools" for name, _ in item.prompt.variables):
        raise UsageError(f"{where}: tools", "stand in the row", "the file of functions says what is offered; drop them")
    if item.follow_ups:
        raise UsageError(f"{where}: turns", "are not for kind tool_steps", "give one prompt, or messages")
    if item.goal is None:
        cure = "state: {…} is what the functions work on, {} where they need none; end_state is written alike"
        raise DataError(where, "has no state, or an end_state beside it, that is a JSON object", cure)
    if item.goal.end_state is None and not item.answers:
        raise DataError(where, "names no goal", "answer: what is right, or end_state: what the functions must leave")
    check_state(json.loads(item.goal.state), where)
    for reference in item.answers:
        verify.check_reference(settings.match, reference, where=where)


def as_asked(item: Item, settings: ToolStepsSettings) -> Item:
    """The item with the functions of the suite's file, and with the way in which its answer is compared."""
    assert item.prompt is not None
    assert item.goal is not None
    made = _tools(read_source(settings.functions))
    prompt = Prompt(item.prompt.turns, (*item.prompt.variables, *made))
    goal = dataclasses.replace(item.goal, match=settings.match)
    return dataclasses.replace(item, prompt=prompt, tools_in=settings.tools_in, goal=goal)


@lru_cache(maxsize=64)
def _tools(source: str) -> Any:
    return frozen({"tools": [{"type": "function", "function": json.loads(one)} for one in tools_in(source)]})


# scores ---------------------------------------------------------------------------------------


def score(settings: ToolStepsSettings, item: Item, answer: Answer) -> Scored:
    """1 where the goal is reached, else 0; the note says why not, how many calls there were, and which were bad."""
    steps = answer.data[STEPS]
    fault = _fault(item, answer)
    words = ["passed" if fault is None else fault, f"{len(steps['calls'])} calls"]
    bad = Counter(one["fault"] for one in steps["calls"] if one["fault"] is not None)
    if bad:
        words.append("bad calls: " + ", ".join(f"{reason} {bad[reason]}" for reason in REASONS if bad[reason]))
    return float(fault is None), None, 1.0, "; ".join(words)


def _fault(item: Item, answer: Answer) -> str | None:
    """Why the goal is not reached; None where it is."""
    steps, goal = answer.data[STEPS], item.goal
    assert goal is not None
    assert goal.match is not None
    if steps["end"] != ANSWERED:
        return str(steps["end"])
    if goal.end_state is not None and not verify.json_equal(json.dumps(steps["state"]), goal.end_state):
        return "another state is left"
    text, match = answer.text or "", goal.match
    if item.answers and not any(verify.score(match, text, one).value == 1 for one in item.answers):
        return "another answer"
    return None


def facing(answer: Answer, other: Answer | None) -> Answer:
    """The answer with how another model did on the item."""
    reason = "no answer to this item" if other is None else other.data.get("missing")
    value = {"missing": reason} if other is None or reason else {"text": other.text, STEPS: other.data[STEPS]}
    return dataclasses.replace(answer, data={**answer.data, AGAINST: value})


@lru_cache(maxsize=8)
def anchored(path: str, content: str) -> Mapping[str, Answer]:
    """Another model's answers to the suite, by item, from a run's file of them. content: its fingerprint. Raises
    DataError with the place of a row that is none."""
    found: dict[str, Answer] = {}
    for row in read_rows(Path(path)):
        item, text, data = (row.values.get(key) for key in ("item", "text", "data"))
        data = data if isinstance(data, Mapping) else {}
        steps = data.get(STEPS)
        whole = isinstance(steps, Mapping) and isinstance(steps.get("calls"), list) and {"end", "state"} <= set(steps)
        if not isinstance(item, str) or not isinstance(text, str | None) or not (whole or "missing" in data):
            cure = "name the file that a run keeps of such a suite, answers/<suite>.jsonl"
            raise DataError(row.where, "is no answer to a suite of kind tool_steps", cure)
        found[item] = Answer("", item, text, data=dict(data))
    return found


def wins(settings: Any, item: Item, answer: Answer) -> Scored:
    """1 where the model did better than the other on the item, 0 where worse, 1/2 where as well: to pass is better
    than to fail, and to pass with fewer calls is better than with more."""
    other = answer.data.get(AGAINST)
    if other is None:
        return 0.5, None, 1.0, "itself"
    if "missing" in other:
        return math.nan, f"the other model: {other['missing']}", 1.0, ""
    there = Answer(answer.suite, answer.item, other["text"], data={STEPS: other[STEPS]})
    ours, theirs = _standing(item, answer), _standing(item, there)
    words = [f"{'passed' if passed else 'failed'} with {-calls} calls" for passed, calls in (ours, theirs)]
    # Two that fail are as good as each other, however many calls that took.
    tie = ours == theirs or not (ours[0] or theirs[0])
    return 0.5 if tie else float(ours > theirs), None, 1.0, " against ".join(words)


def _standing(item: Item, answer: Answer) -> tuple[bool, int]:
    return _fault(item, answer) is None, -len(answer.data[STEPS]["calls"])


def check_wins(settings: Any, item: Item, where: str) -> None:
    """Raise UsageError for a suite of another kind."""
    if settings.against != "before":
        if not Path(settings.against).is_file():
            raise UsageError(
                f"{where}: against {settings.against}", "is not a file", "name a run's answers to the suite"
            )
        anchored(settings.against, file_fingerprint(settings.against))
    if item.goal is None or item.goal.match is None:
        raise UsageError(
            f"{where}: of", "names no suite of kind tool_steps", "name the suite whose models are compared"
        )


def notices(before: Sequence[Score], after: Sequence[Sequence[Score]]) -> tuple[str, ...]:
    """Bad calls by reason, before and after, where there are any."""
    sides = [_bad(before), *map(_bad, after)]
    if not any(sides):
        return ()
    later: Counter[str] = sum(sides[1:], Counter())
    runs = max(len(after), 1)
    named = [
        f"{reason} {sides[0][reason]} before, {later[reason] / runs:g} after"
        for reason in REASONS
        if sides[0][reason] or later[reason]
    ]
    return (f"bad calls: {'; '.join(named)}",)


def _bad(scores: Sequence[Score]) -> Counter[str]:
    found: Counter[str] = Counter()
    for score in scores:
        if score.note and (listed := _BAD.search(score.note)):
            for one in listed[1].split(", "):
                reason, _, number = one.rpartition(" ")
                found[reason] += int(number)
    return found
