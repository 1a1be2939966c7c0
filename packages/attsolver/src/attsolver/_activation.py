"""Activations of the correction: rational functions of degree 3 over 2, safe or as published."""

from torch import Tensor
from torch.nn import functional as F

from ._corrector import Activation

# a0, a1, a2, a3, b0, b1, b2: close to relu; Boulle, Nakatsukasa, Townsend: Rational neural networks, 2020
INITIAL = (0.0218, 0.5, 1.5957, 1.1915, 1.0, 0.0, 2.383)
ACTIVATIONS: tuple[Activation, ...] = ("rational", "published", "relu", "silu", "tanh")


def rational(x: Tensor, coefficients: Tensor) -> Tensor:
    """The safe rational function ``(a3 x^3 + a2 x^2 + a1 x + a0) / (1 + |b1 x + b2 x^2|)``.

    Args:
        x: Any shape.
        coefficients: (a0, a1, a2, a3, b0, b1, b2); b0 is not read.

    Returns:
        The shape of x; finite for finite x and coefficients that do not overflow, since the denominator is at least 1.

    Example:
        >>> import torch
        >>> rational(torch.tensor([0.0, 2.0]), torch.tensor(INITIAL))
        tensor([0.0218, 1.6081])
    """
    a0, a1, a2, a3, _, b1, b2 = coefficients.unbind()
    return (((a3 * x + a2) * x + a1) * x + a0) / (1 + ((b2 * x + b1) * x).abs())


def published_rational(x: Tensor, coefficients: Tensor) -> Tensor:
    """NeurVec's ``(a3 x^3 + a2 x^2 + a1 x + a0) / (b2 x^2 + b1 x + b0)``, whose denominator training can make vanish.

    Args:
        x: Any shape.
        coefficients: (a0, a1, a2, a3, b0, b1, b2).

    Returns:
        The shape of x.
    """
    a0, a1, a2, a3, b0, b1, b2 = coefficients.unbind()
    return (((a3 * x + a2) * x + a1) * x + a0) / ((b2 * x + b1) * x + b0)


def activate(x: Tensor, activation: Activation, coefficients: Tensor) -> Tensor:
    """Apply an activation by name; ``coefficients`` are read by the rational ones only."""
    if activation == "rational":
        return rational(x, coefficients)
    if activation == "published":
        return published_rational(x, coefficients)
    if activation == "relu":
        return x.relu()
    return F.silu(x) if activation == "silu" else x.tanh()


def denominator_is_positive(coefficients: tuple[float, ...]) -> bool:
    """Whether ``b2 x^2 + b1 x + b0`` is positive for every x."""
    *_, b0, b1, b2 = coefficients
    return b0 > 0 and (b1 * b1 < 4 * b0 * b2 or (b1 == 0 and b2 == 0))
