"""Take out of a trained network what its inference does not need: ASR whole, and of RAS all but one affine map."""

import copy
import dataclasses
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ._find import asr_layers, attached_stages
from ._host import Host, plain_type, width_of
from ._ras import RAS
from ._stage import Stage

Model = TypeVar("Model", bound=nn.Module)
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


class FoldError(ValueError):
    """A network that cannot be folded, or whose folded form computes something else."""


def fold(model: Model, *, verify: bool = True, inplace: bool = False) -> Model:
    """Fold ASR into the layers it scales, and every RAS gate into one affine map.

    ASR: γ' = v ⊙ γ, β' = v ⊙ β; the result has the keys and the operators of the plain network.
    RAS: a = σ(A ⊙ p + B) with A and B from the running statistics: 2 C numbers a block.

    Args:
        model: A network with ``"asr"`` or ``"ras"`` attached; another attention beside ASR stays.
        verify: Compare every folded layer and gate with what it replaces, in evaluation mode, on random inputs of
            several magnitudes.
        inplace: Change the model itself in place of a copy.

    Returns:
        The folded network, in the mode of ``model``. A folded RAS gate has no batch statistics in training either.

    Raises:
        FoldError: There is nothing to fold, or a folded part differs from the original by more than rounding; the
            message says where and by how much. The model is then unchanged.

    Example:
        >>> from dia_attention import attach, cifar_resnet, fold
        >>> net = cifar_resnet(11)
        >>> keys = list(net.state_dict())
        >>> _ = attach(net, "asr")
        >>> list(fold(net).state_dict()) == keys
        True
    """
    layers, stages = asr_layers(model), _ras_stages(model)
    if not layers and not stages:
        raise FoldError(_nothing(model))
    if verify:
        for path, layer in layers.items():
            _compare(path, layer, _fused(copy.deepcopy(layer)), _probe(layer))
        for path, stage in stages.items():
            for name, gate in zip(stage.block_names, stage.attentions, strict=True):
                assert isinstance(gate, RAS), "only RAS stages are here"
                _compare(f"{path}.{name}", gate, gate.folded(), _random(64, gate.channels))
    target = model if inplace else copy.deepcopy(model)
    for path in layers:
        _fused(target.get_submodule(path))
    for path in stages:
        fold_stage(target.get_submodule(path))
    return target


def fold_stage(stage: nn.Module) -> None:
    """Replace the RAS gates of a stage by affine ones, in place."""
    assert isinstance(stage, Stage), "found as one"
    gates = tuple(gate.folded() for gate in stage.attentions if isinstance(gate, RAS))
    stage.set_attentions(gates, dataclasses.replace(stage.config, per="block", share_norm=True, folded=True))


def _fused(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, Host), "found as one"
    return layer.fuse()


def _ras_stages(model: nn.Module) -> dict[str, Stage]:
    return {path: stage for path, stage in attached_stages(model).items() if isinstance(stage.attentions[0], RAS)}


def _nothing(model: nn.Module) -> str:
    for path, stage in attached_stages(model).items():
        if stage.config.folded:
            return f"{path}: folded already"
        return f"{path}: {stage.config.name!r} depends on the input and cannot be folded; 'asr' and 'ras' can"
    return f"nothing to fold in this {type(model).__name__}: no attention is attached, or it was folded already"


@torch.no_grad()
def _compare(path: str, before: nn.Module, after: nn.Module, x: Tensor) -> None:
    like = next(iter(after.state_dict().values()))
    if like.is_meta:
        return
    before, after = copy.deepcopy(before).eval(), after.eval()
    x = x.to(device=like.device, dtype=like.dtype)
    allowed = _TOLERANCE[like.dtype]
    for magnitude in (1e-2, 1.0, 1e2):
        expected, got = before(magnitude * x).double(), after(magnitude * x).double()
        difference = ((got - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()
        if not difference <= allowed:  # also NaN
            raise FoldError(
                f"{path}: the folded {type(after).__name__} differs from the original by {difference:.2g} of its "
                f"largest value, and rounding in {like.dtype} explains {allowed:g}"
            )


def _probe(layer: nn.Module) -> Tensor:
    """Random input of a shape that the layer takes."""
    name, width = plain_type(layer).__name__, width_of(layer)
    if isinstance(layer, nn.Linear):
        return _random(8, layer.in_features)
    if isinstance(layer, _ConvNd):
        return _random(
            2, layer.in_channels, *(2 * d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        )
    if "1d" in name:
        return _random(8, width)
    if "3d" in name:
        return _random(2, width, 2, 2, 2)
    last = any(kind in name for kind in ("LayerNorm", "RMSNorm", "LayerScale")) and "2d" not in name
    return _random(2, 3, width) if last else _random(2, width, 3, 3)


def _random(*shape: int) -> Tensor:
    """Normal numbers that leave the caller's random state alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
