"""Draw pictures from a noise predictor by DDIM."""

from typing import Any

import torch
from sail_core.extras import needs
from torch import Tensor, nn

from ._data import Images
from ._diffusion import TIMESTEPS, predict_noise


@torch.no_grad()
def sample(model: nn.Module, like: Images, *, steps: int = 50, seed: int = 0, batch_size: int = 250) -> Tensor:
    """Draw one picture for each row of ``like``.

    Args:
        model: A noise predictor; it is put into eval mode.
        like: Gives number and shape of the pictures and what each is conditioned on; its pixels are not read.
        steps: Steps of DDIM, 1 to 1000.
        seed: Draws the noise that the pictures grow from.
        batch_size: Pictures at a time. It does not change them.

    Returns:
        ``(N, C, H, W)``, float32 in [-1, 1], on the CPU.

    Raises:
        ValueError: ``steps`` is out of range.
        MissingExtra: diffusers is not installed.

    References:
        J. Song, C. Meng, S. Ermon, Denoising Diffusion Implicit Models, 2021, arXiv 2010.02502.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    if not 1 <= steps <= TIMESTEPS:
        raise ValueError(f"steps is {steps}; it must be 1 to {TIMESTEPS}")
    with needs("scalelong", "train"):
        from diffusers import DDIMScheduler
    make: Any = DDIMScheduler
    schedule = make(num_train_timesteps=TIMESTEPS, clip_sample=True, timestep_spacing="trailing")
    schedule.set_timesteps(steps)
    device = next(model.parameters()).device
    model.eval()
    start = torch.randn(like.pixels.shape, generator=torch.Generator().manual_seed(seed))
    drawn = []
    with tqdm(total=len(like) * steps, delay=2, disable=None, unit="step", desc="sampling") as bar:
        for first in range(0, len(like), batch_size):
            rows = slice(first, first + batch_size)
            x, batch = start[rows].to(device), like[rows].to(device)
            for t in schedule.timesteps:
                times = torch.full((len(x),), int(t), device=device)
                x = schedule.step(predict_noise(model, x, times, batch), t, x).prev_sample
                bar.update(len(x))
            drawn.append(x.clamp(-1, 1).float().cpu())
    return torch.cat(drawn)


def picture_grid(pixels: Tensor, *, columns: int) -> Tensor:
    """Lay pictures out row by row, with a line of one pixel between them.

    Args:
        pixels: ``(N, C, H, W)`` in [-1, 1].
        columns: Pictures a row.

    Returns:
        ``(C, rows * (H + 1) - 1, columns * (W + 1) - 1)`` in [-1, 1]; places without a picture are 1.

    Example:
        >>> picture_grid(torch.zeros(3, 1, 8, 8), columns=2).shape
        torch.Size([1, 17, 17])
    """
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    grid = torch.ones(channels, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for index, picture in enumerate(pixels):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        grid[:, top : top + height, left : left + width] = picture
    return grid
