"""A pipeline's denoiser as one function of noisy latents, time and the text states of its slots."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sur_adapter._noise import SchedulerNoise

from ._slots import Family


class PipelineDenoiser:
    """The frozen UNet or transformer of a pipeline.

    Args:
        family: Of the pipeline.
        denoiser: Its UNet or transformer.
        t5_tokens: Tokens of the zeros that SD3 reads where it has no T5 encoder.
    """

    def __init__(self, family: Family, denoiser: Any, *, t5_tokens: int) -> None:
        self.family, self.denoiser, self.t5_tokens = family, denoiser, t5_tokens

    def __call__(
        self, noisy: Tensor, time: Tensor, states: Mapping[str, Tensor], extra: Mapping[str, Tensor]
    ) -> Tensor:
        """Predict; the gradient passes to the states."""
        dtype = self.denoiser.dtype
        text = self.text({slot: value.to(dtype) for slot, value in states.items()})
        noisy = noisy.to(dtype)
        if self.family == "sd":
            return self.denoiser(noisy, time, encoder_hidden_states=text).sample  # type: ignore[no-any-return]
        pooled = extra["pooled"].to(dtype)
        if self.family == "sdxl":
            added = {"text_embeds": pooled, "time_ids": extra["time_ids"].to(dtype)}
            found = self.denoiser(noisy, time, encoder_hidden_states=text, added_cond_kwargs=added)
            return found.sample  # type: ignore[no-any-return]
        if self.family == "sd3":
            found = self.denoiser(noisy, timestep=time, encoder_hidden_states=text, pooled_projections=pooled)
            return found.sample  # type: ignore[no-any-return]
        return self._flux(noisy, time, text, pooled)

    def text(self, states: Mapping[str, Tensor]) -> Tensor:
        """Put the states of the slots together, as the pipeline's ``encode_prompt`` does."""
        clip = [states[slot] for slot in ("text_encoder", "text_encoder_2") if slot in states]
        if self.family != "sd3":
            return torch.cat(clip, -1)
        both = torch.cat(clip, -1)
        width = int(self.denoiser.config.joint_attention_dim)
        t5 = states.get("text_encoder_3")
        if t5 is None:
            t5 = both.new_zeros(len(both), self.t5_tokens, width)
        return torch.cat([F.pad(both, (0, width - both.shape[-1])), t5], -2)

    def _flux(self, noisy: Tensor, time: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """Flux reads squares of 2 x 2 latents as tokens, and time in [0, 1]."""
        rows, channels, height, width = noisy.shape
        tokens = noisy.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        places = torch.zeros(height // 2, width // 2, 3, device=noisy.device, dtype=noisy.dtype)
        places[..., 1] += torch.arange(height // 2, device=noisy.device, dtype=noisy.dtype)[:, None]
        places[..., 2] += torch.arange(width // 2, device=noisy.device, dtype=noisy.dtype)
        guided = self.denoiser.config.guidance_embeds
        found = self.denoiser(
            hidden_states=tokens.reshape(rows, height * width // 4, channels * 4),
            timestep=(time / 1000).to(noisy.dtype),
            guidance=torch.ones(rows, device=noisy.device) if guided else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device, dtype=noisy.dtype),
            img_ids=places.view(-1, 3),
        ).sample
        squares = found.view(rows, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return squares.reshape(rows, channels, height, width)  # type: ignore[no-any-return]


def training_noise(scheduler: Any, *, min_snr: float | None) -> SchedulerNoise:
    """Build the noising of training from the scheduler that a pipeline samples with."""
    from diffusers import DDPMScheduler

    if getattr(scheduler, "alphas_cumprod", None) is not None and not hasattr(scheduler.config, "prediction_type"):
        raise ValueError(f"{type(scheduler).__name__} does not say what its denoiser predicts (prediction_type)")
    kind: Any = DDPMScheduler if getattr(scheduler, "alphas_cumprod", None) is not None else type(scheduler)
    return SchedulerNoise(kind.from_config(scheduler.config), min_snr=min_snr)
