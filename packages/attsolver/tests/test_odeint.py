import math

import pytest
import torch
from attsolver import SolverError, odeint, systems

theirs = pytest.importorskip("torchdiffeq")


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, t, y):
        return torch.stack([y[..., 1], -self.rate * torch.sin(y[..., 0]) + 0.1 * torch.cos(t)], -1)


Y0 = torch.tensor([[1.0, 0.2], [0.3, -0.5]], dtype=torch.float64)
TIMES = torch.tensor([0.0, 0.3, 0.8, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2", "rk4", "dopri5", None])
@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)], ids=["forward", "backward"])
def test_the_methods_equal_torchdiffeqs(method, times):
    field = Field()
    ours, other = (solve(field, Y0, times, method=method) for solve in (odeint, theirs.odeint))
    torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["heun3", "bosh3", "dopri8"])
def test_methods_that_are_torchdiffeqs_alone_are_passed_on(method):
    field = Field()
    assert torch.equal(odeint(field, Y0, TIMES, method=method), theirs.odeint(field, Y0, TIMES, method=method))


@pytest.mark.parametrize(
    "options",
    [
        {"step_size": 0.07},
        {"step_size": 0.07, "interp": "cubic"},
        {"grid_constructor": lambda f, y, t: torch.linspace(0, 2, 9).to(t)},
    ],
)
def test_the_options_of_fixed_steps_are_torchdiffeqs(options):
    field = Field()
    ours, other = (solve(field, Y0, TIMES, method="rk4", options=dict(options)) for solve in (odeint, theirs.odeint))
    torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_gradients_to_states_times_and_parameters_equal_torchdiffeqs(method):
    grads = []
    for solve in (odeint, theirs.odeint):
        field, y0, t = Field(), Y0.clone().requires_grad_(), TIMES.clone().requires_grad_()
        solve(field, y0, t, method=method)[1:].square().sum().backward()
        grads.append((y0.grad, t.grad, field.rate.grad))
    for ours, other in zip(*grads, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


def test_tuples_of_tensors():
    def func(t, state):
        a, b = state
        return -a, b.sum() * torch.ones_like(b) * 0.1

    y0 = (torch.ones(2, 3, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    for method in ("rk4", "dopri5"):
        ours, other = (solve(func, y0, TIMES, method=method) for solve in (odeint, theirs.odeint))
        for a, b in zip(ours, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("method", "options"), [("dopri5", None), ("rk4", {"step_size": 0.05, "interp": "cubic"})])
def test_the_time_of_an_event_and_its_gradient(method, options):
    def fall(t, state):
        return torch.stack([state[1], torch.full_like(state[1], -9.81)])

    height = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    y0 = torch.stack([height, torch.zeros_like(height)])
    start = torch.tensor(0.0, dtype=torch.float64)
    event_t, states = theirs.odeint_event(
        fall, y0, start, event_fn=lambda t, y: y[0], odeint_interface=odeint, method=method, options=options, atol=1e-9
    )
    assert float(event_t.detach()) == pytest.approx(math.sqrt(20 / 9.81), abs=1e-7)
    assert states.shape == (2, 2)
    assert abs(float(states[-1, 0].detach())) < 1e-6
    event_t.backward()
    assert float(height.grad) == pytest.approx(1 / math.sqrt(20 * 9.81), rel=1e-5)


def test_events_backward_in_time_of_several_functions_and_without_end():
    field = lambda t, y: torch.ones_like(y)  # noqa: E731
    y0, span = torch.zeros(1, dtype=torch.float64), torch.tensor([0.0, -1.0], dtype=torch.float64)
    event_t, _ = odeint(field, y0, span, event_fn=lambda t, y: torch.stack([y[0] + 3, y[0] + 2]))
    assert float(event_t) == pytest.approx(-2, abs=1e-7)
    with pytest.raises(SolverError, match="did not change its sign"):
        odeint(field, y0, span, method="euler", options={"step_size": 0.1}, event_fn=lambda t, y: y[0] * 0 + 1)
    with pytest.raises(ValueError, match="step_size"):
        odeint(field, y0, span, method="euler", event_fn=lambda t, y: y[0] + 1)


def test_a_system_runs_on_the_native_engine_with_the_same_result():
    pytest.importorskip("numba")
    system = systems.get("kepler")
    y0 = system.sample(3)
    field = lambda t, y: system.rhs(t, y)  # noqa: E731
    for method in ("rk4", "dopri5"):
        torch.testing.assert_close(
            odeint(system, y0, TIMES, method=method), odeint(field, y0, TIMES, method=method), rtol=1e-6, atol=1e-6
        )


def test_a_corrected_method(random_corrector):
    system = systems.get("kepler")
    y0, method = system.sample(2), random_corrector(4)
    times = torch.tensor([0.0, 0.1, 0.2, 0.25], dtype=torch.float64)
    from attsolver import solve

    expected = solve(system, y0, t=times, method=method, out_of_domain="ignore", backend="eager").y
    field = lambda t, y: system.rhs(t, y)  # noqa: E731
    torch.testing.assert_close(odeint(field, y0, times, method=method).movedim(0, 1), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="forward time"):
        odeint(field, y0, times.flip(0), method=method)
    with pytest.raises(ValueError, match="not as a tuple"):
        odeint(field, (y0,), times, method=method)
    with pytest.raises(ValueError, match=r"a step of 0\.2"):
        odeint(field, y0, TIMES, method=method, options={"step_size": 0.2})
    with pytest.raises(ValueError, match="y0 has 2"):
        odeint(field, Y0, times, method=method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "rk45"}, "there is no method"),
        ({"method": "rk4", "options": {"stepsize": 1}}, "knows the options"),
        ({"options": {"norm": None}}, "knows the options"),
        ({"method": "rk4", "options": {"interp": "spline"}}, "linear or cubic"),
        ({"method": "rk4", "options": {"step_size": 0.1, "grid_constructor": lambda f, y, t: t}}, "exclude"),
        ({"method": "rk4", "options": {"step_size": -0.1}}, "must be positive"),
        ({"t": torch.tensor([0.0, 1.0, 0.5])}, "rise or fall"),
        ({"t": torch.tensor([0, 1])}, "floating-point"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        odeint(lambda t, y: -y, Y0, arguments.pop("t", TIMES), **arguments)


def test_a_singularity_ends_in_an_error():
    with pytest.raises(SolverError, match="step too small"):
        odeint(lambda t, y: y * y, torch.tensor([1.0], dtype=torch.float64), torch.tensor([0.0, 2.0]))
