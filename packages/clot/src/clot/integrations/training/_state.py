"""The state of a training run, whole on every process, whatever way the model is spread over them."""

from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

_OPTIONS = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


def trained_weights(model: Any) -> dict[str, Any]:
    """Gather the weights that are trained, by their names in the unwrapped model; all processes must call it."""
    return get_model_state_dict(model, options=_OPTIONS)


def training_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Gather weights and optimizer; all processes must call it, the main one gets the content."""
    return {
        "model": trained_weights(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=_OPTIONS),
    }


def restore(model: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put weights and optimizer back; all processes call it with the same state."""
    set_model_state_dict(model, state["model"], options=_OPTIONS)
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_OPTIONS)
