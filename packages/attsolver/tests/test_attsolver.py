import numpy as np
import pytest
import torch
from attsolver import AttSolver, Corrector, export_npz, solve, step, systems
from attsolver._tableaus import TABLEAUS
from hypothesis import given, settings
from hypothesis import strategies as st


def formula(c, u, s, params=None):
    """Q in NumPy from the arrays of a corrector."""
    u, s = u.detach().numpy(), s.detach().numpy()
    z = {"state": [u], "increment": [s], "both": [u, s]}[c.features]
    if params is not None:
        z = [*z, np.broadcast_to(params.numpy(), (*u.shape[:-1], params.shape[-1]))]
    z = (np.concatenate(z, -1) - c.mu) / c.sigma
    x = z @ c.w1.T + c.b1
    if c.activation == "rational":
        a0, a1, a2, a3, _, b1, b2 = c.coefficients
        x = (a0 + a1 * x + a2 * x**2 + a3 * x**3) / (1 + np.abs(b1 * x + b2 * x**2))
    else:
        x = {"relu": np.maximum(x, 0), "silu": x / (1 + np.exp(-x)), "tanh": np.tanh(x)}[c.activation]
    return torch.tensor(c.out_scale * (z @ c.w_lin.T + x @ c.w2.T + c.b2) - c.q0)


def trained(d=4, *, seed=0, **options):
    """A solver with random weights and scales, as after a fit."""
    solver = AttSolver(options.pop("base", "rk4"), options.pop("dt", 0.1), dim=d, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in solver.parameters():
            if weight.requires_grad and weight is not solver.coefficients:
                weight.copy_(torch.randn(weight.shape, generator=generator))
        solver.mu.normal_(generator=generator)
        solver.sigma.uniform_(1, 2, generator=generator)
        solver.out_scale.uniform_(1e-4, 2e-4, generator=generator)
        if solver.preserve_equilibria:
            solver.mu.zero_()
    return solver


@pytest.mark.parametrize("base", TABLEAUS)
def test_zero_correction_is_the_base_bit_for_bit(base):
    system = systems.get("elastic_pendulum")
    solver = AttSolver(base, 0.1, dim=4, hidden=8)
    y0 = system.sample(5)
    with torch.no_grad():
        corrected = solver.solve(system, y0, t=(0.0, 1.0), backend="eager").y
        plain = solve(system, y0, t=(0.0, 1.0), dt=0.1, method=base, backend="eager").y
    assert torch.equal(corrected, plain)


@pytest.mark.parametrize("features", ["state", "increment", "both"])
@pytest.mark.parametrize("activation", ["rational", "relu", "silu", "tanh"])
def test_correction_equals_the_formula_in_the_arrays(features, activation):
    solver = trained(features=features, activation=activation, hidden=6)
    u, s = torch.randn(2, 7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).unbind()
    expected = formula(solver.corrector(), u, s)
    torch.testing.assert_close(solver.correction(0.0, u, s), expected, rtol=1e-12, atol=1e-16)
    torch.testing.assert_close(solver(0.0, u, s), expected, rtol=1e-12, atol=1e-16)


def test_conditioning_appends_the_parameters():
    solver = trained(conditioning=2, hidden=5)
    u, s = torch.randn(2, 7, 4, dtype=torch.float64)
    for params in (torch.tensor([1.0, 2.0]).double(), torch.randn(7, 2, dtype=torch.float64)):
        expected = formula(solver.corrector(), u, s, params)
        torch.testing.assert_close(solver.correction(0.0, u, s, params), expected)
    with pytest.raises(ValueError, match="reads 2 system parameters"):
        solver.correction(0.0, u, s)
    with pytest.raises(ValueError, match="reads 2 system parameters"):
        solver.correction(0.0, u, s, torch.ones(3))


def test_equilibria_stay_where_they_are():
    system = systems.get("elastic_pendulum")
    rest = torch.tensor([[0.0, 10.0 + 9.81 / 40.0, 0.0, 0.0]], dtype=torch.float64)
    keeping = trained(features="increment", hidden=6, preserve_equilibria=True)
    moved = (keeping.step(system, 0.0, rest) - rest).abs().max()
    assert moved < 1e-14
    other = trained(features="increment", hidden=6)
    assert (other.step(system, 0.0, rest) - rest).abs().max() > 1e-6
    u, s = torch.randn(2, 3, 4, dtype=torch.float64)
    expected = formula(keeping.corrector(), u, s)
    torch.testing.assert_close(keeping.correction(0.0, u, s), expected)


def test_shortened_steps_keep_the_order_of_the_base():
    system = systems.get("henon_heiles")
    solver = trained(base="heun", dt=0.5, hidden=6)
    start = system.sample(4)
    exact = solve(system, start, t=(0.0, 2.0), method="dop853", rtol=1e-12, atol=1e-12, backend="eager").y[:, -1]
    errors = []
    for h in (0.02, 0.01, 0.005):
        y = solve(system, start, t=(0.0, 2.0), dt=h, method=solver, allow_mismatch=True, backend="eager", save="last").y
        errors.append(float((y[:, -1] - exact).detach().norm()))
    slopes = np.diff(np.log(errors)) / np.log(0.5)
    assert np.abs(slopes - 2).max() < 0.1


def test_gradients_reach_state_and_weights():
    system = systems.get("lotka_volterra")
    solver = trained(2, hidden=3)
    y0 = system.sample(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: solver.step(system, 0.0, y), y0)
    assert torch.autograd.gradgradcheck(lambda y: solver.step(system, 0.0, y), y0)
    names = [n for n, p in solver.named_parameters() if p.requires_grad]
    assert names == ["w_lin", "w1", "b1", "w2", "b2", "coefficients"]
    weights = tuple(getattr(solver, n).detach().clone().requires_grad_() for n in names)

    def loss(*values):
        fields = dict(zip(names, values, strict=True))
        return torch.func.functional_call(solver, fields, (0.0, y0.detach(), y0.detach() * 2))

    assert torch.autograd.gradcheck(loss, weights)


def test_export_of_a_corrected_step():
    solver = trained(hidden=6, dtype=torch.float32)
    system = systems.get("elastic_pendulum")

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.solver = solver

        def forward(self, y):
            return self.solver.advance(system.rhs, 0.0, y)

    y = system.sample(3, dtype=torch.float32)
    exported = torch.export.export(Step(), (y,))
    torch.testing.assert_close(exported.module()(y), solver.step(system, 0.0, y))


def test_arrays_are_made_again_only_after_a_change():
    solver = trained(hidden=4)
    first = solver.corrector()
    assert solver.corrector() is first
    with torch.no_grad():
        solver.b2.add_(1)
    assert np.allclose(solver.corrector().b2, first.b2 + 1)


def test_paper_preset():
    solver = AttSolver.paper("rk4", 0.1, dim=4)
    arrays = solver.corrector()
    assert (arrays.features, arrays.scaling, arrays.hidden) == ("increment", "none", 1024)
    assert not solver.w_lin.requires_grad
    assert np.all(arrays.w_lin == 0)


def test_npz_holds_the_arrays_and_the_tableau(tmp_path):
    solver = trained(hidden=4)
    export_npz(solver, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        fields = {n: file[n] for n in Corrector.__dataclass_fields__}
        a, b, c = (file[f"tableau_{n}"] for n in "abc")
    for name, value in fields.items():
        assert np.array_equal(value, getattr(solver.corrector(), name)), name
    system = systems.get("elastic_pendulum")
    y = system.sample(1)
    k = []
    for i in range(4):
        at = y + 0.1 * sum((a[i, j] * k[j] for j in range(i)), torch.zeros(1, 4))
        k.append(system.rhs(c[i] * 0.1, at))
    s = sum(w * slope for w, slope in zip(b, k, strict=True))
    q = formula(solver.corrector(), y, s)
    torch.testing.assert_close(y + 0.1 * s + q, step(system, 0.0, y, 0.1, method=solver))


@given(hidden=st.integers(0, 5), d=st.integers(1, 4), features=st.sampled_from(["state", "increment", "both"]))
@settings(max_examples=20, deadline=None)
def test_any_shape_steps(hidden, d, features):
    solver = trained(d, hidden=hidden, features=features)
    y = torch.ones(2, 3, d, dtype=torch.float64)
    after = solver.step(lambda t, u: -u, 0.0, y)
    assert after.shape == y.shape
    assert torch.isfinite(after).all()
    assert torch.equal(after[0, 0], after[1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("rk5", 0.1), {}, "no base method 'rk5'"),
        (("rk4", 0.0), {}, "dt is a positive number"),
        (("rk4", float("nan")), {}, "dt is a positive number"),
        (("rk4", 0.1), {"features": "rhs"}, "features is one of"),
        (("rk4", 0.1), {"activation": "gelu"}, "activation is one of"),
        (("rk4", 0.1), {"scaling": "linear"}, "scaling is one of"),
        (("rk4", 0.1), {"hidden": -1}, "hidden is an int"),
        (("rk4", 0.1), {"hidden": 0, "linear": False}, "nothing to learn"),
        (("rk4", 0.1), {"dim": 0}, "at least 1"),
        (("rk4", 0.1), {"preserve_equilibria": True}, 'features="increment"'),
        (("rk4", 0.1), {"dtype": torch.bfloat16}, "float32 or float64"),
    ],
)
def test_options_that_make_no_sense(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        AttSolver(*arguments, **options)


def test_a_solver_without_weights_says_so():
    with pytest.raises(ValueError, match="no weights yet"):
        AttSolver("rk4", 0.1).step(lambda t, u: -u, 0.0, torch.ones(1, 2))


def test_use_that_it_was_not_trained_for():
    system = systems.get("elastic_pendulum")
    solver = trained(hidden=4)
    y0 = system.sample(2)
    with pytest.raises(ValueError, match="forward time only"):
        solver.solve(system, y0, t=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"trained with dt=0.1"):
        solve(system, y0, t=(0.0, 1.0), dt=0.2, method=solver)
    with pytest.raises(ValueError, match="4 states"):
        solver.solve(systems.get("lotka_volterra"), torch.ones(1, 2), t=(0.0, 1.0))
    with pytest.raises(TypeError, match="float32 or float64"):
        solver.solve(system, y0.bfloat16(), t=(0.0, 1.0))
    fixed = trained(hidden=4, scaling="none")
    with pytest.raises(ValueError, match="every step must be dt"):
        fixed.solve(system, y0, t=(0.0, 0.25))
