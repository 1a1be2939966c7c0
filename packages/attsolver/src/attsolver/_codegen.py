"""The program of the native engine for fixed steps: one right-hand side, one method, one type.

A block of trajectories lies component by component in one work array: row i, lane v at ``w[i * V + v]``. Loops over
lanes are innermost and free of branches and calls, so that they become vector instructions; every lane does the same
arithmetic in the same order whatever the size of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ._corrector import Corrector
from ._emit import Indented, Source, emit_graph
from ._symplectic import Splitting
from ._tableaus import Tableau
from ._trace import Graph, Key

FUSED_LIMIT = 700  # operations of a whole step up to which it is written as one loop over lanes
WORK_BYTES = 40000  # a block's work array should stay in the first-level cache


@dataclass(frozen=True, eq=False)
class Program:
    """What to generate.

    Args:
        graph: The right-hand side.
        dim: Number of states.
        n_params: Number of flat parameters.
        own_params: Whether every trajectory has its own parameters.
        dtype: Working type.
        tableau: Of a Runge-Kutta method.
        splitting: Of a splitting method.
        positions: Position components, for a splitting method.
        corrector: A correction to add. Shapes and names are read here; the weights come at run time.
        fallback: Whether lanes outside the training box take base sub-steps.
        adaptive: Whether steps adapt to an error estimate.
    """

    graph: Graph
    dim: int
    n_params: int
    own_params: bool
    dtype: Literal["float32", "float64"]
    tableau: Tableau | None = None
    splitting: Splitting | None = None
    positions: tuple[int, ...] = ()
    corrector: Corrector | None = None
    fallback: bool = False
    adaptive: bool = False


class Writer:
    """A program being written: its source, its rows of the work array, and f."""

    def __init__(self, program: Program) -> None:
        self.program, self.source = program, Source()
        self.count = 0
        self.x = self.rows(program.dim)
        self.p = self.rows(program.n_params if program.own_params else 0)
        self.timed = any(("t",) in program.graph.depends(output) for output in program.graph.outputs)
        self.lanes = _lanes(program)

    def rows(self, n: int) -> list[str]:
        """Take n rows of the work array; each is written as its element in the current lane."""
        first, self.count = self.count, self.count + n
        return [f"w[{first + i} * V + v]" for i in range(n)]

    def offset(self, name: str, row: str) -> None:
        """Where a row begins whose number is only known at run time.

        The mask changes nothing. It shows the compiler that the index is not negative; otherwise numba's handling of
        negative indices keeps the loop from becoming vector instructions.
        """
        self.line(f"{name} = ({row}) * V & 0xFFFFFF")

    def loop(self) -> Indented:
        """A loop over the lanes of the block."""
        return self.source.block("for v in range(lanes):")

    def line(self, text: str) -> None:
        """One line."""
        self.source.line(text)

    def load(self, rows: Sequence[str], prefix: str) -> list[str]:
        """Read rows into variables."""
        for i, row in enumerate(rows):
            self.line(f"{prefix}{i} = {row}")
        return [f"{prefix}{i}" for i in range(len(rows))]

    def derivative(self, x: Sequence[str], t: str, prefix: str, of: Sequence[int] | None = None) -> list[str]:
        """Write f at the named state; returns the names of its components (of those in ``of``)."""
        leaves: dict[Key, str] = {("x", i): name for i, name in enumerate(x)} | {("t",): t}
        for j in range(self.program.n_params):
            leaves["p", j] = self.p[j] if self.program.own_params else f"p{j}"
        graph = self.program.graph
        outputs = graph.outputs if of is None else [graph.outputs[i] for i in of]
        return emit_graph(self.source, graph, outputs, leaves, prefix)


def _lanes(program: Program) -> int:
    """The largest block whose arrays stay in the cache."""
    stages = program.tableau.stages if program.tableau else 2
    rows = program.dim * (stages + 3) + (program.n_params if program.own_params else 0)
    if program.corrector is not None:
        rows += program.corrector.hidden + sum(program.corrector.w_lin.shape)
    size = 4 if program.dtype == "float32" else 8
    return max(n for n in (32, 64, 128) if n == 32 or rows * n * size <= WORK_BYTES)


def fused(writer: Writer, tableau: Tableau) -> bool:
    """Whether a step is small enough for one loop."""
    terms = sum(bool(value) for row in (*tableau.a, tableau.b) for value in row)
    return tableau.stages * len(writer.program.graph.nodes) + terms * writer.program.dim <= FUSED_LIMIT


def increment_rows(writer: Writer, tableau: Tableau, state: Sequence[str], s: Sequence[str]) -> None:
    """Write the increment of the state rows into the rows s."""
    if fused(writer, tableau):
        with writer.loop():
            for name, row in zip(fused_increment(writer, tableau, writer.load(state, "x")), s, strict=True):
                writer.line(f"{row} = {name}")
        return
    d = writer.program.dim
    write_stages(writer, state, "h", lane_time="t")
    source = writer.source
    with source.block(f"for i in range({d}):"):
        writer.offset("wi", "i")
        with writer.loop():
            writer.line(f"{row_from(s, 'wi')} = {source.sum(None, slope_terms(writer, tableau.b, 'wi'))}")


def write_stages(writer: Writer, state: Sequence[str], h: str, *, lane_time: str) -> None:
    """Write the slopes of all stages into the array ``k`` by a loop over stages around one copy of f.

    Args:
        writer: The program.
        state: Rows of the state.
        h: The step: a scalar, or a row of the work array.
        lane_time: The time: a scalar, or a row.
    """
    d, source = writer.program.dim, writer.source
    inputs = writer.rows(d)
    with source.block("for s in range(A.shape[0]):"):
        with writer.loop():
            for row, x in zip(inputs, state, strict=True):
                writer.line(f"{row} = {x}")
        with source.block("for j in range(s):"):
            writer.line("a = A[s, j]")
            with source.block("if a != 0:"), source.block(f"for i in range({d}):"):
                writer.offset("wi", "i")
                writer.offset("kj", f"j * {d} + i")
                with writer.loop():
                    target = row_from(inputs, "wi")
                    writer.line(f"{target} = fma(a * {h}, k[kj + v], {target})")
        writer.line("node = NODES[s]")
        writer.offset("ks", f"s * {d}")
        with writer.loop():
            if writer.timed:
                writer.line(f"ts = fma(node, {h}, {lane_time})")
            names = writer.load(inputs, "x")
            for i, name in enumerate(writer.derivative(names, "ts", "n")):
                writer.line(f"k[ks + {i} * V + v] = {name}")


def row_from(rows: Sequence[str], offset: str) -> str:
    """The element of the i-th of some rows, given where row i of the array begins."""
    return rows[0].replace("[", f"[{offset} + ")


def slope_terms(writer: Writer, weights: Sequence[Fraction], offset: str) -> list[tuple[str, str]]:
    """Pairs (weight, slope) for component i, given where row i begins."""
    d = writer.program.dim
    return [
        (writer.source.const(float(weight)), f"k[{offset} + {j * d} * V + v]")
        for j, weight in enumerate(weights)
        if weight
    ]


def fused_increment(writer: Writer, tableau: Tableau, x: Sequence[str]) -> list[str]:
    a, b, c = tableau.floats
    d, source = writer.program.dim, writer.source
    slopes: list[list[str]] = []
    for s, row in enumerate(a):
        at = list(x)
        scaled = {j: f"h{s}_{j}" for j, value in enumerate(row) if value}
        for j, name in scaled.items():
            writer.line(f"{name} = {source.const(row[j])} * h")
        if scaled:
            at = [f"y{s}_{i}" for i in range(d)]
            for i in range(d):
                writer.line(f"{at[i]} = {source.sum(x[i], [(name, slopes[j][i]) for j, name in scaled.items()])}")
        t = "t"
        if writer.timed and c[s]:
            t = f"t{s}"
            writer.line(f"{t} = fma({source.const(c[s])}, h, t)")
        slopes.append(writer.derivative(at, t, f"k{s}_"))
    total = []
    for i in range(d):
        terms = [(source.const(weight), slopes[s][i]) for s, weight in enumerate(b) if weight]
        writer.line(f"s{i} = {source.sum(None, terms)}")
        total.append(f"s{i}")
    return total
