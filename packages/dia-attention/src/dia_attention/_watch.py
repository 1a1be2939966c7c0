"""The one way to see the gates of any attached network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ._cbam import CBAM
from ._find import asr_layers, attached_stages
from ._gate import ChannelGate
from ._host import guest_of
from ._timm_layer import TimmAttention


@contextmanager
def watch_gates(model: nn.Module, fn: Callable[[str, Tensor], None]) -> Iterator[list[str]]:
    """Call ``fn(path, gate)`` whenever a gate ``(B, C)`` has been computed, as long as the context lasts.

    The path is that of the block, ``"layer1.0"``; of ASR, whose gate is one vector repeated B times, it is that of the
    scaled layer, ``"layer1.0.bn3"``, and of ``timm_layer`` that of its slot, ``"layer1.0.se"``. Of CBAM the gate is the
    one over channels. The gate is detached and includes ``gate_scale``.

    Args:
        model: A network that ``attach`` or ``share`` changed, or one with ``timm_layer``.
        fn: Receives the path and the gate.

    Yields:
        All paths, in the order of the network.

    Raises:
        ValueError: No attention is attached, or one of a class of the user's, whose gates are not known.

    Example:
        >>> import torch
        >>> from dia_attention import cifar_resnet
        >>> with watch_gates(net := cifar_resnet(11, attention="se"), lambda path, gate: print(path, *gate.shape)):
        ...     logits = net(torch.zeros(2, 3, 8, 8))
        layer1.0 2 64
        layer2.0 2 128
        layer3.0 2 256
    """
    stages, layers = attached_stages(model), asr_layers(model)
    slots = {path: module.gate for path, module in model.named_modules() if isinstance(module, TimmAttention)}
    if not stages and not layers and not slots:
        raise ValueError(f"no attention is attached to this {type(model).__name__}; call attach(model, ...) first")
    hooks, paths = [], []
    for top, stage in stages.items():
        blocks: dict[nn.Module, list[str]] = {}
        for name, attention in zip(stage.block_names, stage.attentions, strict=True):
            if not isinstance(attention, ChannelGate | CBAM):
                raise ValueError(f"{top}.{name}: the gates inside a {type(attention).__name__} are not known")
            blocks.setdefault(_over_channels(attention), []).append(f"{top}.{name}")
            paths.append(f"{top}.{name}")
        hooks += [gate.register_forward_hook(_report_gate(fn, served)) for gate, served in blocks.items()]
    for path, gate in slots.items():
        hooks.append(_over_channels(gate).register_forward_hook(_report_gate(fn, [path])))
        paths.append(path)
    for path, layer in layers.items():
        hooks.append(layer.register_forward_hook(_report_vector(fn, path)))
        paths.append(path)
    try:
        yield paths
    finally:
        for hook in hooks:
            hook.remove()


def _over_channels(attention: nn.Module) -> nn.Module:
    return attention.channel if isinstance(attention, CBAM) else attention


def _report_gate(fn: Callable[[str, Tensor], None], served: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    calls = 0

    def hook(gate: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal calls
        fn(served[calls % len(served)], (output[0] if isinstance(output, tuple) else output).detach())
        calls += 1

    return hook


def _report_vector(fn: Callable[[str, Tensor], None], path: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        v = guest_of(layer)().detach()
        fn(path, v.expand(inputs[0].shape[0], -1))

    return hook
