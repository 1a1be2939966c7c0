"""Explicit Runge-Kutta tableaus as exact rationals."""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from . import _dop853

F = Fraction
Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: ``k_i = f(t + c_i h, u + h sum_j a_ij k_j)``, ``u' = u + h sum_i b_i k_i``.

    Args:
        name: What ``solve`` calls it.
        order: Order p of the global error.
        a: Lower triangle: row i holds i coefficients.
        b: Weights.
        c: Nodes.
        error: Weights of the error estimate ``h sum_i e_i k_i``; one more than the stages where the estimate reads f at
            the new point. Empty for a method of fixed steps only.
        error3: Weights of a second estimate, of order 3 (DOP853).

    Attributes:
        floats: a, b and c as floats; made at once, for torch 2.7 cannot trace a Fraction.
    """

    name: str
    order: int
    a: tuple[Row, ...]
    b: Row
    c: Row
    error: Row = ()
    error3: Row = ()
    floats: tuple[list[list[float]], list[float], list[float]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        a, b, c = [[float(x) for x in row] for row in self.a], [float(x) for x in self.b], [float(x) for x in self.c]
        object.__setattr__(self, "floats", (a, b, c))

    @property
    def stages(self) -> int:
        """Evaluations of f in one step."""
        return len(self.b)

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any coefficient; checkpoints keep it."""
        text = repr([[[str(x) for x in row] for row in self.a], [str(x) for x in self.b], [str(x) for x in self.c]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rows(text: str) -> list[dict[int, Fraction]]:
    rows: list[dict[int, Fraction]] = []
    for line in text.strip("\n").splitlines():
        entries = {int(j): F(value) for j, _, value in (item.partition(":") for item in line.split())}
        if line.startswith(" "):
            rows[-1].update(entries)
        else:
            rows.append(entries)
    return rows


def _dense(row: dict[int, Fraction], n: int) -> Row:
    return tuple(row.get(j, F(0)) for j in range(n))


def _dop853_tableau() -> Tableau:
    (b,), (c,), (e5,), (b_hat,) = (_rows(text) for text in (_dop853.B, _dop853.C, _dop853.E5, _dop853.B_HAT))
    return Tableau(
        "dop853",
        8,
        a=((), *(_dense(row, i + 1) for i, row in enumerate(_rows(_dop853.A)))),
        b=_dense(b, 12),
        c=_dense(c, 12),
        error=_dense(e5, 12),
        error3=_dense({j: b.get(j, F(0)) - b_hat.get(j, F(0)) for j in range(12)}, 12),
    )


_DP5_B = (F(35, 384), F(0), F(500, 1113), F(125, 192), F(-2187, 6784), F(11, 84))

TABLEAUS: dict[str, Tableau] = {
    tableau.name: tableau
    for tableau in (
        Tableau("euler", 1, a=((),), b=(F(1),), c=(F(0),)),
        Tableau("midpoint", 2, a=((), (F(1, 2),)), b=(F(0), F(1)), c=(F(0), F(1, 2))),
        Tableau("heun", 2, a=((), (F(1),)), b=(F(1, 2), F(1, 2)), c=(F(0), F(1))),
        Tableau("rk3", 3, a=((), (F(1, 2),), (F(-1), F(2))), b=(F(1, 6), F(2, 3), F(1, 6)), c=(F(0), F(1, 2), F(1))),
        Tableau(
            "rk4",  # Kutta's 3/8 rule, as in torchdiffeq
            4,
            a=((), (F(1, 3),), (F(-1, 3), F(1)), (F(1), F(-1), F(1))),
            b=(F(1, 8), F(3, 8), F(3, 8), F(1, 8)),
            c=(F(0), F(1, 3), F(2, 3), F(1)),
        ),
        Tableau(
            "rk4_classic",
            4,
            a=((), (F(1, 2),), (F(0), F(1, 2)), (F(0), F(0), F(1))),
            b=(F(1, 6), F(1, 3), F(1, 3), F(1, 6)),
            c=(F(0), F(1, 2), F(1, 2), F(1)),
        ),
        Tableau(
            "dopri5",
            5,
            a=(
                (),
                (F(1, 5),),
                (F(3, 40), F(9, 40)),
                (F(44, 45), F(-56, 15), F(32, 9)),
                (F(19372, 6561), F(-25360, 2187), F(64448, 6561), F(-212, 729)),
                (F(9017, 3168), F(-355, 33), F(46732, 5247), F(49, 176), F(-5103, 18656)),
            ),
            b=_DP5_B,
            c=(F(0), F(1, 5), F(3, 10), F(4, 5), F(8, 9), F(1)),
            error=(F(71, 57600), F(0), F(-71, 16695), F(71, 1920), F(-17253, 339200), F(22, 525), F(-1, 40)),
        ),
        _dop853_tableau(),
    )
}
