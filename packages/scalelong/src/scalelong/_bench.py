"""What scaling costs a training step on the user's machine."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ._attach import attach
from ._build import ModelConfig, build
from ._data import Images
from ._diffusion import TIMESTEPS, noise_loss, noise_schedule


def step_rows(
    model: Literal["uvit", "unet"], size: int, batch_size: int, device: Literal["cpu", "cuda"], seconds: float
) -> list[dict[str, Any]]:
    """Time forward and backward of a plain network, of an identical copy, and of one with attached constants.

    The copy is the control: what it differs by is noise. The constants are 1, so that all three must agree.

    Args:
        model: Which network, of width 64.
        size: Side of the pictures.
        batch_size: Pictures a step.
        device: Where.
        seconds: For each network.

    Returns:
        Rows as ``sail_core.bench`` writes them.
    """
    from sail_core.bench import compare

    from . import __version__

    shape = (batch_size, 3, size, size)
    config = ModelConfig(model=model, scaling="org", channels=(64, 128))
    plain = build(config, Images(pixels=torch.zeros(shape)), seed=0).to(device)
    scaled = copy.deepcopy(plain)
    attach(scaled, "cs", kappa=1.0, mutable=True)  # a fixed 1 would be skipped, not multiplied
    schedule = noise_schedule()

    def inputs(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        pixels, noise = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        return [pixels, noise, torch.randint(0, TIMESTEPS, (batch_size,), generator=generator).to(device)]

    def step(net: nn.Module) -> Any:
        def run(pixels: Tensor, noise: Tensor, t: Tensor) -> list[Tensor]:
            loss = noise_loss(net, Images(pixels=pixels), t, noise, schedule)
            first, *_ = torch.autograd.grad(loss, list(net.parameters()))
            return [loss.detach(), first]

        return run

    return compare(
        f"{model} step",
        {"scalelong": step(scaled), "plain": step(plain), "plain_copy": step(copy.deepcopy(plain))},
        inputs,
        reference=step(plain),
        tolerance=1e-4,
        mode="fwdbwd",
        shape=shape,
        dtype="float32",
        layout="nchw",
        device=device,
        versions={"scalelong": __version__},
        seconds=seconds,
    )
