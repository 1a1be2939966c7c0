"""The inference form of a block's end: attention before the last 1x1 convolution.

A 1x1 convolution commutes with the spatial mean, and so does a norm with fixed statistics. With ``u`` the input of the
convolution W and z ↦ s ⊙ z + t the norm,

    p = s ⊙ (W mean(u)) + t,    a = gate(p),    y = act((s ⊙ a) ⊙ (W u) + t ⊙ a + skip)

so that the gate reads the quarter of the channels that ``u`` has, the normed map is never written, and one pass scales,
shifts and adds. In exact arithmetic this is the form of training.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ._blocks import Adapter, Tail
from ._host import plain_type


class Last(NamedTuple):
    """The last convolution of a branch and the scale s and shift t ``(C,)`` of the norm after it."""

    conv: nn.Conv2d
    s: Tensor
    t: Tensor


def last_pointwise(adapter: Adapter, block: nn.Module) -> Last | None:
    """Return the block's last 1x1 convolution and its norm, or None where the early form does not apply."""
    if torch.is_grad_enabled() or not adapter.last or len(adapter.last) > 2:
        return None
    conv, norm = getattr(block, adapter.last[0]), getattr(block, adapter.last[1]) if adapter.last[1:] else nn.Identity()
    if not isinstance(conv, nn.Conv2d) or plain_type(conv).forward is not nn.Conv2d.forward:
        return None
    plain = set(conv.kernel_size) == set(conv.stride) == {1} and conv.groups == 1 and conv.padding in ((0, 0), "valid")
    if not plain or _watched(conv) or _watched(norm):
        return None
    affine = _affine(norm, conv)
    if affine is None:
        return None
    s, t = affine
    return Last(conv, s, t if conv.bias is None else torch.addcmul(t, s, conv.bias))


def _watched(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _affine(norm: nn.Module, conv: nn.Conv2d) -> tuple[Tensor, Tensor] | None:
    if isinstance(norm, nn.Identity):
        ones = conv.weight.new_ones(conv.out_channels)
        return ones, torch.zeros_like(ones)
    kind = plain_type(norm)
    frozen = kind.__name__ == "FrozenBatchNorm2d"
    if not frozen and (norm.training or not isinstance(norm, _BatchNorm) or kind.forward is not _BatchNorm.forward):
        return None
    mean, variance, eps = norm.running_mean, norm.running_var, norm.eps
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    s = (variance + eps).rsqrt()  # type: ignore[operator]
    weight, bias = norm.weight, norm.bias
    s = s * weight if isinstance(weight, Tensor) else s
    return s, torch.addcmul(bias if isinstance(bias, Tensor) else torch.zeros_like(s), s, mean, value=-1)


def early_means(last: Last, u: Tensor) -> Tensor:
    """Return the means ``(B, C)`` of the branch from its last convolution's input ``(B, C_in, H, W)``."""
    return torch.addcmul(last.t, F.linear(u.mean((2, 3)), last.conv.weight.flatten(1)), last.s)


def finish_early(last: Last, u: Tensor, a: Tensor, skip: Tensor | None, tail: Tail) -> Tensor:
    """Compute the block's output from the gate ``(B, C)``."""
    scale, shift = last.s * a, last.t * a
    positions = u.shape[2] * u.shape[3]
    if (
        isinstance(skip, Tensor)
        and not callable(tail)
        and u.is_contiguous()
        and skip.is_contiguous()
        and u.dtype == skip.dtype == scale.dtype
        and 2 * positions >= len(last.s)
    ):  # every sample gets weights of its own, which cost less than a pass where there are many positions
        weights = scale.unsqueeze(2) * last.conv.weight.flatten(1)
        y = torch.baddbmm(skip.flatten(2), weights, u.flatten(2)).add_(shift.unsqueeze(2)).view_as(skip)
        return y if tail is None else y.relu_()
    z = F.conv2d(u, last.conv.weight)
    if z.is_contiguous():
        z = z.mul_(scale[:, :, None, None].to(z.dtype)).add_(shift[:, :, None, None].to(z.dtype))
    else:
        z = torch.addcmul(shift[:, :, None, None].to(z.dtype), z, scale[:, :, None, None].to(z.dtype), out=z)
    if callable(tail):
        return tail(z, skip)
    if skip is not None:
        z = z.add_(skip) if skip.dtype == z.dtype else z + skip
    return z if tail is None else z.relu_()
