"""The four passes over the map that a joint recalibration makes, in the formula that suits each kind of device.

With ``g`` the gradient of ``y = act(x * a (+ residual))``: ``dot`` gives g where the activation let it through and
``da[b, c] = sum_k g[b, c, k] * x[b, c, k]``, and ``fold`` gives ``dx = g * a + b``, where ``b`` is the gradient that
reaches every position through the pool.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class _Pool(Protocol):
    def __call__(self, x: Tensor, /) -> Tensor: ...


class _Scale(Protocol):
    def __call__(self, x: Tensor, a: Tensor, residual: Tensor | None, activation: str | None) -> Tensor: ...


class _Dot(Protocol):
    def __call__(self, g: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]: ...


class _Fold(Protocol):
    def __call__(self, g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor: ...


class Form(NamedTuple):
    """One formula for each pass; ``a`` and ``b`` are (B, C), ``y`` is None without activation, ``spare`` a dead map."""

    pool: _Pool
    scale: _Scale
    dot: _Dot
    fold: _Fold


def expand(values: Tensor, x: Tensor) -> Tensor:
    """View (B, C) as (B, C, 1, ...), to broadcast over the positions of ``x``."""
    return values.reshape(values.shape + (1,) * (x.dim() - 2))


def through(g: Tensor, y: Tensor | None) -> Tensor:
    """``g`` where the ReLU that gave ``y`` let it through."""
    return g if y is None else torch.ops.aten.threshold_backward(g, y, 0)


def _mean(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())))


def _scale_cpu(x: Tensor, a: Tensor, residual: Tensor | None, activation: str | None) -> Tensor:
    y = x * expand(a, x)
    if residual is not None:
        y = y.add_(residual) if torch.result_type(y, residual) == y.dtype else y + residual
    return y.relu_() if activation == "relu" else y


def _dot_cpu(g: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    g = through(g, y)
    product = g * x
    return g, product.sum(tuple(range(2, x.dim()))), product


def _fold_cpu(g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor:
    # A fresh map costs page faults, which on a CPU weigh more than another pass.
    a = expand(a, g)
    reusable = spare is not None and spare.dtype == torch.result_type(g, a)
    return torch.mul(g, a, out=spare if reusable else None).add_(expand(b, g))


def _scale_cuda(x: Tensor, a: Tensor, residual: Tensor | None, activation: str | None) -> Tensor:
    y = x * expand(a, x) if residual is None else torch.addcmul(residual, x, expand(a, x))
    return y.relu_() if activation == "relu" else y


def _dot_cuda(g: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    g = through(g, y)
    if g.dtype != x.dtype or not (g.is_contiguous() and x.is_contiguous()):
        return _dot_cpu(g, x, None)
    rows, columns = g.flatten(0, 1).flatten(1).unsqueeze(1), x.flatten(0, 1).flatten(1).unsqueeze(2)
    with torch.autocast(x.device.type, enabled=False):
        return g, torch.bmm(rows, columns).view(x.shape[:2]), None


def _fold_cuda(g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor:
    return torch.addcmul(expand(b, g), g, expand(a, g))


CPU = Form(_mean, _scale_cpu, _dot_cpu, _fold_cpu)
CUDA = Form(_mean, _scale_cuda, _dot_cuda, _fold_cuda)
FORMS = {"cpu": CPU, "cuda": CUDA}
