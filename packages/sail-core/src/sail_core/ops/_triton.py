"""The passes of a recalibration as Triton kernels: one read and one write of a map each, sums in a fixed order.

A map (B, C, *K) lies in memory as B*C rows of K numbers (channels second, also tokens (B, L, D) with a gate a token),
or as B blocks of K rows of C (channels last). Element-wise passes run over the flat map, so that 16-byte loads survive
any K; only the index of the small gate differs. A tile's base is computed in int64, positions inside it in int32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1024
_FUSED = {"enable_fp_fusion": True}  # one rounding of x * a + b; said, because the default differs between versions
_PROGRAMS = 1024  # of a sum over channels last; enough to fill a GPU, and few partial sums


@triton.jit
def over_rows(
    x, g, y, masked, out, rows, size, factor, DOT: tl.constexpr, RELU: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr
):
    """Sums over rows of contiguous numbers, of x or of g * x; with RELU g counts where y > 0 and is written masked."""
    first = tl.program_id(0).to(tl.int64) * BR
    row = tl.arange(0, BR)
    inside = first + row < rows
    base = first * size
    total = tl.zeros((BR, BK), tl.float32)
    for start in range(0, size, BK):
        column = start + tl.arange(0, BK)
        ok = inside[:, None] & (column < size)[None, :]
        at = base + (row[:, None] * size + column[None, :])
        value = tl.load(x + at, ok, 0.0).to(tl.float32)
        if DOT:
            gradient = tl.load(g + at, ok, 0.0).to(tl.float32)
            if RELU:
                gradient = tl.where(tl.load(y + at, ok, 0.0).to(tl.float32) <= 0.0, 0.0, gradient)
                tl.store(masked + at, gradient, ok)
            value = value * gradient
        total += value
    tl.store(out + first + row, tl.sum(total, 1) * factor, inside)


@triton.jit
def over_columns(
    x,
    g,
    y,
    masked,
    out,
    size,
    channels,
    chunk,
    factor,
    DOT: tl.constexpr,
    RELU: tl.constexpr,
    BK: tl.constexpr,
    BM: tl.constexpr,
):
    """The same over positions with the channels last: program (sample, part, channels) sums `chunk` positions."""
    sample = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    channel = tl.program_id(2) * BM + tl.arange(0, BM)
    base = sample * size * channels
    total = tl.zeros((BM,), tl.float32)
    for start in range(0, chunk, BK):
        step = start + tl.arange(0, BK)
        position = part * chunk + step
        ok = ((step < chunk) & (position < size))[:, None] & (channel < channels)[None, :]
        at = base + (position[:, None] * channels + channel[None, :])
        value = tl.load(x + at, ok, 0.0).to(tl.float32)
        if DOT:
            gradient = tl.load(g + at, ok, 0.0).to(tl.float32)
            if RELU:
                gradient = tl.where(tl.load(y + at, ok, 0.0).to(tl.float32) <= 0.0, 0.0, gradient)
                tl.store(masked + at, gradient, ok)
            value = value * gradient
        total += tl.sum(value, 0)
    at = (sample * tl.num_programs(1) + part) * channels + channel
    tl.store(out + at, total * factor, channel < channels)


@triton.jit
def over_map(
    x,
    a,
    b,
    out,
    count,
    size,
    channels,
    LAST: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``out = act(x * a + b)``: b is (B, C) with BIAS, a map with RESIDUAL; ``size`` is K, or K * C with LAST."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    ok = start + lane < count
    first = start // size  # once a tile, in int64; every division below is of int32
    offset = (start - first * size).to(tl.int32) + lane
    at = (first + offset // size) * channels + offset % channels if LAST else first + offset // size
    value = tl.load(x + start + lane, ok, 0.0).to(tl.float32) * tl.load(a + at, ok, 0.0).to(tl.float32)
    if BIAS:
        value += tl.load(b + at, ok, 0.0).to(tl.float32)
    if RESIDUAL:
        value += tl.load(b + start + lane, ok, 0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0.0, 0.0, value)  # NaN stays
    tl.store(out + start + lane, value, ok)


def sums(
    x: Tensor, *, g: Tensor | None = None, y: Tensor | None = None, masked: Tensor | None = None, factor: float = 1.0
) -> Tensor:
    """``factor * sum_k x`` or ``factor * sum_k g x`` as float32 (B, C); with y also ``masked = g where y > 0``.

    All maps have the strides of ``x``, which is dense with the channels second or last.
    """
    batch, channels = x.shape[:2]
    size = x[:1, :1].numel()
    kind: dict[str, Any] = {"DOT": g is not None, "RELU": y is not None}
    g, y, masked = (x if one is None else one for one in (g, y, masked))
    if x.is_contiguous():
        columns = min(_TILE, triton.next_power_of_2(size))
        out = x.new_empty((batch, channels), dtype=torch.float32)
        grid = (triton.cdiv(batch * channels, _TILE // columns),)
        tile = {"BR": _TILE // columns, "BK": columns}
        over_rows[grid](x, g, y, masked, out, batch * channels, size, factor, **kind, **tile, **_FUSED)
        return out
    wide = min(64, triton.next_power_of_2(channels))
    blocks = triton.cdiv(channels, wide)
    parts = max(1, min(triton.cdiv(size, _TILE // wide), _PROGRAMS // (batch * blocks)))
    out = x.new_empty((batch, parts, channels), dtype=torch.float32)
    tile = {"BK": _TILE // wide, "BM": wide}
    chunk = triton.cdiv(size, parts)
    over_columns[(batch, parts, blocks)](x, g, y, masked, out, size, channels, chunk, factor, **kind, **tile, **_FUSED)
    return out.sum(1)


def affine(x: Tensor, a: Tensor, b: Tensor | None, *, relu: bool, dtype: torch.dtype) -> Tensor:
    """``act(x * a + b)`` in ``dtype``: a is (B, C), contiguous; b the same, a map with the strides of x, or None."""
    channels = x.shape[1]
    last = not x.is_contiguous()
    size = x[:1, :1].numel() * (channels if last else 1)
    out = torch.empty_like(x, dtype=dtype)
    kind = {"BIAS": b is not None and b.shape == a.shape, "RESIDUAL": b is not None and b.shape == x.shape}
    grid = (triton.cdiv(x.numel(), _TILE),)
    over_map[grid](
        x, a, x if b is None else b, out, x.numel(), size, channels, LAST=last, **kind, RELU=relu, BLOCK=_TILE, **_FUSED
    )
    return out
