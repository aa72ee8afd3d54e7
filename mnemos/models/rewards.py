"""Any reward from the settings that name it, as methods and study files write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from mnemos.core.reward import Reward
from mnemos.core.settings import Settings
from mnemos.sources import checks, verify
from mnemos.sources.rewards import MeetsSchema, Verified


class RewardSettings(Settings):
    """What answers are rewarded for: exactly one of verifier and json_schema."""

    verifier: str | None = None
    """Compare the answer with a reference: exact, normalised, number, regex, json, f1, chrf; or run it in the
    sandbox: code (against the tests in the reference), sql (against the right query)."""
    reference: str | None = None
    """Column of the data that a verifier compares with; the gold answer unless given."""
    database: str | None = None
    """With verifier: sql, the sqlite file that queries are run on."""
    json_schema: dict[str, Any] | None = None
    """JSON schema that the answer must satisfy."""

    @model_validator(mode="after")
    def _one_kind(self) -> RewardSettings:
        named = [name for name in ("verifier", "json_schema") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"give exactly one of verifier, json_schema (found {named or 'none'})")
        known = sorted({*verify.VERIFIERS, *checks.CHECKS})
        if self.verifier is not None and self.verifier not in known:
            raise ValueError(f"verifier {self.verifier!r} is not known; known: {', '.join(known)}")
        if (self.verifier == "sql") != (self.database is not None):
            raise ValueError("verifier: sql and database go together")
        return self


def make(settings: RewardSettings | Mapping[str, Any]) -> Reward:
    """The reward that the settings name (a method gets its settings as plain mappings); loads nothing."""
    if not isinstance(settings, RewardSettings):
        settings = RewardSettings(**settings)
    if settings.json_schema is not None:
        return MeetsSchema(settings.json_schema)
    assert settings.verifier is not None
    return Verified(settings.verifier, settings.reference, settings.database)
