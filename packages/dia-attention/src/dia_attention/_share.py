"""DIA as a framework: one attention of any kind for all blocks of a stage."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Literal

from torch import nn

from ._attach import ATTENTIONS, apply, fill_options
from ._config import AttachConfig
from ._find import chosen_stages
from ._report import AttachReport

_SHARED = ("cbam", "eca", "lsas", "ras", "se", "step")


def share(
    model: nn.Module,
    attention: Literal["se", "eca", "cbam", "ras", "lsas", "step"] | Callable[[int], nn.Module],
    *,
    per: Literal["stage", "block"] = "stage",
    share_norm: bool = False,
    stages: Sequence[int] | None = None,
    init: str | None = None,
    check_finite: bool = False,
    **options: Any,
) -> AttachReport:
    """Let the blocks of a stage use one attention, in place.

    a_t = attention(branch of block t) with the same parameters for every t. ``attach(model, "dia")`` is the recurrent
    form of this; ``per="block"`` gives every block parameters of its own, the network to compare with.

    Args:
        model: The network, changed in place.
        attention: A name, or a class or function that is called with the width C and gives a module from
            ``(B, C, H, W)`` to ``(B, C, H, W)``, as timm's attention layers do.
        per: What shares one attention.
        share_norm: Also share batch and instance norms inside the attention. Their running statistics would then mix
            those of different layers, so that by default each block has its own; those of the first block are in the
            attention itself, the others under ``<stage>.<name>_norms``.
        stages: Indices of the stages, as for ``attach``; the default is all of them.
        init: As for ``attach``; a class of yours starts as it does.
        check_finite: As for ``attach``.
        options: Of the attention, if it is given by name.

    Returns:
        A printable table of what was inserted.

    Raises:
        ValueError: An argument is out of range, or the attention cannot go in; the model is then unchanged.
        TypeError: The attention has no such option, or a module is given where a class is wanted.

    Example:
        >>> from dia_attention import cifar_resnet, share
        >>> print(share(cifar_resnet(20), "se"))
        path       channels  parameters  shared with
        layer1.se        64         580  layer1.0 .. layer1.1 (2 blocks)
        layer2.se       128       2,184  layer2.0 .. layer2.1 (2 blocks)
        layer3.se       256       8,464  layer3.0 .. layer3.1 (2 blocks)
        total                    11,228

    Reference:
        Huang, Liang, Liang, He, Lin: A Generic Shared Attention Mechanism for Various Backbone Neural Networks.
        arXiv 2210.16101.
    """
    if per not in ("stage", "block"):
        raise ValueError(f"per={per!r} must be 'stage' or 'block'")
    if isinstance(attention, str):
        if attention not in _SHARED:
            raise ValueError(f"cannot share {attention!r}; give one of {sorted(_SHARED)}, or a class (see also attach)")
        name, filled = str(attention), fill_options(attention, options)
        start = init or str(signature(ATTENTIONS[name]).parameters["init"].default)
    else:
        if options or init is not None:
            raise TypeError(f"options {sorted(options) or ['init']} are for attentions given by name; use a partial")
        if isinstance(attention, nn.Module) or not callable(attention):
            raise TypeError(f"got a {type(attention).__name__} module; give its class, which is called with the width")
        name, filled, start = "shared", {"attention": attention}, "paper"
    config = AttachConfig(
        name, chosen_stages(model, stages), start, check_finite, filled, per=per, share_norm=share_norm
    )
    return apply(model, config)
