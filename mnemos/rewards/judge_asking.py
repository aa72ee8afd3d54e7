"""How a judge is asked, whatever it is asked about: options by their probabilities, or a written verdict that is read.

What cannot be read has a reason, is counted, and above a limit stops the run: a judge that writes no verdicts must not
leave a score behind that looks like one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar, cast

from mnemos.core.errors import DataError
from mnemos.core.nouns import Decoding, LanguageModel, Prompt
from mnemos.core.plan import ModelHandle
from mnemos.rewards.judge_prompt import JudgePrompt

T = TypeVar("T")

UNPARSED, UNSCORED = "the judge's verdict cannot be read", "longer than the judge reads"
EMPTY, NONE, SEVERAL, BEYOND, THINKING = (
    f"{UNPARSED}: {why}"
    for why in (
        "it is empty",
        "it names none",
        "it names several",
        "it is no rating of the scale",
        "its thinking does not end",
    )
)

_LETTER = re.compile(r"\((\w)\)")
_THOUGHTS = re.compile(r"<think>.*?</think>", re.S)


def loaded(handle: ModelHandle) -> LanguageModel:
    """One copy of a judge however often it is asked."""
    # By content, too: a handle of the same path whose files changed is loaded anew.
    return _loaded(cast(Hashable, handle), handle.fingerprint)


@lru_cache(maxsize=3)
def _loaded(handle: Hashable, content: str) -> LanguageModel:
    """content: the fingerprint of the handle. Three: a panel asks each of its judges for every suite."""
    return cast(ModelHandle, handle).load()


def option_shares(
    model: LanguageModel, asked: Sequence[Prompt], options: Sequence[Sequence[str]], *, raw: bool
) -> list[list[float] | str]:
    """For each question, the probabilities of its options, normalised over them; or why there are none."""
    # A raw prompt ends in "is:", after which a text goes on with a space.
    texts = [[f" {one}" if raw else one for one in several] for several in options]
    out: list[list[float] | str] = []
    for scores in model.choose(asked, texts) if asked else []:
        logs = [one.log_prob for one in scores]
        top = max(logs) if not any(map(math.isnan, logs)) else math.nan
        if not math.isfinite(top):  # too long, or every option impossible
            out.append(UNSCORED)
            continue
        # softmax: p_k = exp(l_k - top) / sum; the largest is taken off, or long options would underflow.
        weights = [math.exp(one - top) for one in logs]
        out.append([one / math.fsum(weights) for one in weights])
    return out


def written(
    model: LanguageModel,
    asked: Sequence[Prompt],
    prompts: Sequence[JudgePrompt],
    read: Callable[[JudgePrompt, str], T | str],
) -> list[T | str]:
    """What the judge writes to each question, read; or why it cannot be. Greedy, so that asking again says the same."""
    out: dict[int, T | str] = {}
    # Prompts of one length limit are asked together; hardly ever more than two.
    for most in sorted({one.max_new_tokens for one in prompts}):
        places = [i for i, one in enumerate(prompts) if one.max_new_tokens == most]
        for place, text in zip(
            places, model.generate([asked[i] for i in places], Decoding(max_new_tokens=most)), strict=True
        ):
            out[place] = _answered(prompts[place], text.text, read)
    return [out[place] for place in range(len(asked))]


def _answered(prompt: JudgePrompt, text: str, read: Callable[[JudgePrompt, str], T | str]) -> T | str:
    text = _THOUGHTS.sub("", text)
    if "<think>" in text:
        return THINKING
    return read(prompt, text) if text.strip() else EMPTY


def read_pair(prompt: JudgePrompt, text: str) -> float | str:
    """1 for the first answer, 0 for the second, 1/2 for a tie, by the only mark that the text names, however often.

    "(A) is better than (B)" names both and says neither to a parser. Marks in round brackets may stand without them.
    """
    marks = prompt.verdicts.texts
    letters = [match[1] for mark in marks if (match := _LETTER.fullmatch(mark))]
    if len(letters) == len(marks):
        named = {f"({one})" for one in re.findall(rf"\(?\b([{''.join(letters)}])\b\)?", text)}
    else:
        named = {mark for mark in marks if mark in text}
    if len(named) != 1:
        return SEVERAL if named else NONE
    return {prompt.verdicts.a: 1.0, prompt.verdicts.b: 0.0}.get(named.pop(), 0.5)


def read_rating(prompt: JudgePrompt, text: str) -> float | str:
    """The only rating that a text names in the prompt's own way, on its scale."""
    head, tail = prompt.rating.split("{rating}")
    found = set(re.findall(rf"{re.escape(head)}\s*([-+]?\d{{1,9}}(?:\.\d{{1,9}})?)\s*{re.escape(tail)}", text))
    values = {float(one) for one in found}
    if len(values) != 1:
        return SEVERAL if values else NONE
    value, (low, high) = values.pop(), prompt.scale
    return value if low <= value <= high else BEYOND


def refuse_unread(who: str, found: Sequence[object], limit: float) -> None:
    """Raise DataError where more than `limit` of the verdicts cannot be read, with the numbers by reason. A case that
    is too long is missing, but says nothing about how the judge writes, and does not count."""
    reasons = unread(found)
    number = sum(reasons.values())
    if found and number / len(found) > limit:
        causes = ", ".join(f"{reason.removeprefix(UNPARSED + ': ')} {count:,}" for reason, count in reasons.items())
        raise DataError(
            f"{who}: {number:,} of {len(found):,} verdicts ({number / len(found):.1%}) cannot be read ({causes})",
            f"at most {limit:.1%} may be",
            "name a larger judge, or let it be asked by log_probs, which always gives a verdict",
        )


def unread(found: Sequence[object]) -> Mapping[str, int]:
    """How many verdicts cannot be read, by reason."""
    return dict(Counter(one for one in found if isinstance(one, str) and one.startswith(UNPARSED)).most_common())
