"""Load of a pipeline what training needs, in two goes: first the encoders, then the denoiser alone."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from sur_adapter._local_model import bars_on_terminals_only, model_source

DENOISERS = ("unet", "transformer")


def load_parts(model: str, wanted: Callable[[str], bool], *, dtype: torch.dtype) -> Any:
    """Load a pipeline with the components that ``wanted`` names; the others are None.

    Raises:
        FileNotFoundError: ``model`` is a local folder that does not exist.
        ValueError: A local folder holds no pipeline.
    """
    source = model_source(model)
    try:
        listed: dict[str, Any] = DiffusionPipeline.load_config(source)
    except OSError as error:
        raise ValueError(f"{model} is not the folder or the Hub id of a diffusers pipeline ({error})") from error
    components = {name for name, value in listed.items() if isinstance(value, list | tuple)}
    left: dict[str, Any] = {name: None for name in components if not wanted(name)}
    if "requires_safety_checker" in listed:
        left["requires_safety_checker"] = False
    with bars_on_terminals_only():
        load: Any = DiffusionPipeline.from_pretrained
        pipe = load(source, use_safetensors=True, **left)
    for part in pipe.components.values():
        if isinstance(part, nn.Module) and next(part.parameters()).dtype != dtype:
            nn.Module.to(part, dtype)  # from_pretrained's argument for it changes its name between versions
    return pipe


def encoders(name: str) -> bool:
    """Whether a component encodes prompts or images."""
    return name.startswith(("text_encoder", "tokenizer", "scheduler", "vae"))


def text_encoders(name: str) -> bool:
    """Whether a component encodes prompts."""
    return name.startswith(("text_encoder", "tokenizer", "scheduler"))


def denoiser(name: str) -> bool:
    """Whether a component is the denoiser or its schedule."""
    return name in (*DENOISERS, "scheduler")
