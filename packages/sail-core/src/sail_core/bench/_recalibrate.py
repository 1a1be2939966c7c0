"""The benchmark of ``recalibrate``: squeeze-and-excitation as timm runs it, alone and in a residual block."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn

from sail_core.extras import needs
from sail_core.ops import _forms, backend, recalibrate
from sail_core.testing import byte_count

from ._compare import compare
from ._rows import Row

Op = Literal["se", "se_res_relu"]
Device = Literal["cpu", "cuda"]

OPS: tuple[Op, ...] = ("se", "se_res_relu")
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
_SHAPES = {
    "cpu": [(8, 64, 56, 56), (8, 256, 28, 28), (8, 1024, 14, 14), (8, 2048, 7, 7), (2, 64, 7, 7)],
    "cuda": [(256, 64, 56, 56), (256, 256, 56, 56), (256, 512, 28, 28), (256, 2048, 7, 7), (32, 256, 14, 14)],
}
_DTYPES = {"cpu": ["float32"], "cuda": ["bfloat16", "float32"]}
_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
# Maps that must be moved forward and backward: pool, scale, product sum and gradient, then residual and ReLU.
_MODEL_PASSES: dict[Op, int] = {"se": 7, "se_res_relu": 10}


class _Peer(nn.Module):
    """A peer's module, then an addition and a ReLU; ``inplace`` as timm's own residual blocks write these two."""

    def __init__(self, se: nn.Module, *, inplace: bool) -> None:
        super().__init__()
        self.se = se
        self.inplace = inplace

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        y: Tensor = self.se(x)
        if residual is None:
            return y
        return y.add_(residual).relu_() if self.inplace else torch.relu(y + residual)


class _Ours(nn.Module):
    """The same with the same weights through ``recalibrate``."""

    def __init__(self, se: Any) -> None:
        super().__init__()
        layers = []
        for conv in (se.fc1, se.fc2):
            linear = nn.Linear(conv.in_channels, conv.out_channels)
            linear.weight.data.copy_(conv.weight.data.flatten(1))
            linear.bias.data.copy_(conv.bias.data)
            layers.append(linear)
        self.gate = nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1], nn.Sigmoid())

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        y = recalibrate(x, self.gate, residual=residual, activation=None if residual is None else "relu")
        assert isinstance(y, Tensor)
        return y


def _modules(op: Op, channels: int, device: str, dtype: torch.dtype) -> dict[str, nn.Module]:
    with needs("sail-core", "bench"):
        from timm.layers import SqueezeExcite  # type: ignore[attr-defined]

    torch.manual_seed(0)
    se = SqueezeExcite(channels)
    modules = {"sail_core": _Ours(se), "timm": _Peer(se, inplace=False)}
    if op == "se_res_relu":
        modules["timm_inplace"] = _Peer(se, inplace=True)
    return {name: module.to(device, dtype) for name, module in modules.items()}


def _more_peers(timm: nn.Module, device: str, *, compiled: bool) -> dict[str, nn.Module]:
    """The module of torchvision with timm's weights, and timm's compiled; compiling takes seconds a case."""
    with needs("sail-core", "bench"):
        from torchvision.ops import SqueezeExcitation  # type: ignore[import-untyped]

    theirs: Any = timm.se
    other = SqueezeExcitation(theirs.fc1.in_channels, theirs.fc1.out_channels)
    other.fc1, other.fc2 = copy.deepcopy(theirs.fc1), copy.deepcopy(theirs.fc2)
    modules: dict[str, nn.Module] = {"torchvision": _Peer(other, inplace=False).to(device)}
    if compiled:
        torch.compiler.reset()  # otherwise the ninth shape runs eagerly
        modules["compiled"] = torch.compile(timm)  # type: ignore[assignment]
    return modules


def _step(module: nn.Module, x: Tensor, residual: Tensor | None, g: Tensor) -> tuple[Tensor | None, ...]:
    """Forward and backward; the gradients of the parameters are computed but not returned."""
    y = module(x, residual)
    inputs = [t for t in (x, residual) if t is not None]
    gradients = torch.autograd.grad(y, [*inputs, *module.parameters()], g)
    return (y.detach(), *gradients[: len(inputs)])


def _inputs(op: Op, shape: Sequence[int], layout: str, device: str, dtype: torch.dtype, seed: int) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    x, residual, g = (
        torch.randn(*shape, generator=generator).to(device, dtype, memory_format=LAYOUTS[layout]) for _ in range(3)
    )
    return [x.requires_grad_(), residual.requires_grad_() if op == "se_res_relu" else None, g]


def recalibrate_rows(*, device: Device, quick: bool = False) -> Iterator[list[Row]]:
    """Compare with timm's and torchvision's modules and with timm's compiled, forward and backward, case by case.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        quick: Only the smallest shape, for a few milliseconds, and nothing compiled.

    Yields:
        The rows of one case.
    """
    with needs("sail-core", "bench"):
        import timm
        import torchvision  # type: ignore[import-untyped]
    from sail_core import __version__

    versions = {"sail_core": __version__, "torchvision": torchvision.__version__, "compiled": torch.__version__}
    versions |= dict.fromkeys(("timm", "timm_inplace"), timm.__version__)

    shapes = _SHAPES[device][-1:] if quick else _SHAPES[device]
    for dtype_name in _DTYPES[device]:
        dtype = getattr(torch, dtype_name)
        for shape in shapes:
            for op in OPS:
                modules = _modules(op, shape[1], device, dtype)
                exact = copy.deepcopy(modules["timm"]).double()
                for layout in LAYOUTS:
                    modules |= _more_peers(modules["timm"], device, compiled=not quick)
                    size = torch.Size(shape).numel() * dtype.itemsize
                    yield compare(
                        op,
                        {name: partial(_step, module) for name, module in modules.items()},
                        partial(_inputs, op, shape, layout, device, dtype),
                        reference=partial(_exact_step, exact),
                        tolerance=_TOLERANCE[dtype_name],
                        mode="fwdbwd",
                        shape=shape,
                        dtype=dtype_name,
                        layout=layout,
                        device=device,
                        versions=versions,
                        model_bytes=_MODEL_PASSES[op] * size,
                        seconds=0.02 if quick else 1.0,
                    )


def _exact_step(module: nn.Module, *arguments: Tensor | None) -> tuple[Tensor | None, ...]:
    """``_step`` in float64, for a module that is already in float64."""
    x, residual, g = (None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in arguments)
    assert x is not None
    assert g is not None
    return _step(module, x, residual, g)


def traffic(*, form: Device, layout: str) -> dict[tuple[Op, str], float]:
    """Count the passes over the map, forward and backward, of the joint form and of timm in eager mode.

    The count is exact and needs no accelerator: the formulas of either device run on the CPU.

    Args:
        form: Whose formulas to count, ``"cpu"`` or ``"cuda"``.
        layout: ``"nchw"`` or ``"nhwc"``.

    Returns:
        Passes by operation and implementation.
    """
    shape, found = (8, 64, 56, 56), {}
    for op in OPS:
        for name, module in _modules(op, shape[1], "cpu", torch.float32).items():
            x, residual, g = _inputs(op, shape, layout, "cpu", torch.float32, 0)
            with patch.dict(_forms.FORMS, cpu=_forms.FORMS[form]), backend("joint"), byte_count() as count:
                _step(module, x, residual, g)
            found[op, name] = count.passes(x.nbytes)
    return found
