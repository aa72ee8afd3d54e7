"""Tasks of lm-evaluation-harness as suites, asked through our own models.

The harness builds the prompts and scores the answers; the model is the same object that answers
every other suite. A task's documents are paired before and after by number and content.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mnemos.core.errors import UsageError, nearest
from mnemos.core.nouns import Answer, Decoding, Prompt, Turn
from mnemos.core.packages import require
from mnemos.measure.kinds import MISSING
from mnemos.measure.settings import HarnessSettings
from mnemos.measure.suite import Suite

TOO_LONG = "prompt longer than the context"


def run_task(model: Any, suite: Suite) -> list[Answer]:
    """Ask every document of the suite's task (or of each task of a group).

    Answer.data["value"] is the document's own score by the chosen metric. Raises UsageError when the
    extra is not installed, the task unknown, or the metric has no score per document in [0, 1].
    """
    settings = suite.settings
    assert isinstance(settings, HarnessSettings)
    require(f"suite {suite.name!r}: kind lm_eval", "lm_eval")
    manager = tasks_of(suite)
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM

    # The harness wants an instance of its own class, which is there only where the extra is installed.
    asked: Any = type("Adapter", (Asked, LM), {})(model, settings.max_new_tokens)
    with _kept_random_state():
        found = simple_evaluate(
            model=asked,
            tasks=[settings.task],
            num_fewshot=settings.num_fewshot,
            limit=settings.limit,
            # Its standard errors by bootstrap are not used: intervals come from the paired scores.
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=settings.chat,
            system_instruction=settings.system,
            task_manager=manager,
            verbosity="WARNING",
        )
    return list(_answers(suite, settings, found["samples"], asked.missing))


def tasks_of(suite: Suite) -> Any:
    """The harness's TaskManager in which the suite's task is. Raises UsageError when the extra is not installed
    or the task unknown."""
    settings = suite.settings
    assert isinstance(settings, HarnessSettings)
    require(f"suite {suite.name!r}: kind lm_eval", "lm_eval")
    from lm_eval.tasks import TaskManager

    manager = None
    if settings.include_path is not None:  # the harness takes long to look through its own 14,000 tasks
        manager = TaskManager(include_path=settings.include_path, include_defaults=False)
    if manager is None or settings.task not in manager.all_tasks:
        manager = TaskManager(include_path=settings.include_path)
    if settings.task not in manager.all_tasks:
        raise UsageError(
            f"suite {suite.name!r}: task {settings.task!r}", "is not known", nearest(settings.task, manager.all_tasks)
        )
    return manager


def _answers(
    suite: Suite, settings: HarnessSettings, samples: Mapping[str, Sequence[Mapping[str, Any]]], missing: set[Any]
) -> Iterator[Answer]:
    for task, rows in sorted(samples.items()):
        # A task may read each answer in several ways ("strict", "flexible"); every document stands once for each,
        # and one of them counts.
        first_filter = rows[0]["filter"]
        for row in rows:
            if row["filter"] != first_filter:
                continue
            prefix = "" if task == settings.task else f"{task}/"
            # A part of the content's hash in the name: a document that changed between the two sides is another
            # item, and is refused as such.
            item = f"{prefix}{row['doc_id']}-{row['doc_hash'][:8]}"
            if (task, row["doc_id"]) in missing:
                yield Answer(suite.name, item, data={MISSING: TOO_LONG})
            else:
                words = row["filtered_resps"][0] if row["filtered_resps"] else None
                text = words if isinstance(words, str) else None
                yield Answer(suite.name, item, text, data={"value": _value(suite, settings.metric, row)})


def _value(suite: Suite, metric: str | None, row: Mapping[str, Any]) -> float:
    name = metric or row["metrics"][0]
    if name not in row["metrics"]:
        raise UsageError(f"suite {suite.name!r}: metric {name!r}", "is not the task's", nearest(name, row["metrics"]))
    value = row[name]
    number = isinstance(value, bool | int | float | np.number)
    if not number or not 0 <= float(value) <= 1:
        raise UsageError(
            f"suite {suite.name!r}: metric {name!r} = {value!r}",
            "has no score of its own in [0, 1] for a document",
            "choose another of: " + ", ".join(row["metrics"]),
        )
    return float(value)


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """The harness seeds every global generator; give them back as they were."""
    import torch

    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


class Asked:
    """What the harness calls, answered by `model`; joined with the harness's own base class only when
    a task is run, because that class comes with an extra. missing: (task, doc_id) of documents that
    do not fit the model's context."""

    def __init__(self, model: Any, max_new_tokens: int) -> None:
        super().__init__()
        self.model, self.max_new_tokens = model, max_new_tokens
        self.missing: set[Any] = set()
        self.chats: dict[str, Prompt] = {}

    @property
    def tokenizer_name(self) -> str:
        """Names the template in the harness's own caches, which are not used."""
        return str(self.model.name)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """What the harness's log says about the template."""
        return "the model's own" if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A name for the chat; the model's own renderer turns it into tokens, with one BOS."""
        text = json.dumps([add_generation_prompt, chat_history], ensure_ascii=False)
        self.chats[text] = Prompt(tuple(Turn(turn["role"], turn["content"]) for turn in chat_history))
        return text

    def _prompt(self, context: str) -> Prompt:
        if not self.chats or context in self.chats:
            return self.chats.get(context, Prompt((Turn("prompt", context),)))
        raise UsageError(
            f"prompt {context[-60:]!r}", "adds text behind the chat template", "set chat: false for this task"
        )

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """(ln p, greedy) of each continuation; a context's continuations are scored together."""
        # The harness sends each option of a question as a request of its own; together they share one pass over the
        # context.
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.args[0], []).append(index)
        options = [[requests[i].args[1] for i in indices] for indices in groups.values()]
        found = self.model.choose([self._prompt(context) for context in groups], options)
        # A finite stand-in, because the harness computes with it before the document is left out.
        out: list[tuple[float, bool]] = [(-1e9, False)] * len(requests)
        for indices, scores in zip(groups.values(), found, strict=True):
            for index, score in zip(indices, scores, strict=True):
                if math.isfinite(score.log_prob):
                    out[index] = score.log_prob, score.greedy
                else:
                    self.missing.add((requests[index].task_name, requests[index].doc_id))
        return out

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """ln p of each whole text."""
        return [-nats for nats, _ in self.model.nats([request.args[0] for request in requests])]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answers cut before the first of the task's `until` texts."""
        groups: dict[Decoding, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(_decoding(request.args[1], self.max_new_tokens), []).append(index)
        out = [""] * len(requests)
        for decoding, indices in groups.items():
            text = self.model.generate([self._prompt(requests[i].args[0]) for i in indices], decoding)
            for index, answer in zip(indices, text, strict=True):
                # Nothing written and no end: the prompt left no room in the context.
                if not answer.ids and not answer.finished:
                    self.missing.add((requests[index].task_name, requests[index].doc_id))
                # A model that cannot stop early answers on.
                out[index] = decoding.cut(answer.text)
        return out


def _decoding(wanted: Mapping[str, Any], max_new_tokens: int) -> Decoding:
    # Tasks may name a temperature beside do_sample: false; it then means nothing, and 0 asks greedily.
    sample = bool(wanted.get("do_sample", False))
    until = wanted.get("until") or []
    longest = wanted.get("max_gen_toks", wanted.get("max_new_tokens", max_new_tokens))
    return Decoding(
        max_new_tokens=int(longest),
        temperature=float(wanted.get("temperature", 1.0)) if sample else 0.0,
        top_p=float(wanted.get("top_p", 1.0)) if sample else 1.0,
        top_k=int(wanted.get("top_k", 0)) if sample else 0,
        stop=tuple(text for text in ([until] if isinstance(until, str) else until) if text),
    )
