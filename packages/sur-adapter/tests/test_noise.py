"""Noisings against the closed forms of their papers."""

import diffusers
import pytest
import torch
from sur_adapter._noise import SchedulerNoise, linear_flow

X, E, U = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.tensor([0.0, 0.1, 0.5, 0.9, 0.9999])


def abar():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2  # Stable Diffusion's schedule
    return torch.cumprod(1 - betas, 0)[(U * 1000).long()].view(-1, 1, 1, 1)


def ddpm(**options):
    return diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **options)


def test_eps_and_v():
    a = abar()
    for prediction, target in (("epsilon", E.double()), ("v_prediction", a.sqrt() * E - (1 - a).sqrt() * X)):
        noised = SchedulerNoise(ddpm(prediction_type=prediction))(X, E, U)
        assert noised.timestep.tolist() == [0, 100, 500, 900, 999]
        torch.testing.assert_close(noised.sample.double(), a.sqrt() * X + (1 - a).sqrt() * E, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(noised.target.double(), target, rtol=1e-4, atol=1e-5)
        assert torch.equal(noised.weight, torch.ones(5))


def test_min_snr():
    snr = (abar() / (1 - abar())).flatten()
    for prediction, base in (("epsilon", snr), ("v_prediction", snr + 1)):
        weight = SchedulerNoise(ddpm(prediction_type=prediction), min_snr=5.0)(X, E, U).weight
        torch.testing.assert_close(weight.double(), snr.clamp(max=5) / base, rtol=1e-4, atol=1e-7)
    assert weight[0] < weight[2]  # little noise counts less than more


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    noised = SchedulerNoise(scheduler)(X, E, U)
    s = 1 - (U * 1000).floor() / 1000  # descending from 1
    s = (shift * s / (1 + (shift - 1) * s)).view(-1, 1, 1, 1)
    torch.testing.assert_close(noised.sample, (1 - s) * X + s * E, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(noised.timestep, 1000 * s.flatten(), rtol=1e-4, atol=1e-2)
    assert torch.equal(noised.target, E - X)
    again = SchedulerNoise(scheduler)
    scheduler.set_timesteps(4)  # what sampling does to the pipeline's scheduler changes nothing
    assert torch.equal(again(X, E, U).sample, noised.sample)


def test_linear_flow():
    noised = linear_flow(X, E, U)
    u = U.view(-1, 1, 1, 1)
    assert torch.equal(noised.sample, (1 - u) * X + u * E)
    assert torch.equal(noised.timestep, U)
    assert torch.equal(noised.target, E - X)


def test_other_schedulers_are_refused():
    with pytest.raises(ValueError, match="sample"):
        SchedulerNoise(ddpm(prediction_type="sample"))
    with pytest.raises(ValueError, match="neither"):
        SchedulerNoise(diffusers.EDMEulerScheduler())
    with pytest.raises(ValueError, match="min_snr is 0"):
        SchedulerNoise(ddpm(), min_snr=0)
    with pytest.raises(ValueError, match="leave it out"):
        SchedulerNoise(diffusers.FlowMatchEulerDiscreteScheduler(), min_snr=5)
