"""Requests of streams that learn nothing, asked ahead of their steps.

What such an agent writes hangs on the question alone, so that the answers to many questions of its stream share a batch
long before their steps come. They are kept (`answered`), and each step finds its own there: the steps are the same, and
so is what they cost. For greedy decoding alone, since no other answer is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnemos.stream.learner import Answering, Ask, GoldShots, Learner, Question, Recall, Shot
from mnemos.stream.models import Models

AHEAD = 32
"""Questions of a stream that are asked ahead: what a kill loses of them at most where answers are kept in memory."""
MOST_ROUNDS = 200
"""Requests of one learner for one question, as in the loop."""


def ask_ahead(wanted: Sequence[tuple[Learner, Question]], gold: Sequence[Shot], models: Models, seed: int = 0) -> None:
    """Have `models` write and keep what learners that know nothing ask for. gold: the task's own examples."""
    waiting: list[tuple[Answering, Ask]] = []
    for learner, question in wanted:
        life = learner.answer(question)
        waiting += _asked(life, None, gold)
    for _ in range(MOST_ROUNDS):
        if not waiting:
            return
        served = models.answer([(ask, seed) for _, ask in waiting], ahead=True)
        answered = zip(waiting, served, strict=True)
        waiting = [pair for (life, _), one in answered for pair in _asked(life, one.written, gold)]


def _asked(life: Answering, sent: Any, gold: Sequence[Shot]) -> list[tuple[Answering, Ask]]:
    """The learner's next request to a model, with what it needs before; none where it has answered, and where it wants
    something else, which is left to its step."""
    for _ in range(MOST_ROUNDS):
        try:
            request = life.send(sent)
        except StopIteration:
            return []
        if isinstance(request, Ask):
            return [(life, request)]
        if not isinstance(request, GoldShots | Recall):
            return []
        # The memory of one that learns nothing is empty.
        sent = tuple(gold[: request.k]) if isinstance(request, GoldShots) else ()
    return []
