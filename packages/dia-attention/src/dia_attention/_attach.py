"""Put an attention into an existing residual network, and take it out again."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from ._blocks import Adapter, find_adapter
from ._dia import DIA, Init
from ._stage import AttachConfig, Stage

_ATTENTIONS = {"dia": DIA}
_COMMON = {"reduction", "init", "device", "dtype"}  # arguments of an attention that attach names itself


@dataclass(frozen=True)
class AttachRow:
    """One inserted module: its path, width, number of parameters and the blocks that share it."""

    path: str
    channels: int
    parameters: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class AttachReport:
    """What ``attach`` inserted; ``print(report)`` shows a table.

    Args:
        name: The attention.
        rows: One for each inserted module.
    """

    name: str
    rows: tuple[AttachRow, ...] = field(repr=False)

    @property
    def parameters(self) -> int:
        """The number of parameters added in all."""
        return sum(row.parameters for row in self.rows)

    def __str__(self) -> str:
        table = [("path", "channels", "parameters", "shared with")]
        for row in self.rows:
            first, last, blocks = row.shared_with[0], row.shared_with[-1], len(row.shared_with)
            shared = f"{first} .. {last} ({blocks} blocks)" if blocks > 1 else first
            table.append((row.path, str(row.channels), f"{row.parameters:,}", shared))
        table.append(("total", "", f"{self.parameters:,}", ""))
        wide = [max(len(line[column]) for line in table) for column in range(4)]
        return "\n".join(
            f"{path:<{wide[0]}}  {channels:>{wide[1]}}  {parameters:>{wide[2]}}  {shared}".rstrip()
            for path, channels, parameters, shared in table
        )


def list_attentions() -> list[str]:
    """Return the names that ``attach`` knows.

    Example:
        >>> list_attentions()
        ['dia']
    """
    return sorted(_ATTENTIONS)


def attach(
    model: nn.Module,
    name: str,
    *,
    stages: Sequence[int] | None = None,
    reduction: int | None = None,
    init: Init = "paper",
    check_finite: bool = False,
    **options: Any,
) -> AttachReport:
    """Put an attention into the residual stages of a model, in place.

    A stage is an ``nn.Sequential`` of residual blocks of torchvision, timm, ``cifar_resnet`` or a class given to
    ``register_block_adapter``. The attention acts where timm puts its own: on the branch, after its last norm and
    before the skip is added. Every key of the model's state dict stays; the new keys are below ``<stage>.<name>``.
    Build the optimizer afterwards: it must see the new parameters. A stage with attention computes its blocks layer by
    layer, so a forward hook belongs on the stage, on ``<stage>.<name>`` (called once a block, in order) or on a layer
    inside a block, not on the block.

    Args:
        model: The network, changed in place. The new parameters take the device and dtype of each stage.
        name: One of ``list_attentions()``.
        stages: Indices of the stages in the order of the model, negative ones from the end. Default: the attention's
            own (DIA: all).
        reduction: r, the width divided by the reduced width. Default: the attention's own (DIA: 4).
        init: ``"paper"``, or ``"identity"`` to leave the outputs of a pretrained network as they are.
        check_finite: Raise a ValueError naming the block when a residual branch holds NaN or infinity. It reads every
            map once more and breaks compiled graphs: for finding an error, not for training.
        options: Of the attention (DIA: none).

    Returns:
        A printable table of what was inserted.

    Raises:
        ValueError: The name, a stage, ``reduction`` or ``init`` is out of range, the model has no residual stage, a
            block cannot take attention, or an attention is attached already. The model is then unchanged.
        TypeError: The attention has no such option.

    Example:
        >>> from dia_attention import attach, cifar_resnet
        >>> net = cifar_resnet(20)
        >>> print(attach(net, "dia"))
        path        channels  parameters  shared with
        layer1.dia        64      10,784  layer1.0 .. layer1.1 (2 blocks)
        layer2.dia       128      42,048  layer2.0 .. layer2.1 (2 blocks)
        layer3.dia       256     166,016  layer3.0 .. layer3.1 (2 blocks)
        total                    218,848
    """
    if name not in _ATTENTIONS:
        close = get_close_matches(name, _ATTENTIONS, n=1, cutoff=0.0)
        raise ValueError(f"unknown attention {name!r}; did you mean {close[0]!r}? Known: {list_attentions()}")
    attention = _ATTENTIONS[name]
    parameters = inspect.signature(attention).parameters
    known = {key for key, value in parameters.items() if value.kind is value.KEYWORD_ONLY} - _COMMON
    if unknown := sorted(options.keys() - known):
        takes = sorted({"stages", "reduction", "init", "check_finite"} | known)
        raise TypeError(f"unknown option {unknown[0]!r} for attention {name!r}; it takes {takes}")
    if attached := _attached(model):
        raise ValueError(f"an attention is attached already at {list(attached)}; call detach(model) first")

    found = list(_find_stages(model, ""))
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no stage (an nn.Sequential of residual blocks) that attach knows; "
            "describe its block class with register_block_adapter"
        )
    chosen = _choose(stages, len(found))
    if reduction is None:
        reduction = int(parameters["reduction"].default)
    config = AttachConfig(name, chosen, reduction, init, check_finite, dict(options))
    built = [_build(attention, config, *found[index]) for index in chosen]  # all of them, before the model is touched
    for stage in built:
        _replace(model, stage.path, stage)
    return AttachReport(name, tuple(_row(stage) for stage in built))


def detach(model: nn.Module) -> nn.Module:
    """Take the attention out again, in place: the same modules, keys and outputs as before ``attach``.

    Args:
        model: A network that ``attach`` changed.

    Returns:
        The same model.

    Raises:
        ValueError: No attention is attached.

    Example:
        >>> from dia_attention import cifar_resnet, detach
        >>> sum(p.numel() for p in detach(cifar_resnet(164, attention="dia", num_classes=100)).parameters())
        1727284
    """
    attached = _attached(model)
    if not attached:
        raise ValueError(f"no attention is attached to this {type(model).__name__}")
    for path, stage in attached.items():
        _replace(model, path, stage.restore())
    return model


def attached_config(model: nn.Module) -> AttachConfig | None:
    """Return what ``attach`` was called with, or None for a plain model."""
    return next((stage.config for stage in _attached(model).values()), None)


def _attached(model: nn.Module) -> dict[str, Stage]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Stage)}


def _find_stages(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Sequential, tuple[Adapter, ...]]]:
    adapters = [find_adapter(child) for child in module] if isinstance(module, nn.Sequential) else []
    complete = tuple(adapter for adapter in adapters if adapter is not None)
    if isinstance(module, nn.Sequential) and adapters and len(complete) == len(adapters):
        if not path:
            raise ValueError("the model is itself one stage; put it into a parent module, which attach can change")
        yield path, module, complete
        return
    for name, child in module.named_children():
        yield from _find_stages(child, f"{path}.{name}" if path else name)


def _choose(stages: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if stages is None:
        return tuple(range(count))
    if not stages or not all(-count <= index < count for index in stages):
        raise ValueError(f"stages={tuple(stages)} must name some of the model's {count} stages, {-count}..{count - 1}")
    return tuple(sorted({index % count for index in stages}))


def _build(
    attention: type[DIA], config: AttachConfig, path: str, plain: nn.Sequential, adapters: tuple[Adapter, ...]
) -> Stage:
    try:
        widths = [adapter.channels(block) for adapter, block in zip(adapters, plain, strict=True)]
        if len(set(widths)) > 1:
            raise ValueError(f"the blocks have different widths {widths}, and one cell serves one width")
        like = next(plain.parameters(), torch.empty(0))
        cell = attention(
            widths[0],
            reduction=config.reduction,
            init=config.init,
            device=like.device,
            dtype=like.dtype,
            **config.options,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    decompose = tuple(adapter.decompose for adapter in adapters)
    return Stage(plain, decompose=decompose, cell=cell.train(plain.training), config=config, path=path)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _row(stage: Stage) -> AttachRow:
    blocks = tuple(f"{stage.path}.{name}" for name in stage.block_names)
    parameters = sum(parameter.numel() for parameter in stage.cell.parameters())
    return AttachRow(f"{stage.path}.{stage.config.name}", stage.cell.channels, parameters, blocks)
