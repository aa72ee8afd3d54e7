"""A language model as judge of one answer: a rating on a scale, by a rubric, a right answer, or criteria of the item.

By option probabilities a rating is their mean over the scale (arXiv:2303.16634), by text the number that was written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from mnemos.core.errors import UsageError
from mnemos.core.fingerprint import fingerprint
from mnemos.core.nouns import Example, LanguageModel, Prompt, Turn
from mnemos.core.plan import ModelHandle
from mnemos.core.reward import Rewarded, missing
from mnemos.rewards.judge_asking import loaded, option_shares, read_rating, refuse_unread, written
from mnemos.rewards.judge_prompt import SINGLE, Case, JudgePrompt, PromptSet, load_prompts


@lru_cache(maxsize=1)
def single_prompts() -> PromptSet:
    """The shipped prompts of one answer."""
    return load_prompts(SINGLE)


@dataclass(frozen=True)
class Grader:
    """One model as judge of single answers; a reward, whose value is the rating from 0 (lowest) to 1 (highest).

    judge, by, raw, max_unparsed, models: as for `judge.Judge`. prompts: what it is asked, of kind single.
    """

    judge: ModelHandle
    by: Literal["log_probs", "text"] = "log_probs"
    raw: bool = False
    max_unparsed: float = 0.2
    prompts: PromptSet = field(default_factory=single_prompts)
    models: Callable[[ModelHandle], LanguageModel] = field(default=loaded, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.prompts.kind != "single":
            raise UsageError(
                f"prompt of kind {self.prompts.kind}", "shows two answers, and one is judged", "name another"
            )

    @property
    def fingerprint(self) -> str:
        """Of the judge, what it is asked and how."""
        settings = [self.judge, self.by, self.raw, self.max_unparsed]
        return fingerprint({"is": "Grader", "settings": settings, "prompts": self.prompts})

    def describe(self) -> str:
        """Who judges."""
        return f"judge {self.judge.path}"

    def asking(self, models: Callable[[ModelHandle], LanguageModel]) -> Grader:
        """See `core.reward.Asking`."""
        return replace(self, models=models)

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], examples: Sequence[Example]
    ) -> list[Rewarded]:
        """One rating an answer, in [0, 1]. Raises DataError like `ratings`."""
        found = self.ratings([Case(p, (a,)) for p, a in zip(prompts, answers, strict=True)])
        share = self.prompts.plain.share
        return [missing(one) if isinstance(one, str) else Rewarded(share(one)) for one in found]

    def ratings(self, cases: Sequence[Case]) -> list[float | str]:
        """A rating of each case on the prompt's own scale, or why there is none. Raises DataError, with the rate,
        where too many cannot be read."""
        if not cases:
            return []
        forms = [self.prompts.of(case) for case in cases]
        asked = [form.filled(case, raw=self.raw) for form, case in zip(forms, cases, strict=True)]
        model = self.models(self.judge)
        found = (
            self._scored(model, asked, forms) if self.by == "log_probs" else written(model, asked, forms, read_rating)
        )
        refuse_unread(self.describe(), found, self.max_unparsed)
        return found

    def _scored(self, model: LanguageModel, asked: Sequence[Prompt], forms: Sequence[JudgePrompt]) -> list[float | str]:
        options = [[form.rating.format(rating=f"{one:g}") for one in form.ratings] for form in forms]
        out: list[float | str] = []
        for form, shares in zip(forms, option_shares(model, asked, options, raw=self.raw), strict=True):
            if isinstance(shares, str):
                out.append(shares)
                continue
            # sum_r r p(r): finer than the likeliest rating, and without its ties.
            out.append(math.fsum(p * rating for p, rating in zip(shares, form.ratings, strict=True)))
        return out


def turns_of(dialogue: Sequence[Turn]) -> list[tuple[Prompt, str]]:
    """Each answer of a dialogue with all that stood before it: what is rated turn by turn."""
    return [(Prompt(tuple(dialogue[:at])), turn.text) for at, turn in enumerate(dialogue) if turn.role == "assistant"]
