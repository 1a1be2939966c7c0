"""Where ASR goes: into the last layer of each residual branch, or into the layers that a pattern names."""

from fnmatch import fnmatchcase

from torch import nn

from ._asr import ASR
from ._config import AttachConfig
from ._find import asr_layers, stages_in
from ._host import GUEST, affine_names, host, raw, width_of
from ._report import AttachReport, AttachRow
from ._stage import Stage


def attach_asr(model: nn.Module, config: AttachConfig) -> AttachReport:
    """Give the chosen layers their ASR; the model is unchanged if that is refused."""
    if attached := asr_layers(model):
        raise ValueError(f"ASR is attached already at {list(attached)}; call detach(model) first")
    if config.check_finite:
        raise ValueError("check_finite reads the residual branch, which ASR never sees; leave it False")
    options = {key: value for key, value in config.options.items() if key != "layers"}
    built: dict[str, tuple[nn.Module, ASR]] = {}
    for path in _asr_paths(model, config):
        layer = model.get_submodule(path)
        try:
            names = affine_names(layer)
            like = raw(layer, names[0])
            guest = ASR(width_of(layer), init=config.init, device=like.device, dtype=like.dtype, **options)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        guest.config = config
        built.setdefault(path, (layer, guest.train(layer.training)))
    for layer, guest in {id(layer): (layer, guest) for layer, guest in built.values()}.values():
        host(layer, guest)
    rows = (
        AttachRow(f"{path}.{GUEST}", guest.channels, sum(p.numel() for p in guest.parameters()), (path,))
        for path, (_, guest) in built.items()
    )
    return AttachReport("asr", tuple(rows))


def _asr_paths(model: nn.Module, config: AttachConfig) -> list[str]:
    patterns = config.options["layers"]
    if patterns is not None:
        paths = [path for path, _ in model.named_modules() if any(fnmatchcase(path, p) for p in patterns)]
        if not paths:
            raise ValueError(f"layers={patterns!r} names no layer of this {type(model).__name__}")
        return paths
    found = list(stages_in(model))
    paths = []
    for index in config.stages:
        path, stage, adapters = found[index]
        names = stage.block_names if isinstance(stage, Stage) else tuple(stage._modules)
        for position, (name, adapter) in enumerate(zip(names, adapters, strict=True)):
            try:
                paths += [f"{path}.{name}.{layer}" for layer in adapter.layers(stage[position])]
            except ValueError as error:
                raise ValueError(f"{path}.{name}: {error}") from error
    return paths
