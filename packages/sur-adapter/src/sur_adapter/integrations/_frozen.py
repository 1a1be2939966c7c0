"""The frozen half of the diffusion loss: the pipeline's denoiser and its noising."""

from typing import cast

import torch

from sur_adapter._noise import SchedulerNoise
from sur_adapter._train_config import TrainConfig

from ._denoise import PipelineDenoiser, training_noise
from ._parts import DENOISERS, denoiser, load_parts
from ._slots import Family


def frozen_denoiser(config: TrainConfig, family: str, device: torch.device) -> tuple[PipelineDenoiser, SchedulerNoise]:
    """Load the denoiser without its parameters' gradients, in bfloat16 where the training computes in it."""
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    pipe = load_parts(config.model, denoiser, dtype=dtype)
    network = next(part for name in DENOISERS if (part := getattr(pipe, name, None)) is not None)
    network.requires_grad_(False).eval().to(device)
    if config.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    noise = training_noise(pipe.scheduler, min_snr=config.min_snr)
    return PipelineDenoiser(cast(Family, family), network, t5_tokens=config.t5_tokens), noise
