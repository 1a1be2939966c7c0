import numpy as np
import pytest
import torch
from attsolver import solve, systems


def test_torchdiffeq_runs_a_corrected_method(random_corrector):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    from attsolver.integrations.torchdiffeq import register

    register()
    system = systems.get("kepler")
    y0, method = system.sample(3), random_corrector(4)
    field = lambda t, y: system.rhs(t, y)  # noqa: E731
    times = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    expected = solve(system, y0, t=times, method=method, out_of_domain="ignore", backend="eager").y
    y = torchdiffeq.odeint(field, y0, times, method="attsolver", options={"solver": method})
    torch.testing.assert_close(y.movedim(0, 1), expected, rtol=1e-9, atol=1e-9)
    single = torchdiffeq.odeint(field, y0.float(), times.float(), method="attsolver", options={"solver": method})
    torch.testing.assert_close(single.movedim(0, 1), expected.float(), rtol=1e-4, atol=1e-4)
    base = torchdiffeq.odeint(field, y0, times, method="attsolver", options={"solver": "rk4"})
    torch.testing.assert_close(base, torchdiffeq.odeint(field, y0, times, method="rk4"))
    with pytest.raises(ValueError, match=r"takes a step of 0\.25"):
        torchdiffeq.odeint(field, y0, times, method="attsolver", options={"solver": method, "step_size": 0.25})
    with pytest.raises(ValueError, match="forward time"):
        torchdiffeq.odeint(field, y0, times.flip(0), method="attsolver", options={"solver": method})
    with pytest.raises(ValueError, match="needs options"):
        torchdiffeq.odeint(field, y0, times, method="attsolver")
    with pytest.raises(ValueError, match="flattens tuples"):
        torchdiffeq.odeint(lambda t, y: (field(t, y[0]),), (y0,), times, method="attsolver", options={"solver": method})


def test_scipy_runs_a_corrected_method(random_corrector):
    integrate = pytest.importorskip("scipy.integrate")
    from attsolver.integrations.scipy import AttSolverIVP

    system = systems.get("kepler")
    y0, method = system.sample(1)[0], random_corrector(4)

    def fun(t, y):
        return system.rhs(t, torch.as_tensor(y)).numpy()

    expected = solve(system, y0, t=(0.0, 1.05), method=method, out_of_domain="ignore", backend="eager")
    found = integrate.solve_ivp(fun, (0.0, 1.05), y0.numpy(), method=AttSolverIVP, solver=method)
    np.testing.assert_allclose(found.t, expected.t.numpy())
    np.testing.assert_allclose(found.y.T, expected.y.numpy(), rtol=1e-9, atol=1e-9)
    fine = integrate.solve_ivp(
        fun, (0.0, 2.0), y0.numpy(), method=AttSolverIVP, solver="dop853", dt=0.05, dense_output=True
    )
    truth = integrate.solve_ivp(
        fun, (0.0, 2.0), y0.numpy(), method="DOP853", rtol=1e-12, atol=1e-12, t_eval=[0.77, 2.0]
    )
    np.testing.assert_allclose(fine.y[:, -1], truth.y[:, -1], atol=1e-7)
    np.testing.assert_allclose(fine.sol(0.77), truth.y[:, 0], atol=1e-4)
    falling = integrate.solve_ivp(
        lambda t, y: [y[1], -9.81], (0.0, 3.0), [10.0, 0.0], method=AttSolverIVP, solver="rk4", dt=0.1,
        events=lambda t, y: y[0],
    )  # fmt: skip
    assert falling.t_events[0][0] == pytest.approx((20 / 9.81) ** 0.5, abs=1e-9)
    for bad in ({"solver": method, "dt": 0.2}, {"solver": "leapfrog", "dt": 0.1}, {"solver": "rk4"}):
        with pytest.raises(ValueError):
            integrate.solve_ivp(fun, (0.0, 1.0), y0.numpy(), method=AttSolverIVP, **bad)
    with pytest.raises(ValueError, match="forward time"):
        integrate.solve_ivp(fun, (1.0, 0.0), y0.numpy(), method=AttSolverIVP, solver=method)


def test_the_compiled_engine_equals_the_eager_one(monkeypatch, random_corrector):
    from attsolver import _compile

    monkeypatch.setattr(_compile, "COMPILER", "aot_eager")
    system = systems.get("duffing")
    y0 = system.sample(5)
    for method in ("rk4", random_corrector(2)):
        extra = {"dt": 0.1} if method == "rk4" else {"method": method, "out_of_domain": "ignore"}
        eager, compiled = (solve(system, y0, t=(0.0, 0.95), backend=b, **extra) for b in ("eager", "compile"))
        torch.testing.assert_close(compiled.y, eager.y, rtol=1e-12, atol=1e-12)
    calls = len(_compile._kept)
    solve(system, y0, t=(0.0, 0.95), dt=0.1, backend="compile")
    assert len(_compile._kept) == calls
    with pytest.raises(ValueError, match="runs Runge-Kutta"):
        solve(systems.get("kepler"), torch.ones(1, 4), t=(0.0, 1.0), dt=0.1, method="pefrl", backend="compile")
    with pytest.raises(ValueError, match="fixed steps"):
        solve(system, y0, t=(0.0, 1.0), method="dopri5", backend="compile")


@pytest.mark.slow
def test_inductor_compiles_tensor_right_hand_sides():
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    field = lambda t, y: torch.tanh(y @ weight) * torch.cos(t)  # noqa: E731
    y0 = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    compiled = solve(field, y0, t=(0.0, 1.0), dt=0.1, backend="compile")
    exact = lambda t, y: torch.tanh(y @ weight) * torch.cos(torch.as_tensor(t))  # noqa: E731
    torch.testing.assert_close(
        compiled.y, solve(exact, y0, t=(0.0, 1.0), dt=0.1, backend="eager").y, rtol=1e-5, atol=1e-5
    )


def test_a_step_is_exported():
    from attsolver import step

    class Step(torch.nn.Module):
        def forward(self, y):
            return step(systems.get("kepler"), 0.0, y, 0.1)

    y0 = systems.get("kepler").sample(3)
    program = torch.export.export(Step(), (y0,))
    torch.testing.assert_close(program.module()(y0), Step()(y0))
