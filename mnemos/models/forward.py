"""Running a causal language model over many sequences at once, with logits only where asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from mnemos.core.progress import Count

FAILURES = (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, IndexError, KeyError)
"""What a model raises that does not take an argument, or not in this form."""

LOGIT_BYTES = 256 * 2**20
"""Upper bound of one batch's float32 logits."""


def context_length(model: Any) -> int:
    """The longest sequence in tokens; 2**20 for models that set no bound (ALiBi, recurrent)."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2**20


def accepted_inputs(model: Any) -> frozenset[str]:
    """Names of the arguments of the model's forward, seen through a peft wrapper."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner = getattr(inner, "language", inner)  # a model that listens passes on what its language model takes
    return frozenset(inspect.signature(inner.forward).parameters)


def batches(lengths: Sequence[int], batch_tokens: int, rows: int = 4096) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, so that running out of memory shows
    at once. batch_tokens bounds rows x longest of a batch (one row may exceed it alone)."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        count = max(1, min(rows, batch_tokens // max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count


Keeper = Callable[[Any, Callable[[], Any]], Any]
"""What is asked before a batch is computed: keeper(question, ask) gives what `ask` gives, a JSON value, or what
it kept of an earlier run for the same question, another JSON value."""

_KEEPER: ContextVar[Keeper | None] = ContextVar("keeper of batches", default=None)


@contextmanager
def kept_batches(keeper: Keeper) -> Iterator[None]:
    """Within it, answers and scores of every batch go through `keeper`, so that a killed measurement continues
    at the batch where it was. Batches are made before any is asked for, so what is kept changes no batch."""
    token = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(token)


def kept(question: Any, ask: Callable[[], Any], count: Count, tokens: int = 0) -> Any:
    """The answers to one batch, from the keeper if there is one. question: a JSON value, all that decides them
    beside the model. tokens: counted where they are asked for, and not where they were kept."""

    def counted() -> Any:
        answers = ask()
        count.read(tokens)
        return answers

    keeper = _KEEPER.get()
    return counted() if keeper is None else keeper(question, counted)


def right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """int64[B, T], padded at the end with token 0: what follows a token never changes it in a
    causal model, so neither mask nor position ids are needed and the fast causal kernel runs."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def logits_at(model: Any, flat: torch.Tensor, **inputs: Any) -> tuple[torch.Tensor, Any]:
    """float[N, V] logits at the positions `flat` (int64[N], b * T + t), and the model's output.

    The output embedding sees those positions only: a hook picks its input, so whatever the
    model does to logits afterwards (soft caps, scaling) still happens. For a model that never
    calls its output embedding as a module, all logits are computed and picked afterwards.
    """
    head = model.get_output_embeddings()
    ran: list[bool] = []

    def pick(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        ran.append(True)
        # float[B, T, H] -> float[1, N, H]: one row of the N positions that are asked for.
        return (args[0].reshape(-1, args[0].shape[-1])[flat].unsqueeze(0), *args[1:])

    handle = head.register_forward_pre_hook(pick) if head is not None else None
    try:
        out = model(**inputs)
    finally:
        if handle is not None:
            handle.remove()
    # float[N, V] where the hook ran, else float[B * T, V].
    logits = out.logits.reshape(-1, out.logits.shape[-1])
    return (logits if ran else logits[flat]), out


def log_probs(
    logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """ln p(target) (float32[M]) and whether the target is the most likely token (bool[M]).

    logits: float[N, V]. targets: int64[M]. rows: int64[M], the row of `logits` that predicts
    each target; None where M = N and they match one to one. Never holds a normalised copy of the
    logits.
    """
    wide = logits.float()
    norm, best = torch.logsumexp(wide, dim=-1), wide.argmax(dim=-1)
    if rows is None:
        rows = torch.arange(len(targets), device=targets.device)
    # ln softmax(z)_t = z_t - ln sum_v exp(z_v).
    return wide[rows, targets] - norm[rows], best[rows] == targets


def cost(tokens: int, picks: int, vocabulary: int, batch_tokens: int) -> int:
    """A row's length for `batches`: its tokens, or more where its logits need more room than
    their share of LOGIT_BYTES."""
    # A row of L tokens may take L / batch_tokens of LOGIT_BYTES, and its float32 logits take 4 * picks * vocabulary
    # bytes: it counts as long as the L at which the two are equal, rounded up.
    return max(tokens, -(-picks * vocabulary * 4 * batch_tokens // LOGIT_BYTES))
