"""Adaptive steps inside the native engine: every lane has its own time and step, and waits for its block."""

from collections.abc import Sequence

from ._adaptive import GROW, SAFETY, SHRINK
from ._codegen import Writer, row_from, slope_terms, write_stages
from ._solution import STEP_TOO_SMALL
from ._tableaus import Tableau


def write_adaptive(writer: Writer) -> None:
    """The body of a block: to each output time in turn, by trial steps of all lanes that are not there yet.

    Time is counted from the last output time, with its rounding error carried along. ``far`` is 0 for a lane on its
    way, 1 for one that has arrived, 2 for one that has given up.
    """
    tableau, source, d = writer.program.tableau, writer.source, writer.program.dim
    assert tableau is not None
    new = writer.rows(d)
    (h, time, elapsed, carry, planned) = writer.rows(5)
    const = source.const
    for name, value in (("rt", "rtol"), ("at", "atol")):
        source.line(f"{name} = T({value})")
    source.line("sign = T(1) if times[times.shape[0] - 1] > times[0] else T(-1)")
    source.line("t = T(times[0])")
    _first_step(writer, planned)
    with writer.loop():
        source.line("outside[v] = 0")
        source.line("far[v] = 0")
    with source.block("for o in range(1, times.shape[0]):"):
        source.line("gap = T(abs(times[o] - times[o - 1]))")
        source.line("begin = T(times[o - 1])")
        source.line("smallest = gap * T(np.finfo(T).eps)")
        with writer.loop():
            source.line(f"{elapsed} = {const(0.0)}")
            source.line(f"{carry} = {const(0.0)}")
            source.line("far[v] &= 2")
        source.line("tries = 0")
        with source.block("while True:"):
            source.line("waiting = 0")
            with writer.loop():
                source.line("waiting |= np.int32(far[v] == 0)")
            with source.block("if waiting == 0:"):
                source.line("break")
            source.line("tries += 1")
            with writer.loop():
                source.line(f"length = minimum({planned}, gap - {elapsed})")
                source.line(f"{h} = sign * length if far[v] == 0 else {const(0.0)}")
                source.line(f"{time} = begin + sign * {elapsed}")
            write_stages(writer, writer.x, h, lane_time=time)
            _combine(writer, tableau, h, new)
            if len(tableau.error) > tableau.stages:
                with writer.loop():
                    if writer.timed:
                        source.line(f"ts = {time} + {h}")
                    values = writer.derivative(writer.load(new, "x"), "ts", "e")
                    for i, name in enumerate(values):
                        source.line(f"k[{tableau.stages * d + i} * V + v] = {name}")
            _errors(writer, tableau, new)
            _decide(writer, tableau, h, elapsed, carry, planned)
            with source.block(f"for i in range({d}):"):
                writer.offset("wi", "i")
                with writer.loop():
                    source.line(f"w[wi + v] = {row_from(new, 'wi')} if took[v] != 0 else w[wi + v]")
            with source.block("if tries >= max_steps:"), writer.loop():
                source.line("far[v] = 2 if far[v] == 0 else far[v]")
        with source.block("for v in range(m):"), source.block("if far[v] == 2:"):
            source.line(f"status[b0 + v] = {STEP_TOO_SMALL}")
            with source.block(f"for i in range({d}):"):
                source.line("w[i * V + v] = T(np.nan)")
        with source.block("for v in range(m):"), source.block(f"for i in range({d}):"):
            source.line("out[o - 1, b0 + v, i] = w[i * V + v]")
    with source.block("for v in range(m):"):
        source.line("attempts[b0 + v] = outside[v]")


def _first_step(writer: Writer, planned: str) -> None:
    """A hundredth of the time in which the slope would change the state by its own size."""
    source, d, const = writer.source, writer.program.dim, writer.source.const
    with writer.loop():
        x = writer.load(writer.x, "x")
        slopes = writer.derivative(x, "t", "n")
        source.line(f"size = {const(0.0)}")
        source.line(f"speed = {const(0.0)}")
        for one, slope in zip(x, slopes, strict=True):
            source.line(f"unit = fma(rt, fabs({one}), at)")
            source.line(f"part = {one} / unit")
            source.line("size = fma(part, part, size)")
            source.line(f"part = {slope} / unit")
            source.line("speed = fma(part, part, speed)")
        limit = const(d * 1e-10)
        source.line(f"whole = {const(0.01)} * sqrt(size / speed)")
        source.line(f"{planned} = {const(1e-6)} if (size < {limit}) | (speed < {limit}) else whole")


def _combine(writer: Writer, tableau: Tableau, h: str, new: Sequence[str]) -> None:
    source, d = writer.source, writer.program.dim
    with source.block(f"for i in range({d}):"):
        writer.offset("wi", "i")
        with writer.loop():
            total = source.sum(None, slope_terms(writer, tableau.b, "wi"))
            source.line(f"{row_from(new, 'wi')} = fma({h}, {total}, w[wi + v])")


def _errors(writer: Writer, tableau: Tableau, new: Sequence[str]) -> None:
    """Sums of squares of the scaled error estimates, in the rows of q."""
    source, d, const = writer.source, writer.program.dim, writer.source.const
    estimates = [tableau.error] + ([tableau.error3] if tableau.error3 else [])
    with writer.loop():
        for e in range(len(estimates)):
            source.line(f"q[{e} * V + v] = {const(0.0)}")
    with source.block(f"for i in range({d}):"):
        writer.offset("wi", "i")
        with writer.loop():
            source.line(f"largest = maximum(fabs(w[wi + v]), fabs({row_from(new, 'wi')}))")
            source.line("unit = fma(rt, largest, at)")
            for e, weights in enumerate(estimates):
                source.line(f"part = ({source.sum(None, slope_terms(writer, weights, 'wi'))}) / unit")
                source.line(f"q[{e} * V + v] = fma(part, part, q[{e} * V + v])")


def _decide(writer: Writer, tableau: Tableau, h: str, elapsed: str, carry: str, planned: str) -> None:
    source, d, const = writer.source, writer.program.dim, writer.source.const
    share = const(1.0 / d)
    with writer.loop():
        source.line(f"length = fabs({h})")
        source.line(f"first = q[v] * {share}")
        if tableau.error3:
            source.line(f"second = q[V + v] * {share}")
            source.line(f"both = fma({const(0.01)}, second, first)")
            source.line(f"error = length * first / sqrt(maximum(both, {const(1e-30)}))")
        else:
            source.line("error = length * sqrt(first)")
        exponent = const(-1.0 / (8 if tableau.error3 else 5))
        source.line(f"factor = {const(SAFETY)} * exp({exponent} * log(maximum(error, {const(1e-30)})))")
        source.line(f"factor = minimum(maximum(factor, {const(SHRINK)}), {const(GROW)})")
        source.line(f"finite = error < {const(1e30)}")  # false for NaN
        source.line(f"factor = factor if finite else {const(SHRINK)}")
        source.line("active = far[v] == 0")
        source.line(f"accepted = active & (error <= {const(1.0)})")
        source.line(f"ends = {planned} >= gap - {elapsed}")
        source.line(f"factor = factor if accepted else minimum(factor, {const(1.0)})")
        source.line("grown = length * factor")
        source.line(f"grown = maximum(grown, {planned}) if accepted & ends else grown")
        source.line("stuck = active & (not accepted) & (grown < smallest)")
        source.line(f"plain = length - {carry}")
        source.line(f"total = {elapsed} + plain")
        source.line(f"rest = (total - {elapsed}) - plain")
        source.line("move = accepted & (not ends)")
        source.line(f"{carry} = rest if move else {carry}")
        source.line(f"{elapsed} = total if move else {elapsed}")
        source.line(f"{planned} = grown if active else {planned}")
        source.line("took[v] = np.int32(accepted)")
        source.line("outside[v] += np.int32(active)")
        source.line("far[v] |= np.int32(accepted & ends) | (np.int32(stuck) << np.int32(1))")
