import math

import numpy as np
import pytest
import torch
from attsolver import rhs, solve, systems


def elastic_pendulum(y, p):
    th, r, w, v = y
    return [
        w,
        v,
        -(p["g"] * math.sin(th) + 2 * v * w) / r,
        r * w**2 + p["g"] * math.cos(th) - p["k"] / p["m"] * (r - p["l0"]),
    ]


def henon_heiles(y, p):
    px, py, a, b = y
    return [-a - 2 * a * b, -b - a**2 + b**2, px, py]


def lorenz63(y, p):
    a, b, c = y
    return [10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c]


def lorenz96(y, p):
    y = np.asarray(y)
    return (np.roll(y, -1) - np.roll(y, 2)) * np.roll(y, 1) - y + 8


def van_der_pol(y, p):
    return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]


def duffing(y, p):
    return [y[1], 0.37 * math.cos(1.2 * 0.7) - 0.3 * y[1] + y[0] - y[0] ** 3]


def kepler(y, p):
    q = np.asarray(y[:2])
    return [*y[2:], *(-q / np.linalg.norm(q) ** 3)]


def lotka_volterra(y, p):
    return [y[0] - y[0] * y[1], y[0] * y[1] - y[1]]


def double_well(y, p):
    return [y[1], y[0] - y[0] ** 3]


def spring_chain(y, p):
    n = len(y) // 2
    momentum, q = np.asarray(y[:n]), np.asarray(y[n:])
    k, mass = np.asarray(p["k"]), np.asarray(p["m"])
    stiffness = np.diag(k[:-1] + k[1:]) - np.diag(k[1:-1], 1) - np.diag(k[1:-1], -1)
    return np.concatenate([-stiffness @ q, momentum / mass])


def klink_pendulum(y, p):
    n = len(y) // 2
    th, w = np.asarray(y[:n]), np.asarray(y[n:])
    i = np.arange(1, n + 1)
    c = n + 1 - np.maximum(i[:, None], i)
    difference = th[:, None] - th
    right = -p["g"] / p["l"] * (n - i + 1) * np.sin(th) - (c * np.sin(difference)) @ w**2
    return np.concatenate([w, np.linalg.solve(c * np.cos(difference), right)])


def n_body(y, p):
    n = len(y) // 4
    q, v = np.asarray(y[: 2 * n]).reshape(n, 2), y[2 * n :]
    pull = np.zeros((n, 2))
    for i in range(n):
        for j in range(n):
            if i != j:
                r = q[j] - q[i]
                pull[i] += p["G"] * p["mass"] * r / (r @ r + p["softening"] ** 2) ** 1.5
    return np.concatenate([v, pull.ravel()])


def neural(y, p):
    hidden = len(p["b1"])
    w1, w2 = np.reshape(p["w1"], (hidden, 4)), np.reshape(p["w2"], (4, hidden))
    return -p["decay"] * np.asarray(y) + w2 @ np.tanh(w1 @ np.asarray(y) + np.asarray(p["b1"]))


@pytest.mark.parametrize("name", systems.names())
def test_every_right_hand_side_equals_its_formula(name):
    system = systems.get(name)
    states = system.sample(20, generator=torch.Generator().manual_seed(3))
    states = states + 0.1 * torch.randn(states.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = np.array([globals()[name](y, system.params) for y in states.tolist()])
    np.testing.assert_allclose(system.rhs(0.7, states).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert len(system.units) == system.dim == states.shape[1]
    assert set(system.param_units) == set(system.params)


@pytest.mark.parametrize("name", [n for n in systems.names() if systems.get(n).invariants])
def test_invariants_are_constant_along_a_reference_trajectory(name):
    system = systems.get(name)
    arguments = {"method": "dop853", "rtol": 1e-12, "atol": 1e-12, "backend": "eager"}
    y = solve(system, system.sample(2), t=torch.tensor([0.0, 3.0, 6.0]) * system.dt, **arguments).y
    for invariant in system.invariants:
        value = system.invariant(invariant, y)
        assert float((value - value[:, :1]).abs().max()) < 1e-9 * (1 + float(value.abs().max()))
        moved = system.invariant(invariant, y * 1.01)
        assert float((moved - value).abs().max()) > 1e-5


@pytest.mark.parametrize("name", ["elastic_pendulum", "klink_pendulum", "n_body", "spring_chain"])
def test_energies_by_hand(name):
    system = systems.get(name)
    y = system.sample(1)[0].numpy() + 0.05
    p = system.params
    if name == "elastic_pendulum":
        th, r, w, v = y
        expected = 0.5 * (v**2 + (r * w) ** 2) + 20 * (r - 10) ** 2 - 9.81 * r * np.cos(th)
    elif name == "klink_pendulum":
        th, w = y[:4], y[4:]
        points = np.cumsum(np.stack([np.sin(th), -np.cos(th)]), axis=1)
        speeds = np.cumsum(np.stack([w * np.cos(th), w * np.sin(th)]), axis=1)
        expected = 0.5 * (speeds**2).sum() + 9.8 * points[1].sum()
    elif name == "n_body":
        q, v = y[:16].reshape(8, 2), y[16:]
        gap = np.sqrt(((q[:, None] - q) ** 2).sum(-1) + 0.01)
        expected = 0.5 / 8 * (v**2).sum() - (1 / 64) * (1 / gap)[np.triu_indices(8, 1)].sum()
    else:
        q = np.concatenate([[0.0], y[20:], [0.0]])
        expected = 0.5 * (y[:20] ** 2 / np.array(p["m"])).sum() + 0.5 * (np.array(p["k"]) * np.diff(q) ** 2).sum()
    assert float(system.energy(torch.tensor(y))) == pytest.approx(expected, rel=1e-12)


def test_the_laws_of_the_initial_states():
    many = 400
    y = systems.get("henon_heiles").sample(many)
    energy = systems.get("henon_heiles").energy(y)
    assert float(energy.min()) >= 1 / 12
    assert float(energy.max()) < 1 / 6
    y = systems.get("elastic_pendulum").sample(many)
    assert float(y[:, 0].abs().max()) <= math.pi / 4
    assert 9.5 <= float(y[:, 1].min()) <= float(y[:, 1].max()) <= 11.5
    y = systems.get("spring_chain").sample(many)
    assert bool((y[:, [0, 19, 20, 39]] == 0).all())
    assert 2.4 < float(y.max()) <= 2.5
    chain = systems.get("spring_chain").params
    assert len(chain["k"]) == 21
    assert min(chain["k"]) >= 1
    assert min(chain["m"]) >= 0.2
    momentum = systems.get("n_body").sample(many)[:, 16:].reshape(many, 8, 2).sum(1)
    assert float(momentum.abs().max()) < 1e-12


def test_samples_repeat_with_their_seed():
    system = systems.get("kepler")
    first, second = (system.sample(5, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, system.sample(5))
    assert system.sample(2, dtype=torch.float32).dtype == torch.float32


def test_sizes_names_and_what_is_refused():
    assert systems.get("klink_pendulum", size=2).dim == 4
    assert systems.get("kepler") is systems.get("kepler")
    with pytest.raises(ValueError, match="no system 'pendel'"):
        systems.get("pendel")
    with pytest.raises(ValueError, match="has no size"):
        systems.get("kepler", size=3)
    with pytest.raises(ValueError, match="at least 3 masses"):
        systems.get("spring_chain", size=2)
    with pytest.raises(ValueError, match="n must be at least 1"):
        systems.get("kepler").sample(0)
    with pytest.raises(ValueError, match="no invariant 'energy'"):
        systems.get("lorenz63").energy(torch.zeros(3))


def test_parameters_of_a_right_hand_side():
    system = systems.get("van_der_pol")
    y = torch.tensor([[0.5, 2.0], [0.5, 2.0]], dtype=torch.float64)
    own = system.rhs(0.0, y, {"mu": torch.tensor([1.0, 3.0])})
    assert own[:, 1].tolist() == [1 * 0.75 * 2 - 0.5, 3 * 0.75 * 2 - 0.5]
    with pytest.raises(ValueError, match=r"no parameter \['nu'\]"):
        system.rhs(0.0, y, {"nu": 1.0})
    with pytest.raises(ValueError, match="not finite"):
        system.rhs(0.0, y, {"mu": math.nan})
    with pytest.raises(ValueError, match="3 trajectories"):
        system.rhs(0.0, y, {"mu": torch.ones(3)})
    with pytest.raises(ValueError, match="has shape"):
        systems.get("spring_chain").rhs(0.0, systems.get("spring_chain").sample(2), {"k": torch.ones(3)})


def test_a_right_hand_side_that_branches_or_miscounts_is_refused_when_traced():
    @rhs
    def branching(t, x, p, m):
        return (x[0] if x[0] > 0 else -x[0],)

    with pytest.raises(TypeError, match="may not branch"):
        branching.graph(1)

    @rhs
    def short(t, x, p, m):
        return (x[0],)

    with pytest.raises(ValueError, match="2 components"):
        solve(short, torch.ones(2), t=(0.0, 1.0), dt=0.1, backend="native")

    @rhs
    def unknown(t, x, p, m):
        return (m.gamma(x[0]),)

    with pytest.raises(AttributeError, match=r"m\.gamma"):
        unknown.graph(1)
