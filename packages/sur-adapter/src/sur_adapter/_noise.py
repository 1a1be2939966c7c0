"""Noising for training: from clean latents, noise and a uniform draw to the denoiser's input and its target.

A noising is a function of its three arguments alone, so that one seed gives the same training however it is shared
among processes::

    eps    x_t = sqrt(abar_t) x + sqrt(1 - abar_t) e,  target e
    v      the same x_t,                               target sqrt(abar_t) e - sqrt(1 - abar_t) x
    flow   x_s = (1 - s) x + s e,                      target e - x

References:
    - Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models. 2020, arXiv 2006.11239.
    - Salimans, Ho: Progressive Distillation for Fast Sampling of Diffusion Models. 2022, arXiv 2202.00512 (v).
    - Hang et al.: Efficient Diffusion Training via Min-SNR Weighting Strategy. 2023, arXiv 2303.09556.
    - Esser et al.: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis. 2024, arXiv 2403.03206.
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Noised(NamedTuple):
    """What a denoiser is given and asked for.

    Attributes:
        sample: Noisy latents, of the shape of the clean ones.
        timestep: ``(B,)``, in the denoiser's own unit.
        target: What it shall predict.
        weight: ``(B,)``, the weight of each row's squared error.
    """

    sample: Tensor
    timestep: Tensor
    target: Tensor
    weight: Tensor


class Noise(Protocol):
    """A noising."""

    def __call__(self, latents: Tensor, eps: Tensor, u: Tensor) -> Noised:
        """Noise the latents with the normal draw ``eps`` of their shape, at times chosen by ``u`` (B,) in [0, 1)."""


def linear_flow(latents: Tensor, eps: Tensor, u: Tensor) -> Noised:
    """Rectified flow with time in [0, 1]: ``x_u = (1 - u) x + u e``, target ``e - x``.

    Args:
        latents: x, ``(B, ...)``.
        eps: e, of the same shape.
        u: ``(B,)``; it is the time, 1 is noise.

    Returns:
        Sample, time, target and weights of 1.

    Example:
        >>> linear_flow(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25])).sample
        tensor([[0.2500, 0.2500]])
    """
    s = _rows(u.to(latents), latents)
    return Noised((1 - s) * latents + s * eps, u, eps - latents, torch.ones_like(u))


class SchedulerNoise:
    """The noising of a diffusers scheduler, with its prediction type.

    Args:
        scheduler: One with ``alphas_cumprod`` and ``prediction_type`` (``epsilon`` or ``v_prediction``), such as
            ``DDPMScheduler``, or one with ``sigmas`` that flow matching uses, such as
            ``FlowMatchEulerDiscreteScheduler``.
        min_snr: gamma of min-SNR: rows weigh ``min(SNR, gamma) / SNR`` for eps and ``/ (SNR + 1)`` for v; None weighs
            all 1. A flow has no such weight.

    Raises:
        ValueError: The scheduler is of another kind, or min_snr is out of range or does not apply.

    Example:
        >>> from types import SimpleNamespace
        >>> config = SimpleNamespace(prediction_type="sample")
        >>> SchedulerNoise(SimpleNamespace(alphas_cumprod=torch.ones(10), config=config))
        Traceback (most recent call last):
        ...
        ValueError: the scheduler predicts 'sample'; training knows 'epsilon' and 'v_prediction'
    """

    def __init__(self, scheduler: Any, *, min_snr: float | None = None) -> None:
        if min_snr is not None and not 0 < min_snr < math.inf:
            raise ValueError(f"min_snr is {min_snr}; it must be positive and finite, such as 5")
        self.min_snr = min_snr
        self.abar: Tensor | None = getattr(scheduler, "alphas_cumprod", None)
        if self.abar is not None:
            self.prediction = str(scheduler.config.prediction_type)
            if self.prediction not in ("epsilon", "v_prediction"):
                raise ValueError(
                    f"the scheduler predicts {self.prediction!r}; training knows 'epsilon' and 'v_prediction'"
                )
            self.scheduler = scheduler
        elif "FlowMatch" in type(scheduler).__name__:
            if min_snr is not None:
                raise ValueError("min_snr weighs eps and v targets; a flow scheduler has none: leave it out")
            self.prediction = "flow"
            count = int(scheduler.config.num_train_timesteps)
            self.sigmas, self.times = scheduler.sigmas[:count].clone(), scheduler.timesteps[:count].clone()
        else:
            raise ValueError(
                f"{type(scheduler).__name__} has neither alphas_cumprod nor flow-matching sigmas; give the pipeline "
                "a DDPMScheduler or a FlowMatchEulerDiscreteScheduler"
            )

    def __call__(self, latents: Tensor, eps: Tensor, u: Tensor) -> Noised:
        """Noise the latents; see `Noise`."""
        if self.abar is None:
            place = (u * len(self.sigmas)).long().to(self.sigmas.device)
            sigma = self.sigmas[place].to(latents)
            s = _rows(sigma, latents)
            time = self.times[place].to(latents.device)
            return Noised((1 - s) * latents + s * eps, time, eps - latents, torch.ones_like(sigma))
        t = (u * len(self.abar)).long().to(latents.device)
        sample = self.scheduler.add_noise(latents, eps, t)
        v = self.prediction == "v_prediction"
        target = self.scheduler.get_velocity(latents, eps, t) if v else eps
        weight = torch.ones(len(t), device=latents.device)
        if self.min_snr is not None:
            abar = self.abar.to(latents.device)[t].double()
            snr = abar / (1 - abar)
            weight = (snr.clamp(max=self.min_snr) / (snr + 1 if v else snr)).float()
        return Noised(sample, t, target, weight)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
