"""How a residual block of a host library comes apart into branch, skip and tail."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

Tail: TypeAlias = Literal["relu"] | Callable[[Tensor, Any], Tensor] | None
Parts: TypeAlias = tuple[Tensor, Tensor | None, Tail]

# The adapters of a host are registered when its integration is imported, which happens when one of its blocks is met.
_HOSTS = {
    "monai.networks.nets.resnet": "dia_attention.integrations.monai",
    "timm.models.byobnet": "dia_attention.integrations.timm",
    "timm.models.convnext": "dia_attention.integrations.timm",
    "timm.models.resnet": "dia_attention.integrations.timm",
    "timm.models.resnetv2": "dia_attention.integrations.timm",
    "timm.models.vision_transformer": "dia_attention.integrations.timm",
    "torchvision.models.resnet": "dia_attention.integrations.torchvision",
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Adapter:
    """What attach needs to know of a block class; ``parts`` is None where only ASR can go in."""

    parts: Callable[[Any, Tensor], Parts] | None
    last: tuple[str, ...]
    channels: Callable[[Any], int]
    layers: Callable[[Any], tuple[str, ...]]

    def finish(self, block: nn.Module, z: Tensor) -> Tensor:
        """Compute the branch from what ``parts`` returned in its place."""
        for name in self.last:
            z = getattr(block, name)(z)
        return z


_ADAPTERS: dict[type[nn.Module], Adapter] = {}


def register_block_adapter(
    cls: type[nn.Module],
    fn: Callable[[Any, Tensor], Parts] | None,
    *,
    last: tuple[str, ...] = (),
    channels: Callable[[Any], int] | None = None,
    layers: Callable[[Any], tuple[str, ...]] | None = None,
) -> None:
    """Teach ``attach`` a residual block class.

    ``fn(block, x)`` computes ``(branch, skip, tail)``, from which the attached network computes

        y = relu(branch ⊙ gate + skip)   tail "relu"
        y = branch ⊙ gate + skip         tail None
        y = tail(branch ⊙ gate, skip)    tail a function

    Args:
        cls: The block class. Subclasses are covered as long as they keep its ``forward``.
        fn: The decomposition; ``branch`` is ``(B, C, *K)``, ``skip`` the same shape or None, for no skip. None for a
            block into which only ASR can go.
        last: Names of the branch's last layers, such as ``("conv3", "bn3")``, if ``fn`` leaves them to the attached
            network and returns their input as ``branch``. Then a 1x1 convolution there is preceded by the attention
            in inference, which costs less.
        channels: ``channels(block)`` is the branch's width C; it may raise a ValueError for a block that cannot take
            attention. By default ``out_channels`` of the last convolution among the block's direct children.
        layers: ``layers(block)`` names the layers whose affine ASR scales. By default the last norm or convolution
            of ``last``, or without it of the block's direct children.

    Raises:
        TypeError: ``cls`` is not a module class.

    Example:
        >>> import torch
        >>> class Block(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = torch.nn.Conv2d(8, 8, 3, padding=1)
        ...     def forward(self, x):
        ...         return torch.relu(self.conv(x) + x)
        >>> register_block_adapter(Block, lambda block, x: (block.conv(x), x, "relu"))
        >>> from dia_attention import attach
        >>> attach(torch.nn.ModuleDict({"stage": torch.nn.Sequential(Block(), Block())}), "dia").parameters
        228
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"register_block_adapter takes a class of modules, got {cls!r}")
    _ADAPTERS[cls] = Adapter(fn, last, channels or last_convolution_width, layers or partial(_last_layer, last))


def find_adapter(block: nn.Module) -> Adapter | None:
    """Return the adapter of a block, or None for a module that is no known residual block.

    Raises:
        ValueError: The block's class overrides the ``forward`` of the class its adapter describes.
    """
    for cls in type(block).__mro__:
        if not issubclass(cls, nn.Module):
            continue
        if cls not in _ADAPTERS and cls.__module__ in _HOSTS:
            import_module(_HOSTS[cls.__module__])
        if adapter := _ADAPTERS.get(cls):
            if type(block).forward is not cls.forward:
                raise ValueError(
                    f"{type(block).__name__} overrides the forward of {cls.__module__}.{cls.__name__}; "
                    f"describe it with register_block_adapter({type(block).__name__}, ...)"
                )
            return adapter
    return None


def last_convolution_width(block: nn.Module) -> int:
    """Return the width of the residual branch: ``out_channels`` of the block's last direct convolution."""
    widths = [child.out_channels for child in block.children() if isinstance(child, _CONVOLUTIONS)]
    if not widths:
        raise ValueError(
            f"{type(block).__name__} has no convolution among its direct children to read the width from; "
            "give register_block_adapter(..., channels=...)"
        )
    return widths[-1]


def relu_tail(activation: nn.Module) -> Tail:
    """Return the tail ``activation(branch + skip)``, as the name that stands for the fused form where there is one."""
    if type(activation) is nn.ReLU:
        return "relu"
    return lambda branch, skip: activation(branch + skip)


def _last_layer(last: tuple[str, ...], block: nn.Module) -> tuple[str, ...]:
    names = list(last) or [name for name, _ in block.named_children()]
    for name in reversed(names):
        layer = getattr(block, name)
        if "Norm" in type(layer).__name__ or isinstance(layer, _CONVOLUTIONS):
            return (name,)
    raise ValueError(
        f"{type(block).__name__} has no norm and no convolution among its direct children for ASR to scale; "
        "give register_block_adapter(..., layers=...)"
    )
