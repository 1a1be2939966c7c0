"""Low-rank adapters on the language model's attention.

W x + (alpha / r) B A x, with A (r, in) and B (out, r) trained and W kept

References:
    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import write_atomic
from torch import Tensor

from clot.integrations.hf._load import IDENTITY, quiet

ATTENTION = (
    r"(?:.*\.)?(?:language_model|text_model)\.(?:.*\.)?(?:self_attn|self_attention|attn|attention)\."
    r"(?:q_proj|k_proj|v_proj|o_proj|out_proj|qkv_proj|c_attn|c_proj|query_key_value|dense)"
)
_VISION = re.compile(r"(?:^|\.)(?:visual|vision_tower|vision_model|vision_encoder|image_encoder)\.")


@dataclass(frozen=True, slots=True)
class LoRA:
    """Where adapters go and how large they are. The defaults are the paper's for Qwen-VL.

    Attributes:
        r: Rank.
        alpha: The adapter's output is scaled by alpha / r.
        dropout: Share of the adapter's inputs that are dropped in training.
        target: ``"attention"``, the projections of the language model's attention; or a regular expression that whole
            names of linear layers must match. A layer of the vision tower is never adapted.

    Example:
        >>> LoRA(r=8).target
        'attention'
    """

    r: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    target: str = "attention"

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"r is {self.r}, alpha {self.alpha}, dropout {self.dropout}; expected r >= 1, alpha > 0 and dropout in "
                "[0, 1)"
            )

    def layers(self, model: Any) -> list[str]:
        """Name the linear layers of a model that the target matches.

        Raises:
            ValueError: There are none, or one of them belongs to the vision tower.
        """
        pattern = ATTENTION if self.target == "attention" else self.target
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        found = [name for name in linear if re.fullmatch(pattern, name)]
        if not found:
            raise ValueError(
                f"no linear layer matches the target {self.target!r}; the model's last are {', '.join(linear[-4:])}: "
                "give a regular expression that matches whole names"
            )
        if seeing := [name for name in found if _VISION.search(name)]:
            raise ValueError(
                f"the target {self.target!r} matches {seeing[0]} of the vision tower, which is kept as it is; narrow it"
            )
        return found


def attach(model: Any, lora: LoRA, *, seed: int, full_precision: bool) -> Any:
    """Put a new adapter on a model: A random by the seed, B zero.

    Args:
        model: The base, changed in place.
        lora: Where and how large.
        seed: Seed of A; torch's global generator is left as it was.
        full_precision: Keep the adapter in float32 on a base of half precision.

    Returns:
        The peft model; only the adapter's weights require gradients.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides by r, whatever the number is
        lora_dropout=lora.dropout,
        target_modules=lora.layers(model),
        task_type="CAUSAL_LM",
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config, autocast_adapter_dtype=full_precision)


def save_adapter(
    model: Any, state: Mapping[str, Tensor], identity: Mapping[str, Any], folder: str | os.PathLike[str]
) -> Path:
    """Save an adapter as peft reads it, and the identity of its base beside it; whole or not at all.

    Args:
        model: The peft model.
        state: Its trained weights by their names in the model, on the CPU.
        identity: Of the base, by `base_identity`.
        folder: Where to, replaced when it exists.

    Returns:
        The folder.
    """

    def fill(path: Path) -> None:
        with quiet():
            model.save_pretrained(path, state_dict=dict(state), save_embedding_layers=False)
        (path / "README.md").unlink(missing_ok=True)  # an empty model card
        write_atomic(path / IDENTITY, json.dumps(dict(identity), indent=1) + "\n")

    return _publish(folder, fill)


def save_whole(model: Any, processor: Any, state: Mapping[str, Tensor], folder: str | os.PathLike[str]) -> Path:
    """Save a model of which all weights were trained, with its processor, as ``from_pretrained`` reads them."""

    def fill(path: Path) -> None:
        with quiet():
            model.save_pretrained(path, state_dict=dict(state))
            processor.save_pretrained(path)

    return _publish(folder, fill)


def _publish(folder: str | os.PathLike[str], fill: Callable[[Path], None]) -> Path:
    """Fill a folder under another name and rename it."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{secrets.token_hex(6)}")
    temporary.mkdir()
    try:
        fill(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target
