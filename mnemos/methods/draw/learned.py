"""The likelihood of the data's answers gives way to another way of learning: at most one in an arm."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnemos.core.errors import UsageError
from mnemos.core.plan import Likelihood, Plan, TeacherForcing, Term


def learned_by(plan: Plan, name: str, draw: Any, *terms: Term) -> Plan:
    """The plan with `draw`, and `terms` in the place of the likelihood. name: of the method, for the error.

    Raises UsageError where another method has said who writes answers or how they are learned.
    """
    if plan.draw != TeacherForcing() or Likelihood() not in plan.objective:
        raise UsageError(
            f"{name} after {type(plan.draw).__name__}, {type(plan.objective[0]).__name__}",
            "another method of this arm says how answers are learned",
            "keep one of them, or make two arms",
        )
    # In its place, so that terms of earlier methods (a penalty, say) stay around it.
    objective = tuple(new for term in plan.objective for new in (terms if term == Likelihood() else (term,)))
    return dataclasses.replace(plan, draw=draw, objective=objective)
