"""The kinds of suite, as one table: what an item needs, how the model is asked, how it is scored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mnemos.core.errors import DataError, UsageError
from mnemos.core.nouns import Answer, Score
from mnemos.core.reward import Rewarded
from mnemos.measure import (
    bbh,
    dynamic_superb,
    ifeval,
    judged,
    linear_probe,
    mmlu,
    recognition,
    refusals,
    speech_ifeval,
    tool_calls,
    tool_steps,
)
from mnemos.measure import settings as s
from mnemos.measure.items import Item
from mnemos.measure.sampling import pass_at, texts_of
from mnemos.measure.token_shift import shares
from mnemos.measure.trying import tried
from mnemos.rewards import checks
from mnemos.rewards import verifiers as verify
from mnemos.sources.language import language_identifier
from mnemos.sources.similarity import repeated_4grams

Ask = Literal[
    "generate", "compare", "choose", "nats", "divergence", "text_divergence", "token_shift", "hidden", "transcribe",
    "harness", "act",
]  # fmt: skip
Value = tuple[float, str | None] | tuple[float, str | None, float] | tuple[float, str | None, float, str]
"""(value, reason), with a weight, and with what the answer was read as; the reason is None exactly when the value is
there."""
Scorer = Callable[[Any, Sequence[Item], Sequence[Answer]], list[Value]]

MISSING = "missing"
"""Key of Answer.data: why the model could not be asked."""
THINKS = "thinks"
"""In the data of an answer whose prompt ends within a thought that the chat template opens."""


@dataclass(frozen=True)
class Kind:
    """One kind. settings: what its YAML may hold. ask: which call of the model answers it. score:
    answers -> values. unit, better, tolerance: what a suite has unless it says otherwise; tolerance
    in points for "points", in the unit itself otherwise. needs: what each item must hold (one of
    each group). notices: what to warn of beside a verdict, from the scores before and of each run. check:
    refuses an item that cannot be scored. borrows: may look at another suite's answers (`of:`). tried: what is wrong
    with items that only trying them shows, in words. items: reads items with their places where rows are not those
    that `items.parse` reads, from the settings, the suite's folder and its name for messages. renames: whether it reads
    `columns` then."""

    settings: type[s.SuiteSettings]
    ask: Ask
    score: Scorer
    summary: str
    unit: str = "points"
    better: str = "higher"
    tolerance: float = 2.0
    needs: tuple[str, ...] = ()
    borrows: bool = False
    notices: Callable[[Sequence[Score], Sequence[Sequence[Score]]], tuple[str, ...]] = lambda before, after: ()
    check: Callable[[Any, Item, str], None] = field(default=lambda settings, item, where: None)
    tried: Callable[[Any, Sequence[Item]], list[str]] = field(default=lambda settings, items: [])
    items: Callable[[Any, Path, str], list[tuple[Item, str]]] | None = None
    renames: bool = False


def each(function: Callable[[Any, Item, Answer], Value]) -> Scorer:
    """A scorer from a function of one item; what could not be asked stays missing."""

    def score(settings: Any, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
        return [
            missing(answer) if MISSING in answer.data else function(settings, item, answer)
            for item, answer in zip(items, answers, strict=True)
        ]

    return score


def missing(answer: Answer) -> Value:
    """NaN with the reason why the model could not be asked."""
    return math.nan, str(answer.data[MISSING])


UNCLOSED = "its thinking (<think>) does not end"
"""Why an answer is not scored: what it would have said after its thoughts is not there."""


def unread(answer: Answer) -> str | None:
    """Why an answer cannot be scored: the model could not be asked, or it opens a thought and never closes it. None
    where it can. The thought may be opened by the chat template (THINKS), and the answer begin within it."""
    if MISSING in answer.data:
        return str(answer.data[MISSING])
    text = ("<think>" if answer.data.get(THINKS) else "") + (answer.text or "")
    return UNCLOSED if text.rfind("<think>") > text.rfind("</think>") else None


# generated ----------------------------------------------------------------------------------


def _generated(settings: s.GeneratedSettings, item: Item, answer: Answer) -> Value:
    if (reason := unread(answer)) is not None:
        return math.nan, reason
    text = answer.text or ""
    schema = item.schema or settings.json_schema
    found = Rewarded(1.0)
    if schema is not None:
        found = verify.schema_score(text, schema)
    if item.answers and found.value:
        compared = verify.best([verify.score(settings.match, text, reference) for reference in item.answers])
        found = compared if compared.reason is None and found.reason is None else _lost(found, compared)
    return found.value, found.reason


def _lost(schema: Rewarded, compared: Rewarded) -> Rewarded:
    """Where one of the two could not be said: 0 where the other is, else missing."""
    # The two are joined by "and": one zero decides, whatever the other one would have been. A missing value is NaN,
    # and equals nothing.
    if 0 in (schema.value, compared.value):
        return Rewarded(0.0)
    return schema if schema.reason is not None else compared


def _all_generated(settings: s.GeneratedSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
    """Each sample is scored as an answer of its own, and an item's score is then pass@k."""
    if settings.samples == 1:
        return _answered(settings, items, answers)
    texts = [texts_of(answer) for answer in answers]
    asked = [(item, answer, text) for item, answer, some in zip(items, answers, texts, strict=True) for text in some]
    alone = [dataclasses.replace(answer, text=text) for _, answer, text in asked]
    found = iter(_answered(settings, [item for item, _, _ in asked], alone))
    return [pass_at(settings.pass_at, [next(found)[:2] for _ in some]) for some in texts]


def _answered(settings: s.GeneratedSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
    """Answers that must be run go to the sandbox all at once, once for each reference."""
    if settings.match not in checks.CHECKS:
        return each(_generated)(settings, items, answers)
    reasons = [unread(answer) for answer in answers]
    pairs = [(i, ref) for i, item in enumerate(items) if reasons[i] is None for ref in item.answers]
    texts, references = [answers[i].text or "" for i, _ in pairs], [ref for _, ref in pairs]
    solutions = [items[i].solution for i, _ in pairs] if settings.match == "code" else None
    found = checks.scores(settings.match, texts, references, settings.database, solutions)
    # An item may have several references, so it may stand in `pairs` several times: the best of its outcomes counts.
    batches: dict[int, list[Rewarded]] = {}
    for (i, _), one in zip(pairs, found, strict=True):
        batches.setdefault(i, []).append(one)
    best = {i: verify.best(batch) for i, batch in batches.items()}
    # Each item that was asked has a reference (`_check_generated`), so each has an outcome.
    return [_noted(best[i]) if reason is None else (math.nan, reason) for i, reason in enumerate(reasons)]


def _noted(found: Rewarded) -> Value:
    return (found.value, found.reason) if found.note is None else (found.value, found.reason, 1.0, found.note)


def _check_generated(settings: s.GeneratedSettings, item: Item, where: str) -> None:
    schema = item.schema or settings.json_schema
    if schema is not None:
        if settings.match != "json":
            raise UsageError(f"{where}: schema", f"goes with match: json, not {settings.match}", "set match: json")
        verify.check_schema(schema, where=where)
    elif not item.answers:
        raise DataError(where, "names no answer", "answer: the reference, or answers: [several]")
    if settings.samples > 1 and item.follow_ups:
        raise UsageError(f"{where}: turns", "does not go with samples", "ask one turn, or one sample")
    if (settings.match == "sql") != (settings.database is not None):
        raise UsageError(f"{where}: database", "goes with match: sql", "name the sqlite file of such a suite")
    for reference in item.answers:
        if settings.match in checks.CHECKS:
            checks.check_reference(reference, where=where)
        else:
            verify.check_reference(settings.match, reference, where=where)


def _of_answers(function: Callable[[Any, Item, Answer], Value]) -> Scorer:
    """A scorer from a function of one item's answer, where there is one that can be read."""
    return each(lambda settings, item, answer: _unscored(answer) or function(settings, item, answer))


def _unscored(answer: Answer) -> Value | None:
    return None if (reason := unread(answer)) is None else (math.nan, reason)


def _refusal(settings: s.RefusalSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
    reasons = [unread(answer) for answer in answers]
    given = [place for place, reason in enumerate(reasons) if reason is None]
    found = refusals.scores(settings, [items[place] for place in given], [answers[place] for place in given])
    values: list[Value] = [(0.0, None) if reason is None else (math.nan, reason) for reason in reasons]
    for place, value in zip(given, found, strict=True):
        values[place] = value
    return values


def _readable(score: Callable[[Any, Sequence[Item], Sequence[Answer]], Sequence[Value]]) -> Scorer:
    """A scorer of all answers at once, such as one that a judge stands behind: it gets what can be read alone."""

    def scored(settings: s.SuiteSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
        reasons = [unread(answer) for answer in answers]
        given = [place for place, reason in enumerate(reasons) if reason is None]
        found = iter(score(settings, [items[place] for place in given], [answers[place] for place in given]))
        return [next(found) if reason is None else (math.nan, reason) for reason in reasons]

    return scored


def _stop_rate(settings: Any, item: Item, answer: Answer) -> Value:
    return float(bool(answer.finished)), None


def _repetition(settings: Any, item: Item, answer: Answer) -> Value:
    value = repeated_4grams(answer.text or "")
    return (value, "fewer than 4 words") if math.isnan(value) else (value, None)


LETTERS = 12
"""UTF-8 bytes of letters below which a language is not guessed: 12 Latin letters, 4 Chinese ones."""


def identified(text: str, among: tuple[str, ...] = ()) -> str | None:
    """ISO 639-1 code of a text's language; None where there are too few letters to tell."""
    # In bytes of UTF-8 four Chinese characters count as much as twelve Latin letters.
    if len("".join(c for c in text if c.isalpha()).encode()) < LETTERS:
        return None
    code: str = language_identifier(among).classify(text)[0]
    return code


def _language(settings: s.LanguageSettings, item: Item, answer: Answer) -> Value:
    found = identified(answer.text or "", settings.among)
    if found is None:
        return math.nan, "too short to identify the language"
    return float(found == (item.language or settings.language)), None


def _check_language(settings: s.LanguageSettings, item: Item, where: str) -> None:
    code = item.language or settings.language
    if code is None:
        raise UsageError(f"{where}: language", "is not given", "language: en, on the suite or on each item")
    known = language_identifier(()).labels
    for name in (code, *settings.among):
        if name not in known:
            raise UsageError(
                f"{where}: language {name!r}", "is not a known code", "use ISO 639-1 codes such as en, zh, de"
            )
    if settings.among and code not in settings.among:
        raise UsageError(f"{where}: among {list(settings.among)}", f"leaves out the expected {code!r}", "add it")


def _classifier(settings: s.ClassifierSettings, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
    from mnemos.rewards.classifier import label_scores

    values: list[Value] = [(math.nan, "empty answer: nothing to classify")] * len(answers)
    asked = [i for i, a in enumerate(answers) if MISSING not in a.data and (a.text or "").strip()]
    found = label_scores(settings.model, settings.label, [answers[i].text or "" for i in asked], settings.score)
    for index, value in zip(asked, found, strict=True):
        values[index] = (value, None)
    return [missing(a) if MISSING in a.data else value for a, value in zip(answers, values, strict=True)]


# likelihood ---------------------------------------------------------------------------------


def _choice(settings: s.ChoiceSettings, item: Item, answer: Answer) -> Value:
    """1 where a right option is the most likely one; ties go to the first (as in lm-eval)."""
    lengths: Sequence[float] = [1.0] * len(item.options)
    if settings.normalisation == "tokens":
        lengths = answer.data["tokens"]
    elif settings.normalisation == "bytes":
        lengths = [len(option.encode()) for option in item.options]
    # mean log-probability per token or byte of each option; the sum where n = 1
    scores = [p / max(n, 1) for p, n in zip(answer.data["log_probs"], lengths, strict=True)]
    return float(scores.index(max(scores)) in item.true), None


def _mc2(settings: s.ChoiceSettings, item: Item, answer: Answer) -> Value:
    """Probability of the true options among all: sum_true p / (sum_true p + sum_false p) (TruthfulQA)."""
    scores = answer.data["log_probs"]
    # Log-probabilities of long options lie far below what exp can hold; dividing all by the largest leaves the ratio
    # as it is.
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    return sum(weights[i] for i in item.true) / sum(weights), None


def _check_mc(settings: s.ChoiceSettings, item: Item, where: str) -> None:
    if len(item.true) == len(item.options):
        raise DataError(where, "calls every option right", "add wrong options")


def _bits_per_byte(settings: Any, item: Item, answer: Answer) -> Value:
    bytes_ = answer.data["bytes"]
    # Weighted by bytes, the mean over items is sum(nats) / (ln 2 * sum(bytes)): that of all texts as one, whatever
    # their lengths.
    return answer.data["nats"] / math.log(2) / bytes_, None, float(bytes_)


def _kl(settings: Any, item: Item, answer: Answer) -> Value:
    tokens = answer.data["tokens"]
    if not tokens:
        return math.nan, "the model before gave an empty answer"
    # Weighted by tokens: the mean over items is nats per token over all answers.
    return answer.data["kl"] / tokens, None, float(tokens)


def _harness(settings: Any, items: Sequence[Item], answers: Sequence[Answer]) -> list[Value]:
    return [(answer.data["value"], None) if MISSING not in answer.data else missing(answer) for answer in answers]


_ASKED = ("prompt",)
KINDS: dict[str, Kind] = {
    "choice": Kind(
        s.ChoiceSettings, "choose", each(_choice), "pick an option by likelihood", needs=("prompt", "options")
    ),
    "generated": Kind(
        s.GeneratedSettings,
        "generate",
        _all_generated,
        "compare an answer with references",
        needs=_ASKED,
        check=_check_generated,
        tried=tried,
    ),
    "tool_calls": Kind(
        s.ToolCallsSettings,
        "generate",
        _of_answers(tool_calls.score),
        "call the right functions with the right arguments",
        needs=_ASKED,
        check=tool_calls.check,
    ),
    "tool_steps": Kind(
        s.ToolStepsSettings,
        "act",
        _of_answers(tool_steps.score),
        "reach a goal by calling real functions, step by step",
        needs=_ASKED,
        check=tool_steps.check,
        notices=tool_steps.notices,
    ),
    "tool_wins": Kind(
        s.ToolWinsSettings,
        "compare",
        _of_answers(tool_steps.wins),
        "reach the goals of tool_steps better than the model before, or another one",
        tolerance=5.0,
        needs=_ASKED,
        borrows=True,
        check=tool_steps.check_wins,
    ),
    "ifeval": Kind(
        s.IFEvalSettings,
        "generate",
        _of_answers(ifeval.score),
        "follow every instruction that a program can check",
        needs=_ASKED,
        check=ifeval.check,
    ),
    "refusal": Kind(
        s.RefusalSettings,
        "generate",
        _refusal,
        "refuse what is harmful, answer what is not",
        needs=("prompt", "expect"),
        notices=refusals.notices,
    ),
    "mc1": Kind(
        s.ChoiceSettings,
        "choose",
        each(_choice),
        "is the likeliest option true?",
        needs=("prompt", "options"),
        check=_check_mc,
    ),
    "mc2": Kind(
        s.ChoiceSettings,
        "choose",
        each(_mc2),
        "probability of true options",
        needs=("prompt", "options"),
        check=_check_mc,
    ),
    "classifier": Kind(
        s.ClassifierSettings, "generate", _classifier, "judge answers by a text classifier", needs=_ASKED, borrows=True
    ),
    "bits_per_byte": Kind(
        s.LikelihoodSettings, "nats", each(_bits_per_byte), "predict a text", "bits", "lower", 0.02, needs=("text",)
    ),
    "repetition": Kind(
        s.GenerateSettings,
        "generate",
        each(_repetition),
        "repeated 4-grams",
        better="lower",
        needs=_ASKED,
        borrows=True,
    ),
    "stop_rate": Kind(
        s.GenerateSettings, "generate", each(_stop_rate), "answers ended by a stop token", needs=_ASKED, borrows=True
    ),
    "language": Kind(
        s.LanguageSettings,
        "generate",
        each(_language),
        "answers in the expected language",
        needs=_ASKED,
        borrows=True,
        check=_check_language,
    ),
    "kl": Kind(
        s.GenerateSettings,
        "divergence",
        each(_kl),
        "KL(before || after) on answers of the model before",
        "nats",
        "lower",
        0.05,
        needs=_ASKED,
        borrows=True,
    ),
    "text_kl": Kind(
        s.LikelihoodSettings,
        "text_divergence",
        each(_kl),
        "KL(before || after) along given texts",
        "nats",
        "lower",
        0.05,
        needs=("text",),
    ),
    "token_shift": Kind(
        s.GenerateSettings,
        "token_shift",
        each(lambda settings, item, answer: (shares(answer.data["ranks"])[2], None)),
        "share of the answer's tokens that are not among the three likeliest of the model before",
        better="lower",
        needs=_ASKED,
        borrows=True,
    ),
    "linear_probe": Kind(
        s.LinearProbeSettings,
        "hidden",
        linear_probe.scores,
        "a linear classifier reads the answer off the model's state behind the prompt",
        needs=_ASKED,
        check=linear_probe.check,
    ),
    "pairwise": Kind(
        s.PairwiseSettings,
        "compare",
        _readable(judged.pairwise),
        "a judge prefers the answer to that of the model before, or of an anchor",
        tolerance=5.0,
        needs=_ASKED,
        borrows=True,
        notices=judged.notices,
    ),
    "graded": Kind(
        s.GradedSettings,
        "generate",
        _readable(judged.graded),
        "a judge rates each answer, turn by turn",
        needs=_ASKED,
        borrows=True,
    ),
    "criteria": Kind(
        s.GradedSettings,
        "generate",
        _readable(judged.graded),
        "a judge rates by criteria of each item, which the model never sees",
        needs=("prompt", "criteria"),
    ),
    "wer": Kind(
        s.TranscribeSettings,
        "transcribe",
        each(recognition.score),
        "word error rate of a recogniser: errors over reference words",
        "WER",
        "lower",
        0.02,
        check=recognition.check,
        items=recognition.items_at,
        renames=True,
    ),
    "cer": Kind(
        s.TranscribeSettings,
        "transcribe",
        each(recognition.score),
        "character error rate of a recogniser",
        "CER",
        "lower",
        0.01,
        check=recognition.check,
        items=recognition.items_at,
        renames=True,
    ),
    "answer_wer": Kind(
        s.AnswerErrorsSettings,
        "generate",
        _of_answers(recognition.score),
        "word error rate of an answer: errors over reference words",
        "WER",
        "lower",
        0.02,
        needs=_ASKED,
        check=recognition.check_answer,
    ),
    "answer_cer": Kind(
        s.AnswerErrorsSettings,
        "generate",
        _of_answers(recognition.score),
        "character error rate of an answer",
        "CER",
        "lower",
        0.01,
        needs=_ASKED,
        check=recognition.check_answer,
    ),
    "bbh": Kind(
        s.BBHSettings,
        "generate",
        _readable(each(bbh.score)),
        "answer a question of BIG-Bench Hard behind worked examples",
        needs=("prompt", "answers"),
        items=bbh.items_at,
    ),
    "mmlu": Kind(
        s.MMLUSettings,
        "choose",
        each(_choice),
        "pick the likeliest letter of MMLU's four, behind examples of the subject",
        needs=("prompt", "options"),
        items=mmlu.items_at,
    ),
    "dynamic_superb": Kind(
        s.DynamicSuperbSettings,
        "generate",
        _readable(dynamic_superb.scores),
        "answer a question about a sound by its label",
        needs=_ASKED,
        check=dynamic_superb.check,
        items=dynamic_superb.items_at,
        renames=True,
    ),
    "speech_ifeval": Kind(
        s.SpeechIFEvalSettings,
        "generate",
        _of_answers(speech_ifeval.score),
        "follow instructions on the form of an answer about a sound",
        needs=_ASKED,
        check=ifeval.check,
        items=speech_ifeval.items_at,
        renames=True,
    ),
    "lm_eval": Kind(s.HarnessSettings, "harness", _harness, "a task of lm-evaluation-harness"),
}
"""Every kind of suite by its name in YAML."""
