"""The Triton kernels as operators of torch: traced by name, checked by opcheck, plain formulas on a CPU.

Nothing here imports Triton before a CUDA tensor arrives.
"""

import torch
from torch import Tensor
from torch.library import custom_op, register_fake

from ._forms import CPU, FORMS, Form


@custom_op("sail_core::channel_mean", mutates_args=(), device_types="cpu")
def channel_mean(x: Tensor) -> Tensor:
    """``mean_k x`` of a map (B, C, *K), in its dtype."""
    return CPU.pool(x)


@custom_op("sail_core::channel_scale", mutates_args=(), device_types="cpu")
def channel_scale(x: Tensor, a: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """``act(x * a + residual)`` with a of shape (B, C)."""
    return CPU.scale(x, a, residual, "relu" if relu else None)


@custom_op("sail_core::channel_dot", mutates_args=(), device_types="cpu")
def channel_dot(g: Tensor, x: Tensor) -> Tensor:
    """``sum_k g x`` as float32 (B, C)."""
    return (g * x).sum(tuple(range(2, x.dim())), dtype=torch.float32)


@custom_op("sail_core::channel_dot_relu", mutates_args=(), device_types="cpu")
def channel_dot_relu(g: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``g' = g where y > 0`` and ``sum_k g' x`` as float32 (B, C)."""
    masked = torch.ops.aten.threshold_backward(g, y, 0)
    return masked, (masked * x).sum(tuple(range(2, x.dim())), dtype=torch.float32)


@custom_op("sail_core::channel_affine", mutates_args=(), device_types="cpu")
def channel_affine(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``g * a + b`` with a and b of shape (B, C)."""
    return CPU.fold(g, a, b, None)


@channel_mean.register_kernel("cuda")
def _(x: Tensor) -> Tensor:
    from . import _triton

    return _triton.sums(x, factor=1 / x[:1, :1].numel()).to(x.dtype)


@channel_scale.register_kernel("cuda")
def _(x: Tensor, a: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    from . import _triton

    return _triton.affine(x, a.contiguous(), residual, relu=relu, dtype=_promoted(x, a, residual))


@channel_dot.register_kernel("cuda")
def _(g: Tensor, x: Tensor) -> Tensor:
    from . import _triton

    return _triton.sums(x, g=g)


@channel_dot_relu.register_kernel("cuda")
def _(g: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    from . import _triton

    masked = torch.empty_like(g)
    return masked, _triton.sums(x, g=g, y=y, masked=masked)


@channel_affine.register_kernel("cuda")
def _(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    from . import _triton

    return _triton.affine(g, a.contiguous(), b.contiguous(), relu=False, dtype=_promoted(g, a, b))


def _promoted(x: Tensor, a: Tensor, b: Tensor | None) -> torch.dtype:
    """What torch's promotion makes of ``x * a + b``, where all three have axes."""
    dtype = torch.promote_types(x.dtype, a.dtype)
    return dtype if b is None else torch.promote_types(dtype, b.dtype)


@register_fake("sail_core::channel_mean")
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2])


@register_fake("sail_core::channel_scale")
def _(x: Tensor, a: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(x, dtype=_promoted(x, a, residual))


@register_fake("sail_core::channel_dot")
def _(g: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.float32)


@register_fake("sail_core::channel_dot_relu")
def _(g: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(g), x.new_empty(x.shape[:2], dtype=torch.float32)


@register_fake("sail_core::channel_affine")
def _(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.empty_like(g, dtype=_promoted(g, a, b))


def _scale(x: Tensor, a: Tensor, residual: Tensor | None, activation: str | None) -> Tensor:
    if residual is not None and residual.stride() != x.stride():
        return FORMS[x.device.type].scale(x, a, residual, activation)
    scaled: Tensor = channel_scale(x, a, residual, activation == "relu")
    return scaled


def _dot(g: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    if g.stride() != x.stride() or (y is not None and y.stride() != x.stride()):
        return FORMS[x.device.type].dot(g, x, y)
    if y is None:
        return g, channel_dot(g, x), None
    masked, da = channel_dot_relu(g, x, y)
    return masked, da, None


def _fold(g: Tensor, a: Tensor, b: Tensor, spare: Tensor | None) -> Tensor:
    if not (g.is_contiguous() or g.movedim(1, -1).is_contiguous()):
        return FORMS[g.device.type].fold(g, a, b, None)
    dx: Tensor = channel_affine(g, a, b)
    return dx


TRITON = Form(channel_mean, _scale, _dot, _fold)
