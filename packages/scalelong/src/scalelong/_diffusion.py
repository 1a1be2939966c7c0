"""Noise prediction: how pictures are noised, what a model predicts of it, and a probe that never changes."""

from typing import Any

import torch
import torch.nn.functional as F
from sail_core.extras import needs
from torch import Tensor, nn

from ._data import Images

TIMESTEPS = 1000


def noise_schedule() -> Any:
    """Return the linear schedule of DDPM, as diffusers' ``DDPMScheduler``: beta from 1e-4 to 0.02 in 1000 steps.

    Raises:
        MissingExtra: diffusers is not installed.

    References:
        J. Ho, A. Jain, P. Abbeel, Denoising Diffusion Probabilistic Models, 2020, arXiv 2006.11239.
    """
    with needs("scalelong", "train"):
        from diffusers import DDPMScheduler
    make: Any = DDPMScheduler
    return make(num_train_timesteps=TIMESTEPS, clip_sample=False)


def predict_noise(model: nn.Module, noisy: Tensor, t: Tensor, images: Images) -> Tensor:
    """Return a model's prediction, whatever its face: ``UViT``, or a diffusers UNet that answers with ``.sample``.

    Args:
        model: The network.
        noisy: ``(B, C, H, W)``.
        t: ``(B,)``, int64 in 0..999.
        images: What the batch is conditioned on; its pixels are not read.

    Returns:
        ``(B, C, H, W)``.
    """
    if hasattr(model, "patch_embed"):
        out = model(noisy, t, y=images.labels, context=images.context)
    elif images.labels is None:
        out = model(noisy, t)
    else:
        out = model(noisy, t, class_labels=images.labels)
    return out if isinstance(out, Tensor) else out.sample


def noise_loss(model: nn.Module, images: Images, t: Tensor, noise: Tensor, schedule: Any) -> Tensor:
    """Return ``mean |noise - model(x_t, t)|^2`` with ``x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise``.

    Args:
        model: The network.
        images: Pixels ``(B, C, H, W)`` in [-1, 1], and the conditioning.
        t: ``(B,)``, int64 in 0..999.
        noise: Of the pixels' shape.
        schedule: From `noise_schedule`.

    Returns:
        A scalar, in float32.
    """
    noisy = schedule.add_noise(images.pixels, noise, t)
    return F.mse_loss(predict_noise(model, noisy, t, images).float(), noise.float())


class Probe:
    """The loss on held-out pictures with fixed times and noise: a series of it holds no sampling noise.

    Args:
        images: Held-out pictures.
        schedule: From `noise_schedule`.
        size: Pictures in the probe, at most those there are.
        seed: Draws times and noise.
    """

    def __init__(self, images: Images, schedule: Any, *, size: int = 128, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = images[slice(0, size)]
        count = len(self.images)
        self.t = torch.linspace(0, TIMESTEPS - 1, count).round().long()[torch.randperm(count, generator=generator)]
        self.noise = torch.randn(self.images.pixels.shape, generator=generator)
        self.schedule = schedule

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> float:
        """Return the loss; the model's mode is kept."""
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        loss = noise_loss(model, self.images.to(device), self.t.to(device), self.noise.to(device), self.schedule)
        model.train(training)
        return float(loss)
