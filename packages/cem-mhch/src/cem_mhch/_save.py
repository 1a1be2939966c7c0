"""A model as a folder: config.json says how to build it, model.safetensors holds its weights; nothing is executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from sail_core.runs import write_atomic
from torch import nn

from ._cost import CostModel
from .hosts._base import HandoffModel

if TYPE_CHECKING:
    from ._cem import CEM

_FORMAT = 1


def save(model: CEM, directory: str | PathLike[str]) -> None:
    """Write the weights, then the description, each atomically; the second knows the hash of the first."""
    folder = Path(directory)
    host = model.host
    built = {"name": host.name, "options": host.options} if isinstance(host, HandoffModel) else None
    weights = safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    )
    described = {
        "format": _FORMAT,
        "host": built,
        "config": asdict(model.config),
        "cost": asdict(model.cost),
        "stage": model.stage,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_atomic(folder / "model.safetensors", weights)
    write_atomic(folder / "config.json", json.dumps(described, indent=1) + "\n")


def load(cls: type[CEM], directory: str | PathLike[str], host: nn.Module | None) -> CEM:
    """Build what `save` described and give it the saved weights, on the CPU, in eval mode."""
    from ._cem import CEMConfig

    folder = Path(directory)
    described, data = _read(folder)
    if host is None:
        if described["host"] is None:
            raise ValueError(f"{folder}: the model has a host of your own class; give an instance as `host`")
        host = HandoffModel.build(described["host"]["name"], **described["host"]["options"])
    try:
        model = cls(host, CEMConfig(**described["config"]), CostModel(**described["cost"]))
        weights = safetensors.torch.load(data)
        model.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: the saved model cannot be built: {error}") from error
    if described["stage"] == 2:
        model.freeze_simulator()
    return model.eval()


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if described["format"] != _FORMAT:
            raise ValueError(f"its format is {described['format']!r}, this version reads {_FORMAT}")
        expected = described["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not the description of a saved model: {error}") from error
    data = (folder / "model.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{folder / 'model.safetensors'} is not the file that config.json describes: save again")
    return described, data


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the ordered state dict: every name, dtype, shape and byte.

    Example:
        >>> weights_hash(nn.Linear(1, 1)) == weights_hash(nn.Linear(1, 1))
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
