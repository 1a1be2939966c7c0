"""Associable instruction tuning: adapters on the language model's attention, trained by a loop that resumes exactly."""

from oogiri_go.runs import needs

with needs("sail-clot", "train"):
    import accelerate as _accelerate  # noqa: F401
    import peft as _peft  # noqa: F401

from ._lora import LoRA as LoRA
from ._settings import AITOptions as AITOptions
from ._train import Trained as Trained
from ._train import train_ait as train_ait

__all__ = ["AITOptions", "LoRA", "Trained", "train_ait"]
