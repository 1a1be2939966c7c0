"""The text of a Triton program: all fixed steps of a block of trajectories in one launch, the states in registers.

Arrays lie component by component, (d, n) and (T, d, n), so that neighbouring threads touch neighbouring numbers. A
thread's own part is one trajectory; it reads its state once, and writes what is kept. Lanes beyond the batch repeat its
last trajectory and write nothing.
"""

import math
import re
from collections.abc import Sequence

from ._codegen import Program, Writer, fused_increment
from ._eager import CHECK_EVERY
from ._emit import Source
from ._solution import BOUND_EXCEEDED, NON_FINITE

STEP_LIMIT = 4000  # operations of a step; they are all unrolled, and more take a minute or more to compile
_OPERATIONS = {"sin": 15, "cos": 15, "exp": 30, "log": 35, "tanh": 45}
_HEADER = """\
import triton
import triton.language as tl
from attsolver.integrations._triton import exp, log, maximum, minimum, sincos, tanh


@triton.jit(do_not_specialize=("n", "runs"))
def kernel(
    y0, p, starts, steps, counts, everys, bound, out, status, n, runs, INITIAL: tl.constexpr, BLOCK: tl.constexpr
):
    stride = tl.cast(n, tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = first + lane < stride
    at = tl.minimum(first + lane, stride - 1)
    failed = tl.zeros((BLOCK,), tl.int64)
    row = out + first"""


def operations(program: Program) -> int:
    """Operations of one step, about."""
    tableau, graph = program.tableau, program.graph
    assert tableau is not None
    terms = sum(bool(value) for row in (*tableau.a, tableau.b) for value in row)
    slope = sum(_OPERATIONS.get(graph.nodes[i][0], 1) for i in graph.reachable(graph.outputs))
    return tableau.stages * slope + terms * program.dim


def triton_text(program: Program, params: Sequence[float] | None, *, bounded: bool) -> str:
    """Python source with one function ``kernel``, for Triton.

    Args:
        program: A Runge-Kutta method with fixed steps.
        params: Parameters to write into the program as constants; None reads them when it runs.
        bounded: Whether trajectories stop at a bound.
    """
    assert program.tableau is not None
    writer = Writer(program)
    writer.p = [f"p{j}" for j in range(program.n_params)]
    body, x = writer.source, [f"x{i}" for i in range(program.dim)]
    body.depth = 1
    if bounded:
        body.line("most = tl.load(bound)")
    with body.block("if INITIAL:"):
        _keep(body, x)
    with body.block("for r in range(runs):"):
        body.line("start = tl.load(starts + r)")
        body.line("step = tl.load(steps + r)")
        body.line("count = tl.load(counts + r)")
        body.line("every = tl.load(everys + r)")
        body.line("until = every")
        body.line(f"h = step.to(tl.{program.dtype})")
        with body.block("for c in range(count):"):
            if writer.timed:
                body.line(f"t = (start + step * c).to(tl.{program.dtype})")
            for name, one in zip(x, fused_increment(writer, program.tableau, x), strict=True):
                body.line(f"{name} = fma(h, {one}, {name})")
            if bounded:
                with body.block(f"if ((c & {CHECK_EVERY - 1}) == {CHECK_EVERY - 1}) | (c == count - 1):"):
                    beyond = " | ".join(f"(fabs({name}) > most)" for name in x)
                    body.line(f"failed = tl.where(({beyond}) & (failed == 0), {BOUND_EXCEEDED}, failed)")
                    for name in x:
                        body.line(f"{name} = tl.where(failed == 0, {name}, {body.const(math.nan)})")
            body.line("until -= 1")
            with body.block("if until == 0:"):
                body.line("until = every")
                _keep(body, x)
    body.line(f"failed = tl.where((failed == 0) & ({_broken(body, x)} != 0.0), {NON_FINITE}, failed)")
    body.line("tl.store(status + first + lane, failed, inside)")
    lines = "\n".join(body.lines)
    lines = re.sub(r"\b(fma|sqrt|fabs)\(", lambda found: f"tl.{found[1].replace('fabs', 'abs')}(", lines)
    return "\n".join([_HEADER, *_head(writer, params), lines, ""])


def _head(writer: Writer, params: Sequence[float] | None) -> list[str]:
    """The state, the parameters that the right-hand side reads, and the constants."""
    program, head = writer.program, Source(depth=1)
    for i in range(program.dim):
        head.line(f"x{i} = tl.load(y0 + {i} * stride + at)")
    leaves = (program.graph.nodes[i] for i in program.graph.reachable(program.graph.outputs))
    for j in (key[1] for key in leaves if key[0] == "p"):
        if params is not None:
            head.line(f"p{j} = {_constant(params[j], program.dtype)}")
        else:
            head.line(f"p{j} = tl.load(p + {j} * stride + at)" if program.own_params else f"p{j} = tl.load(p + {j})")
    for value, name in writer.source.constants.items():
        head.line(f"{name} = {_constant(value, program.dtype)}")
    return head.lines


def _constant(value: float, dtype: str) -> str:
    """A number in the working type; a bare literal would be float32 wherever it fits there."""
    literal = repr(value) if math.isfinite(value) else f"float('{value}')"
    return f"tl.full((), {literal}, tl.{dtype})"


def _broken(source: Source, x: Sequence[str]) -> str:
    """Zero where every component is finite, else NaN."""
    zero = source.const(0.0)
    return "(" + " + ".join(f"{name} * {zero}" for name in x) + ")"


def _keep(source: Source, x: Sequence[str]) -> None:
    """Write the states into the next row of ``out``; NaN where any component is not finite."""
    source.line(f"good = {_broken(source, x)} == 0.0")
    for i, name in enumerate(x):
        kept = f"tl.where(good, {name}, {source.const(math.nan)})"
        source.line(f"tl.store(row + {i} * stride + lane, {kept}, inside)")
    source.line(f"row += {len(x)} * stride")
