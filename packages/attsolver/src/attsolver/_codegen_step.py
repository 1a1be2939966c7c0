"""One fixed step inside the native engine, of any method."""

from ._codegen import Writer, fused, fused_increment, increment_rows
from ._codegen_net import write_correction
from ._symplectic import Splitting


def write_step(writer: Writer) -> None:
    """One step of the method in place: the state rows, at ``t``, of length ``h``."""
    program, tableau = writer.program, writer.program.tableau
    if program.splitting is not None:
        _splitting_step(writer, program.splitting)
        return
    assert tableau is not None
    if program.corrector is None and fused(writer, tableau):
        with writer.loop():
            x = writer.load(writer.x, "x")
            for row, name, one in zip(writer.x, x, fused_increment(writer, tableau, x), strict=True):
                writer.line(f"{row} = fma(h, {one}, {name})")
        return
    s = writer.rows(program.dim)
    increment_rows(writer, tableau, writer.x, s)
    if program.corrector is not None:
        write_correction(writer, program.corrector, s)
        return
    with writer.loop():
        for x_row, one in zip(writer.x, s, strict=True):
            writer.line(f"{x_row} = fma(h, {one}, {x_row})")


def _splitting_step(writer: Writer, splitting: Splitting) -> None:
    """Drifts and kicks in one loop; the forces that a step ends with are kept in the rows that the next begins with."""
    program, source = writer.program, writer.source
    moving = list(program.positions)
    kicked = [i for i in range(program.dim) if i not in moving]
    reuse = not splitting.pairs[0][0]
    kept = writer.rows(len(kicked)) if reuse else []
    if reuse:
        with source.block("if fresh:"):
            with writer.loop():
                names = writer.derivative(writer.load(writer.x, "x"), "t", "f", kicked)
                for row, name in zip(kept, names, strict=True):
                    writer.line(f"{row} = {name}")
            writer.line("fresh = False")
    with writer.loop():
        x = writer.load(writer.x, "x")
        force = writer.load(kept, "g")
        for s, (drift, kick) in enumerate(splitting.pairs):
            if drift:
                velocity = writer.derivative(x, "t", f"v{s}_", moving)
                for i, name in zip(moving, velocity, strict=True):
                    writer.line(f"{x[i]} = fma({source.const(drift)} * h, {name}, {x[i]})")
                force = []
            if kick:
                force = force or writer.derivative(x, "t", f"f{s}_", kicked)
                for i, name in zip(kicked, force, strict=True):
                    writer.line(f"{x[i]} = fma({source.const(kick)} * h, {name}, {x[i]})")
        for row, name in zip((*writer.x, *kept), (*x, *force), strict=False):
            writer.line(f"{row} = {name}")
