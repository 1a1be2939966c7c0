"""Save an attached model in one safetensors file that knows what was attached, and load it into the plain model."""

import json
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor, nn

from ._attach import ATTENTIONS, apply, detach, fill_options
from ._config import AttachConfig
from ._find import attached_configs, attached_stages, chosen_stages
from ._fold import fold_stage

_KEY = "dia_attention"
Model = TypeVar("Model", bound=nn.Module)


def save(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write all weights and buffers, with the attention's configuration in the file's metadata.

    The file appears whole or not at all: a save that fails leaves an earlier file as it was.

    Args:
        model: A network that ``attach`` changed.
        path: The file, by custom ``*.safetensors``.

    Raises:
        ValueError: No attention is attached, or one of a class of yours, which a file cannot name.
    """
    configs = attached_configs(model)
    if not configs:
        raise ValueError(f"no attention is attached to this {type(model).__name__}; call attach first")
    tensors = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    write_atomic(Path(path), safetensors.torch.save(tensors, metadata={_KEY: _described(configs)}))


def load(path: str | PathLike[str], model: Model) -> Model:
    """Attach to a plain model what ``save`` found attached, and load its weights, in place.

    Args:
        path: A file written by ``save``.
        model: A plain network of the saved architecture.

    Returns:
        The same model.

    Raises:
        ValueError: The file is truncated or not from ``save``, or does not fit the model, or an attention is attached
            already. The model is then unchanged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from dia_attention import cifar_resnet, load, save
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(cifar_resnet(11, attention="dia"), Path(folder, "net.safetensors"))
        ...     net = load(Path(folder, "net.safetensors"), cifar_resnet(11))
        >>> net.layer1.dia
        DIA(64, reduction=4, init='paper')
    """
    if attached_configs(model):
        raise ValueError("an attention is attached already; load wants the plain model, so call detach(model) first")
    configs, tensors = _read(path)
    try:
        _attach_all(model, configs)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the saved attention does not fit this {type(model).__name__}: {error}") from error
    if wrong := _mismatch(model.state_dict(), tensors):
        detach(model)
        raise ValueError(f"{path}: the saved weights do not fit this {type(model).__name__}: {wrong}")
    model.load_state_dict(tensors)
    return model


def _attach_all(model: nn.Module, configs: list[AttachConfig]) -> None:
    try:
        for config in configs:
            if config.name not in ATTENTIONS or config.per not in ("stage", "block"):
                raise ValueError(f"unknown attention {config.name!r} per {config.per!r}")
            if config.folded and config.name != "ras":
                raise ValueError(f"a folded {config.name!r} has no gates")
            options = fill_options(config.name, config.options)
            stages = () if options.get("layers") else chosen_stages(model, config.stages)
            apply(model, replace(config, stages=stages, options=options, folded=False))
            if config.folded:
                for stage in attached_stages(model).values():
                    fold_stage(stage)
    except (AttributeError, KeyError, TypeError, ValueError):
        if attached_configs(model):
            detach(model)
        raise


def _described(configs: list[AttachConfig]) -> str:
    for config in configs:
        for name, value in config.options.items():
            if callable(value):
                raise ValueError(
                    f"a file cannot name {name}={value!r} of {config.name!r}: save model.state_dict(), attach the same "
                    "again and load that"
                )
    return json.dumps([asdict(config) for config in configs])


def _read(path: str | PathLike[str]) -> tuple[list[AttachConfig], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path}: not written by dia_attention.save (no {_KEY!r} in its metadata)")
            described = json.loads(metadata[_KEY])
            if not isinstance(described, list) or not described:
                raise ValueError(f"{path}: the description of the attention in its metadata is damaged")
            configs = [AttachConfig(**fields) for fields in described]
            return configs, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path}: the description of the attention in its metadata is damaged ({error})") from error


def _mismatch(expected: dict[str, Tensor], got: dict[str, Tensor]) -> str:
    for key in expected:
        if key not in got:
            return f"{key} is missing"
        if expected[key].shape != got[key].shape:
            return f"{key} has shape {tuple(got[key].shape)}, expected {tuple(expected[key].shape)}"
    return next((f"{key} is unknown" for key in got if key not in expected), "")
