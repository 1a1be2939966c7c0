from fractions import Fraction

import numpy as np
import pytest
import torch
from attsolver import rhs, solve
from attsolver._symplectic import SPLITTINGS
from attsolver._tableaus import TABLEAUS


@rhs
def forced(t, x, p, m):
    """Solved by x = exp(sin t), v = x^2 / 2 + exp(-t) / 2."""
    return x[0] * m.cos(t), x[0] ** 2 * m.cos(t) - x[1] + 0.5 * x[0] ** 2


def forced_exact(t):
    x = np.exp(np.sin(t))
    return torch.tensor([x, x * x / 2 + np.exp(-t) / 2], dtype=torch.float64)


@rhs(positions=(0,))
def oscillator(t, x, p, m):
    return x[1], -x[0]


def oscillator_exact(t):
    return torch.tensor([np.cos(t), -np.sin(t)], dtype=torch.float64)


def slope(errors, steps):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


COUNTS = {"euler": (1024, 2048), "rk3": (128, 192, 256), "dopri5": (96, 128, 192), "dop853": (10, 12, 16, 20)}


@pytest.mark.parametrize("name", list(TABLEAUS))
def test_the_global_error_falls_with_the_order_of_the_method(name):
    # The forced equation is too smooth for DOP853: its ninth-order term is still the larger one at 1e-13.
    func, exact = (oscillator, oscillator_exact) if name == "dop853" else (forced, forced_exact)
    counts = COUNTS.get(name, (256, 384, 512))
    errors = []
    for count in counts:
        y = solve(func, exact(0.0), t=(0.0, 6.0), dt=6.0 / count, method=name, save="last", backend="eager").y
        errors.append(float((y[-1] - exact(6.0)).norm()))
    assert slope(errors, [6.0 / count for count in counts]) == pytest.approx(TABLEAUS[name].order, abs=0.1)


@rhs(positions=(0,))
def pendulum(t, x, p, m):
    return x[1], -m.sin(x[0])


@pytest.mark.parametrize("name", list(SPLITTINGS))
def test_the_order_of_the_splittings(name):
    y0 = torch.tensor([1.0, 0.3], dtype=torch.float64)
    truth = solve(pendulum, y0, t=(0.0, 2.0), method="dop853", rtol=1e-13, atol=1e-13, save="last", backend="eager").y
    counts = (20, 28, 40)
    errors = [
        float((solve(pendulum, y0, t=(0.0, 2.0), dt=2 / n, method=name, save="last", backend="eager").y - truth).norm())
        for n in counts
    ]
    assert slope(errors, [2 / n for n in counts]) == pytest.approx(SPLITTINGS[name].order, abs=0.1)


@pytest.mark.parametrize("name", [name for name in TABLEAUS if name != "dop853"])
def test_coefficients_meet_the_order_conditions_exactly(name):
    tableau = TABLEAUS[name]
    a, b, c = tableau.a, tableau.b, tableau.c
    assert [sum(row, Fraction(0)) for row in a] == list(c)
    s = range(tableau.stages)
    conditions = {
        1: [(sum(b), Fraction(1))],
        2: [(sum(b[i] * c[i] for i in s), Fraction(1, 2))],
        3: [
            (sum(b[i] * c[i] ** 2 for i in s), Fraction(1, 3)),
            (sum(b[i] * a[i][j] * c[j] for i in s for j in range(i)), Fraction(1, 6)),
        ],
        4: [
            (sum(b[i] * c[i] ** 3 for i in s), Fraction(1, 4)),
            (sum(b[i] * c[i] * a[i][j] * c[j] for i in s for j in range(i)), Fraction(1, 8)),
            (sum(b[i] * a[i][j] * c[j] ** 2 for i in s for j in range(i)), Fraction(1, 12)),
        ],
        5: [(sum(b[i] * c[i] ** 4 for i in s), Fraction(1, 5))],
    }
    for order in range(1, tableau.order + 1):
        for found, expected in conditions[order]:
            assert found == expected


def test_dop853_and_dopri5_have_scipys_coefficients():
    integrate = pytest.importorskip("scipy.integrate._ivp.rk")
    for name, theirs in (("dop853", integrate.DOP853), ("dopri5", integrate.RK45)):
        ours = TABLEAUS[name]
        a, b, c = ours.floats
        for i, row in enumerate(a):
            np.testing.assert_allclose(row, theirs.A[i, :i], rtol=0, atol=1e-14)
        np.testing.assert_allclose(b, theirs.B, rtol=0, atol=1e-14)
        np.testing.assert_allclose(c, theirs.C, rtol=0, atol=1e-14)
    np.testing.assert_allclose([float(x) for x in TABLEAUS["dopri5"].error], -integrate.RK45.E, atol=1e-15)
    np.testing.assert_allclose([float(x) for x in TABLEAUS["dop853"].error], integrate.DOP853.E5[:12], atol=1e-15)
    np.testing.assert_allclose([float(x) for x in TABLEAUS["dop853"].error3], integrate.DOP853.E3[:12], atol=1e-15)


def test_the_hash_tells_tableaus_apart():
    assert len({tableau.hash for tableau in TABLEAUS.values()}) == len(TABLEAUS)
