"""Layers whose affine ASR scales: a layer becomes a host in place, keeps its keys, and gives up its guest by ``fuse``.

A host is the same object with a subclass of its class, in which ``weight`` and ``bias`` are read as v ⊙ weight and
v ⊙ bias. Every forward of the host library that reads them, and every fusion (RepVGG's), sees the scaled affine;
BatchNorm, which is where ASR goes in training at scale, has a forward of its own that computes v once.
"""

from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ._asr import ASR

GUEST = "asr"


class Host(nn.Module):
    """Mixed into the class of a layer that has an ASR guest."""

    scaled: ClassVar[tuple[str, ...]]
    plain: ClassVar[type[nn.Module]]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the plain class, because a class made at run time has no importable name."""
        return _empty_host, (self.plain, self.scaled), self.__dict__

    def fuse(self) -> nn.Module:
        """Multiply v into the affine and become the plain layer again, the same object; timm calls this too."""
        layer: Any = self
        with torch.no_grad():
            v = guest_of(layer)().double()
            for name in self.scaled:
                value = raw(layer, name)
                if value is not None:
                    value.copy_(along(v, value) * value.double())
        return evict(layer)


def affine_names(layer: nn.Module) -> tuple[str, ...]:
    """Return the names of what has to be scaled to scale the output of a layer.

    Raises:
        ValueError: The layer is not one whose output is scaled by scaling its affine.
    """
    name = plain_type(layer).__name__
    if isinstance(layer, SyncBatchNorm):
        raise ValueError(
            f"ASR does not go into a {name}; attach to the model with plain BatchNorm, train it with per-process "
            "statistics, or fold before converting"
        )
    if isinstance(layer, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm) or name.startswith("FrozenBatchNorm"):
        if getattr(layer, "weight", None) is None:
            raise ValueError(f"this {name} has no affine to scale; build it with its affine parameters")
        if isinstance(layer, nn.LayerNorm | nn.RMSNorm) and len(layer.normalized_shape) != 1:
            raise ValueError(f"this {name} normalises {layer.normalized_shape}; ASR needs one axis of channels")
        return ("weight", "bias")
    if "StdConv" in name:
        raise ValueError(f"a {name} standardises its weight, which undoes any scale; name other layers=...")
    if isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd)):
        return ("weight", "bias")
    if name.startswith("LayerScale") and isinstance(getattr(layer, "gamma", None), Tensor):
        return ("gamma",)
    raise ValueError(f"ASR goes into norms, LayerScale, Linear and Conv, not into a {name}")


def plain_type(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer as it was without a guest."""
    return layer.plain if isinstance(layer, Host) else type(layer)


def width_of(layer: nn.Module) -> int:
    """Return the number of channels that the layer's affine scales."""
    return int(raw(layer, affine_names(layer)[0]).shape[0])


def host(layer: nn.Module, guest: ASR) -> None:
    """Give a layer its guest, in place."""
    layer.add_module(GUEST, guest)
    layer.__class__ = _host_class(type(layer), affine_names(layer))  # type: ignore[arg-type]


def evict(layer: nn.Module) -> nn.Module:
    """Take the guest out and return the plain layer, the same object."""
    layer.__class__ = layer.plain  # type: ignore[assignment]
    del layer._modules[GUEST]
    return layer


def raw(layer: nn.Module, name: str) -> Any:
    """Return a parameter or buffer as it is stored, without v."""
    return layer._parameters[name] if name in layer._parameters else layer._buffers.get(name)


def guest_of(layer: nn.Module) -> ASR:
    """Return the guest of a host."""
    guest = layer._modules[GUEST]
    assert isinstance(guest, ASR), "a host has one"
    return guest


def along(v: Tensor, value: Tensor) -> Tensor:
    """View v ``(C,)`` to scale the first axis of ``value``."""
    return v.reshape(-1, *[1] * (value.ndim - 1))


def _property(name: str) -> property:
    def scaled(layer: nn.Module) -> Tensor | None:
        value = layer._parameters[name] if name in layer._parameters else layer._buffers[name]
        return None if value is None else along(guest_of(layer)(), value) * value

    return property(scaled)


def _batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Do what BatchNorm does, with v computed once for weight and bias."""
    layer._check_input_dim(x)
    factor = 0.0 if layer.momentum is None else layer.momentum
    tracked = layer.track_running_stats
    if layer.training and tracked:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:
            factor = 1.0 / float(layer.num_batches_tracked)
    v, weight, bias = guest_of(layer)(), layer._parameters["weight"], layer._parameters["bias"]
    y: Tensor = F.batch_norm(
        x,
        layer.running_mean if tracked or not layer.training else None,
        layer.running_var if tracked or not layer.training else None,
        v * weight,
        None if bias is None else v * bias,
        layer.training or layer.running_mean is None,
        factor,
        layer.eps,
    )
    return y


@cache
def _host_class(plain: type[nn.Module], scaled: tuple[str, ...]) -> type[nn.Module]:
    members: dict[str, Any] = {name: _property(name) for name in scaled}
    if plain.forward is _BatchNorm.forward:
        members["forward"] = _batch_norm
    members |= {"scaled": scaled, "plain": plain, "__module__": __name__, "__doc__": plain.__doc__}
    return type(f"ASR{plain.__name__}", (Host, plain), members)


def _empty_host(plain: type[nn.Module], scaled: tuple[str, ...]) -> nn.Module:
    made = _host_class(plain, scaled)  # type: ignore[arg-type]
    layer: nn.Module = made.__new__(made)
    return layer
