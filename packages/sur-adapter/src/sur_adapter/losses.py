"""The losses of the adapter's training."""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Direction", "Match", "Reduction", "kd", "match", "preservation"]

Direction = Literal["forward", "reverse"]
"""``"forward"``: KL(target || student). ``"reverse"``: KL(student || target)."""
Reduction = Literal["token", "batchmean"]
"""``"token"``: the mean over tokens. ``"batchmean"``: the sum over tokens, divided by the batch."""
Match = Literal["kl", "mse", "cosine"]
"""How `match` compares."""


def kd(
    a: Tensor,
    b: Tensor,
    *,
    direction: Direction = "forward",
    reduction: Reduction = "token",
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence between a target and a student, both read as logits over the last axis.

    ``p = softmax(a / T)``, ``q = softmax(b / T)``; forward ``T² Σ p log(p/q)``, reverse ``T² Σ q log(q/p)``.
    ``direction="reverse", reduction="batchmean"`` is the authors' loss.

    Args:
        a: The target, detached here; its shape broadcasts to that of b, such as ``(B, 1, d)``.
        b: The student ``(B, ..., d)``.
        direction: ``"forward"``: ``KL(a||b)``. ``"reverse"``: ``KL(b||a)``.
        reduction: ``"token"``: the mean over tokens. ``"batchmean"``: the sum over tokens, divided by B.
        temperature: T > 0.
        mask: ``(B, ...)``, b's shape without its last axis, bool: the tokens that count.

    Returns:
        A scalar >= 0 in float32 (float64 for float64). With no token to count it is 0.

    Raises:
        ValueError: The shapes do not fit, or a word or the temperature is out of range.

    Example:
        >>> a, b = torch.tensor([[[2.0, 0.0]]]), torch.zeros(1, 3, 2)
        >>> kd(a, b).item(), kd(a, b, reduction="batchmean").item()  # doctest: +ELLIPSIS
        (0.327..., 0.983...)
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is {direction!r}; it must be 'forward' (KL(a||b)) or 'reverse' (KL(b||a))")
    if reduction not in ("token", "batchmean"):
        raise ValueError(f"reduction is {reduction!r}; it must be 'token' or 'batchmean'")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    if b.ndim < 2 or a.ndim != b.ndim or a.shape[-1] != b.shape[-1] or not _broadcasts(a, b):
        raise ValueError(
            f"the target has shape {tuple(a.shape)}, which does not broadcast to the student's {tuple(b.shape)} with "
            "the same last axis"
        )
    if mask is not None and mask.shape != b.shape[:-1]:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}; the student's tokens are {tuple(b.shape[:-1])}")
    log_p, log_q = _log_softmax(a.detach(), temperature), _log_softmax(b, temperature)
    first, second = (log_p, log_q) if direction == "forward" else (log_q, log_p)
    each = (first.exp() * (first - second)).sum(-1) * temperature**2
    each = each.expand(b.shape[:-1])
    if mask is not None:
        each = each.masked_fill(~mask, 0)
    if reduction == "batchmean":
        return each.sum() / b.shape[0]
    return each.mean() if mask is None else each.sum() / mask.sum().clamp(min=1)


def match(
    target: Tensor,
    student: Tensor,
    *,
    kind: Match = "kl",
    direction: Direction = "forward",
    reduction: Reduction = "token",
    mask: Tensor | None = None,
) -> Tensor:
    """Hold student tokens against target tokens.

    ``"kl"``: `kd`. ``"mse"``: ``mean (student - target)²``. ``"cosine"``: ``mean 1 - cos(student, target)``.

    Args:
        target: ``(B, N, d)`` or ``(B, 1, d)``, detached here.
        student: ``(B, N, d)``.
        kind: See above.
        direction: Of ``"kl"``.
        reduction: Of ``"kl"``; the others are means over tokens.
        mask: ``(B, N)`` bool: the tokens that count. None counts all.

    Returns:
        A scalar >= 0 in float32 (float64 for float64).

    Raises:
        ValueError: The shapes do not fit, or a word is not known.

    Example:
        >>> target, student = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
        >>> match(target, student, kind="mse").item(), match(target, student, kind="cosine").item()
        (1.5, 0.5)
    """
    if kind == "kl":
        return kd(target, student, direction=direction, reduction=reduction, mask=mask)
    if kind not in ("mse", "cosine"):
        raise ValueError(f"kind is {kind!r}; it must be 'kl', 'mse' or 'cosine'")
    if target.ndim != student.ndim or target.shape[-1] != student.shape[-1] or not _broadcasts(target, student):
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, which does not broadcast to the student's "
            f"{tuple(student.shape)} with the same last axis"
        )
    wide = torch.promote_types(student.dtype, torch.float32)
    a, b = target.detach().to(wide), student.to(wide)
    each = (b - a).square().mean(-1) if kind == "mse" else 1 - torch.cosine_similarity(b, a, dim=-1)
    if mask is None:
        return each.mean()
    if mask.shape != each.shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}; the student's tokens are {tuple(each.shape)}")
    return each.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def preservation(before: Tensor, after: Tensor) -> Tensor:
    """How far states moved that shall stay: the mean over prompts of ``‖after - before‖² / ‖before‖²``.

    Args:
        before: The states of complex prompts ``(B, N, d)``, detached here.
        after: The same, adapted.

    Returns:
        A scalar >= 0 in float32 (float64 for float64).

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> preservation(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[2.0, 1.0]]])).item()
        0.25
    """
    if before.shape != after.shape:
        raise ValueError(f"the states have shapes {tuple(before.shape)} and {tuple(after.shape)}; they must agree")
    wide = torch.promote_types(after.dtype, torch.float32)
    a, b = before.detach().to(wide), after.to(wide)
    moved, size = (b - a).square().flatten(1).sum(1), a.square().flatten(1).sum(1)
    return (moved / size.clamp(min=torch.finfo(wide).tiny)).mean()


def _broadcasts(a: Tensor, b: Tensor) -> bool:
    return all(mine in (1, theirs) for mine, theirs in zip(a.shape, b.shape, strict=True))


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(logits / temperature, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
