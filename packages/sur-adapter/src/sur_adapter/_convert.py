"""The authors' checkpoints, which are pickles, turned into adapters; and the command that writes the folder."""

import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ._adapter import SURAdapter
from ._provenance import Provenance

_UNUSED = ("encoder_layer.", "attention.value_layer.")
_ATTENTION = {
    "attention.query_layer": "query",
    "attention.key_layer": "key",
    "attention.output_layer.0": "hidden",
    "attention.output_layer.2": "output",
    "fc": "fc",
}
_LAYER = {
    "self_attn.out_proj": "out_proj",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_HEADS = 8  # fixed in the authors' code; no tensor tells it


def convert_original_checkpoint(
    state_dict: Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    eta: float,
    mixing: Literal["batch", "none"] = "batch",
    provenance: Provenance | None = None,
) -> SURAdapter:
    """Build an adapter that gives the outputs of a checkpoint of the authors' code.

    Their 30 % of parameters that nothing uses are dropped.

    Args:
        state_dict: The state dict, or the ``.pt`` file, which is loaded with ``weights_only=True``.
        eta: Their ``adapter_weight``, which the checkpoint does not hold; 0.1 in their run.
        mixing: ``"batch"``: attention across the batch, their outputs at every batch size. ``"none"``: each prompt as
            if it were alone, which equals theirs at batch 1 and is how to use the weights.
        provenance: Of the adapter.

    Returns:
        The adapter, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of theirs, or holds more than tensors; or ``eta`` is not finite.

    Example:
        >>> import torch
        >>> from sur_adapter import SURAdapter, convert_original_checkpoint
        >>> convert_original_checkpoint({"fc.weight": torch.zeros(64, 64)}, eta=0.1)
        Traceback (most recent call last):
        ...
        ValueError: not a checkpoint of the authors' Adapter: attention.key_layer.bias is missing
    """
    if mixing not in ("batch", "none"):
        raise ValueError(f"mixing is {mixing!r}; it must be 'batch', as theirs, or 'none'")
    if not math.isfinite(eta):
        raise ValueError(f"eta is {eta}; it must be finite")
    source = dict(state_dict) if isinstance(state_dict, Mapping) else _load(Path(state_dict))
    source = {key.removeprefix("module."): value for key, value in source.items()}
    source = {key: value for key, value in source.items() if not key.startswith(_UNUSED)}
    depth = len({key.split(".")[2] for key in source if key.startswith("transformer_encoder.layers.")})
    renamed = _renamed(source, depth)
    width, ff_dim = len(renamed["fc.bias"]), len(renamed["layers.0.linear1.bias"])
    if mixing == "none":  # with one token to look at, only the value is left
        for layer in range(depth):
            for kind in ("weight", "bias"):
                name = f"layers.{layer}.in_proj.{kind}"
                renamed[name] = renamed[name][2 * width :]
    adapter = SURAdapter.original(
        width,
        scale=eta,
        mixing=mixing,
        depth=depth,
        num_heads=_HEADS,
        ff_dim=ff_dim,
        provenance=provenance,
        dtype=renamed["fc.weight"].dtype,
    )
    for name, value in adapter.state_dict().items():
        if value.shape != renamed[name].shape:
            raise ValueError(
                f"not a checkpoint of the authors' Adapter: {name} has shape {tuple(renamed[name].shape)}, expected "
                f"{tuple(value.shape)}"
            )
    adapter.load_state_dict(renamed)
    return adapter.eval()


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a checkpoint of the authors' training, a .pt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} holds more than tensors or is damaged; nothing of it was loaded ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} does not hold a state dict, a mapping of names to tensors")
    return content


def _renamed(source: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Give the tensors our names; every one must be there, and none may be left."""
    names: dict[str, str] = {}
    for kind in ("weight", "bias"):
        names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in _ATTENTION.items()}
        for layer in range(max(depth, 1)):
            theirs, ours = f"transformer_encoder.layers.{layer}", f"layers.{layer}"
            names |= {f"{theirs}.{old}.{kind}": f"{ours}.{new}.{kind}" for old, new in _LAYER.items()}
            names[f"{theirs}.self_attn.in_proj_{kind}"] = f"{ours}.in_proj.{kind}"
    for key in sorted(names.keys() ^ source.keys()):
        state = "is unknown" if key in source else "is missing"
        raise ValueError(f"not a checkpoint of the authors' Adapter: {key} {state}")
    return {names[key]: value for key, value in source.items()}


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Turn a checkpoint of the authors' code, a pickle, into the folder of an adapter."""

    checkpoint: Path
    """Their .pt file; it is loaded with weights_only."""
    out: Path
    """The folder to write."""
    eta: float
    """Their adapter_weight, which the checkpoint does not hold; 0.1 in their run."""
    mixing: Literal["batch", "none"] = "none"
    """none: each prompt alone, which equals theirs at batch 1; batch: across the batch, theirs at any batch size."""
    base_model_id: str | None = None
    """The model it was trained on."""


def convert(config: ConvertConfig) -> None:
    """Write the adapter of an authors' checkpoint."""
    provenance = Provenance(base_model_id=config.base_model_id, encoder_slot="text_encoder", encoder_field="last")
    options: dict[str, Any] = {"eta": config.eta, "mixing": config.mixing, "provenance": provenance}
    adapter = convert_original_checkpoint(config.checkpoint, **options)
    adapter.save_pretrained(config.out)
    count = sum(parameter.numel() for parameter in adapter.parameters())
    print(f"{config.out}: {count:,} parameters of width {adapter.hidden_size}, {adapter.depth} layers")
