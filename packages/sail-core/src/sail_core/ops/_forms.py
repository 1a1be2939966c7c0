"""The three passes over the map that a joint recalibration makes, in the formula that suits each kind of device.

With ``g`` the gradient of ``y = x * a (+ residual)``: ``dot`` gives ``da[b, c] = sum_k g[b, c, k] * x[b, c, k]`` and
``fold`` gives ``dx = g * a + b``, where ``b`` is the gradient that reaches every position through the pool.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class _Scale(Protocol):
    def __call__(self, x: Tensor, a: Tensor, residual: Tensor | None) -> Tensor: ...


class _Dot(Protocol):
    def __call__(self, g: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]: ...


class _Fold(Protocol):
    def __call__(self, g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor: ...


class Form(NamedTuple):
    """One formula for each pass; ``a`` and ``b`` come as (B, C, 1, ...), ``spare`` is a dead map that may be reused."""

    scale: _Scale
    dot: _Dot
    fold: _Fold


def _scale_cpu(x: Tensor, a: Tensor, residual: Tensor | None) -> Tensor:
    y = x * a
    if residual is None:
        return y
    return y.add_(residual) if torch.result_type(y, residual) == y.dtype else y + residual


def _dot_cpu(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    product = g * x
    return product.sum(tuple(range(2, x.dim()))), product


def _fold_cpu(g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor:
    # A fresh map costs page faults, which on a CPU weigh more than another pass.
    reusable = spare is not None and spare.dtype == torch.result_type(g, a)
    return torch.mul(g, a, out=spare if reusable else None).add_(b)


def _scale_cuda(x: Tensor, a: Tensor, residual: Tensor | None) -> Tensor:
    return x * a if residual is None else torch.addcmul(residual, x, a)


def _dot_cuda(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    if g.dtype != x.dtype or not (g.is_contiguous() and x.is_contiguous()):
        return _dot_cpu(g, x)
    rows, columns = g.flatten(0, 1).flatten(1).unsqueeze(1), x.flatten(0, 1).flatten(1).unsqueeze(2)
    with torch.autocast(x.device.type, enabled=False):
        return torch.bmm(rows, columns).view(x.shape[:2]), None


def _fold_cuda(g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor:
    return torch.addcmul(b, g, a)


FORMS = {
    "cpu": Form(_scale_cpu, _dot_cpu, _fold_cpu),
    "cuda": Form(_scale_cuda, _dot_cuda, _fold_cuda),
}
