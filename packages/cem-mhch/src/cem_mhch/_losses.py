"""Losses over the real turns of a batch that have a label."""

import torch
import torch.nn.functional as F
from torch import Tensor


def handoff_loss(log_probs: Tensor, handoff: Tensor, *, positive_weight: float, focal_gamma: float) -> Tensor:
    """Weighted focal negative log-likelihood of the turns with a label.

    sum_t w_t (1 - p_t)^gamma (-log p_t) / sum_t w_t, p_t the probability of the turn's label, w_t = `positive_weight`
    on transferable turns and 1 elsewhere.

    Args:
        log_probs: `(B, T, 2)`.
        handoff: `(B, T)`, 0 or 1, -1 where there is none.
        positive_weight: Weight of a transferable turn, > 0.
        focal_gamma: 0 is the plain likelihood.

    Returns:
        A scalar, 0 where no turn has a label.

    Example:
        >>> half = torch.full((1, 2, 2), 0.5).log()
        >>> handoff_loss(half, torch.tensor([[1, -1]]), positive_weight=3.0, focal_gamma=0.0)
        tensor(0.6931)
    """
    labelled = handoff >= 0
    target = handoff[labelled]
    log_p = log_probs[labelled].gather(1, target.unsqueeze(1)).squeeze(1)
    weight = torch.where(target == 1, positive_weight, 1.0).to(log_p.dtype)
    loss = -log_p if focal_gamma == 0 else -((1 - log_p.exp()).clamp(min=0) ** focal_gamma) * log_p
    return (weight * loss).sum() / weight.sum().clamp(min=1e-12)


def sentiment_loss(logits: Tensor, sentiment: Tensor, user: Tensor) -> Tensor:
    """Cross-entropy on the real user turns that have a sentiment.

    Args:
        logits: `(B, T, 3)`.
        sentiment: `(B, T)`, 0 negative, 1 neutral, 2 positive, -1 where there is none.
        user: `(B, T)` bool, the real turns that are the user's.

    Returns:
        A scalar, 0 where there is none.
    """
    labelled = user & (sentiment >= 0)
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[labelled], sentiment[labelled])


def satisfaction_loss(log_probs: Tensor, satisfaction: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the dialogue's satisfaction at its last turn.

    Args:
        log_probs: `(B, T, 3)`, running.
        satisfaction: `(B,)`, 0 unsatisfied, 1 met, 2 well satisfied, -1 where there is none.
        mask: `(B, T)` bool, the real turns.

    Returns:
        A scalar, 0 where there is none.
    """
    labelled = satisfaction >= 0
    if not bool(labelled.any()):
        return log_probs.sum() * 0.0
    last = mask.sum(1) - 1
    final = log_probs[torch.arange(len(last), device=last.device), last]
    return F.nll_loss(final[labelled], satisfaction[labelled])
