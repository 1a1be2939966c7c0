import numpy as np
import pytest

numba = pytest.importorskip("numba")
from attsolver.integrations import _vecmath  # noqa: E402  (importing it needs numba)


@numba.njit(error_model="numpy")
def evaluate(x, out):
    for i in range(x.size):
        out[0, i], out[1, i] = _vecmath.sincos(x[i])
        out[2, i], out[3, i], out[4, i] = _vecmath.exp(x[i]), _vecmath.log(x[i]), _vecmath.tanh(x[i])
        out[5, i] = _vecmath.sqrt(x[i])
        out[6, i], out[7, i] = _vecmath.minimum(x[i], out[2, i]), _vecmath.maximum(x[i], out[2, i])


@pytest.mark.parametrize(("dtype", "far"), [(np.float32, 1e4), (np.float64, 1e8)])
def test_the_functions_are_right_to_a_few_units_in_the_last_place(dtype, far):
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, 1e-40, 1e-310, np.inf, -np.inf, np.nan, -1.0, 88.5, -100.0, 709.5, -744.0, 1e-5]
    x = np.concatenate([np.linspace(-10, 10, 20_001), far * rng.normal(size=20_000) / 3, special]).astype(dtype)
    out = np.empty((8, x.size), dtype)
    evaluate(x, out)
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        truth = [f(wide) for f in (np.sin, np.cos, np.exp, np.log, np.tanh, np.sqrt)]
        truth += [np.minimum(x, out[2]), np.maximum(x, out[2])]
        for row, exact in enumerate(truth):
            rounded = exact.astype(dtype)
            finite = np.isfinite(rounded)
            np.testing.assert_array_equal(out[row][~finite], rounded[~finite])
            error = np.abs(out[row][finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))
            assert float(error.max()) < (4 if dtype is np.float64 and row < 2 else 2.5)
