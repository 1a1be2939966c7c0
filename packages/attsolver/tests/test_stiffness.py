import pytest
import torch
from attsolver._stiffness import spectral_radius, stability_interval
from attsolver._tableaus import TABLEAUS


@pytest.mark.parametrize("seed", range(4))
def test_radius_against_eigenvalues(seed):
    a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected = float(torch.linalg.eigvals(a).abs().max())
    found = spectral_radius(lambda u: u @ a.T, torch.ones(1, 6, dtype=torch.float64), iterations=400)
    assert found == pytest.approx(expected, rel=0.05)


def test_no_motion_has_no_radius():
    assert spectral_radius(torch.zeros_like, torch.ones(2, 3, dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize(
    ("name", "limit"),
    [("euler", 2.0), ("midpoint", 2.0), ("heun", 2.0), ("rk3", 2.5127), ("rk4", 2.7853), ("rk4_classic", 2.7853)],
)
def test_intervals_of_the_books(name, limit):
    assert stability_interval(TABLEAUS[name]) == pytest.approx(limit, abs=0.011)
