"""What a recogniser minimises when nobody says what was spoken: functions of its logits, one utterance at a time.

Notation: z is float[T, V], the logits of T frames over V labels, one of which is the blank; p = softmax(z / T0) at a
temperature T0; H is Shannon's entropy in nats. All are of one utterance; over several they are added up and not
averaged within, or Adam's epsilon would act otherwise in a batch than alone.

Where no frame's best label is something else than the blank, the mean over such frames is over nothing: it is 0 here,
with a gradient of 0, and `listen.Collapse` counts the utterance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 2.5
"""Of SUTA and what follows it: a recogniser that is sure of everything has no gradient to follow."""


def entropy(logits: Tensor) -> Tensor:
    """H of every frame: float[T]."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def heard(logits: Tensor, blank: int) -> Tensor:
    """Frames whose best label is not the blank: bool[T]."""
    return logits.argmax(-1) != blank


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    """The mean over kept frames, 0 without any; the gradient is that of the mean."""
    return (values * kept).sum() / kept.sum().clamp_min(1)


def entropy_minimisation(logits: Tensor, blank: int, temperature: float = TEMPERATURE) -> Tensor:
    """EM: the mean entropy of the frames that are not blank (TENT for recognisers, SUTA's first term; 2203.14222)."""
    return _mean(entropy(logits / temperature), heard(logits, blank))


def minimum_class_confusion(logits: Tensor, temperature: float = TEMPERATURE, reweight: bool = True) -> Tensor:
    """MCC (SUTA's second term): 1 - tr(A^) / V, with A = sum_t w_t p_t p_t' and A^ = A over its row sums.

    w_t = T (1 + exp(-H_t)) / sum of the same: sure frames count more, and nothing is learned through w. All frames,
    blanks too. In [0, 1 - 1/V]. Trap: labels that no frame gives any probability have rows of 0 in float32; they are
    left out of trace and sum alike, where the authors divide by 0.
    """
    z = logits / temperature
    p = z.softmax(-1)
    if reweight:
        w = 1 + (-entropy(z).detach()).exp()
        w = len(w) * w / w.sum()
        confusion = (p * w[:, None]).T @ p
    else:
        confusion = p.T @ p
    rows = confusion.sum(1)
    known = rows > 0
    own = confusion.diagonal()[known] / rows[known]
    return (known.sum() - own.sum()) / logits.shape[-1]


def suta(
    logits: Tensor, blank: int, em_share: float = 0.3, temperature: float = TEMPERATURE, reweight: bool = True
) -> Tensor:
    """em_share * EM + (1 - em_share) * MCC (2203.14222)."""
    found = logits.new_zeros(())
    if em_share > 0:
        found = found + em_share * entropy_minimisation(logits, blank, temperature)
    if em_share < 1:
        found = found + (1 - em_share) * minimum_class_confusion(logits, temperature, reweight)
    return found


def labels_of(logits: Tensor, blank: int) -> Tensor:
    """The greedy transcript as labels: best of every frame, repeats joined, blanks left out. int[S], S may be 0."""
    import torch

    best: Tensor = torch.unique_consecutive(logits.detach().argmax(-1))
    return best[best != blank]


def transcript_loss(logits: Tensor, labels: Tensor, blank: int, *, as_published: bool = False) -> Tensor:
    """-ln p(labels | z) by CTC, over the number of labels (over 1 without any).

    Its own greedy transcript is SDPL's target. as_published: the softmax runs over time instead of labels, as in the
    code of SUTA's baseline; the result is no probability of a transcript, and the baseline weaker than it need be.
    """
    import torch

    log_p = logits.log_softmax(0 if as_published else -1)
    sizes = torch.tensor([len(logits)]), torch.tensor([len(labels)])
    lost = torch.nn.functional.ctc_loss(log_p[:, None], labels[None], *sizes, blank=blank, reduction="sum")
    return lost / max(1, len(labels))


def renyi(logits: Tensor, blank: int, order: float = 1.5, temperature: float = TEMPERATURE) -> Tensor:
    """SGEM's entropy: the mean over frames that are not blank of ln(sum_k p_k^order) / (1 - order), order > 0; order 1
    is Shannon's. In logarithms, so that small p do not underflow."""
    z = logits / temperature
    if order == 1:
        return _mean(entropy(z), heard(logits, blank))
    values = (order * z.log_softmax(-1)).logsumexp(-1) / (1 - order)
    return _mean(values, heard(logits, blank))


def negative_sampling(logits: Tensor, threshold: float = 0.04, temperature: float = TEMPERATURE) -> Tensor:
    """SGEM's second term: the mean over frames of -ln(1 - sum of p over improbable labels), those to which the softmax
    without temperature gives less than threshold * 10 / V. Written as the sum over the other labels: the same, and
    exact where hardly anything is left over. The best label is never improbable, so that sum is at least 1/V."""
    improbable = logits.softmax(-1) < threshold * 10 / logits.shape[-1]
    left = (logits / temperature).log_softmax(-1).masked_fill(improbable, -float("inf"))
    return -left.logsumexp(-1).mean()


def sgem(
    logits: Tensor, blank: int, order: float = 1.5, threshold: float = 0.04, temperature: float = TEMPERATURE
) -> Tensor:
    """Renyi entropy and negative sampling, added up (SGEM, arXiv:2306.01981)."""
    return renyi(logits, blank, order, temperature) + negative_sampling(logits, threshold, temperature)


def confidence_enhanced(logits: Tensor, blank: int, em_share: float = 0.3, temperature: float = TEMPERATURE) -> Tensor:
    """CEA's first phase: EM in which a frame weighs 1 / (1 + exp(-H)), so that unsure frames that are not blank count
    more instead of being left out; and MCC. The gradient goes through the weight."""
    h = entropy(logits / temperature)
    first = _mean(h * h.sigmoid(), heard(logits, blank))
    return em_share * first + (1 - em_share) * minimum_class_confusion(logits, temperature)


def temporal_coherence(states: Tensor, kept: Tensor) -> Tensor:
    """CEA's second phase: how far states of neighbouring frames lie apart after one step of attention among themselves.

    states: float[T, D]. kept: bool[T]; the mean is over kept frames but the first, 0 without any.
    """
    mixed = (states @ states.T).softmax(-1) @ states + states
    moved = mixed[1:] - mixed[:-1]
    # The root of a sum of squares has no gradient at 0, which two equal frames reach.
    apart = moved.square().sum(-1).clamp_min(1e-12).sqrt()
    return _mean(apart, kept[1:])


def smoothed(logits: Tensor, blank: int, em_share: float = 0.3, temperature: float = TEMPERATURE) -> Tensor:
    """EM over all frames, and MCC: what CEA adds its coherence to."""
    return em_share * entropy(logits / temperature).mean() + (1 - em_share) * minimum_class_confusion(
        logits, temperature
    )


def certainty(logits: Tensor) -> float:
    """The mean over frames of the best label's log-probability, at most 0: SUTA-LM's acoustic score."""
    return float(logits.detach().log_softmax(-1).max(-1).values.mean())


def lame(
    logits: Tensor, states: Tensor, blank: int, neighbours: int = 5, strength: float = 1.0, rounds: int = 100
) -> Tensor:
    """LAME (2201.05718) with the frames of one utterance as samples: corrected log-probabilities, float[T, V].

    Minimises sum_t KL(y_t || p_t) - strength / 2 * sum_{s,t} w_st y_s'y_t by its fixed point
    y_t ~ p_t exp(strength * sum_s w_st y_s). states: float[T, D], the last hidden states. w_st: 1/2 for each of the two
    frames that has the other among its `neighbours` nearest (of unit vectors). Frames whose blank has a probability
    above 1/2 keep what they have, as in E-BATS' re-run: nearly all frames of a CTC model are such, and would pull every
    other one to the blank.
    """
    import torch

    log_p = logits.detach().log_softmax(-1)
    spoken = log_p[:, blank].exp() <= 0.5
    if int(spoken.sum()) <= neighbours + 1:
        return log_p
    unit = torch.nn.functional.normalize(states.detach()[spoken], dim=-1)
    apart = torch.cdist(unit, unit)
    apart.fill_diagonal_(float("inf"))
    nearest = apart.topk(neighbours, largest=False).indices
    near = torch.zeros_like(apart).scatter_(1, nearest, 1.0)
    affinity = strength * (near + near.T) / 2
    own, y = log_p[spoken], log_p[spoken].exp()
    for _ in range(rounds):
        moved = (own + affinity @ y).softmax(-1)
        done = torch.allclose(moved, y, rtol=0, atol=1e-7)
        y = moved
        if done:
            break
    out = log_p.clone()
    out[spoken] = y.clamp_min(1e-12).log()
    return out
