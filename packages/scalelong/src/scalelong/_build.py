"""The network of a training, and what its skips are compared with."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sail_core.extras import needs
from sail_core.runs import seed_everything
from torch import Tensor, nn

from ._data import Images
from .functional import cs_kappas
from .nn import UViT

Scaling = Literal["org", "sqrt2", "cs", "ls"]
Control = Literal["none", "mp_cat", "reparametrised"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A U-ViT, or a UNet of diffusers, for the pictures it is trained on."""

    model: Literal["uvit", "unet"] = "uvit"
    """The authors' U-ViT, or diffusers' UNet2DModel."""
    scaling: Scaling = "cs"
    """Of the long skips: none, 1/sqrt(2) for all, kappa^(i-1), or learned (a gate a token; in a UNet a gate a map)."""
    kappa: float = 0.7
    """Of the scaling cs and of the control reparametrised."""
    control: Control = "none"
    """What a gain of scaling must be compared with: EDM2's magnitude-preserving concatenation, or the plain net whose
    skip weights start at kappa and learn at kappa times the rate. U-ViT with scaling org only."""
    depth: int = 12
    """Blocks of the U-ViT beside its middle one, even; it has depth / 2 long skips."""
    embed_dim: int = 64
    num_heads: int = 4
    patch_size: int = 2
    channels: tuple[int, ...] = (32, 64)
    """Widths of the UNet's resolutions, multiples of 32."""
    layers_per_block: int = 2
    """Residual blocks of the UNet at each resolution."""
    class_conditional: bool = False
    """Condition on the labels of the pictures."""

    def __post_init__(self) -> None:
        if self.control != "none" and (self.model != "uvit" or self.scaling != "org"):
            raise ValueError(
                f"the control {self.control!r} compares with scaling: it goes with model 'uvit' and scaling 'org', "
                f"not with {self.model!r} and {self.scaling!r}"
            )


def conditioned(images: Images, config: ModelConfig) -> Images:
    """Return the pictures with only what the network is conditioned on: no labels unless it is class-conditional."""
    return images if config.class_conditional else Images(pixels=images.pixels, context=images.context)


def build(config: ModelConfig, images: Images, *, seed: int) -> nn.Module:
    """Build the untrained network for pictures of this shape, its weights drawn from the seed.

    Args:
        config: The network.
        images: The training pictures; their shape, labels and context decide the network's ends.
        seed: Draws the weights.

    Returns:
        The network, on the CPU.

    Raises:
        ValueError: The pictures have no labels where the config asks for them, or their side does not fit.
        MissingExtra: diffusers is not installed and the config asks for its UNet.
    """
    _, channels, height, width = images.pixels.shape
    if config.class_conditional and images.labels is None:
        raise ValueError("class_conditional needs labels, and these pictures have no classes")
    classes = int(images.labels.max()) + 1 if config.class_conditional and images.labels is not None else -1
    if images.context is not None and classes > 0:
        raise ValueError("the pictures come with text and with classes to condition on: choose class_conditional=False")
    seed_everything(seed)
    if config.model == "unet":
        return _unet(config, channels, height, classes, text=images.context is not None)
    if height != width or height % config.patch_size:
        raise ValueError(f"pictures of {height} x {width} do not divide into patches of side {config.patch_size}")
    tokens, dim = (0, 0) if images.context is None else images.context.shape[1:]
    model = UViT(
        img_size=height,
        patch_size=config.patch_size,
        in_chans=channels,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=4,
        qkv_bias=False,
        mlp_time_embed=False,
        num_classes=classes,
        conv=True,
        skip=True,
        scaling=None if config.scaling == "org" else config.scaling,
        kappa=config.kappa,
        context_dim=dim or None,
        num_context_tokens=tokens,
    )
    if config.control == "mp_cat":
        for block in model.out_blocks:
            block.register_forward_pre_hook(MagnitudePreservingConcat(balance=0.3))
    return model


def _unet(config: ModelConfig, channels: int, size: int, classes: int, *, text: bool) -> nn.Module:
    if text:
        raise ValueError("the UNet of this command takes no text; use model 'uvit'")
    with needs("scalelong", "train"):
        from diffusers import UNet2DModel
    from ._attach import attach

    levels = len(config.channels)
    make: Any = UNet2DModel
    model: nn.Module = make(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        num_class_embeds=classes if classes > 0 else None,
    )
    if config.scaling != "org":
        attach(model, "ls_scalar" if config.scaling == "ls" else config.scaling, kappa=config.kappa)
    return model


def skip_linears(model: UViT) -> list[nn.Linear]:
    """Return the layers that consume ``cat[x, skip]``, the shallowest skip's first."""
    return [block.skip_linear for block in reversed(list(model.out_blocks))]  # type: ignore[misc]


class MagnitudePreservingConcat:
    """EDM2's concatenation, as a pre-hook on the block that takes backbone and skip.

    ``cat[w_a x, w_b s]`` with ``w = sqrt(2 / ((1-b)^2 + b^2)) * (1-b, b)`` for halves of equal width: the variance of
    the whole is kept. At b = 0.5, EDM2's own value, both weights are 1 and a U-ViT is the plain net.

    Args:
        balance: b in (0, 1), the share of the skip.

    References:
        T. Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, 2024, arXiv 2312.02696.
    """

    def __init__(self, *, balance: float) -> None:
        whole = math.sqrt(2 / ((1 - balance) ** 2 + balance**2))
        self.weights = (whole * (1 - balance), whole * balance)

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Weigh backbone and skip, both ``(B, L, D)``."""
        x, skip, *rest = args
        return (self.weights[0] * x, self.weights[1] * skip, *rest)


class SkipHalves:
    """The control ``reparametrised``: skip weights that start at kappa_i and move kappa_i times as far.

    Constant scaling before a linear layer is exactly this under AdamW: with V = kappa W the gradient of W is kappa
    times that of V, Adam's step does not change with the scale of a gradient, and the decay multiplies W and V alike.

    Args:
        model: A plain U-ViT, its skip weights multiplied in place.
        kappa: As in constant scaling.
    """

    def __init__(self, model: UViT, kappa: float) -> None:
        linears = skip_linears(model)
        self._halves = list(zip(linears, cs_kappas(len(linears), kappa), strict=True))
        with torch.no_grad():
            for half, factor in self._weights():
                half.mul_(factor)

    def _weights(self) -> Iterator[tuple[Tensor, float]]:
        for linear, factor in self._halves:
            yield linear.weight[:, linear.in_features // 2 :], factor

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step the optimizer, and take back what the halves moved too far."""
        group = optimizer.param_groups[0]
        kept = 1 - group["lr"] * group["weight_decay"]
        decayed = [half * kept for half, _ in self._weights()]
        optimizer.step()
        for (half, factor), start in zip(self._weights(), decayed, strict=True):
            half.copy_(start + factor * (half - start))
