"""Any reward from the settings that name it, as methods and study files write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from mnemos.core.errors import UsageError
from mnemos.core.plan import ModelHandle
from mnemos.core.reward import Reward
from mnemos.core.settings import AskedModelRef, FileRef, ModelRef, Seed, Settings
from mnemos.models.load import handle
from mnemos.rewards.checks import MatchName
from mnemos.rewards.grader import Grader
from mnemos.rewards.judge import CONSTITUTION, Judge, principles
from mnemos.rewards.judge_prompt import PAIR, load_prompts
from mnemos.rewards.panel import Panel
from mnemos.rewards.reward_model import ModelReward
from mnemos.rewards.verified import MeetsSchema, Verified


class RewardSettings(Settings):
    """What answers are rewarded for: exactly one of verifier, json_schema, model and judge."""

    verifier: MatchName | None = None
    """Compare the answer with a reference; or run it in the sandbox: code (against the tests in the reference), sql
    (against the right query)."""
    reference: str | None = None
    """Column of the data that a verifier compares with; the gold answer unless given."""
    database: FileRef | None = None
    """With verifier: sql, the sqlite file that queries are run on."""
    model: ModelRef | None = None
    """A reward model: directory or hub id, see `mnemos reward train`."""
    judge: Literal["self"] | AskedModelRef | list[AskedModelRef] | None = None
    """A language model that compares answers, with the gold one or with each other: directory, hub id,
    http://host:port/v1#name, or self, the model before the stage; a list of them is a panel, whose majority counts."""
    prompt: FileRef | None = None
    """With judge: a file of prompts (see docs/judges.md). One of kind single rates each answer by itself; the shipped
    comparison unless given."""
    constitution: FileRef | None = None
    """With judge: a text file of principles, one a line; the shipped ones unless given."""
    verdict: Literal["log_probs", "text"] = "log_probs"
    """With judge: soft verdicts from option probabilities, or hard ones read from what it writes."""
    raw: bool = False
    """With judge: ask without a chat template, as option probabilities of a server need it."""
    max_unparsed: float = Field(0.2, ge=0, le=1)
    """With verdict: text, the share of verdicts that may be unreadable; above it the run stops."""
    seed: Seed = 0
    """With judge: seed of which principle judges which pair."""
    json_schema: dict[str, Any] | None = None
    """JSON schema that the answer must satisfy."""

    @model_validator(mode="after")
    def _one_kind(self) -> RewardSettings:
        named = [name for name in ("verifier", "json_schema", "model", "judge") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"give exactly one of verifier, json_schema, model, judge (found {named or 'none'})")
        if self.prompt is not None and self.judge is None:
            raise ValueError("prompt goes with judge")
        if (self.verifier == "sql") != (self.database is not None):
            raise ValueError("verifier: sql and database go together")
        return self


SELF = "self"
"""As a judge: the model before the stage."""


def make(settings: RewardSettings | Mapping[str, Any], before: ModelHandle | None = None) -> Reward:
    """The reward that the settings name (a method gets its settings as plain mappings); loads nothing.

    before: the model before the stage, where there is one. Raises UsageError as `judge` does.
    """
    if not isinstance(settings, RewardSettings):
        settings = RewardSettings(**settings)
    if settings.json_schema is not None:
        return MeetsSchema(settings.json_schema)
    if settings.model is not None:
        return ModelReward(handle(settings.model))
    if settings.judge is not None:
        return judge(settings, before)
    assert settings.verifier is not None
    return Verified(settings.verifier, settings.reference, settings.database)


def judge(settings: RewardSettings, before: ModelHandle | None = None) -> Judge | Panel | Grader:
    """The judge that the settings name: of pairs, or of single answers where its prompt is of that kind; several are
    a panel. Raises UsageError for self where no stage is about to begin, and for a panel of single answers."""
    assert settings.judge is not None
    if isinstance(settings.judge, list):
        several = [judge(settings.model_copy(update={"judge": one}), before) for one in settings.judge]
        pairs = tuple(one for one in several if isinstance(one, Judge))
        if len(pairs) < len(several):
            raise UsageError("judge = a list", "is a panel, which judges pairs", "name one judge, or another prompt")
        return Panel(pairs)
    if settings.judge == SELF and before is None:
        raise UsageError("judge = self", "is the model before a stage, and there is no stage here", "name a model")
    asked = before if settings.judge == SELF and before is not None else handle(settings.judge)
    prompts = load_prompts(settings.prompt or PAIR)
    if prompts.kind == "single":
        return Grader(asked, settings.verdict, settings.raw, settings.max_unparsed, prompts)
    rules = principles(settings.constitution or CONSTITUTION)
    return Judge(asked, rules, settings.verdict, settings.raw, settings.seed, settings.max_unparsed, prompts)
