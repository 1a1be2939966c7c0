"""The correction of a step inside the native engine: weights in one flat array, hidden units in rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._codegen import Writer, increment_rows
from ._corrector import Corrector
from ._eager import FALLBACK_SUBSTEPS

_CHUNK = 16  # weights that one pass over the lanes holds in registers
_UNROLL = 8
_FIELDS = ("mu", "inverse", "w_lin", "w1", "b1", "w2", "b2", "out_scale", "q0", "low", "high", "coefficients")


def flat_weights(corrector: Corrector) -> NDArray[np.float64]:
    """The arrays of a corrector one after another, in the order that the generated program reads."""
    parts = _parts(corrector)
    return np.concatenate([parts[name].ravel() for name in _FIELDS])


def _parts(corrector: Corrector) -> dict[str, NDArray[np.float64]]:
    parts = {name: getattr(corrector, name) for name in _FIELDS if name not in ("inverse", "coefficients")}
    return parts | {"inverse": 1.0 / corrector.sigma, "coefficients": np.asarray(corrector.coefficients, np.float64)}


def write_correction(writer: Writer, corrector: Corrector, s: Sequence[str]) -> None:
    """Finish a step: ``x = x + h s + scale Q`` for the state rows and the increments in the rows s.

    The program provides ``net`` (weights), ``scale`` ((h / dt)^(p + 1)), the arrays ``hid`` and ``q``, and ``outside``.
    """
    parts, offsets, start = _parts(corrector), {}, 0
    for name in _FIELDS:
        offsets[name], start = start, start + parts[name].size
    d, d_in, hidden = corrector.dim, corrector.w_lin.shape[1], corrector.hidden
    source = writer.source
    z = writer.rows(d_in)
    inputs = {"state": writer.x, "increment": list(s), "both": [*writer.x, *s]}[corrector.features]
    if corrector.conditioning:
        own = writer.program.own_params
        inputs = [*inputs, *(writer.p if own else [f"p{j}" for j in range(corrector.conditioning)])]

    def weights(name: str, index: str, count: int, first: int = 0) -> list[str]:
        for i in range(count):
            writer.line(f"a{i} = net[{offsets[name] + first + i} + {index}]")
        return [f"a{i}" for i in range(count)]

    for first in range(0, d_in, _CHUNK):
        chunk = range(first, min(first + _CHUNK, d_in))
        for i in chunk:
            writer.line(f"m{i} = net[{offsets['mu'] + i}]")
            writer.line(f"i{i} = net[{offsets['inverse'] + i}]")
        with writer.loop():
            for i in chunk:
                writer.line(f"{z[i]} = ({inputs[i]} - m{i}) * i{i}")

    def affine(matrix: str, row: str, target: str, start: str) -> None:
        """Write ``start + matrix[row] z`` into the target by chunks; of w1, with the activation at the end."""
        for first in range(0, d_in, _CHUNK):
            count = min(_CHUNK, d_in - first)
            names = weights(matrix, f"{row} * {d_in}", count, first)
            with writer.loop():
                terms = [(names[i], z[first + i]) for i in range(count)]
                value = source.sum(start if first == 0 else target, terms)
                if matrix == "w1" and first + count == d_in:
                    writer.line(f"y = {value}")
                    value = _activate(writer, corrector, "y")
                writer.line(f"{target} = {value}")

    for i in range(len(corrector.coefficients)):
        writer.line(f"c{i} = net[{offsets['coefficients'] + i}]")
    if hidden:
        with source.block(f"for j in range({hidden}):"):
            writer.line(f"b = net[{offsets['b1']} + j]")
            writer.offset("hj", "j")
            affine("w1", "j", "hid[hj + v]", "b")
    with source.block(f"for o in range({d}):"):
        writer.line(f"b = net[{offsets['b2']} + o]")
        writer.offset("qo", "o")
        affine("w_lin", "o", "q[qo + v]", "b")
        whole = hidden - hidden % _UNROLL
        for span, width in ((f"0, {whole}, {_UNROLL}", _UNROLL), (f"{whole}, {hidden}", 1)):
            with source.block(f"for j in range({span}):"):
                names = weights("w2", f"o * {hidden} + j", width)
                writer.offset("hj", "j")
                with writer.loop():
                    terms = [(names[i], f"hid[hj + {i} * V + v]") for i in range(width)]
                    writer.line(f"q[qo + v] = {source.sum('q[qo + v]', terms)}")
    _watch(writer, offsets)
    fine = _fallback(writer) if writer.program.fallback else None
    for i, x in enumerate(writer.x):
        writer.line(f"d{i} = net[{offsets['out_scale'] + i}]")
        writer.line(f"e{i} = net[{offsets['q0'] + i}]")
        with writer.loop():
            writer.line(f"after = fma(scale, fma(d{i}, q[{i} * V + v], -e{i}), fma(h, {s[i]}, {x}))")
            writer.line(f"{x} = after" if fine is None else f"{x} = {fine[i]} if far[v] != 0 else after")


def _activate(writer: Writer, corrector: Corrector, x: str) -> str:
    one, zero = writer.source.const(1.0), writer.source.const(0.0)
    match corrector.activation:
        case "relu":
            return f"maximum({x}, {zero})"
        case "tanh":
            return f"tanh({x})"
        case "silu":
            return f"{x} / ({one} + exp(-{x}))"
    numerator = f"fma(fma(fma(c3, {x}, c2), {x}, c1), {x}, c0)"
    if corrector.activation == "published":
        return f"{numerator} / fma(fma(c6, {x}, c5), {x}, c4)"
    return f"{numerator} / ({one} + fabs(fma(c6, {x}, c5) * {x}))"


def _watch(writer: Writer, offsets: dict[str, int]) -> None:
    """Count the lanes whose state is outside the training box."""
    with writer.loop():
        writer.line("far[v] = 0")
    for i, x in enumerate(writer.x):
        writer.line(f"low = net[{offsets['low'] + i}]")
        writer.line(f"high = net[{offsets['high'] + i}]")
        with writer.loop():
            writer.line(f"far[v] |= np.int32({x} < low) | np.int32({x} > high)")
    with writer.loop():
        writer.line("outside[v] += far[v]")


def _fallback(writer: Writer) -> list[str]:
    """Four base steps of a quarter, from the state rows into other rows, when any lane is outside."""
    tableau = writer.program.tableau
    assert tableau is not None
    source = writer.source
    fine, s = writer.rows(writer.program.dim), writer.rows(writer.program.dim)
    writer.line("any_far = 0")
    with writer.loop():
        writer.line("any_far |= far[v]")
    with source.block("if any_far != 0:"):
        writer.line("whole_h = h")
        writer.line("whole_t = t")
        writer.line(f"h = whole_h * {source.const(1 / FALLBACK_SUBSTEPS)}")
        with writer.loop():
            for row, x in zip(fine, writer.x, strict=True):
                writer.line(f"{row} = {x}")
        with source.block(f"for part in range({FALLBACK_SUBSTEPS}):"):
            writer.line("t = fma(T(part), h, whole_t)")
            increment_rows(writer, tableau, fine, s)
            with writer.loop():
                for row, one in zip(fine, s, strict=True):
                    writer.line(f"{row} = fma(h, {one}, {row})")
        writer.line("h = whole_h")
        writer.line("t = whole_t")
    return fine
