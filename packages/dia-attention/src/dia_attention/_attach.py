"""Put an attention into an existing residual network, and take it out again."""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from ._asr import ASR
from ._attach_asr import attach_asr
from ._base import call_with_width
from ._blocks import Adapter
from ._cbam import CBAM
from ._config import AttachConfig
from ._dia import DIA
from ._eca import ECA
from ._find import asr_layers, attached_stages, chosen_stages, stages_in
from ._host import evict
from ._lsas import LSAS
from ._ras import RAS
from ._report import AttachReport, AttachRow
from ._se import SE
from ._sharing import with_own_norms
from ._stage import Stage
from ._step import StepGate

ATTENTIONS: dict[str, type[nn.Module]] = {
    "asr": ASR,
    "cbam": CBAM,
    "dia": DIA,
    "eca": ECA,
    "lsas": LSAS,
    "ras": RAS,
    "se": SE,
    "step": StepGate,
}
_COMMON = {"init", "device", "dtype"}  # arguments of an attention that attach names itself


def list_attentions() -> list[str]:
    """Return the names that ``attach`` knows.

    Example:
        >>> list_attentions()
        ['asr', 'cbam', 'dia', 'eca', 'lsas', 'ras', 'se', 'step']
    """
    return sorted(ATTENTIONS)


def attach(
    model: nn.Module,
    name: str,
    *,
    stages: Sequence[int] | None = None,
    init: str | None = None,
    check_finite: bool = False,
    **options: Any,
) -> AttachReport:
    """Put an attention into the residual stages of a model, in place.

    A stage is an ``nn.Sequential`` of residual blocks of torchvision, timm, MONAI, ``cifar_resnet`` or a class given to
    ``register_block_adapter``. The attention acts where timm puts its own: on the branch, after its last norm and
    before the skip is added. Every key of the model's state dict stays; the new keys are below ``<stage>.<name>``, or
    for ASR below ``<layer>.asr``. Build the optimizer afterwards: it must see the new parameters.

    - ``"dia"``: one recurrent cell for all blocks of a stage. Options: ``reduction``.
    - ``"se"``, ``"eca"``, ``"cbam"``, ``"ras"``, ``"lsas"``, ``"step"``: one gate a block. Options: those of the class.
    - ``"asr"``: in the affine of the branch's last layer; ``fold`` removes it at no loss. It may stand beside one of
      the others. Options: those of ``ASR``, and ``layers``: fnmatch patterns of layer paths in place of the last ones.

    A stage with attention computes its blocks layer by layer, so a forward hook belongs on the stage, on the attention
    or on a layer inside a block, not on the block (ASR leaves the blocks as they are).

    Args:
        model: The network, changed in place. The new parameters take the device and dtype of each stage.
        name: One of ``list_attentions()``.
        stages: Indices of the stages in the order of the model, negative ones from the end. Default: the attention's
            own (LSAS: the later half, others: all).
        init: ``"paper"``, or ``"identity"`` to leave the outputs of a pretrained network as they are. Default: the
            attention's own (RAS: ``"small"``, others: ``"paper"``).
        check_finite: Raise a ValueError naming the block when a residual branch holds NaN or infinity. It reads every
            map once more and breaks compiled graphs: for finding an error, not for training. Not for ASR.
        options: Of the attention.

    Returns:
        A printable table of what was inserted.

    Raises:
        ValueError: The name, a stage, ``init`` or an option is out of range, the model has no residual stage, a
            block cannot take attention, or an attention is attached already. The model is then unchanged.
        TypeError: The attention has no such option, or ``stages`` and ``layers`` are both given.

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
    if name not in ATTENTIONS:
        close = get_close_matches(name, ATTENTIONS, n=1, cutoff=0.0)
        raise ValueError(f"unknown attention {name!r}; did you mean {close[0]!r}? Known: {list_attentions()}")
    filled = fill_options(name, options)
    late = name == "lsas"
    if stages is not None and filled.get("layers") is not None:
        raise TypeError("give ASR its stages or its layers, not both")
    start = init or str(inspect.signature(ATTENTIONS[name]).parameters["init"].default)
    whole = filled.get("layers") is not None  # which names its own places
    config = AttachConfig(
        name,
        () if whole else chosen_stages(model, stages, late=late),
        start,
        check_finite,
        filled,
        per="stage" if name == "dia" else "block",
    )
    return apply(model, config)


def fill_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an attention with its defaults filled in.

    Raises:
        TypeError: The attention has no such option.
    """
    parameters = inspect.signature(ATTENTIONS[name]).parameters
    known = {
        key: value.default
        for key, value in parameters.items()
        if value.kind is value.KEYWORD_ONLY and key not in _COMMON
    }
    if name == "asr":
        known["layers"] = None
    if unknown := sorted(options.keys() - known.keys()):
        takes = sorted({"stages", "init", "check_finite"} | known.keys())
        raise TypeError(f"unknown option {unknown[0]!r} for attention {name!r}; it takes {takes}")
    return known | options


def apply(model: nn.Module, config: AttachConfig) -> AttachReport:
    """Attach what a config describes; the model is unchanged if that is refused."""
    if config.name == "asr":
        return attach_asr(model, config)
    if attached := attached_stages(model):
        raise ValueError(f"an attention is attached already at {list(attached)}; call detach(model) first")
    found = list(stages_in(model))
    built = [_build(config, *found[index]) for index in config.stages]  # all of them, before the model is touched
    for stage in built:
        replace(model, stage.path, stage)
    return AttachReport(config.name, tuple(row for stage in built for row in _rows(stage)))


def detach(model: nn.Module) -> nn.Module:
    """Take all attention out again, in place: the same modules, keys and outputs as before ``attach``.

    Args:
        model: A network that ``attach`` or ``share`` changed.

    Returns:
        The same model.

    Raises:
        ValueError: No attention is attached.

    Example:
        >>> from dia_attention import cifar_resnet, detach
        >>> sum(p.numel() for p in detach(cifar_resnet(164, attention="dia", num_classes=100)).parameters())
        1727284
    """
    attached, hosts = attached_stages(model), asr_layers(model)
    if not attached and not hosts:
        raise ValueError(f"no attention is attached to this {type(model).__name__}")
    for path, stage in attached.items():
        replace(model, path, stage.restore())
    for layer in hosts.values():
        evict(layer)
    return model


def replace(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module in the place of the one at ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _build(config: AttachConfig, path: str, plain: nn.Sequential | Stage, adapters: tuple[Adapter, ...]) -> Stage:
    assert not isinstance(plain, Stage), "refused before"
    names = list(plain._modules)
    widths = [_width(adapter, block, path) for adapter, block in zip(adapters, plain, strict=True)]
    if config.per == "stage" and len(set(widths)) > 1:
        raise ValueError(f"{path}: the blocks have different widths {widths}, and one attention serves one width")
    attentions: list[nn.Module] = []
    for name, width, block in zip(names, widths, plain, strict=True):
        if config.per == "stage" and attentions:
            shared = attentions[0]
            attentions.append(shared if config.share_norm else with_own_norms(shared))
            continue
        like = next(block.parameters(), torch.empty(0))
        try:
            module = build_attention(config, width, device=like.device, dtype=like.dtype)
        except ValueError as error:
            at = path if config.per == "stage" else f"{path}.{name}"
            raise ValueError(f"{at}: {error}") from error
        attentions.append(module.train(plain.training))
    return Stage(plain, adapters=adapters, widths=tuple(widths), attentions=tuple(attentions), config=config, path=path)


def build_attention(config: AttachConfig, width: int, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build the attention of one width."""
    if config.name in ATTENTIONS:
        build: Any = ATTENTIONS[config.name]
        module: nn.Module = build(width, init=config.init, device=device, dtype=dtype, **config.options)
        return module
    return call_with_width(config.options["attention"], width, device=device, dtype=dtype)


def _width(adapter: Adapter, block: nn.Module, path: str) -> int:
    if adapter.parts is None:
        raise ValueError(f"{path}: a {type(block).__name__} takes only attention that folds into it, 'asr'")
    try:
        return adapter.channels(block)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _rows(stage: Stage) -> list[AttachRow]:
    blocks = tuple(f"{stage.path}.{name}" for name in stage.block_names)
    top = f"{stage.path}.{stage.config.name}"
    if stage.config.per == "stage":
        parameters = {id(p): p.numel() for a in stage.attentions for p in a.parameters()}  # norms may be of each block
        return [AttachRow(top, stage.widths[0], sum(parameters.values()), blocks)]
    return [
        AttachRow(
            f"{top}.{name}",
            stage.widths[index],
            sum(p.numel() for p in stage.attentions[index].parameters()),
            (block,),
        )
        for index, (name, block) in enumerate(zip(stage.block_names, blocks, strict=True))
    ]
