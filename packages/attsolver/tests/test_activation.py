import numpy as np
import torch
from attsolver._activation import INITIAL, activate, denominator_is_positive, published_rational, rational
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.floats(-1e3, 1e3)


@given(st.lists(numbers, min_size=7, max_size=7), st.lists(numbers, min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_safe_rational_is_the_polynomials_and_finite(coefficients, x):
    a, b = coefficients[:4], [0.0, *coefficients[5:]]
    top = np.polynomial.polynomial.polyval(np.array(x), a)
    bottom = 1 + np.abs(np.polynomial.polynomial.polyval(np.array(x), b))
    found = rational(torch.tensor(x, dtype=torch.float64), torch.tensor(coefficients, dtype=torch.float64))
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found.numpy(), top / bottom, rtol=1e-9, atol=1e-6)


def test_published_and_safe_agree_at_the_start():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    c = torch.tensor(INITIAL, dtype=torch.float64)
    torch.testing.assert_close(published_rational(x, c), rational(x, c))
    near = x[x.abs() <= 1]
    assert (rational(near, c) - near.relu()).abs().max() < 0.3


def test_gradients():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).requires_grad_()
    c = torch.tensor([0.1, 0.5, 1.5, 1.2, 1.0, 0.3, 2.4], dtype=torch.float64).requires_grad_()
    for name in ("rational", "published", "silu", "tanh"):
        assert torch.autograd.gradcheck(lambda x, c, name=name: activate(x, name, c), (x, c))
    assert torch.equal(activate(x, "relu", c), x.clamp(min=0))


def test_denominators():
    assert denominator_is_positive(INITIAL)
    assert denominator_is_positive((0, 0, 0, 0, 1, 0, 0))
    assert not denominator_is_positive((0, 0, 0, 0, 1, 2, 1))  # a double root
    assert not denominator_is_positive((0, 0, 0, 0, 1, 1, 0))
    assert not denominator_is_positive((0, 0, 0, 0, -1, 0, -1))
