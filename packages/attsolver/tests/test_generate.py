import numpy as np
import pytest
import torch
from attsolver import TrajectoryData, generate, step, systems

integrate = pytest.importorskip("scipy.integrate")


def test_trajectories_are_those_of_an_independent_solver():
    system = systems.get("lotka_volterra")
    data = generate(system, 2, 20, 0.1, seed=5)
    assert data.y.shape == (2, 21, 2)
    assert data.y.dtype == torch.float64
    for y in data.y:
        truth = integrate.solve_ivp(
            lambda t, x: [x[0] - x[0] * x[1], x[0] * x[1] - x[1]], (0, 2), y[0].numpy(), method="DOP853",
            rtol=1e-12, atol=1e-12, t_eval=data.t.numpy(),
        )  # fmt: skip
        np.testing.assert_allclose(y.numpy(), truth.y.T, rtol=1e-9, atol=1e-9)


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    system = systems.get("lotka_volterra")
    one, two, other = (generate(system, 3, 4, 0.1, seed=seed, noise=0.3).y for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_noise_is_in_units_of_the_local_error():
    system = systems.get("lotka_volterra")
    data = generate(system, 300, 10, 0.2, noise=0.3, seed=0)
    local = torch.stack([data.clean[:, i + 1] - step(system, 0.0, data.clean[:, i], 0.2) for i in range(10)], 1)
    noise = data.y - data.clean
    assert not noise[:, 0].any()
    torch.testing.assert_close(noise[:, 1:].std((0, 1)), 0.3 * local.std((0, 1)), rtol=0.05, atol=0.0)


def test_saving_and_loading(tmp_path):
    system = systems.get("lotka_volterra")
    data = generate(system, 2, 3, 0.1, params={"alpha": torch.tensor([1.0, 1.1])}, noise=0.1)
    data.save(tmp_path / "data.npz")
    again = TrajectoryData.load(tmp_path / "data.npz")
    assert torch.equal(again.y, data.y)
    assert torch.equal(again.clean, data.clean)
    assert torch.equal(again.t, data.t)
    assert (again.system, again.dt, again.noise, again.seed) == ("lotka_volterra", 0.1, 0.1, 0)
    assert torch.equal(again.params["alpha"].double(), torch.tensor([1.0, 1.1]).double())
    assert again.params["beta"] == 1.0
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="does not hold trajectories"):
        TrajectoryData.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match="does not hold trajectories"):
        TrajectoryData.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        TrajectoryData.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_traj": 0}, "at least 1"),
        ({"steps": 0}, "at least 1"),
        ({"noise": -1.0}, "noise"),
        ({"y0": torch.ones(3, 2)}, "shape"),
    ],
)
def test_bad_counts(change, message):
    with pytest.raises(ValueError, match=message):
        generate(systems.get("lotka_volterra"), **({"n_traj": 2, "steps": 2, "dt": 0.1} | change))
