"""Put constants into the weights behind the concatenation, so that nothing is left to compute."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ._attach import Handle, attached, detach
from ._scalings import ConstantScale, LSStatic
from ._sites import SkipSite, call, quiet
from ._uvit import UViT

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class FoldError(ValueError):
    """A scaling that cannot be folded; the message names each site and the reason."""


@dataclass(frozen=True)
class FoldReport:
    """What `fold` did.

    Attributes:
        exact: Indices of the sites that were folded exactly.
        approximate: Those that were folded up to the eps of a norm.
        error: Relative error of the outputs on ``example_inputs``, or None when none came.
        effect: Relative change of the outputs that the scaling makes there, to compare ``error`` with, or None.
    """

    exact: tuple[int, ...]
    approximate: tuple[int, ...]
    error: float | None
    effect: float | None


def fold(model: nn.Module, *, approx: bool = False, example_inputs: Any = None) -> FoldReport:
    """Multiply the constants of an attached scaling, or of a `UViT`, into the weights that take the skips.

    W[:, skip] <- κ W[:, skip], after which the model is structurally the plain one. All sites are folded or none.

    Args:
        model: A model with constants (``"cs"``, ``"sqrt2"``, ``"linear"``, ``"ls_static"`` or a function).
        approx: Also fold where a GroupNorm whose groups respect the border stands before the weights: the constant goes
            into the shortcut only. Needs ``example_inputs``, on which the error is measured and printed; a skip of tiny
            variance can make it large.
        example_inputs: A tensor, a tuple of positional or a mapping of keyword arguments.

    Returns:
        The report.

    Raises:
        FoldError: A site cannot be folded, or the gates depend on the input. Nothing was changed.
        ValueError: Nothing is attached, or ``approx`` came without inputs.

    Example:
        >>> from scalelong import attach, fold
        >>> from scalelong.nn import UViT
        >>> net = UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2)
        >>> handle = attach(net, "cs", kappa=0.5)
        >>> fold(net).exact
        (1, 2)
    """
    handle = attached(model)
    if handle is None and isinstance(model, UViT) and model.scaling is not None:
        return _fold_uvit(model)
    if handle is None:
        raise ValueError(f"nothing is attached to this {type(model).__name__}, so there is nothing to fold")
    if approx and example_inputs is None:
        raise ValueError("approx=True needs example_inputs, on which the error is measured")
    active = [site for site in handle.sites if site.index in handle.scaling.active]
    _refuse(model, handle, active, approx)
    before = _outputs(model, example_inputs)
    kappas = handle.kappas
    detach(model)
    plain = _outputs(model, example_inputs)
    for site in active:
        for path in site.consumers:
            _multiply(model.get_submodule(path), site.inputs or (0, 0), kappas[site.index - 1])
    after = _outputs(model, example_inputs)
    report = FoldReport(
        exact=tuple(site.index for site in active if site.fold == "exact"),
        approximate=tuple(site.index for site in active if site.fold == "approximate"),
        error=_change(before, after),
        effect=_change(before, plain),
    )
    if approx:
        print(
            f"folded with relative error {report.error:.2g}; the scaling itself changes the outputs by "
            f"{report.effect:.2g}"
        )
    return report


def _refuse(model: nn.Module, handle: Handle, sites: list[SkipSite], approx: bool) -> None:
    if not isinstance(handle.scaling.scale, ConstantScale | LSStatic):
        raise FoldError(f"{handle.scaling.config['mode']!r} has gates that depend on the input; only constants fold")
    wrong = []
    for site in sites:
        reason = site.reason if site.fold == "never" or (site.fold == "approximate" and not approx) else ""
        for path in () if reason else site.consumers:
            layer = model.get_submodule(path)
            if type(layer) not in (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED) or getattr(layer, "groups", 1) != 1:
                reason = f"{path} is a {type(layer).__name__}, no plain linear layer or convolution (merge LoRA first)"
        if reason:
            wrong.append(f"skip {site.index} at {site.module}: {reason}")
    if wrong:
        hint = "" if approx or not all(site.fold != "never" for site in sites) else "; approx=True folds up to eps"
        raise FoldError(f"cannot fold {'; '.join(wrong)}{hint}")


class _Weighted(Protocol):
    weight: Tensor


@torch.no_grad()
def _multiply(layer: Any, inputs: tuple[int, int], kappa: float) -> None:
    """Scale some input channels of a layer's weight."""
    weighted: _Weighted = layer
    dimension = 0 if isinstance(layer, _TRANSPOSED) else 1
    weighted.weight.narrow(dimension, inputs[0], inputs[1] - inputs[0]).mul_(kappa)


def _fold_uvit(model: UViT) -> FoldReport:
    if model.se is not None:
        raise FoldError(f"scaling={model.scaling!r} has gates that depend on the input; only constants fold")
    count, width = len(model.kappas), model.embed_dim
    for turn, block in enumerate(model.out_blocks):
        _multiply(block.skip_linear, (width, 2 * width), model.kappas[count - 1 - turn])
    model.scaling, model.kappas = None, (1.0,) * count
    model.config |= {"scaling": None}
    return FoldReport(tuple(range(1, count + 1)), (), None, None)


def _outputs(model: nn.Module, inputs: Any) -> Tensor | None:
    if inputs is None:
        return None
    with quiet(model):
        out = call(model, inputs)
    out = getattr(out, "sample", out)
    first = out[0] if isinstance(out, tuple | list) else out
    return first.detach().double()  # type: ignore[no-any-return]


def _change(reference: Tensor | None, other: Tensor | None) -> float | None:
    if reference is None or other is None:
        return None
    change: float = ((other - reference).norm() / reference.norm().clamp_min(1e-300)).item()
    return change
