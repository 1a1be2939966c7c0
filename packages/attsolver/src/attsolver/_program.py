"""The whole text of a native program: constants, work arrays, blocks of trajectories, and what is kept."""

from ._codegen import Program, Writer
from ._codegen_adaptive import write_adaptive
from ._codegen_step import write_step
from ._eager import CHECK_EVERY
from ._emit import Source
from ._solution import BOUND_EXCEEDED, NON_FINITE

_HEADER = """\
import numba
import numpy as np
from attsolver.integrations._vecmath import exp, fabs, fma, log, maximum, minimum, sincos, sqrt, tanh, widest
"""
_FIXED = "lo, hi, y0, p, net, starts, steps, scales, counts, everys, out, status, left, max_norm, initial"
_ADAPTIVE = "lo, hi, y0, p, times, rtol, atol, max_steps, out, status, attempts"


def program_text(program: Program) -> str:
    """Python source with one function ``kernel``, for numba."""
    writer = Writer(program)
    body = writer.source
    body.depth = 2
    if program.adaptive:
        write_adaptive(writer)
    else:
        _fixed(writer)
    t = f"np.{program.dtype}"
    head = Source()
    head.line(f"T = {t}")
    head.line(f"V = {writer.lanes}")
    for value, name in body.constants.items():
        head.line(f"{name} = T({_literal(value)})")
    if program.tableau is not None:
        a, _, c = program.tableau.floats
        full = [row + [0.0] * (len(a) - len(row)) for row in a]
        head.line(f"A = np.array({full}, T)")
        head.line(f"NODES = np.array({c}, T)")
    signature = _signature(program)
    head.line("")
    head.line("")
    head.line(f'@numba.njit("{signature}", cache=True, nogil=True, error_model="numpy")')
    with head.block(f"def kernel({_ADAPTIVE if program.adaptive else _FIXED}):"):
        head.line("widest()")
        head.line(f"w = np.empty({writer.count} * V, T)")
        d, stages = program.dim, program.tableau.stages if program.tableau else 0
        head.line(f"k = np.empty({d * (stages + 1)} * V, T)")
        if program.corrector is not None:
            head.line(f"hid = np.empty({max(1, program.corrector.hidden)} * V, T)")
            head.line(f"q = np.empty({d} * V, T)")
        if program.adaptive:
            head.line("q = np.empty(2 * V, T)")
            head.line("took = np.zeros(V, np.int32)")
        head.line("far = np.zeros(V, np.int32)")
        head.line("outside = np.zeros(V, np.int32)")
        if not program.own_params:
            for j in range(program.n_params):
                head.line(f"p{j} = T(p[0, {j}])")
        with head.block("for b0 in range(lo, hi, V):"):
            head.line("m = min(V, hi - b0)")
            head.line("lanes = (m + 15) // 16 * 16 & 0xFF")
            _load(head, d, program.n_params if program.own_params else 0)
    return "\n".join([_HEADER, *head.lines, *body.lines, ""])


def _literal(value: float) -> str:
    return repr(value) if value == value and abs(value) != float("inf") else f"np.{value}"


def _signature(program: Program) -> str:
    f = program.dtype
    if program.adaptive:
        return (
            f"void(int64, int64, {f}[:, ::1], float64[:, ::1], float64[::1], float64, float64, int64, {f}[:, :, ::1], "
            "int64[::1], int64[::1])"
        )
    return (
        f"void(int64, int64, {f}[:, ::1], float64[:, ::1], {f}[::1], float64[::1], float64[::1], float64[::1], "
        f"int64[::1], int64[::1], {f}[:, :, ::1], int64[::1], int64[::1], float64, boolean)"
    )


def _load(source: Source, d: int, own_params: int) -> None:
    """Transpose a block into rows; lanes beyond the batch repeat its last trajectory."""
    with source.block("for v in range(lanes):"):
        source.line("j = b0 + min(v, m - 1)")
        with source.block(f"for i in range({d}):"):
            source.line("w[i * V + v] = y0[j, i]")
        if own_params:
            with source.block(f"for i in range({own_params}):"):
                source.line(f"w[({d} + i) * V + v] = T(p[j, i])")


def _keep(source: Source, d: int) -> None:
    """Write the states of the block into the next row of ``out``; NaN where any component is not finite."""
    with source.block("for v in range(m):"):
        source.line("bad = T(0)")
        with source.block(f"for i in range({d}):"):
            source.line("bad += w[i * V + v] * T(0)")
        with source.block(f"for i in range({d}):"):
            source.line("out[row, b0 + v, i] = w[i * V + v] if bad == 0 else T(np.nan)")
    source.line("row += 1")


def _fixed(writer: Writer) -> None:
    source, d = writer.source, writer.program.dim
    source.line("row = 0")
    source.line("fresh = True")
    source.line("outside[:] = 0")
    with source.block("if initial:"):
        _keep(source, d)
    with source.block("for r in range(counts.shape[0]):"):
        source.line("start = starts[r]")
        source.line("step = steps[r]")
        source.line("h = T(step)")
        source.line("scale = T(scales[r])")
        source.line("until = everys[r]")
        source.line("last = counts[r] - 1")
        source.line("fresh = True")
        with source.block("for c in range(counts[r]):"):
            source.line("t = T(start + c * step)")
            write_step(writer)
            with source.block(f"if max_norm < np.inf and (c % {CHECK_EVERY} == {CHECK_EVERY - 1} or c == last):"):
                beyond = "if fabs(w[i * V + v]) > T(max_norm) and status[b0 + v] == 0:"
                with source.block("for v in range(m):"):
                    with source.block(f"for i in range({d}):"), source.block(beyond):
                        source.line(f"status[b0 + v] = {BOUND_EXCEEDED}")
                    with source.block("if status[b0 + v] != 0:"), source.block(f"for i in range({d}):"):
                        source.line("w[i * V + v] = T(np.nan)")
                source.line("fresh = True")
            source.line("until -= 1")
            with source.block("if until == 0:"):
                source.line("until = everys[r]")
                _keep(source, d)
    with source.block("for v in range(m):"):
        source.line("bad = T(0)")
        with source.block(f"for i in range({d}):"):
            source.line("bad += w[i * V + v] * T(0)")
        with source.block("if bad != 0 and status[b0 + v] == 0:"):
            source.line(f"status[b0 + v] = {NON_FINITE}")
        source.line("left[b0 + v] = outside[v]")
