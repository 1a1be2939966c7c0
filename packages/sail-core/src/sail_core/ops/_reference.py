"""The readable form of recalibration: what every faster form is tested against."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["relu"] | None
Output = Tensor | tuple[Tensor, ...]


def pool(x: Tensor, *, dim: Literal["spatial", "last"] = "spatial") -> Tensor:
    """Average a map over its positions, or over its last axis.

    ``m[b, c] = mean_k x[b, c, k]``; half-precision inputs are summed in float32.

    Args:
        x: Map of shape ``(B, C, *K)`` with at least one axis in K, floating point or complex. For
            ``dim="last"``, tokens of shape ``(B, ..., D)``.
        dim: ``"spatial"`` averages over all axes after the second, ``"last"`` over the last axis only.

    Returns:
        Means of shape (B, C), or (B, ...) for ``dim="last"``, in the dtype of ``x``.

    Raises:
        ValueError: If ``x`` has too few axes or ``dim`` is unknown.
        TypeError: If ``x`` holds integers or booleans.

    Example:
        >>> pool(torch.arange(8.0).reshape(1, 2, 2, 2))
        tensor([[1.5000, 5.5000]])

    References:
        Jie Hu, Li Shen, Gang Sun, "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507.
    """
    if dim == "spatial":
        check_map(x)
        return x.mean(tuple(range(2, x.dim())))
    if dim == "last":
        check_dtype(x)
        if x.dim() < 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; pooling the last axis needs at least (B, D)")
        return x.mean(-1)
    raise ValueError(f"dim is {dim!r}; expected 'spatial' or 'last'")


def scale(x: Tensor, gate: Tensor, *, residual: Tensor | None = None, activation: Activation = None) -> Tensor:
    """Multiply every position of a map by its channel's gate, then add a residual and apply an activation.

    ``y[b, c, k] = act(x[b, c, k] * gate[b, c] + residual[b, c, k])``

    Args:
        x: Map of shape ``(B, C, *K)``.
        gate: Factors whose shape is the beginning of the shape of ``x``, usually (B, C).
        residual: Map of the shape of ``x`` to add, or None.
        activation: ``"relu"`` or None.

    Returns:
        Map of the shape of ``x``; its dtype follows torch's type promotion of the formula.

    Raises:
        ValueError: If the shapes do not fit or the activation is unknown.
        TypeError: If ``x`` holds integers or booleans.

    Example:
        >>> scale(torch.ones(1, 2, 3), torch.tensor([[0.5, 2.0]]), residual=-torch.ones(1, 2, 3), activation="relu")
        tensor([[[0., 0., 0.],
                 [1., 1., 1.]]])

    References:
        Jie Hu, Li Shen, Gang Sun, "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507.
    """
    check_dtype(x)
    check_tail(x, residual, activation)
    if gate.dim() == 0 or gate.shape != x.shape[: gate.dim()]:
        raise ValueError(
            f"gate has shape {tuple(gate.shape)}; expected the first axes of x, which has shape {tuple(x.shape)}"
        )
    return _scale(x, gate, residual, activation)


def _scale(x: Tensor, gate: Tensor, residual: Tensor | None, activation: Activation) -> Tensor:
    y = x * gate.reshape(gate.shape + (1,) * (x.dim() - gate.dim()))
    if residual is not None:
        y = y + residual
    return torch.relu(y) if activation == "relu" else y


def recalibrate(
    x: Tensor,
    gate: Callable[..., object],
    *,
    state: tuple[Tensor, ...],
    residual: Tensor | None,
    activation: Activation,
) -> Output:
    """Pool, gate and scale with autograd's own backward; the arguments have been checked by the caller."""
    pooled = x.mean(tuple(range(2, x.dim())))
    a, states = split(gate(pooled, *state), pooled)
    y = _scale(x, a, residual, activation)
    return y if states is None else (y, *states)


def split(output: object, pooled: Tensor) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Separate what a gate returned into the factors (B, C) and the new state, None where it returned a bare tensor."""
    if isinstance(output, Tensor):
        a, states = output, None
    elif isinstance(output, tuple) and output and all(isinstance(item, Tensor) for item in output):
        a, states = output[0], output[1:]
    else:
        raise TypeError(
            f"the gate returned {_describe(output)}; expected a tensor a, or a tuple (a, *state) of tensors"
        )
    if a.shape != pooled.shape:
        raise ValueError(
            f"the gate returned factors of shape {tuple(a.shape)}; expected those of its input, {tuple(pooled.shape)}"
        )
    return a, states


def check_map(x: Tensor) -> None:
    """Raise unless ``x`` is a floating-point or complex map ``(B, C, *K)``."""
    check_dtype(x)
    if x.dim() < 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, *K) with at least one axis after the channels")


def check_dtype(x: Tensor) -> None:
    """Raise unless ``x`` is a tensor of floating-point or complex numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x is {_describe(x)}; expected a tensor")
    if not (x.is_floating_point() or x.is_complex()):
        raise TypeError(f"x is {x.dtype}, whose mean is not defined; convert it first, for example with x.float()")


def check_tail(x: Tensor, residual: Tensor | None, activation: Activation) -> None:
    """Raise unless ``residual`` has the shape of ``x`` and ``activation`` is known."""
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual has shape {tuple(residual.shape)}; expected that of x, {tuple(x.shape)}")
    if activation not in (None, "relu"):
        raise ValueError(f"activation is {activation!r}; expected None or 'relu'")


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of ({', '.join(type(item).__name__ for item in value)})"
    return f"a {type(value).__name__}"
