"""Pure tensor functions: the readable reference of every module in this package, and two cheaper forms beside it."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

__all__ = [
    "cs_kappas",
    "linear_kappas",
    "ls_token_gate",
    "scale_then_cat",
    "scaled_concat",
    "skip_linear",
    "skip_linear_cat",
    "sqrt2_kappas",
]


def cs_kappas(count: int, kappa: float, *, allow_gt1: bool = False) -> tuple[float, ...]:
    """Constant scaling: κ_i = κ^(i - 1), i = 1 the shallowest skip (first encoder block to last decoder block).

    Args:
        count: Number of long skips N, >= 1.
        kappa: κ in (0, 1]; the authors suggest 0.5 to 0.95.
        allow_gt1: Let κ exceed 1.

    Returns:
        (κ_1, ..., κ_N): 1 first, κ^(N-1) last.

    Raises:
        ValueError: ``count`` or ``kappa`` is out of range.
        TypeError: ``kappa`` is no number.

    Example:
        >>> cs_kappas(3, 0.5)
        (1.0, 0.5, 0.25)

    Reference:
        Huang, Zhou, Yan, Lin: ScaleLong: Towards More Stable Training of Diffusion Model via Scaling Network Long Skip
        Connection. NeurIPS 2023, arXiv 2310.13545.
    """
    kappa = check_kappa(kappa, allow_gt1=allow_gt1)
    _check_count(count)
    if kappa ** (count - 1) < 1e-3:
        warnings.warn(
            f"kappa={kappa:g} over {count} skips leaves the deepest {kappa ** (count - 1):.1e} of itself: it is "
            "practically cut; a kappa nearer to 1 keeps it",
            UserWarning,
            stacklevel=2,
        )
    return tuple(kappa**power for power in range(count))


def sqrt2_kappas(count: int) -> tuple[float, ...]:
    """The common constant: κ_i = 1/√2 for every skip.

    Args:
        count: Number of long skips N, >= 1.

    Returns:
        N times 2^(-1/2).

    Raises:
        ValueError: ``count`` is out of range.

    Example:
        >>> [round(kappa, 4) for kappa in sqrt2_kappas(2)]
        [0.7071, 0.7071]
    """
    _check_count(count)
    return (1 / math.sqrt(2),) * count


def linear_kappas(count: int, kappa: float, *, allow_gt1: bool = False) -> tuple[float, ...]:
    """Linear in depth, as Skip-Tuning: κ_i = 1 + (κ - 1)(i - 1)/(N - 1), so 1 for the shallowest and κ for the deepest.

    Args:
        count: Number of long skips N, >= 1; a single one keeps 1.
        kappa: κ of the deepest skip, in (0, 1].
        allow_gt1: Let κ exceed 1, which Skip-Tuning also tries.

    Returns:
        (κ_1, ..., κ_N).

    Raises:
        ValueError: ``count`` or ``kappa`` is out of range.
        TypeError: ``kappa`` is no number.

    Example:
        >>> linear_kappas(3, 0.5)
        (1.0, 0.75, 0.5)

    Reference:
        Ma, Xue, Hu and others: The Surprising Effectiveness of Skip-Tuning in Diffusion Sampling. arXiv 2402.15170.
    """
    kappa = check_kappa(kappa, allow_gt1=allow_gt1)
    _check_count(count)
    return tuple(1 + (kappa - 1) * i / max(1, count - 1) for i in range(count))


def ls_token_gate(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Learnable scaling of a token sequence: one gate a token, time and label tokens included.

    p = mean_D x
    gate = σ(W2 relu(W1 p + b1) + b2)

    Args:
        x: Skip ``(B, L, D)``.
        w1: ``(R, L)``, R the hidden width.
        b1: ``(R,)``.
        w2: ``(L, R)``.
        b2: ``(L,)``.

    Returns:
        The gate ``(B, L, 1)`` in (0, 1); the scaled skip is ``x * gate``.

    Example:
        >>> import torch
        >>> ls_token_gate(torch.ones(1, 2, 3), torch.ones(1, 2), torch.zeros(1), torch.zeros(2, 1), torch.zeros(2))
        tensor([[[0.5000],
                 [0.5000]]])

    Reference:
        arXiv 2310.13545, as the authors' code has it.
    """
    return torch.sigmoid(linear(relu(linear(x.mean(-1), w1, b1)), w2, b2)).unsqueeze(-1)


def scale_then_cat(h: Tensor, s: Tensor, kappa: float) -> Tensor:
    """The reference of `scaled_concat`: ``cat([h, κ s], dim=1)``, six passes over a map when both halves are equal.

    Args:
        h: Backbone ``(B, C_h, ...)``.
        s: Skip ``(B, C_s, ...)``.
        kappa: The factor of the skip.

    Returns:
        ``(B, C_h + C_s, ...)``.

    Example:
        >>> import torch
        >>> scale_then_cat(torch.ones(1, 1, 2), torch.ones(1, 1, 2), 0.5)
        tensor([[[1.0000, 1.0000],
                 [0.5000, 0.5000]]])
    """
    return torch.cat([h, s * kappa], dim=1)


_SMALL = 1 << 17  # elements of a map below which the calls cost more than the passes they save


class _ScaledConcat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, kappa: float) -> Tensor:
        ctx.kappa, ctx.width = kappa, h.shape[1]
        last = h.dim() == 4 and h.is_contiguous(memory_format=torch.channels_last) and not h.is_contiguous()
        shape = (h.shape[0], h.shape[1] + s.shape[1], *h.shape[2:])
        layout = torch.channels_last if last else torch.contiguous_format
        out = torch.empty(shape, dtype=h.dtype, device=h.device, memory_format=layout)
        out[:, : h.shape[1]].copy_(h)
        torch.mul(s, kappa, out=out[:, h.shape[1] :])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        to_h = grad[:, : ctx.width] if ctx.needs_input_grad[0] else None
        to_s = grad[:, ctx.width :] * ctx.kappa if ctx.needs_input_grad[1] else None
        return to_h, to_s, None


def scaled_concat(h: Tensor, s: Tensor, kappa: float) -> Tensor:
    """``cat([h, κ s], dim=1)`` in four passes over a map instead of six: the product is written where it belongs.

    Under ``torch.compile``, under a function transform, for small maps and for halves of different dtype it is the
    reference.

    Args:
        h: Backbone ``(B, C_h, ...)``.
        s: Skip ``(B, C_s, ...)``.
        kappa: The factor of the skip, a number.

    Returns:
        ``(B, C_h + C_s, ...)``, bit-equal to `scale_then_cat`.

    Example:
        >>> import torch
        >>> h, s = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
        >>> torch.equal(scaled_concat(h, s, 0.7), scale_then_cat(h, s, 0.7))
        True
    """
    if h.numel() < _SMALL:
        return scale_then_cat(h, s, kappa)
    fits = h.dtype == s.dtype and h.device == s.device and h.shape[:1] + h.shape[2:] == s.shape[:1] + s.shape[2:]
    if (
        not fits or h.numel() < _SMALL or _transformed() or not isinstance(kappa, float)
    ):  # the reference says what is wrong
        return scale_then_cat(h, s, kappa)
    return _ScaledConcat.apply(h, s, kappa)  # type: ignore[no-any-return]


def skip_linear_cat(x: Tensor, s: Tensor, weight: Tensor, bias: Tensor | None, kappa: float | Tensor) -> Tensor:
    """The reference of `skip_linear`: ``W cat([x, κ s]) + b`` over the last dimension.

    Args:
        x: Backbone ``(B, L, D)``.
        s: Skip ``(B, L, D_s)``.
        weight: ``(E, D + D_s)``.
        bias: ``(E,)`` or None.
        kappa: A number, or a gate ``(B, L, 1)``.

    Returns:
        ``(B, L, E)``.

    Example:
        >>> import torch
        >>> skip_linear_cat(torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 2), None, 0.5)
        tensor([[[1.5000]]])
    """
    return linear(torch.cat([x, s * kappa], dim=-1), weight, bias)


class _SkipLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, weight: Tensor, bias: Tensor | None, kappa: float) -> Tensor:
        ctx.save_for_backward(x, s, weight)
        ctx.kappa = kappa
        y = linear(x, weight[:, : x.shape[-1]], bias)
        y.view(-1, y.shape[-1]).addmm_(s.flatten(0, -2), weight[:, x.shape[-1] :].t(), alpha=kappa)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, s, weight), kappa = grads, ctx.saved_tensors, ctx.kappa
        to_x, to_s = torch.split(weight, [x.shape[-1], s.shape[-1]], dim=1)
        need_x, need_s, need_weight, need_bias, _ = ctx.needs_input_grad
        g, rows_x, rows_s = g.flatten(0, -2), x.flatten(0, -2), s.flatten(0, -2)
        for_x = (g @ to_x).view_as(x) if need_x else None
        for_s = torch.addmm(g.new_zeros(1), g, to_s, beta=0, alpha=kappa).view_as(s) if need_s else None
        for_weight = None
        if need_weight and torch.is_grad_enabled():  # a second derivative is wanted
            for_weight = torch.cat([g.t() @ rows_x, kappa * (g.t() @ rows_s)], dim=1)
        elif need_weight:
            for_weight = torch.empty_like(weight)
            left, right = torch.split(for_weight, [x.shape[-1], s.shape[-1]], dim=1)
            torch.mm(g.t(), rows_x, out=left)
            torch.addmm(right, g.t(), rows_s, beta=0, alpha=kappa, out=right)
        return for_x, for_s, for_weight, g.sum(0) if need_bias else None, None


def skip_linear(x: Tensor, s: Tensor, weight: Tensor, bias: Tensor | None, kappa: float | Tensor) -> Tensor:
    """``W cat([x, κ s]) + b`` without the concatenation: ``W_x x + b + κ (W_s s)``, for its memory.

    A number κ goes into the product itself; a gate commutes with W_s, because it is one number a token. The
    concatenated tensor of ``B L 2D`` elements is neither made nor kept for the backward pass.

    Args:
        x: Backbone ``(B, L, D)``.
        s: Skip ``(B, L, D_s)``.
        weight: ``(E, D + D_s)``.
        bias: ``(E,)`` or None.
        kappa: A number, or a gate ``(B, L, 1)``.

    Returns:
        ``(B, L, E)``, equal to `skip_linear_cat` up to rounding.

    Example:
        >>> import torch
        >>> skip_linear(torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 2), None, 0.5)
        tensor([[[1.5000]]])
    """
    alike = x.dtype == s.dtype == weight.dtype and not torch.is_autocast_enabled(x.device.type)
    if alike and isinstance(kappa, float) and not _transformed():
        return _SkipLinear.apply(x, s, weight, bias, kappa)  # type: ignore[no-any-return]
    to_x, to_s = torch.split(weight, [x.shape[-1], s.shape[-1]], dim=1)
    y = linear(x, to_x, bias)
    if isinstance(kappa, Tensor):
        return torch.addcmul(y, kappa.to(y.dtype), linear(s, to_s))
    return torch.add(y, linear(s, to_s), alpha=kappa)


def _transformed() -> bool:
    """Whether a compiler or a function transform is looking, which the plain formula serves better."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def check_kappa(kappa: float, *, allow_gt1: bool = False) -> float:
    """Give ``kappa`` as a float, or refuse it."""
    if isinstance(kappa, bool) or not isinstance(kappa, int | float):
        raise TypeError(f"kappa is {kappa!r} of type {type(kappa).__name__}; it must be a number such as 0.7")
    if not math.isfinite(kappa) or kappa <= 0:
        raise ValueError(f"kappa is {kappa}; it must be a finite number above 0 and at most 1, such as 0.7")
    if kappa > 1 and not allow_gt1:
        raise ValueError(f"kappa is {kappa}, above 1, which amplifies the skips; allow_gt1=True takes it all the same")
    return float(kappa)


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count is {count!r}; it must be the number of long skips, at least 1")
