"""One step of training: the losses of a batch over any frozen denoiser.

``L = w_d MSE(denoise(x_t, t, y), target) + w_p D(complex, y) + w_t D(teacher, h) + w_s P(complex, y')``

y is the adapted narrative prompt, h the adapter's encoder state, y' the adapted complex prompt, D a `losses.match`
and P `losses.preservation`. Slots without an adapter reach the denoiser as they are.

Differences from the authors' code:
    - The diffusion loss reaches the adapter. Theirs copies the states (``torch.tensor(...)``) before the denoiser, so
      that no gradient passes; ``detach_diffusion`` does the same, for comparison.
    - The last term, preservation, is ours: complex prompts, which work already, stay what they are.
    - D is KL(target || student), the mean over tokens; theirs is KL(student || target), a sum over tokens.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._noise import Noise
from ._student import Adapted, Batch, States
from .losses import Direction, Match, Reduction, match, preservation

Denoise = Callable[[Tensor, Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weight of each loss; a term of weight 0 is not computed."""

    diffusion: float = 1.0
    prompt: float = 0.1
    teacher: float = 0.1
    preservation: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the weight of the {name} loss is {value}; it must be finite and at least 0")
        if not self.diffusion + self.prompt + self.preservation > 0:
            raise ValueError("no loss reaches the adapter's output: give diffusion, prompt or preservation a weight")


class Step:
    """The losses of a training step.

    Args:
        denoise: The frozen denoiser: ``(noisy, timestep, states by slot, extra) -> prediction``. None, or a diffusion
            weight of 0, trains without it.
        noise: A noising, such as ``linear_flow`` or ``SchedulerNoise``; it goes with ``denoise``.
        weights: Of the four losses.
        prompt_match: How narrative states are held against complex ones.
        teacher_match: How encoder states are held against the teacher.
        direction: Of the KL divergences.
        reduction: Of the KL divergences.
        detach_diffusion: Compute the diffusion loss without a gradient, as the authors' code does.

    Raises:
        ValueError: There is a denoiser without a noising, or a diffusion weight without a denoiser.

    Example:
        >>> from sur_adapter import Batch, Step, Student, SURAdapter, Weights, linear_flow
        >>> student = Student({"text_encoder": SURAdapter(16, num_heads=2, ff_dim=32)})
        >>> states = {"text_encoder": torch.randn(2, 5, 16)}
        >>> batch = Batch(latents=torch.randn(2, 3, 4, 4), narrative=states, complex=states)
        >>> def denoise(noisy, time, states, extra):
        ...     return noisy * states["text_encoder"].mean((1, 2)).view(-1, 1, 1, 1)
        >>> step = Step(denoise, linear_flow, weights=Weights(teacher=0.0))
        >>> losses = step(student, batch, torch.rand(2), torch.randn(2, 3, 4, 4))
        >>> losses["loss"].backward()
        >>> list(losses), bool(student.adapter("text_encoder").fc.weight.grad.abs().max() > 0)
        (['loss', 'diffusion', 'prompt', 'preservation'], True)
    """

    def __init__(
        self,
        denoise: Denoise | None,
        noise: Noise | None,
        *,
        weights: Weights | None = None,
        prompt_match: Match = "kl",
        teacher_match: Match = "kl",
        direction: Direction = "forward",
        reduction: Reduction = "token",
        detach_diffusion: bool = False,
    ) -> None:
        self.weights = weights or Weights()
        if self.weights.diffusion and (denoise is None or noise is None):
            raise ValueError("a diffusion loss needs a denoiser and a noising; without them set its weight to 0")
        self.denoise, self.noise = denoise, noise
        self.prompt_match, self.teacher_match = prompt_match, teacher_match
        self.kl: dict[str, Any] = {"direction": direction, "reduction": reduction}
        self.detach_diffusion = detach_diffusion

    def __call__(
        self, student: nn.Module, batch: Batch, u: Tensor | None = None, eps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            student: A `Student`, possibly wrapped for several processes.
            batch: The data.
            u: ``(B,)`` in [0, 1): chooses the times; for the diffusion loss.
            eps: Normal draws of the latents' shape; for the diffusion loss.

        Returns:
            Scalars by name: ``loss``, their weighted sum, and each loss that has a weight.

        Raises:
            ValueError: A loss with a weight lacks its data.
        """
        w = self.weights
        if w.teacher and batch.teacher is None:
            raise ValueError("the teacher loss has a weight, but the batch has no teacher vectors; set it to 0")
        adapted: Adapted = student(batch, preserve=w.preservation > 0)
        slots = adapted.narrative.keys()
        found: dict[str, Tensor] = {}
        if w.diffusion:
            found["diffusion"] = self._diffusion(adapted.narrative, batch, u, eps)
        if w.prompt:
            terms = [
                match(
                    batch.complex[slot],
                    adapted.narrative[slot],
                    kind=self.prompt_match,
                    mask=_either(batch.narrative_mask.get(slot), batch.complex_mask.get(slot)),
                    **self.kl,
                )
                for slot in slots
            ]
            found["prompt"] = torch.stack(terms).mean()
        if w.teacher:
            if not adapted.target:
                raise ValueError("the teacher loss has a weight, but the student has no projector")
            terms = [
                match(
                    adapted.target[slot],
                    adapted.student[slot],
                    kind=self.teacher_match,
                    mask=batch.narrative_mask.get(slot),
                    **self.kl,
                )
                for slot in slots
            ]
            found["teacher"] = torch.stack(terms).mean()
        if w.preservation:
            terms = [preservation(batch.complex[slot], adapted.complex[slot]) for slot in slots]
            found["preservation"] = torch.stack(terms).mean()
        parts = [getattr(w, name) * value for name, value in found.items()]
        return {"loss": torch.stack(parts).sum()} | found

    def _diffusion(self, states: States, batch: Batch, u: Tensor | None, eps: Tensor | None) -> Tensor:
        if batch.latents is None or u is None or eps is None:
            raise ValueError("the diffusion loss needs latents, u and eps; without them set its weight to 0")
        assert self.noise is not None, "checked at construction"
        assert self.denoise is not None, "checked at construction"
        if self.detach_diffusion:
            states = {slot: value.detach() for slot, value in states.items()}
        noised = self.noise(batch.latents, eps, u)
        prediction = self.denoise(noised.sample, noised.timestep, {**batch.narrative, **states}, batch.extra)
        if prediction.shape != noised.target.shape:
            raise ValueError(
                f"the denoiser gave shape {tuple(prediction.shape)} for latents {tuple(noised.target.shape)}"
            )
        wide = torch.promote_types(prediction.dtype, torch.float32)
        error = (prediction.to(wide) - noised.target.to(wide)).square().flatten(1).mean(1)
        return (error * noised.weight).mean()


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Positions that are text in the narrative or in the complex prompt."""
    return None if a is None or b is None else a | b
