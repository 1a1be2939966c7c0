"""Names of the package that need torch, looked up when they are first used."""

from importlib import import_module
from typing import Any

_HOMES = {
    "AITOptions": "clot.integrations.training",
    "HFBackend": "clot.integrations.hf",
    "LoRA": "clot.integrations.training",
    "train_ait": "clot.integrations.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clot' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
