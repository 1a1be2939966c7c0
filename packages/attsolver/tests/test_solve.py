import math
import warnings

import numpy as np
import pytest
import torch
from attsolver import SolverError, rhs, solve, step, systems
from attsolver._grid import make_grid


def decay(t, y):
    return -y


@rhs(params={"rate": 1.0})
def cooling(t, x, p, m):
    return (-p.rate * (x[0] - m.cos(t)),)


def test_the_grid_of_a_span():
    y0 = torch.ones(1)
    times = {save: solve(decay, y0, t=(0.0, 1.05), dt=0.1, save=save).t.tolist() for save in ("all", 3, "last")}
    assert times["all"] == [i * 0.1 for i in range(11)] + [1.05]
    assert times[3] == pytest.approx([0.0, 0.3, 0.6, 0.9])
    assert times["last"] == [1.05]
    assert solve(decay, y0, t=(0.0, 1.0), dt=0.1).t.numel() == 11  # 10 * 0.1 rounds to 1: no eleventh step
    assert solve(decay, y0, t=(0.0, 0.05), dt=0.1).t.tolist() == [0.0, 0.05]
    assert solve(decay, y0, t=(0.0, 1.1), dt=0.1, save=11).t.tolist() == pytest.approx([0.0, 1.1])


@pytest.mark.parametrize("t", [(0.0, 1.0), torch.linspace(0, 1, 5, dtype=torch.float64)])
def test_a_step_far_beyond_the_gap_is_one_shortened_step(t):
    y0 = torch.ones(1, dtype=torch.float64)
    far, near = (solve(decay, y0, t=t, dt=dt, save="last").y for dt in (1e9, 1.0))
    assert torch.equal(far, near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_times_are_met_exactly_and_steps_do_not_jitter(dtype):
    grid = make_grid(torch.arange(501, dtype=dtype) * 0.1, 0.1, "all")
    assert len(grid.runs) == 1
    assert grid.runs[0].h == 0.1
    assert grid.runs[0].count == 500
    assert not grid.shortened
    grid = make_grid(torch.tensor([0.0, 0.25, 0.5, 1.1], dtype=torch.float64), 0.1, "all")
    assert [(run.count, run.every) for run in grid.runs] == [(2, 0), (1, 1), (2, 0), (1, 1), (6, 6)]
    assert grid.steps == 12
    assert grid.shortened
    last = grid.runs[-2]
    assert last.start + last.h == pytest.approx(0.5, abs=1e-15)
    grid = make_grid(torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64), None, "last")
    assert [run.h for run in grid.runs] == [1.0, 2.0]
    assert grid.times.tolist() == [3.0]


def test_a_solution_has_the_shape_of_its_start():
    one, batch = torch.ones(3), torch.ones(5, 3)
    assert solve(decay, one, t=(0.0, 1.0), dt=0.5).y.shape == (3, 3)
    solution = solve(decay, batch, t=(0.0, 1.0), dt=0.5)
    assert solution.y.shape == (5, 3, 3)
    assert solution.status.shape == (5,)
    assert solution.nfev.tolist() == [8] * 5
    assert solve(decay, batch, t=torch.tensor([0.0, 0.3, 1.0]), dt=0.5, save=2).y.shape == (5, 2, 3)
    assert "0 trajectories with a status" in repr(solution)


def test_backward_time_undoes_forward_time():
    system = systems.get("kepler")
    y0 = system.sample(3)
    there = solve(system, y0, t=(0.0, 1.0), dt=0.01, save="last", backend="eager").y[:, 0]
    back = solve(system, there, t=(1.0, 0.0), dt=0.01, save="last", backend="eager")
    torch.testing.assert_close(back.y[:, 0], y0, rtol=1e-7, atol=1e-7)


def test_time_reaches_the_right_hand_side():
    exact = [0.5 * (math.cos(t) + math.sin(t) + math.exp(-t)) for t in (0.0, 1.0, 2.0)]
    times = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    y0 = torch.ones(2, 1, dtype=torch.float64)
    generic = lambda t, y: -(y - torch.cos(torch.as_tensor(t, dtype=y.dtype)))  # noqa: E731
    for func in (cooling, generic):
        for arguments in (
            {"dt": 0.1, "method": "dop853"},
            {"method": "dop853", "rtol": 1e-12},
            {"method": "dopri5", "rtol": 1e-10},
        ):
            y = solve(func, y0, t=times, backend="eager", **arguments).y
            torch.testing.assert_close(y[1, :, 0], torch.tensor(exact, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_expm_is_exact_for_linear_systems_only():
    chain = systems.get("spring_chain", size=4)
    y0 = chain.sample(3)
    times = torch.tensor([0.0, 0.7, 20.0], dtype=torch.float64)
    truth = solve(chain, y0, t=times, method="dop853", rtol=1e-13, atol=1e-13, backend="eager").y
    torch.testing.assert_close(solve(chain, y0, t=times, method="expm").y, truth, rtol=1e-10, atol=1e-10)
    k = torch.tensor([chain.params["k"]] * 3, dtype=torch.float64) * torch.tensor([[1.0], [2.0], [3.0]])
    own = solve(chain, y0, t=times, method="expm", params={"k": k}).y
    truth = solve(chain, y0, t=times, method="dop853", rtol=1e-13, atol=1e-13, backend="eager", params={"k": k}).y
    torch.testing.assert_close(own, truth, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="not of this form"):
        solve(systems.get("kepler"), systems.get("kepler").sample(1), t=times, method="expm")


def test_splittings_refuse_what_is_not_separable():
    for system, message in (
        (systems.get("elastic_pendulum"), "does not say which"),
        (systems.get("duffing"), "does not"),
    ):
        with pytest.raises(ValueError, match=message):
            solve(system, system.sample(1), t=(0.0, 1.0), dt=0.1, method="leapfrog")
    damped = rhs(positions=(0,))(lambda t, x, p, m: (x[1], -x[0] - 0.1 * x[1]))
    with pytest.raises(ValueError, match="not separable: the derivative of component 1 depends on component 1"):
        solve(damped, torch.ones(2), t=(0.0, 1.0), dt=0.1, method="pefrl")
    driven = rhs(positions=(0,))(lambda t, x, p, m: (x[1], m.cos(t) - x[0]))
    with pytest.raises(ValueError, match="depends on the time"):
        solve(driven, torch.ones(2), t=(0.0, 1.0), dt=0.1, method="leapfrog")
    with pytest.raises(ValueError, match="component-wise"):
        solve(decay, torch.ones(2), t=(0.0, 1.0), dt=0.1, method="leapfrog")


def test_pefrl_keeps_the_energy_where_rk4_loses_it():
    system = systems.get("henon_heiles")
    y0 = system.sample(4)
    drift = {}
    for method in ("pefrl", "rk4"):
        y = solve(system, y0, t=(0.0, 500.0), dt=0.5, method=method, save="last", backend="eager").y
        drift[method] = float((system.energy(y[:, 0]) / system.energy(y0) - 1).abs().max())
    assert drift["pefrl"] < 1e-3 < 0.1 < drift["rk4"]


def test_the_gradient_is_that_of_the_discrete_solution():
    system = systems.get("duffing")
    y0 = system.sample(2).requires_grad_()
    gamma = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)

    def final(y0, gamma, checkpoint):
        return solve(system, y0, t=(0.0, 0.75), dt=0.1, save=3, params={"gamma": gamma}, checkpoint=checkpoint).y

    assert torch.autograd.gradcheck(lambda y0, gamma: final(y0, gamma, False), (y0, gamma))
    assert torch.autograd.gradcheck(lambda y0, gamma: final(y0, gamma, True), (y0, gamma))
    grads = [torch.autograd.grad(final(y0, gamma, c).square().sum(), (y0, gamma)) for c in (False, True, 2)]
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], rtol=1e-13, atol=1e-15)
    assert torch.autograd.gradgradcheck(
        lambda y: step(system, 0.0, y, 0.1), (y0[:1].detach().requires_grad_(),), atol=1e-4
    )


def test_checkpointing_keeps_fewer_tensors():
    system = systems.get("double_well")
    kept = {}
    for checkpoint in (False, True):
        sizes = []
        y0 = system.sample(50).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            solve(system, y0, t=(0.0, 20.0), dt=0.1, save="last", checkpoint=checkpoint)
        kept[checkpoint] = sum(sizes)
    assert kept[True] < kept[False] / 5


def test_gradients_reach_a_corrected_method(random_corrector):
    system = systems.get("kepler")
    y0 = system.sample(2).requires_grad_()
    method = random_corrector(4)
    assert torch.autograd.gradcheck(
        lambda y: solve(system, y, t=(0.0, 0.25), method=method, out_of_domain="ignore", save="last").y, (y0,)
    )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own, in jacfwd
def test_step_is_one_step_and_maps_over_parameters():
    system = systems.get("van_der_pol")
    y0 = system.sample(4)
    whole = solve(system, y0, t=(0.0, 0.1), dt=0.1, save="last", backend="eager").y[:, 0]
    assert torch.equal(step(system, 0.0, y0, 0.1), whole)
    mapped = torch.vmap(lambda y: step(system, 0.0, y, 0.1))(y0)
    torch.testing.assert_close(mapped, whole, rtol=1e-14, atol=1e-14)
    jacobian = torch.func.jacfwd(lambda y: step(system, 0.0, y, 0.1))(y0[0])
    torch.testing.assert_close(jacobian, torch.func.jacrev(lambda y: step(system, 0.0, y, 0.1))(y0[0]))


def test_dense_output_is_of_fourth_order():
    y0 = torch.tensor([1.0], dtype=torch.float64)
    errors = []
    for dt in (0.2, 0.1):
        solution = solve(decay, y0, t=(0.0, 1.0), dt=dt, method="dop853")
        at = solution.t[:-1] + dt / 2
        errors.append(float((solution(at)[:, 0] - torch.exp(-at)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)
    assert float(solution(0.3)) == pytest.approx(float(solution.y[3, 0]), rel=1e-14)
    with pytest.raises(ValueError, match="between 0 and 1"):
        solution(1.5)
    with pytest.raises(ValueError, match="two kept times"):
        solve(decay, y0, t=(0.0, 1.0), dt=0.1, save="last")(0.5)
    back = solve(decay, y0, t=(1.0, 0.0), dt=0.1)
    assert float(back(0.55)) == pytest.approx(math.exp(0.45), rel=1e-5)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_failures_are_raised_for_one_state_and_masked_in_a_batch(backend):
    if backend == "native":
        pytest.importorskip("numba")
    blow_up = rhs(lambda t, x, p, m: (x[0] * x[0],))
    y0 = torch.tensor([[0.5], [4.0]], dtype=torch.float64)
    solution = solve(blow_up, y0, t=(0.0, 1.5), dt=0.01, backend=backend)
    assert solution.status.tolist() == [0, 1]
    assert torch.isfinite(solution.y[0]).all()
    assert torch.isnan(solution.y[1, -1]).all()
    with pytest.raises(SolverError, match="Radau"):
        solve(blow_up, y0[1], t=(0.0, 1.5), dt=0.01, backend=backend)
    with pytest.raises(SolverError, match="trajectory 1 failed: not finite"):
        solve(blow_up, y0, t=(0.0, 1.5), dt=0.01, backend=backend, check="raise")
    adaptive = solve(blow_up, y0, t=(0.0, 1.5), method="dopri5", rtol=1e-6, backend=backend, max_steps=3000)
    assert adaptive.status.tolist() == [0, 4]


GOOD = {"t": (0.0, 1.0), "dt": 0.1}


@pytest.mark.parametrize(
    ("y0", "change", "error", "message"),
    [
        (torch.tensor([[1.0, math.nan]]), {}, ValueError, r"y0\[0, 1\] is nan"),
        (torch.ones(2, dtype=torch.bfloat16), {}, TypeError, "float32 or float64"),
        (torch.ones(2, dtype=torch.int64), {}, TypeError, "float32 or float64"),
        (np.ones(2), {}, TypeError, "torch tensor"),
        (torch.ones(2, 2, 2), {}, ValueError, r"\(d,\) or \(n, d\)"),
        (torch.ones(0, 2), {}, ValueError, "neither of them 0"),
        (torch.ones(2), {"dt": -0.1}, ValueError, "dt must be positive"),
        (torch.ones(2), {"dt": math.inf}, ValueError, "dt must be positive"),
        (torch.ones(2), {"dt": None}, ValueError, "needs dt"),
        (torch.ones(2), {"t": (0.0, 0.0)}, ValueError, "rise or fall"),
        (torch.ones(2), {"t": (0.0, math.nan)}, ValueError, r"t\[1\] is nan"),
        (torch.ones(2), {"t": torch.tensor([0.0, 1.0, 0.5])}, ValueError, "rise or fall strictly"),
        (torch.ones(2), {"t": (0.0, 1.0, 2.0)}, ValueError, "1-D tensor"),
        (torch.ones(2), {"method": "rk5"}, ValueError, "there is no method 'rk5'"),
        (torch.ones(2), {"method": 4}, TypeError, "an AttSolver"),
        (torch.ones(2), {"backend": "cuda"}, ValueError, "backend is"),
        (torch.ones(2), {"save": 0}, ValueError, "save is"),
        (torch.ones(2), {"save": "some"}, ValueError, "save is"),
        (torch.ones(2), {"rtol": 1e-3}, ValueError, "belong to adaptive steps"),
        (torch.ones(2), {"method": "dopri5", "dt": None, "rtol": -1.0}, ValueError, "rtol is in"),
        (torch.ones(2), {"params": {"a": 1.0}}, ValueError, "component-wise"),
        (torch.ones(2), {"check": "maybe"}, ValueError, "check is"),
        (torch.ones(2), {"out_of_domain": "pray"}, ValueError, "out_of_domain is"),
    ],
)
def test_bad_input_is_refused_with_a_reason(y0, change, error, message):
    with pytest.raises(error, match=message):
        solve(decay, y0, **(GOOD | change))


def test_a_corrector_is_refused_where_it_was_not_trained(random_corrector):
    system = systems.get("kepler")
    y0 = system.sample(1)
    method = random_corrector(4)
    quiet = {"out_of_domain": "ignore", "backend": "eager"}
    with pytest.raises(ValueError, match="forward time only"):
        solve(system, y0, t=(1.0, 0.0), method=method)
    with pytest.raises(ValueError, match=r"trained with dt=0\.1; got steps of 0\.05"):
        solve(system, y0, t=(0.0, 1.0), dt=0.05, method=method)
    allowed = solve(system, y0, t=(0.0, 0.2), dt=0.05, method=method, allow_mismatch=True, **quiet)
    assert torch.isfinite(allowed.y).all()
    with pytest.raises(ValueError, match="has 4 states, y0 has 2"):
        solve(systems.get("duffing"), torch.ones(2), t=(0.0, 1.0), method=method)
    with pytest.raises(ValueError, match='scaling="none"'):
        solve(system, y0, t=(0.0, 0.25), method=random_corrector(4, scaling="none"))
    with pytest.raises(ValueError, match="other parameters"):
        solve(system, y0, t=(0.0, 1.0), method=random_corrector(4, params_hash="0" * 16, system="kepler"))
    with pytest.raises(ValueError, match="forward time only"):
        step(system, 0.0, y0, -0.1, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(system, y0, t=(0.0, 0.25), method=method, backend="eager")  # no box is known: nothing is out of it


def test_the_power_law_keeps_the_order_of_the_base(random_corrector):
    system = systems.get("kepler")
    y0 = system.sample(2)
    truth = solve(system, y0, t=(0.0, 1.0), method="dop853", rtol=1e-13, atol=1e-13, save="last", backend="eager").y
    method = random_corrector(4, scale=1e-3)
    errors = []
    for dt in (0.02, 0.01, 0.005):
        y = solve(system, y0, t=(0.0, 1.0), dt=dt, method=method, allow_mismatch=True, save="last", backend="eager").y
        errors.append(float((y - truth).norm()))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(4, abs=0.15)
