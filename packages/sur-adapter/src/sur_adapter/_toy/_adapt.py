"""Train an adapter for a toy base with the package's own training step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from sur_adapter._adapter import SURAdapter
from sur_adapter._noise import linear_flow
from sur_adapter._projector import TeacherProjector
from sur_adapter._step import Step, Weights
from sur_adapter._student import Batch, Student
from sur_adapter.functional import Mixing
from sur_adapter.losses import Match

from ._digits import Digits
from ._prompts import Prompt
from ._world import World, late, pictures

_SLOT = "text_encoder"


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """How an adapter of the toy world is trained; the defaults were chosen on tuning prompts and tuning seeds."""

    steps: int = 600
    batch: int = 64
    learning_rate: float = 5e-3
    shift: float = 8.0
    depth: int = 1
    heads: int = 4
    ff_dim: int = 128
    mixing: Mixing = "tokens"
    prompt_match: Match = "kl"
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Adapted:
    """A trained adapter and its losses by name, one value a step."""

    adapter: SURAdapter
    curves: Mapping[str, list[float]]


def adapt(
    world: World,
    digits: Digits,
    prompts: list[Prompt],
    config: AdaptConfig,
    *,
    seed: int,
    teacher: Tensor | None = None,
    label: str = "adapter",
    progress: bool = True,
) -> Adapted:
    """Train an adapter on pairs of narrative and keyword prompts with real pictures.

    Args:
        world: The frozen base.
        digits: Real digits to draw pictures from.
        prompts: Training prompts.
        config: The training.
        seed: Of everything that is drawn.
        teacher: Vectors of the narrative prompts ``(len(prompts), dim)``; None trains without a teacher.
        label: Of the progress bar.
        progress: Whether to draw it, on a terminal.

    Returns:
        The adapter in eval mode, and the losses.
    """
    torch.manual_seed(seed)
    narrative = world.encode([one.narrative for one in prompts])
    keywords = world.encode([one.complex for one in prompts])
    target = torch.tensor([one.digit for one in prompts])
    colour = torch.tensor([one.colour for one in prompts])
    adapter = SURAdapter(
        narrative.shape[-1],
        depth=config.depth,
        num_heads=config.heads,
        ff_dim=config.ff_dim,
        scale=1.0,
        mixing=config.mixing,
    ).to(world.device)
    projectors, weights = None, replace(config.weights, teacher=0.0)
    if teacher is not None and config.weights.teacher:
        weights = config.weights
        teacher = teacher.to(world.device)
        projectors = {_SLOT: TeacherProjector(teacher.shape[1], adapter.width, device=world.device)}
        projectors[_SLOT].standardise(teacher)
    student = Student({_SLOT: adapter}, projectors)
    step = Step(
        lambda noisy, time, states, extra: world.denoiser(noisy, time, states[_SLOT]),
        linear_flow,
        weights=weights,
        prompt_match=config.prompt_match,
    )
    trained = [one for one in student.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    curves: dict[str, list[float]] = {}
    for _ in tqdm(range(config.steps), desc=label, disable=None if progress else True, leave=False):
        rows = torch.randint(len(prompts), (config.batch,), generator=generator)
        clean = pictures(world.kind, digits, target[rows], colour[rows], generator)
        noise = torch.randn(clean.shape, generator=generator)
        time = late(torch.rand(config.batch, generator=generator), shift=config.shift)
        batch = Batch(
            latents=clean.to(world.device),
            narrative={_SLOT: narrative[rows]},
            complex={_SLOT: keywords[rows]},
            teacher=None if projectors is None or teacher is None else teacher[rows],
        )
        losses = step(student, batch, time.to(world.device), noise.to(world.device))
        optimizer.zero_grad()
        torch.autograd.backward(losses["loss"])
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        for name, value in losses.items():
            curves.setdefault(name, []).append(float(value.detach()))
    return Adapted(adapter.eval().requires_grad_(False), curves)
