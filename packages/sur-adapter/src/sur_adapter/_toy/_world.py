"""The toy base: a text encoder and a denoiser that have read keyword prompts only, and the pictures they make."""

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from sur_adapter._noise import linear_flow

from ._denoiser import PixelDenoiser
from ._digits import Digits, canvas, tint
from ._prompts import COLOURS, complex_count, complex_prompt, vocabulary
from ._text import TextEncoder, Tokenizer

Kind = Literal["digits", "counting"]


@dataclass(frozen=True)
class World:
    """A base model: "digits" makes tinted digits on 8 x 8 pixels, "counting" one to four digits on 16 x 16."""

    kind: Kind
    tokenizer: Tokenizer
    encoder: TextEncoder
    denoiser: PixelDenoiser

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.encoder.positions.device

    def encode(self, texts: list[str]) -> Tensor:
        """States (B, N, d) of prompts, without gradient."""
        with torch.no_grad():
            return self.encoder(self.tokenizer(texts).to(self.device))  # type: ignore[no-any-return]

    def freeze(self) -> Self:
        """Put it into eval mode and take its gradients away."""
        self.encoder.eval().requires_grad_(False)
        self.denoiser.eval().requires_grad_(False)
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return (3, 8, 8) if self.kind == "digits" else (1, 16, 16)


def untrained(kind: Kind, *, width: int = 64, device: torch.device | str = "cpu") -> World:
    """A world before its training, with the same weights on every device."""
    tokenizer = Tokenizer(vocabulary())
    encoder = TextEncoder(len(tokenizer), width=width)
    size = {"channels": 3, "size": 8, "patch": 4} if kind == "digits" else {"channels": 1, "size": 16, "patch": 4}
    return World(kind, tokenizer, encoder.to(device), PixelDenoiser(**size, text_width=width).to(device))


def pictures(kind: Kind, digits: Digits, target: Tensor, colour: Tensor, generator: torch.Generator) -> Tensor:
    """Real pictures for targets (digit, or count less one) and colours."""
    if kind == "counting":
        return canvas(digits, target + 1, generator)
    return tint(digits.pick(target, generator), colour)


def train_base(
    kind: Kind,
    digits: Digits,
    *,
    steps: int,
    seed: int,
    batch: int = 64,
    learning_rate: float = 2e-3,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> World:
    """Train encoder and denoiser together on keyword prompts by flow matching, then freeze them."""
    torch.manual_seed(seed)
    world = untrained(kind, device=device)
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    models = nn.ModuleList([world.encoder, world.denoiser])
    optimizer = torch.optim.AdamW(models.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    bar = tqdm(range(steps), desc=f"base, {kind}", disable=None if progress else True, leave=False)
    for _ in bar:
        target = torch.randint(10 if kind == "digits" else 4, (batch,), generator=generator)
        colour = torch.randint(len(COLOURS), (batch,), generator=generator)
        if kind == "digits":
            texts = [complex_prompt(a, b, draw) for a, b in zip(target.tolist(), colour.tolist(), strict=True)]
        else:
            texts = [complex_count(a + 1, draw) for a in target.tolist()]
        texts = ["" if draw.random() < 0.1 else text for text in texts]  # for guidance
        clean = pictures(kind, digits, target, colour, generator)
        noise = torch.randn(clean.shape, generator=generator)
        noised = linear_flow(
            clean.to(device), noise.to(device), late(torch.rand(batch, generator=generator)).to(device)
        )
        flow = world.denoiser(noised.sample, noised.timestep, world.encoder(world.tokenizer(texts).to(device)))
        loss = nn.functional.mse_loss(flow, noised.target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return world.freeze()


def late(u: Tensor, *, shift: float = 3.0) -> Tensor:
    """Move uniform times toward noise, where it is decided which digit appears."""
    return shift * u / (1 + (shift - 1) * u)


@torch.no_grad()
def sample(world: World, states: Tensor, *, seed: int, steps: int = 12, guidance: float = 2.0) -> Tensor:
    """Make a picture for each row of text states, by Euler steps from noise that the seed and the row decide."""
    found = []
    times = torch.linspace(1, 0, steps + 1).tolist()
    for start in range(0, len(states), 256):
        part = states[start : start + 256]
        generator = torch.Generator().manual_seed(1_000_003 * seed + start)
        x = torch.randn(len(part), *world.shape, generator=generator).to(world.device)
        both = torch.cat([world.encode([""]).expand_as(part), part])
        for time, after in pairwise(times):
            now = torch.full((2 * len(part),), time, device=world.device)
            without, told = world.denoiser(x.repeat(2, 1, 1, 1), now, both).chunk(2)
            x = x + (after - time) * torch.lerp(without, told, guidance)
        found.append(x.cpu())
    return torch.cat(found).clamp(-1, 1)
