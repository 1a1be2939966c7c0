"""Checkpoints of the authors' repositories under the names of our modules."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

_Rename = Callable[[dict[str, Tensor]], dict[str, Tensor]]
_BLOCK = re.compile(r"(layer\d+)\.(\d+)\.(.+)")


def convert_checkpoint(
    state_dict: Mapping[str, Any], kind: Literal["dianet", "lsas", "ras", "asr"]
) -> dict[str, Tensor]:
    """Rename a checkpoint of the authors' code so that our networks load it and give its outputs.

    - ``"dianet"``: ``dia_resnet`` of DIANet, for ``cifar_resnet(depth, attention="dia")``.
    - ``"lsas"``: ``lsas_senet`` of LSAS, of any order, CIFAR for ``attention="lsas", order=K``, ImageNet for the same
      attached to torchvision's ResNet.
    - ``"ras"``: ``ras`` of RAS, for ``attention="ras"``.
    - ``"asr"``: ``resnet`` of ASR over SE, for ``attention="asr"``; with attention in both places attach ``"se"`` too.
      A checkpoint whose ASR was deployed and deleted is that of the plain network.

    Args:
        state_dict: From ``torch.load(path, weights_only=True)``; a mapping with an entry ``"state_dict"`` is opened and
            the prefix ``module.`` removed.
        kind: The repository.

    Returns:
        A state dict for ``load_state_dict``.

    Raises:
        ValueError: The kind is unknown, or the checkpoint is not of that kind.

    Example:
        >>> import torch
        >>> state = {"module.layer1.0.w": torch.zeros(1, 8, 1, 1), "module.layer1.0.bn4.weight": torch.ones(8)}
        >>> convert_checkpoint(state, "ras").keys()
        dict_keys(['layer1.ras.0.w', 'layer1.ras.0.bn.weight'])
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown kind {kind!r}; give one of {sorted(_KINDS)}")
    inner = state_dict.get("state_dict", state_dict)
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(value, Tensor) for value in inner.values()):
        raise ValueError("expected a state dict of tensors, or a mapping that holds one as 'state_dict'")
    tensors = {key.removeprefix("module."): value for key, value in inner.items()}
    sign, convert = _KINDS[kind]
    if not any(re.search(sign, key) for key in tensors):
        raise ValueError(
            f"not a checkpoint of kind {kind!r}: no key matches {sign!r}, the first is {next(iter(tensors))!r}"
        )
    return convert(tensors)


def _dianet(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in tensors.items():
        cell = re.fullmatch(r"(layer\d+)\.lstm\.w_(ih|hh)\.(\d+)\.(?:seq\.([02])\.)?(weight|bias)", key)
        if cell is None:
            renamed[key.replace(".ModuleList.", ".")] = value
            continue
        stage, path, layer, position, what = cell.groups()
        if layer != "0":
            raise ValueError(f"{key}: the cell has more than one layer, ours has one")
        renamed[f"{stage}.dia.{what[0]}_{path}{'1' if position == '0' else '2'}"] = value
    return renamed


def _ras(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in tensors.items():
        block = _BLOCK.fullmatch(key)
        if block and block[3] in ("w", "b"):
            renamed[f"{block[1]}.ras.{block[2]}.{block[3]}"] = value.flatten()
        elif block and block[3].startswith("bn4."):
            renamed[f"{block[1]}.ras.{block[2]}.bn.{block[3].removeprefix('bn4.')}"] = value
        else:
            renamed[key] = value
    return renamed


def _lsas(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    chains: dict[str, dict[str, dict[int, Tensor]]] = {}
    for key, value in tensors.items():
        block = _BLOCK.fullmatch(key)
        inner = block[3].removeprefix("se.") if block else ""
        layer = re.fullmatch(r"(?:fc([12])|fc\.([02]))\.(weight|bias)", inner)
        link = re.fullmatch(r"([wb])(\d*)", inner)
        if block is None or (layer is None and link is None):
            renamed[key] = value
            continue
        gate = f"{block[1]}.lsas.{block[2]}"
        if link is not None:
            chains.setdefault(gate, {"w": {}, "b": {}})[link[1]][int(link[2] or 1)] = value.flatten()
        elif layer is not None:
            number = layer[1] or {"0": "1", "2": "2"}[layer[2]]
            renamed[f"{gate}.base.fc{number}.{layer[3]}"] = value
            chains.setdefault(gate, {"w": {}, "b": {}})
    for gate, chain in chains.items():
        empty = renamed[f"{gate}.base.fc2.bias"].new_empty(0, len(renamed[f"{gate}.base.fc2.bias"]))
        for name, links in chain.items():
            renamed[f"{gate}.{name}"] = torch.stack([links[k] for k in sorted(links)]) if links else empty
    return renamed


def _asr(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    deployed = not any(key.endswith(".bn3.vector") for key in tensors)
    for key, value in tensors.items():
        block = _BLOCK.fullmatch(key)
        at, inner = (f"{block[1]}.{block[2]}", block[3]) if block else ("", "")
        if inner == "bn3.vector":
            renamed[f"{at}.bn3.asr.psi"] = value.reshape(1, -1)
        elif inner.startswith("bn3.attention_module."):
            renamed[f"{at}.bn3.asr.attention.0.{inner.removeprefix('bn3.attention_module.')}"] = value
        elif inner.startswith("bn3.bn."):
            renamed[f"{at}.bn3.{inner.removeprefix('bn3.bn.')}"] = value
        elif inner.startswith("bn3.fused_bn."):
            if deployed:
                renamed[f"{at}.bn3.{inner.removeprefix('bn3.fused_bn.')}"] = value
        elif block and inner.startswith("attention_module."):
            renamed[f"{block[1]}.se.{block[2]}.{inner.removeprefix('attention_module.')}"] = value
        else:
            renamed[key] = value
    return renamed


_KINDS: dict[str, tuple[str, _Rename]] = {
    "dianet": (r"^layer\d+\.lstm\.w_ih\.0\.", _dianet),
    "lsas": (r"^layer\d+\.\d+\.(fc1\.weight|se\.fc\.0\.weight)$", _lsas),
    "ras": (r"^layer\d+\.\d+\.bn4\.", _ras),
    "asr": (r"^layer\d+\.\d+\.bn3\.(vector|fused_bn\.weight)$", _asr),
}
