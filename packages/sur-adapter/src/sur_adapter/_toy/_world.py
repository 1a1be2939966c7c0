"""The toy base: a text encoder and a denoiser that have read keyword prompts only, and the pictures they make."""

import random
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

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

    def encode(self, texts: list[str]) -> Tensor:
        """States (B, N, d) of prompts, without gradient."""
        with torch.no_grad():
            return self.encoder(self.tokenizer(texts))  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return (3, 8, 8) if self.kind == "digits" else (1, 16, 16)


def untrained(kind: Kind, *, width: int = 64) -> World:
    """A world before its training."""
    tokenizer = Tokenizer(vocabulary())
    encoder = TextEncoder(len(tokenizer), width=width)
    size = {"channels": 3, "size": 8, "patch": 4} if kind == "digits" else {"channels": 1, "size": 16, "patch": 4}
    return World(kind, tokenizer, encoder, PixelDenoiser(**size, text_width=width))


def pictures(kind: Kind, digits: Digits, target: Tensor, colour: Tensor, generator: torch.Generator) -> Tensor:
    """Real pictures for targets (digit, or count less one) and colours."""
    if kind == "counting":
        return canvas(digits, target + 1, generator)
    return tint(digits.pick(target, generator), colour)


def train_base(
    kind: Kind, digits: Digits, *, steps: int, seed: int, batch: int = 64, learning_rate: float = 2e-3
) -> World:
    """Train encoder and denoiser together on keyword prompts by flow matching, then freeze them."""
    torch.manual_seed(seed)
    world = untrained(kind)
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    models = nn.ModuleList([world.encoder, world.denoiser])
    optimizer = torch.optim.AdamW(models.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    for _ in tqdm(range(steps), desc=f"base, {kind}", disable=None, leave=False):
        target = torch.randint(10 if kind == "digits" else 4, (batch,), generator=generator)
        colour = torch.randint(len(COLOURS), (batch,), generator=generator)
        if kind == "digits":
            texts = [complex_prompt(a, b, draw) for a, b in zip(target.tolist(), colour.tolist(), strict=True)]
        else:
            texts = [complex_count(a + 1, draw) for a in target.tolist()]
        texts = ["" if draw.random() < 0.1 else text for text in texts]
        clean = pictures(kind, digits, target, colour, generator)
        noise = torch.randn(clean.shape, generator=generator)
        time = late(torch.rand(batch, generator=generator))
        noisy = torch.lerp(clean, noise, time[:, None, None, None])
        flow = world.denoiser(noisy, time, world.encoder(world.tokenizer(texts)))
        loss = nn.functional.mse_loss(flow, noise - clean)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    models.eval().requires_grad_(False)
    return world


def late(u: Tensor, *, shift: float = 3.0) -> Tensor:
    """Move uniform times toward noise, where it is decided which digit appears."""
    return shift * u / (1 + (shift - 1) * u)


@torch.no_grad()
def sample(world: World, states: Tensor, *, seed: int, steps: int = 12, guidance: float = 2.0) -> Tensor:
    """Make one picture for each row of text states, with noise that depends on the seed and the row alone."""
    found = []
    for start in range(0, len(states), 256):
        part = states[start : start + 256]
        generator = torch.Generator().manual_seed(1_000_003 * seed + start)
        x = torch.randn(len(part), *world.shape, generator=generator)
        both = torch.cat([world.encode([""]).expand_as(part), part])
        for time, after in zip(*(lambda t: (t[:-1], t[1:]))(torch.linspace(1, 0, steps + 1)), strict=True):
            without, with_text = world.denoiser(x.repeat(2, 1, 1, 1), time.expand(2 * len(part)), both).chunk(2)
            x = x + (after - time) * torch.lerp(without, with_text, guidance)
        found.append(x)
    return torch.cat(found).clamp(-1, 1)
