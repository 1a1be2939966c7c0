import dataclasses
import subprocess
import sys
import time

import pytest
import torch
from attsolver import (
    AttSolver,
    OutOfDomainWarning,
    StiffnessWarning,
    StiffProblemError,
    TrajectoryData,
    fit,
    generate,
    solve,
    step,
    systems,
)


@pytest.fixture(scope="module")
def elastic():
    return generate(systems.get("elastic_pendulum"), 40, 50, 0.1)


@pytest.fixture(scope="module")
def lotka():
    return generate(systems.get("lotka_volterra"), 12, 40, 0.1)


def weights(solver):
    return torch.cat([p.detach().flatten() for p in solver.parameters()])


def by_hand(f, y, t=None, dt=0.1):
    """Trajectories of one's own function, by 20 small steps of rk4 between times."""
    t = torch.arange(21, dtype=torch.float64) * dt if t is None else t
    y = solve(f, y, t=t, dt=dt / 20, method="rk4", backend="eager").y
    return TrajectoryData("own", {}, dt, t, y, y, 0.0, 0, "rk4", "rk4")


def test_the_default_fit_removes_the_error_of_rk4(elastic):
    solver = AttSolver("rk4", 0.1, hidden=32)
    report = fit(solver, elastic, iterations=500)
    assert report.rel_local < 0.06 < report.rel_linear < 0.4
    assert (report.pairs, report.iterations, len(report.curve)) == (36 * 50, 500, 21)
    system = systems.get("elastic_pendulum")
    test = generate(system, 16, 50, 0.1, seed=1000)
    t = test.t
    with torch.no_grad():
        corrected = solver.solve(system, test.y[:, 0], t=t, backend="eager", out_of_domain="ignore").y
        coarse = solve(system, test.y[:, 0], t=t, dt=0.1, backend="eager").y
    gain = (coarse - test.y).square().mean() / (corrected - test.y).square().mean()
    assert gain > 1e4


def test_linear_problems_are_solved_by_the_linear_part_alone():
    system = systems.get("spring_chain", size=4)
    data = generate(system, 20, 30, 0.2)
    solver = AttSolver("euler", 0.2, hidden=16)
    report = fit(solver, data)
    assert report.iterations == 0
    assert report.rel_local < 1e-8
    a = torch.stack([system.rhs(0.0, e) for e in torch.eye(8, dtype=torch.float64)], dim=1)
    y = system.sample(3)
    exact = y @ torch.linalg.matrix_exp(0.2 * a).T
    torch.testing.assert_close(solver.step(system, 0.0, y), exact, rtol=1e-8, atol=1e-8)


def test_ridge_is_the_penalised_least_squares(lotka):
    solver = AttSolver("heun", 0.1, hidden=0)
    fit(solver, lotka, ridge=0.5, held_out=0.0)
    u, after = lotka.y[:, :-1].reshape(-1, 2), lotka.y[:, 1:].reshape(-1, 2)
    f = systems.get("lotka_volterra").rhs
    s = (f(0.0, u) + f(0.0, u + 0.1 * f(0.0, u))) / 2
    z = torch.cat([u, s], 1)
    z = (z - z.mean(0)) / z.std(0, unbiased=False)
    e = after - u - 0.1 * s
    e = e / e.std(0, unbiased=False)
    normal = z.T @ z + 0.5 * len(z) * torch.eye(4)
    expected = torch.linalg.solve(normal, z.T @ (e - e.mean(0))).T
    torch.testing.assert_close(solver.w_lin.detach(), expected)
    torch.testing.assert_close(solver.b2.detach(), e.mean(0))


def test_the_same_seed_gives_the_same_bits(lotka):
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 5)  # the global generator must not matter
        solver = AttSolver("heun", 0.1, hidden=4)
        fit(solver, lotka, seed=seed, iterations=20)
        found.append(weights(solver))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_warm_start_goes_on(lotka):
    solver = AttSolver("heun", 0.1, hidden=8)
    first = fit(solver, lotka, iterations=300)
    second = fit(solver, lotka, iterations=300, warm_start=True)
    assert second.rel_linear == pytest.approx(first.rel_local)
    assert second.rel_local < first.rel_local


def test_rollout_and_noise_train_too(lotka):
    for options in ({"rollout": 3}, {"noise": 0.3}, {"held_out": 0.0}):
        solver = AttSolver("heun", 0.1, hidden=8)
        report = fit(solver, lotka, iterations=150, **options)
        assert report.rel_local < report.rel_linear, options


def test_a_rollout_through_one_step_is_the_one_step_loss(lotka):
    """The loss of windows of one step, written apart: same draws, same weights."""
    solver = AttSolver("heun", 0.1, hidden=4)
    fit(solver, lotka, iterations=0)
    from attsolver._targets import make_pairs, problem_of
    from attsolver._training import Plan, Training

    problem = problem_of(lotka, None, 0)
    pairs = make_pairs(solver, lotka, problem, 0.0)
    common = {"seed": 0, "iterations": 1, "batch": 4000, "lr": 1e-3, "ridge": 0.0, "held_out": 0.0, "noise": 0.0}
    losses = []
    for rollout in (1, 2):
        plan = Plan(**common, rollout=rollout, warm_start=False)
        training = Training(solver, pairs, lotka, problem, plan, torch.Generator().manual_seed(0))
        losses.append(float(training.loss().detach()))
    assert losses[1] > losses[0] > 0  # the second step carries the error of the first
    assert losses[1] < 10 * losses[0]


def test_a_stride_over_finer_data(lotka):
    solver = AttSolver("heun", 0.2, hidden=8)
    assert fit(solver, lotka, iterations=100).pairs == 11 * 39
    with pytest.raises(ValueError, match=r"no multiple of the data's 0.1"):
        fit(AttSolver("heun", 0.15), lotka)


def test_families_are_conditioned_on_their_parameters():
    system = systems.get("duffing")
    n = 24
    generator = torch.Generator().manual_seed(0)
    name = next(iter(system.params))
    values = system.params[name] * (0.5 + torch.rand(n, generator=generator, dtype=torch.float64))
    data = generate(system, n, 40, 0.1, params={name: values})
    with pytest.raises(ValueError, match="conditioning="):
        fit(AttSolver("heun", 0.1), data)
    count = len(system.rhs.param_names)
    solver = AttSolver("heun", 0.1, hidden=24, conditioning=count)
    report = fit(solver, data, iterations=500)
    assert report.rel_local < 0.5 * report.rel_linear
    assert solver.params_hash == ""
    other = {name: values[:4] * 1.01}
    y0 = system.sample(4)
    exact = solve(system, y0, t=(0.0, 1.0), method="dop853", params=other, backend="eager").y[:, -1]
    with torch.no_grad():
        corrected = solver.solve(system, y0, t=(0.0, 1.0), params=other, backend="eager", out_of_domain="ignore")
    coarse = solve(system, y0, t=(0.0, 1.0), dt=0.1, method="heun", params=other, backend="eager").y[:, -1]
    assert (corrected.y[:, -1] - exact).norm() < 0.3 * (coarse - exact).norm()
    with pytest.raises(ValueError, match="conditioning=7"):
        fit(AttSolver("heun", 0.1, conditioning=7), data)


def test_parameters_are_refused_where_they_differ(lotka):
    solver = AttSolver("heun", 0.1, hidden=4)
    fit(solver, lotka, iterations=5)
    system = systems.get("lotka_volterra")
    name, value = next(iter(system.params.items()))
    with pytest.raises(ValueError, match="other parameters"):
        solver.solve(system, system.sample(2), t=(0.0, 1.0), params={name: 1.5 * value})


def test_ones_own_function():
    def f(t, y):
        return torch.stack([y[..., 1], -torch.sin(y[..., 0])], -1)

    data = by_hand(f, 2 * torch.rand(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1)
    with pytest.raises(ValueError, match="pass system="):
        fit(AttSolver("heun", 0.1), data)
    solver = AttSolver("heun", 0.1, hidden=8)
    assert fit(solver, data, iterations=300, system=f).rel_local < 0.2
    assert solver.params_hash == ""


def test_states_outside_the_training_box_are_counted_for_each_trajectory(lotka):
    solver = AttSolver("heun", 0.1, hidden=8)
    fit(solver, lotka, iterations=50)
    system = systems.get("lotka_volterra")
    y0 = torch.cat([lotka.y[:2, 0], 30 * torch.ones(1, 2, dtype=torch.float64)])
    with torch.no_grad(), pytest.warns(OutOfDomainWarning, match="1 trajectories"):
        warned = solver.solve(system, y0, t=(0.0, 0.3), backend="eager")
    assert warned.out_of_domain.tolist()[:2] == [0, 0]
    assert warned.out_of_domain[2] > 0
    assert warned.status.tolist() == [0, 0, 3]
    with torch.no_grad():
        ignored = solver.solve(system, y0, t=(0.0, 0.3), backend="eager", out_of_domain="ignore")
        fallen = solver.solve(system, y0, t=(0.0, 0.1), backend="eager", out_of_domain="fallback")
    assert torch.equal(ignored.y, warned.y)
    fine = solve(system, y0[2:], t=(0.0, 0.1), dt=0.025, method="heun", backend="eager").y[:, -1]
    torch.testing.assert_close(fallen.y[2:, -1], fine)


def test_stiff_problems_are_named():
    def f(t, y):
        return torch.stack([y[..., 1], 1000 * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]], -1)

    t = torch.arange(5, dtype=torch.float64) * 0.05
    y = torch.zeros(2, 5, 2, dtype=torch.float64) + torch.tensor([2.0, 0.0], dtype=torch.float64)
    data = TrajectoryData("own", {}, 0.05, t, y, y, 0.0, 0, "none", "rk4")
    with pytest.raises(StiffProblemError, match="Radau"):
        fit(AttSolver("rk4", 0.05), data, system=f)
    van_der_pol, stiff = systems.get("van_der_pol").rhs, dataclasses.replace(data, params={"mu": 1000.0})
    with pytest.raises(StiffProblemError, match="Radau"):
        fit(AttSolver("rk4", 0.05), stiff, system=van_der_pol)


def test_a_step_beyond_stability_warns():
    data = by_hand(lambda t, y: -25.0 * y, torch.ones(3, 1, dtype=torch.float64))
    with pytest.warns(StiffnessWarning, match="carry the stability"):
        report = fit(AttSolver("euler", 0.1), data, system=lambda t, y: -25.0 * y)
    assert report.stiffness == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations"),
        ({"batch": 0}, "batch"),
        ({"rollout": 0}, "rollout"),
        ({"rollout": 41}, "does not fit"),
        ({"lr": 0.0}, "lr is positive"),
        ({"held_out": 1.0}, "held_out"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_options_out_of_range(lotka, options, message):
    with pytest.raises(ValueError, match=message):
        fit(AttSolver("heun", 0.1), lotka, **options)


def test_data_that_are_not_finite(lotka):
    y = lotka.y.clone()
    y[3, 4, 1] = torch.nan
    with pytest.raises(ValueError, match=r"\[3, 4, 1\]"):
        fit(AttSolver("heun", 0.1), dataclasses.replace(lotka, y=y))
    with pytest.raises(ValueError, match="for 3 states"):
        fit(AttSolver("heun", 0.1, dim=3), lotka)


def test_an_interrupted_fit_goes_on_with_the_same_bits(lotka, tmp_path, monkeypatch):
    whole = AttSolver("heun", 0.1, hidden=4)
    expected = fit(whole, lotka, iterations=60, out=tmp_path / "whole", save_every=20)
    from attsolver._training import Training

    original = Training.look

    def stop(self, loss):
        original(self, loss)
        if self.done > 45:
            raise KeyboardInterrupt

    broken = AttSolver("heun", 0.1, hidden=4)
    monkeypatch.setattr(Training, "look", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, lotka, iterations=60, out=tmp_path / "broken", save_every=20)
    monkeypatch.setattr(Training, "look", original)
    again = AttSolver("heun", 0.1, hidden=4)
    report = fit(again, lotka, iterations=60, out=tmp_path / "broken", save_every=20)
    assert torch.equal(weights(again), weights(whole))
    assert (report.curve, report.rel_local) == (expected.curve, expected.rel_local)
    with pytest.raises(ValueError, match="another configuration"):
        fit(AttSolver("heun", 0.1, hidden=5), lotka, iterations=60, out=tmp_path / "broken")


@pytest.mark.slow
def test_killed_fits_lose_nothing(lotka, tmp_path):
    lotka.save(tmp_path / "data.npz")
    program = f"""
import attsolver, torch
torch.set_num_threads(1)
data = attsolver.TrajectoryData.load({str(tmp_path / "data.npz")!r})
solver = attsolver.AttSolver("heun", 0.1, hidden=4)
attsolver.fit(solver, data, iterations=3000, out={str(tmp_path / "run")!r}, save_every=100)
solver.save({str(tmp_path / "solver.safetensors")!r})
"""
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", program])
        for _ in range(600):
            time.sleep(0.05)
            if process.poll() is not None or len(list((tmp_path / "run").glob("checkpoints/step-*"))) > 1:
                break
        if process.poll() is not None:
            break
        time.sleep(0.2)
        process.kill()
        process.wait()
    else:
        subprocess.run([sys.executable, "-c", program], check=True)
    torch.set_num_threads(1)
    whole = AttSolver("heun", 0.1, hidden=4)
    fit(whole, lotka, iterations=3000)
    assert torch.equal(weights(AttSolver.load(tmp_path / "solver.safetensors")), weights(whole))


def test_a_step_is_the_arithmetic_of_the_formula(lotka):
    solver = AttSolver("midpoint", 0.1, hidden=4)
    fit(solver, lotka, iterations=5)
    f = systems.get("lotka_volterra").rhs
    y = lotka.y[:, 0]
    s = f(0.0, y + 0.05 * f(0.0, y))
    torch.testing.assert_close(step(f, 0.0, y, 0.1, method=solver), y + 0.1 * s + solver.correction(0.0, y, s))
