"""Where attention can go in a model, and where it is."""

from collections.abc import Iterator, Sequence

from torch import nn

from ._asr import ASR
from ._blocks import Adapter, find_adapter
from ._config import AttachConfig
from ._host import GUEST, Host, guest_of
from ._stage import Stage

Found = tuple[str, nn.Sequential | Stage, tuple[Adapter, ...]]


def stages_in(module: nn.Module, path: str = "") -> Iterator[Found]:
    """Yield path, stage and the adapters of its blocks, plain or attached, in the order of the model.

    Raises:
        ValueError: The model is itself a stage, or a block overrides the forward of its adapter's class.
    """
    if isinstance(module, Stage):
        yield path, module, module.adapters
        return
    adapters = [find_adapter(child) for child in module] if isinstance(module, nn.Sequential) else []
    complete = tuple(adapter for adapter in adapters if adapter is not None)
    if isinstance(module, nn.Sequential) and adapters and len(complete) == len(adapters):
        if not path:
            raise ValueError("the model is itself one stage; put it into a parent module, which attach can change")
        yield path, module, complete
        return
    for name, child in module.named_children():
        yield from stages_in(child, f"{path}.{name}" if path else name)


def chosen_stages(model: nn.Module, stages: Sequence[int] | None, *, late: bool = False) -> tuple[int, ...]:
    """Return the chosen indices in 0 .. the number of stages; by default all, or the later half (rounded down).

    Raises:
        ValueError: The model has no stage or an index is out of range.
    """
    count = len(list(stages_in(model)))
    if not count:
        raise ValueError(
            f"{type(model).__name__} has no stage (an nn.Sequential of residual blocks) that attach knows; "
            "describe its block class with register_block_adapter"
        )
    if stages is None:
        return tuple(range(count - max(1, count // 2) if late else 0, count))
    if not stages or not all(-count <= index < count for index in stages):
        raise ValueError(f"stages={tuple(stages)} must name some of the model's {count} stages, {-count}..{count - 1}")
    return tuple(sorted({index % count for index in stages}))


def attached_stages(model: nn.Module) -> dict[str, Stage]:
    """Return the stages with attention, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Stage)}


def asr_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with ASR, by path.

    Raises:
        ValueError: A layer was converted to another class after ``attach`` and lost its ASR.
    """
    layers: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, Host):
            layers[path] = module
        elif isinstance(module._modules.get(GUEST), ASR):
            raise ValueError(
                f"{path}: its ASR was cut off when the layer became a {type(module).__name__} after attach; "
                "convert first, or fold before converting"
            )
    return layers


def attached_configs(model: nn.Module) -> list[AttachConfig]:
    """Return what ``attach`` or ``share`` was called with: none, one, or ASR and another, in that order."""
    guests = [guest_of(layer) for layer in asr_layers(model).values()]
    stages = list(attached_stages(model).values())
    return [guest.config for guest in guests[:1]] + [stage.config for stage in stages[:1]]
