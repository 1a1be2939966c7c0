"""The formulas of the causal module on tensors, as we use them and as the authors released them."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["negative_log_odds", "paper_code_attention", "paper_code_loss", "paper_code_product", "state_correction"]

_PAPER_MASK = -(2.0**32) + 1


def negative_log_odds(sentiment_logits: Tensor) -> Tensor:
    """Log-odds of a negative sentiment, log(p_negative / (p_neutral + p_positive)).

    Args:
        sentiment_logits: `(..., 3)`, negative, neutral and positive; any constant may be added.

    Returns:
        `(...)`.

    Example:
        >>> negative_log_odds(torch.tensor([0.5, 0.25, 0.25]).log())
        tensor(0.)
    """
    negative, neutral, positive = sentiment_logits.unbind(-1)
    return negative - torch.logaddexp(neutral, positive)


def state_correction(handoff_logits: Tensor, negative: Tensor, beta: Tensor | float) -> Tensor:
    """Correct a host's handoff by the state of the user.

    ``log p'(h) = log_softmax(log p(h) + beta [log(p_neutral + p_positive), log p_negative])``, which is
    ``log_softmax(host logits + beta [0, log-odds of negative])``: the log-odds of a handoff move by beta times those
    of a negative state, upwards in p_negative for beta > 0.

    Args:
        handoff_logits: `(..., 2)`, normal and transferable.
        negative: `(...)`, see `negative_log_odds`; 0 corrects nothing.
        beta: Strength, >= 0.

    Returns:
        `(..., 2)` log-probabilities.

    Example:
        >>> state_correction(torch.zeros(2), torch.tensor(1.0), 2.0).exp()
        tensor([0.1192, 0.8808])
    """
    return (handoff_logits + F.pad((beta * negative).unsqueeze(-1), (1, 0))).log_softmax(-1)


def paper_code_product(handoff_logits: Tensor, sentiment_logits: Tensor, weights: Tensor, user: Tensor) -> Tensor:
    """Multiply handoff and user state as the authors' code does: q = p [w s_negative, w s_positive].

    w is a softmax over the user turns of the whole dialogue, later ones included; the class "normal" is multiplied by
    the negative sentiment; other turns get q = (0, 0), and nothing is normalised.

    Args:
        handoff_logits: `(B, T, 2)`.
        sentiment_logits: `(B, T, 3)`, negative, neutral and positive.
        weights: `(B, T)`, log-weights of the turns.
        user: `(B, T)` bool, the real turns that are the user's.

    Returns:
        q `(B, T, 2)`.

    Example:
        >>> paper_code_product(
        ...     torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), torch.zeros(1, 2), torch.tensor([[True, False]])
        ... )
        tensor([[[0.1667, 0.1667],
                 [0.0000, 0.0000]]])
    """
    share = torch.where(user, weights, _PAPER_MASK).softmax(1) * user
    sentiment = sentiment_logits.softmax(-1)[..., ::2]
    return handoff_logits.softmax(-1) * share.unsqueeze(-1) * sentiment


def paper_code_loss(q: Tensor, handoff: Tensor, mask: Tensor) -> Tensor:
    """The authors' handoff loss with its cost term.

    mean_B(1/T_b sum_t l_t) + 0.01 mean(q[:, 1]), l = -(sqrt(1 - q1) y0 log(q0 + 1e-9) + sqrt(q0) y1 log(q1 + 1e-9)).
    The cost term indexes the turn 1, both classes, as released.

    Args:
        q: `(B, T, 2)`, see `paper_code_product`.
        handoff: `(B, T)`, 0 or 1; anything on padding.
        mask: `(B, T)` bool, the real turns.

    Returns:
        A scalar.

    Example:
        >>> paper_code_loss(torch.full((1, 1, 2), 0.5), torch.tensor([[1]]), torch.tensor([[True]]))
        tensor(0.4901)
    """
    q0, q1 = q.unbind(-1)
    normal = (handoff == 0) * (1 - q1).clamp(min=1e-9).sqrt() * (q0 + 1e-9).log()
    transfer = (handoff == 1) * q0.clamp(min=1e-9).sqrt() * (q1 + 1e-9).log()
    per_dialogue = (-(normal + transfer) * mask).sum(1) / mask.sum(1)
    return per_dialogue.mean() + 0.01 * (q[:, 1].mean() if q.shape[1] > 1 else 0.0)


def paper_code_attention(query: Tensor, key: Tensor, value: Tensor, rows: Tensor) -> Tensor:
    """Attention with the authors' mask: it overwrites rows of queries, where columns of keys were meant.

    softmax(where(rows, query key^T, -2^32 + 1)) value: a query that is kept attends to padding and to later turns, one
    that is masked attends to everything alike.

    Args:
        query: `(B, T, d)`.
        key: `(B, T, d)`.
        value: `(B, T, d)`.
        rows: `(B, T)` bool, the turns whose rows are kept.

    Returns:
        `(B, T, d)`.

    Example:
        >>> one = torch.ones(1, 2, 1)
        >>> paper_code_attention(one, one, torch.tensor([[[0.0], [4.0]]]), torch.tensor([[True, False]])).flatten()
        tensor([2., 2.])
    """
    scores = torch.where(rows.unsqueeze(2), query @ key.transpose(1, 2), _PAPER_MASK)
    return scores.softmax(2) @ value
