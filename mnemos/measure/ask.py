"""Ask a model every suite, and score what it said.

Each suite is asked in calls of its own, so its scores depend on the suite and the model alone and
never on what else happened to be measured in the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemos.core.errors import DataError, NotComparable, UsageError
from mnemos.core.files import read_jsonl, write_jsonl
from mnemos.core.fingerprint import file_fingerprint
from mnemos.core.names import refuse_clash
from mnemos.core.nouns import Answer, Generation, LanguageModel, Prompt, Score, Turn
from mnemos.core.progress import counting, doing
from mnemos.measure import tool_steps
from mnemos.measure.bbh import balanced
from mnemos.measure.heard import asked, unheard, with_sound
from mnemos.measure.items import Item
from mnemos.measure.judged import answers_in, facing, replies
from mnemos.measure.kinds import KINDS, MISSING, THINKS
from mnemos.measure.linear_probe import HIDDEN
from mnemos.measure.recognition import transcribe
from mnemos.measure.sampling import SAMPLES
from mnemos.measure.settings import LinearProbeSettings, PairwiseSettings, ToolStepsSettings, ToolWinsSettings
from mnemos.measure.suite import Suite, linked
from mnemos.measure.token_shift import MARGINAL

if TYPE_CHECKING:
    from mnemos.models.language import LocalModel


@dataclass(frozen=True)
class Measured:
    """What one model said to one suite, and what each item scored; both in the suite's order."""

    suite: str
    answers: list[Answer]
    scores: list[Score]


def measure(
    model: LocalModel | LanguageModel,
    suites: Iterable[Suite],
    *,
    before: LocalModel | LanguageModel | None = None,
    before_answers: Mapping[str, Sequence[Answer]] | None = None,
) -> dict[str, Measured]:
    """Answers and scores of every suite, by name.

    before, before_answers: the model before the stage and what it said, for kl; None where `model`
    is that model, and then its KL to itself is 0 and its answers are frozen for later. What cannot be asked or
    scored is NaN with a reason, never 0. Raises UsageError for an `of:` that names no suite.
    """
    suites = linked(suites, strict=True)
    out: dict[str, Measured] = {}
    done, total = 0, sum(len(suite.items) for suite in suites)
    with counting(total) as count:
        # Suites that borrow answers come last, so that what they look at is there; the order given is brought back at
        # the end.
        for number, suite in enumerate(sorted(suites, key=lambda suite: suite.of is not None), 1):
            title = f"suite {suite.name} ({number} of {len(suites)})"
            doing(title)
            borrowed = out[suite.of].answers if suite.of is not None and suite.of in out else None
            answers = _ask(model, suite, borrowed, before, before_answers)
            doing(f"scoring {title}")
            with counting(len(answers), "scores"):  # a judge's answers are no items of the suite
                out[suite.name] = Measured(suite.name, answers, score(suite, answers))
            done += len(suite.items)
            count.to(done)
    return {suite.name: out[suite.name] for suite in suites}


ALONE = ("generate", "choose", "nats")
"""Ways of asking a suite that need nothing but the model."""


def answers_of(model: LocalModel | LanguageModel, suite: Suite) -> list[Answer]:
    """What a model says to a suite that is asked in one of the ways of `ALONE` and borrows no answers."""
    return _ask(model, suite, None, None, None)


def score(suite: Suite, answers: Sequence[Answer]) -> list[Score]:
    """Scores of answers that were given earlier; asks no model but a classifier suite's own."""
    items = suite.items if suite.ask != "harness" else tuple(map(_of_harness, answers))
    values = KINDS[suite.kind].score(suite.settings, items, answers)
    own = [value[2] if len(value) > 2 else 1.0 for value in values]
    weights = balanced(items, own) if suite.settings.balanced else own
    return [
        Score(
            suite.name,
            item.id,
            value[0],
            value[1],
            weight=weight,
            cluster=item.cluster,
            note=(value[3] or None) if len(value) > 3 else None,
        )
        for item, value, weight in zip(items, values, weights, strict=True)
    ]


def _of_harness(answer: Answer) -> Item:
    """A document of a task of the harness; in a group, its task is its category."""
    task, _, document = answer.item.rpartition("/")
    return Item(id=answer.item, category=task if document else None)


def _ask(
    model: Any, suite: Suite, borrowed: list[Answer] | None, before: Any, kept: Mapping[str, Sequence[Answer]] | None
) -> list[Answer]:
    if suite.ask == "harness":
        from mnemos.measure.harness import run_task

        answers: list[Answer] = run_task(model, suite)
        return answers
    if suite.ask == "divergence":
        return _divergence(model, suite, borrowed, before, kept)
    if suite.ask == "token_shift":
        return _token_shift(model, suite, borrowed, before)
    if suite.ask == "hidden":
        return _hidden(model, suite)
    if suite.ask == "text_divergence":
        return _text_divergence(model, suite, before)
    if suite.ask == "transcribe":
        return transcribe(model, suite, lambda item, reason: _refused(suite, item, reason))
    if not hasattr(model, "generate"):
        raise UsageError(f"suite {suite.name!r}", f"asks {model.name} to write, and it only hears", "measure it by wer")
    if suite.ask == "act":
        assert isinstance(suite.settings, ToolStepsSettings)
        return tool_steps.act(model, suite.name, suite.items, suite.settings, suite.decoding)
    calls = {"generate": _generate, "compare": _generate, "choose": _choose, "nats": _nats}
    answers = calls[suite.ask](model, suite) if borrowed is None else [_rename(one, suite.name) for one in borrowed]
    return _facing(suite, answers, before, kept) if suite.ask == "compare" else answers


def _facing(
    suite: Suite, answers: list[Answer], before: Any, kept: Mapping[str, Sequence[Answer]] | None
) -> list[Answer]:
    """Each answer with the one that it is compared with; the model before stands against itself, without one."""
    if isinstance(suite.settings, ToolWinsSettings):
        return _facing_steps(suite, answers, before, kept)
    assert isinstance(suite.settings, PairwiseSettings)
    if suite.settings.against != "before":
        anchor = answers_in(suite.settings.against, file_fingerprint(suite.settings.against))
        return [facing(answer, anchor.get(answer.item)) for answer in answers]
    if before is None:
        return answers
    return [facing(answer, other) for answer, other in zip(answers, _frozen(suite, kept), strict=True)]


def _facing_steps(
    suite: Suite, answers: list[Answer], before: Any, kept: Mapping[str, Sequence[Answer]] | None
) -> list[Answer]:
    assert isinstance(suite.settings, ToolWinsSettings)
    if suite.settings.against != "before":
        there = tool_steps.anchored(suite.settings.against, file_fingerprint(suite.settings.against))
    elif before is None:
        return answers
    else:
        there = {answer.item: answer for answer in _frozen(suite, kept)}
    return [tool_steps.facing(answer, there.get(answer.item)) for answer in answers]


def _rename(answer: Answer, suite: str) -> Answer:
    return Answer(suite, answer.item, answer.text, answer.finished, answer.tokens, answer.data)


def _refused(suite: Suite, item: str, reason: str) -> Answer:
    return Answer(suite.name, item, data={MISSING: reason})


def _generate(model: Any, suite: Suite) -> list[Answer]:
    if getattr(suite.settings, "samples", 1) > 1:
        return _sampled(model, suite)
    deaf = unheard(model, suite.name, suite.items)
    items = [item for item in suite.items if item.id not in deaf]
    prompts = [asked(model, item) for item in items]
    text: list[Generation] = model.generate(prompts, suite.decoding)
    opens = getattr(model, "opens_thought", lambda prompt: False)
    found = {
        item.id: Answer(suite.name, item.id, g.text, g.finished, g.written, {"ids": list(g.ids), **_opened(opens(p))})
        if g.ids or g.finished
        else _refused(suite, item.id, "prompt longer than the context")
        for item, p, g in zip(items, prompts, text, strict=True)
    }
    first = [found[one.id] if one.id in found else _refused(suite, one.id, deaf[one.id]) for one in suite.items]
    return _followed(model, suite, first) if any(item.follow_ups for item in suite.items) else first


def _sampled(model: Any, suite: Suite) -> list[Answer]:
    """Several answers to each item: text and ids are the first one's, data.samples all texts."""
    number = suite.settings.samples  # type: ignore[attr-defined]
    # In one call, since a prompt that comes again is sampled anew by how often it came before.
    prompts = [asked(model, item) for item in suite.items for _ in range(number)]
    text: list[Generation] = model.generate(prompts, suite.decoding)
    opens = getattr(model, "opens_thought", lambda prompt: False)
    out = []
    for place, item in enumerate(suite.items):
        drawn = text[place * number : (place + 1) * number]
        first = drawn[0]
        if not first.ids and not first.finished:
            out.append(_refused(suite, item.id, "prompt longer than the context"))
            continue
        more = {"ids": list(first.ids), SAMPLES: [g.text for g in drawn], **_opened(opens(prompts[place * number]))}
        tokens = sum(g.written for g in drawn)
        out.append(Answer(suite.name, item.id, first.text, first.finished, tokens, more))
    return out


def _followed(model: Any, suite: Suite, answers: list[Answer]) -> list[Answer]:
    """The answers of items with further turns, led through them: text is the last reply, data.turns all of them, and
    data.ids those of the first, which alone answers the prompt."""
    for number in range(max(len(item.follow_ups) for item in suite.items)):
        going = [
            place
            for place, (item, answer) in enumerate(zip(suite.items, answers, strict=True))
            if len(item.follow_ups) > number and MISSING not in answer.data
        ]
        found: list[Generation] = model.generate(
            [
                _dialogue(asked(model, suite.items[place]), suite.items[place], answers[place], number)
                for place in going
            ],
            suite.decoding,
        )
        for place, g in zip(going, found, strict=True):
            answers[place] = _with_turn(answers[place], g)
    return answers


def _dialogue(prompt: Prompt, item: Item, answer: Answer, number: int) -> Prompt:
    """The prompt of a further turn, with the model's own replies between. number: of the follow-up, from 0."""
    turns = list(prompt.turns)
    for reply, question in zip(replies(answer), item.follow_ups[: number + 1], strict=True):
        turns += [Turn("assistant", reply), Turn("user", question)]
    return Prompt(tuple(turns), prompt.variables)


def _with_turn(answer: Answer, g: Generation) -> Answer:
    if not g.ids and not g.finished:
        return Answer(answer.suite, answer.item, data={MISSING: "a later turn is longer than the context"})
    data = {**answer.data, "turns": [*replies(answer), g.text]}
    return Answer(
        answer.suite, answer.item, g.text, bool(answer.finished) and g.finished, answer.tokens + g.written, data
    )


def _opened(opened: bool) -> dict[str, Any]:
    """Said of an answer where it is so, and not where it is not: answers of most models stay as they were."""
    return {THINKS: True} if opened else {}


def _choose(model: Any, suite: Suite) -> list[Answer]:
    options = [[_joined(item, option, suite.settings) for option in item.options] for item in suite.items]
    found = model.choose([item.prompt for item in suite.items], options)
    return [_chosen(suite, item, scores) for item, scores in zip(suite.items, found, strict=True)]


def _joined(item: Item, option: str, settings: Any) -> str:
    """The option with the delimiter that a raw prompt needs before it."""
    assert item.prompt is not None
    last = item.prompt.turns[-1]
    # A chat template brings its own border. Two spaces, or none, would make tokens that hardly any text has, and every
    # option unlikely.
    if last.role != "prompt" or not last.text or last.text[-1].isspace() or option[:1].isspace():
        return option
    return f"{settings.delimiter}{option}"


def _chosen(suite: Suite, item: Item, scores: Sequence[Any]) -> Answer:
    data = {
        "log_probs": [s.log_prob for s in scores],
        "tokens": [s.tokens for s in scores],
        "greedy": [s.greedy for s in scores],
    }
    if not all(math.isfinite(value) for value in data["log_probs"]):
        return _refused(suite, item.id, "prompt and option longer than the context, or a likelihood not finite")
    # Shown to people as the answer; the kind scores the log-probabilities themselves, which may be divided by
    # length.
    best = max(range(len(scores)), key=lambda index: data["log_probs"][index])
    return Answer(suite.name, item.id, item.options[best], None, 0, data)


def _nats(model: Any, suite: Suite) -> list[Answer]:
    found = model.nats([item.text for item in suite.items])
    return [
        Answer(suite.name, item.id, None, None, tokens, {"nats": nats, "bytes": len((item.text or "").encode())})
        if math.isfinite(nats) and tokens
        else _refused(suite, item.id, "no token to predict" if not tokens else "the text's likelihood is not finite")
        for item, (nats, tokens) in zip(suite.items, found, strict=True)
    ]


def _divergence(
    model: Any, suite: Suite, borrowed: list[Answer] | None, before: Any, kept: Mapping[str, Sequence[Answer]] | None
) -> list[Answer]:
    """KL(before || model) along the frozen answers of the model before."""
    if before is None:
        frozen = _generate(model, suite) if borrowed is None else borrowed
        return [_diverged(suite, answer, 0.0, len(_ids(answer))) for answer in frozen]
    frozen = _frozen(suite, kept)
    # No divergence is there along an empty answer: (0, 0) stays, and the kind reports it as missing.
    usable = [index for index, answer in enumerate(frozen) if _ids(answer)]
    prompts = [asked(before, suite.items[index]) for index in usable]
    try:
        values = before.divergence(model, prompts, [frozen[index].data["ids"] for index in usable])
    except NotComparable as error:
        return [_refused(suite, answer.item, f"{error.value} {error.bound}") for answer in frozen]
    found = [(0.0, 0)] * len(frozen)
    for index, value in zip(usable, values, strict=True):
        found[index] = value
    return [_diverged(suite, answer, kl, tokens) for answer, (kl, tokens) in zip(frozen, found, strict=True)]


def _ids(answer: Answer) -> Sequence[int]:
    """The tokens that stand in an answer to its prompt; none of a missing or an empty one. Not as many as it took
    (`answer.tokens`), which counts samples, later turns and what was given up."""
    return () if MISSING in answer.data else answer.data.get("ids", ())


def _text_divergence(model: Any, suite: Suite, before: Any) -> list[Answer]:
    """KL(before || model) along given texts; 0 where `model` is the model before."""
    try:
        found = (before or model).text_divergence(model, [item.text for item in suite.items])
    except NotComparable as error:
        return [_refused(suite, item.id, f"{error.value} {error.bound}") for item in suite.items]
    return [
        Answer(suite.name, item.id, None, None, tokens, {"kl": kl, "tokens": tokens})
        if math.isfinite(kl) and tokens
        else _refused(suite, item.id, "text empty or longer than the context, or a divergence not finite")
        for item, (kl, tokens) in zip(suite.items, found, strict=True)
    ]


def _token_shift(model: Any, suite: Suite, borrowed: list[Answer] | None, before: Any) -> list[Answer]:
    """The model's own answers with the rank that the model before gives to each token, and KL(model || before)."""
    answers = _generate(model, suite) if borrowed is None else borrowed
    usable = [index for index, answer in enumerate(answers) if _ids(answer)]
    items = [suite.items[index] for index in usable]
    prompts = [with_sound(item.prompt, item) for item in items if item.prompt is not None]
    try:
        found = (before or model).shift(model, prompts, [answers[index].data["ids"] for index in usable])
    except NotComparable as error:
        return [_refused(suite, answer.item, f"{error.value} {error.bound}") for answer in answers]
    out = [
        _rename(answer, suite.name) if MISSING in answer.data else _refused(suite, answer.item, "an empty answer")
        for answer in answers
    ]
    for index, pairs in zip(usable, found, strict=True):
        out[index] = _shifted(suite, answers[index], pairs, model.renderer.decode)
    return out


def _hidden(model: Any, suite: Suite) -> list[Answer]:
    """The model's state behind each prompt. Raises UsageError for a model that does not show it."""
    assert isinstance(suite.settings, LinearProbeSettings)
    if not hasattr(model, "hidden"):
        raise UsageError(
            f"suite {suite.name!r}", f"reads states, which {model.name} does not show", "ask a local model"
        )
    found = model.hidden([item.prompt for item in suite.items], suite.settings.layer)
    return [
        _refused(suite, item.id, "prompt longer than the context, or a state not finite")
        if state is None
        else Answer(suite.name, item.id, None, None, 0, {HIDDEN: state})
        for item, state in zip(suite.items, found, strict=True)
    ]


def _shifted(suite: Suite, answer: Answer, pairs: Sequence[tuple[int, float]], decode: Any) -> Answer:
    if not pairs or not all(math.isfinite(nats) for _, nats in pairs):
        return _refused(suite, answer.item, "prompt and answer longer than the context, or a divergence not finite")
    ids = answer.data["ids"]
    ranks = [rank for rank, _ in pairs]
    # Shifted tokens in words, since whoever reads the answers has no tokenizer.
    moved = [[at, decode([ids[at]], special=True), rank] for at, rank in enumerate(ranks) if rank > MARGINAL]
    data = {"ids": ids, "ranks": ranks, "kl": [nats for _, nats in pairs], "shifted": moved}
    return Answer(suite.name, answer.item, answer.text, answer.finished, answer.tokens, data)


def _diverged(suite: Suite, answer: Answer, kl: float, tokens: int) -> Answer:
    if MISSING in answer.data:
        return _rename(answer, suite.name)
    if not math.isfinite(kl):
        return _refused(suite, answer.item, "prompt and answer longer than the context, or a divergence not finite")
    # The ids are kept, not only the text: text encoded anew may be other tokens, and KL runs along those that were
    # written.
    data = {"kl": kl, "tokens": tokens, "ids": answer.data["ids"]}
    return Answer(suite.name, answer.item, answer.text, answer.finished, tokens, data)


def _frozen(suite: Suite, kept: Mapping[str, Sequence[Answer]] | None) -> list[Answer]:
    for name in filter(None, (suite.name, suite.of)):
        if kept is not None and name in kept:
            by_item = {answer.item: answer for answer in kept[name]}
            if all(item.id in by_item for item in suite.items):
                return [by_item[item.id] for item in suite.items]
    raise UsageError(
        f"suite {suite.name!r}",
        "needs the answers of the model before",
        "measure that one first and pass before_answers",
    )


# on disk ------------------------------------------------------------------------------------


def file_name(suite: str) -> str:
    """The suite's file: a colon, which some systems refuse, becomes a hyphen."""
    return f"{suite.replace(':', '-')}.jsonl"


def save_measured(folder: str | Path, measured: Mapping[str, Measured]) -> None:
    """Write one file a suite, one line an item: {suite, item, text, finished, tokens, data, score,
    reason, weight, cluster, and note where there is one}; a missing score is null with its reason."""
    refuse_clash(measured, "suites")
    for name, found in measured.items():
        write_jsonl(Path(folder) / file_name(name), map(_row, found.answers, found.scores))


def _row(answer: Answer, score: Score) -> dict[str, Any]:
    return {
        "suite": answer.suite,
        "item": answer.item,
        "text": answer.text,
        "finished": answer.finished,
        "tokens": answer.tokens,
        "data": dict(answer.data),
        "score": None if math.isnan(score.value) else score.value,
        "reason": score.reason,
        "weight": score.weight,
        "cluster": score.cluster,
        **({} if score.note is None else {"note": score.note}),
    }


def load_measured(folder: str | Path) -> dict[str, Measured]:
    """What `save_measured` wrote, by suite. Raises DataError for a file that it did not write."""
    out: dict[str, Measured] = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        try:
            rows = read_jsonl(path)
            answers = list(map(_answer_of, rows))
            scores = [_score_of(row) for row in rows]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}", f"is not a file of answers ({error!r})", "delete it and measure again") from None
        if not answers:
            raise DataError(f"{path}", "holds no answers", "delete it and measure again")
        out[answers[0].suite] = Measured(answers[0].suite, answers, scores)
    return out


def _answer_of(row: Mapping[str, Any]) -> Answer:
    return Answer(row["suite"], row["item"], row["text"], row["finished"], row["tokens"], row["data"])


def _score_of(row: Mapping[str, Any]) -> Score:
    value = math.nan if row["score"] is None else float(row["score"])
    return Score(row["suite"], row["item"], value, row["reason"], row["weight"], row["cluster"], row.get("note"))
