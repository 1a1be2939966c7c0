"""Where a network looks: class activation maps, and how far they miss the evidence."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dia_attention._find import stages_in


@dataclass(frozen=True)
class Bias:
    """Rates over N images, each in [0, 1].

    Attributes:
        position: Share of images whose attended region misses the evidence wholly.
        range: Share of images whose attended region meets the evidence and reaches beyond it.
        leakage: Mean share of the map's mass outside the evidence.
        pointing: Share of images whose map has its largest value on the evidence.
    """

    position: float
    range: float
    leakage: float
    pointing: float


def grad_cam(
    model: nn.Module, images: Tensor, labels: Tensor | None = None, *, layer: nn.Module | None = None
) -> Tensor:
    r"""Grad-CAM of a classifier, at the size of the images.

    $$ M = \mathrm{relu}\Big(\sum_c \Big(\frac1{HW}\sum_{ij} \frac{\partial y}{\partial A_{cij}}\Big) A_c\Big) $$

    with A the output of the layer and y the logit of the class, divided by its largest value.

    Args:
        model: Maps images to logits `(N, classes)`; in eval mode, its `.grad` fields stay as they are.
        images: `(N, C, H, W)`.
        labels: The classes `(N,)`; None takes the predicted ones.
        layer: The layer A; None is the last residual stage that `attach` knows.

    Returns:
        `(N, H, W)` in [0, 1], bilinearly enlarged; all 0 where no channel speaks for the class.

    Raises:
        ValueError: The model is in training mode, or has no residual stage and no layer is given.

    Example:
        >>> from dia_attention import cifar_resnet
        >>> grad_cam(cifar_resnet(11).eval(), torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 16, 16])

    References:
        R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
        ICCV 2017, arXiv:1610.02391.
    """
    if model.training:
        raise ValueError("call eval() first: in training mode a map depends on the other images of the batch")
    if layer is None:
        stages = [stage for _, stage, _ in stages_in(model)]
        if not stages:
            raise ValueError(f"{type(model).__name__} has no residual stage that attach knows; give layer=")
        layer = stages[-1]
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.enable_grad():
            logits = model(images.detach().requires_grad_())  # so that A has a graph where the weights are frozen
            chosen = logits.argmax(1) if labels is None else labels
            (features,) = seen
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), features)
    finally:
        hook.remove()
    maps = torch.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True)).detach()
    maps = interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def attention_bias(cam: Tensor, mask: Tensor, *, threshold: float = 0.5, tolerance: float = 0.0) -> Bias:
    r"""Position and range bias of activation maps, given where the evidence lies.

    The attended region is $M = \{m \ge \tau \max m\}$, the evidence G:

    - position bias: ``|M and G| = 0`` (also of a map that is 0 everywhere);
    - range bias: ``|M and G| > 0`` and ``|M without G| / |M| > delta``;
    - leakage: $1 - \sum_G m / \sum m$, over the maps that are not 0 everywhere;
    - pointing game: the largest value lies in G.

    Args:
        cam: Maps `(N, H, W)`, not negative.
        mask: The evidence `(N, H, W)`, bool; each has at least one true pixel.
        threshold: τ in (0, 1].
        tolerance: δ in [0, 1).

    Returns:
        The four rates.

    Raises:
        ValueError: Shapes differ, an argument is out of range, a map is negative or not finite, or a mask is empty.

    Example:
        >>> cam = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
        >>> attention_bias(cam, torch.tensor([[[True, False], [False, False]]]))
        Bias(position=0.0, range=1.0, leakage=0.5, pointing=1.0)

    References:
        S. Zhong et al., LSAS: Lightweight Sub-attention Strategy for Alleviating Attention Bias Problem, ICME 2023,
        arXiv:2305.05200 (the two biases, in words; threshold and tolerance are written down here).
    """
    if cam.ndim != 3 or cam.shape != mask.shape or not cam.numel():
        raise ValueError(f"expected maps and masks (N, H, W) of one shape, got {tuple(cam.shape)}, {tuple(mask.shape)}")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is of type {mask.dtype}; give the evidence as bool")
    if not 0 < threshold <= 1 or not 0 <= tolerance < 1:
        raise ValueError(f"threshold={threshold} must lie in (0, 1], tolerance={tolerance} in [0, 1)")
    maps, evidence = cam.flatten(1).double(), mask.flatten(1)
    if not (torch.isfinite(maps).all() and (maps >= 0).all()):
        raise ValueError("a map is negative or not finite; give relu'd maps, such as those of grad_cam")
    if not evidence.any(1).all():
        raise ValueError(f"mask {int((~evidence.any(1)).nonzero()[0])} is empty: leave such images out")
    peak = maps.amax(1, keepdim=True)
    attended = (maps >= threshold * peak) & (maps > 0)
    inside, outside = (attended & evidence).sum(1), (attended & ~evidence).sum(1)
    excess = outside / attended.sum(1).clamp_min(1)
    some = peak[:, 0] > 0
    leaked = 1 - (maps * evidence).sum(1) / maps.sum(1)
    return Bias(
        position=(inside == 0).double().mean().item(),
        range=((inside > 0) & (excess > tolerance)).double().mean().item(),
        leakage=leaked[some].mean().item(),
        pointing=(evidence.gather(1, maps.argmax(1, keepdim=True))[:, 0] & some).double().mean().item(),
    )
