"""The CIFAR networks of the papers: bottleneck ResNets of depth 9n + 2."""

from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ._attach import attach
from ._blocks import Parts, register_block_adapter


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions to ``4 * planes`` channels, added to the skip, ReLU."""

    def __init__(self, inplanes: int, planes: int, stride: int, *, norm: bool, skip: bool) -> None:
        super().__init__()
        width = 4 * planes
        self.conv1, self.bn1 = _conv(inplanes, planes, 1, 1, norm), _norm(planes, norm)
        self.conv2, self.bn2 = _conv(planes, planes, 3, stride, norm), _norm(planes, norm)
        self.conv3, self.bn3 = _conv(planes, width, 1, 1, norm), _norm(width, norm)
        self.skip = skip
        self.downsample: nn.Module = nn.Identity()
        if skip and (stride != 1 or inplanes != width):
            self.downsample = nn.Sequential(_conv(inplanes, width, 1, stride, norm), _norm(width, norm))

    def parts(self, x: Tensor) -> Parts:
        """Return the input of the last convolution, the skip (None where it is removed) and the tail."""
        z = torch.relu(self.bn1(self.conv1(x)))
        z = torch.relu(self.bn2(self.conv2(z)))
        return z, self.downsample(x) if self.skip else None, "relu"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, 4 planes, H / stride, W / stride)``."""
        z, skip, _ = self.parts(x)
        branch = self.bn3(self.conv3(z))
        return torch.relu(branch if skip is None else branch + skip)


class CifarResNet(nn.Module):
    """Stem, three stages of ``blocks`` bottlenecks at widths 64, 128, 256, global average pooling, classifier."""

    def __init__(self, blocks: int, *, num_classes: int, in_channels: int, norm: bool, skip: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, 16, 3, 1, norm), _norm(16, norm)
        self.layer1 = _stage(16, 16, 1, blocks, norm, skip)
        self.layer2 = _stage(64, 32, 2, blocks, norm, skip)
        self.layer3 = _stage(128, 64, 2, blocks, norm, skip)
        self.fc = nn.Linear(256, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=sqrt(2 / (module.weight[0, 0].numel() * module.out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, H, W)`` to logits ``(B, num_classes)``."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def cifar_resnet(
    depth: int,
    *,
    attention: str | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    norm: Literal["batch"] | None = "batch",
    skip: Literal["all", "none"] = "all",
    **options: Any,
) -> CifarResNet:
    """Build a bottleneck ResNet for small images of any size.

    ``norm=None`` and ``skip="none"`` are the papers' stress tests, in which networks without attention may diverge.

    Args:
        depth: 9n + 2: a stem, n blocks of three convolutions in each of three stages, a classifier.
        attention: A name for ``attach``.
        num_classes: Number of logits.
        in_channels: Channels of the images: 3 for colour, 1 for the digits.
        norm: ``"batch"``: BatchNorm after every convolution. None: no normalisation at all; each convolution then has
            a bias, initially zero, in place of the shift.
        skip: ``"none"`` removes the identity skips and the 1x1 projections at the stage borders alike, so that a block
            is relu(branch), or relu(branch ⊙ gate).
        options: Of ``attach``: ``stages``, ``init`` and those of the attention.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: ``depth``, ``attention``, ``norm`` or ``skip`` is out of range.
        TypeError: ``attach`` has no such option, or there are options and no attention.

    Example:
        >>> net = cifar_resnet(164, attention="dia", num_classes=100)
        >>> sum(p.numel() for p in net.parameters())
        1946132

    Reference:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv 1512.03385.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"depth={depth} must be 9n + 2 with n >= 1: 11, 20, 29, ..., 164")
    if norm not in ("batch", None):
        raise ValueError(f"norm={norm!r} must be 'batch' or None")
    if skip not in ("all", "none"):
        raise ValueError(f"skip={skip!r} must be 'all' or 'none'")
    net = CifarResNet(
        (depth - 2) // 9, num_classes=num_classes, in_channels=in_channels, norm=norm == "batch", skip=skip == "all"
    )
    if attention is None and options:
        raise TypeError(f"options {sorted(options)} are for an attention, and there is none")
    if attention is not None:
        attach(net, attention, **options)
    return net


def _stage(inplanes: int, planes: int, stride: int, blocks: int, norm: bool, skip: bool) -> nn.Sequential:
    first = Bottleneck(inplanes, planes, stride, norm=norm, skip=skip)
    return nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1, norm=norm, skip=skip) for _ in range(blocks - 1)))


def _conv(inplanes: int, planes: int, kernel: int, stride: int, norm: bool) -> nn.Conv2d:
    conv = nn.Conv2d(inplanes, planes, kernel, stride, padding=kernel // 2, bias=not norm)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _norm(planes: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(planes) if norm else nn.Identity()


register_block_adapter(Bottleneck, Bottleneck.parts, last=("conv3", "bn3"))
