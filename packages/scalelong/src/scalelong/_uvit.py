"""U-ViT with scaled long skips; its state dict has the names of the authors' checkpoints."""

import math
import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ._scalings import LSToken
from ._uvit_block import Block
from ._warning import ScalingWarning
from .functional import cs_kappas, sqrt2_kappas

Scaling = Literal["sqrt2", "cs", "ls", "ls_nonshared"]


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel, as a sequence."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, **factory: Any) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, L, D)``."""
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class UViT(nn.Module):
    """A vision transformer with long skips for noise prediction: all is a token, and block i feeds block N + 1 - i.

    Args:
        img_size: Height and width of the images.
        patch_size: Divides ``img_size``.
        in_chans: Channels of the images.
        embed_dim: Width D.
        depth: Number of blocks beside the middle one; even; N = depth / 2 long skips.
        num_heads: Divides ``embed_dim``.
        mlp_ratio: Hidden width of the MLPs over D.
        qkv_bias: Bias of query, key and value.
        mlp_time_embed: Two layers on the time embedding instead of none.
        num_classes: With n > 0 classes, ``forward`` needs labels ``y``.
        conv: A last 3 x 3 convolution.
        skip: False leaves the long skips out.
        scaling: None for κ = 1; ``"sqrt2"``; ``"cs"``, κ_i = κ^(i-1); ``"ls"``, one gate for all skips;
            ``"ls_nonshared"``, one gate for each skip, ``se.0`` for the deepest.
        kappa: κ of ``"cs"``, in (0, 1].
        context_dim: Width of the context tokens (text), or None.
        num_context_tokens: Their number n.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An argument is out of range or two exclude each other.

    Example:
        >>> import torch
        >>> net = UViT(8, 2, 1, embed_dim=32, depth=4, num_heads=2, scaling="cs", kappa=0.5)
        >>> net(torch.zeros(2, 1, 8, 8), torch.tensor([0, 999])).shape, net.kappas
        (torch.Size([2, 1, 8, 8]), (1.0, 0.5))

    Reference:
        Bao, Nie, Xue and others: All are Worth Words: A ViT Backbone for Diffusion Models. CVPR 2023, arXiv 2209.12152.
        Scalings: arXiv 2310.13545. The authors' flash path computes attention in float32 whatever the model's dtype is;
        here it has the model's.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        conv: bool = True,
        skip: bool = True,
        scaling: Scaling | None = None,
        kappa: float = 0.7,
        *,
        context_dim: int | None = None,
        num_context_tokens: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        given = dict(locals())
        self.config = {name: given[name] for name in _ARGUMENTS}
        _check(self.config)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.img_size, self.patch_size, self.in_chans, self.embed_dim = img_size, patch_size, in_chans, embed_dim
        self.num_classes, self.num_context_tokens = num_classes, num_context_tokens
        self.scaling, self.gradient_checkpointing = scaling, False
        count = depth // 2

        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, **factory)
        self.time_embed: nn.Module = nn.Identity()
        if mlp_time_embed:
            first, last = (
                nn.Linear(*widths, **factory) for widths in ((embed_dim, 4 * embed_dim), (4 * embed_dim, embed_dim))
            )
            self.time_embed = nn.Sequential(first, nn.SiLU(), last)
        if num_classes > 0:
            self.label_emb = nn.Embedding(num_classes, embed_dim, **factory)
        if context_dim is not None:
            self.context_embed = nn.Linear(context_dim, embed_dim, **factory)
        self.extras = 1 + (num_classes > 0) + num_context_tokens
        tokens = self.extras + (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim, **factory))
        common = {"mlp_ratio": mlp_ratio, "qkv_bias": qkv_bias, **factory}
        self.in_blocks = nn.ModuleList(Block(embed_dim, num_heads, **common) for _ in range(count))
        self.mid_block = Block(embed_dim, num_heads, **common)
        self.out_blocks = nn.ModuleList(Block(embed_dim, num_heads, skip=skip, **common) for _ in range(count))
        self.norm = nn.LayerNorm(embed_dim, **factory)
        self.decoder_pred = nn.Linear(embed_dim, patch_size**2 * in_chans, **factory)
        self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1, **factory) if conv else nn.Identity()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)

        self.se: nn.Module | None = None  # after the initialisation: the gates keep torch's own, as the authors' do
        if scaling == "ls":
            self.se = LSToken(tokens, **factory)
        elif scaling == "ls_nonshared":
            self.se = nn.ModuleList(LSToken(tokens, **factory) for _ in range(count))
        self.kappas = (1.0,) * count
        if scaling == "cs":
            self.kappas = cs_kappas(count, kappa)
        elif scaling == "sqrt2":
            self.kappas = sqrt2_kappas(count)

    def enable_gradient_checkpointing(self) -> None:
        """Compute every block again in the backward pass instead of keeping its activations."""
        self.gradient_checkpointing = True

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Predict the noise.

        Args:
            x: Images ``(B, C, img_size, img_size)``.
            timesteps: ``(B,)``, not scaled: 0 to 999 in the authors' discrete models.
            y: Labels ``(B,)``; needed with ``num_classes``, refused without.
            context: ``(B, num_context_tokens, context_dim)``; needed with ``context_dim``, refused without.

        Returns:
            ``(B, C, img_size, img_size)``.

        Raises:
            ValueError: A shape is wrong, or ``y`` or ``context`` is missing or not expected.
        """
        self._check_inputs(x, y, context)
        h = self.patch_embed(x)
        time = self.time_embed(timestep_embedding(timesteps, self.embed_dim).to(h.dtype)).unsqueeze(1)
        if context is not None:
            h = torch.cat([time, self.context_embed(context), h], dim=1)
        elif y is not None:
            h = torch.cat([self.label_emb(y).unsqueeze(1), time, h], dim=1)
        else:
            h = torch.cat([time, h], dim=1)
        h = h + self.pos_embed
        skips = []
        for block in self.in_blocks:
            h = self._run(block, h)
            skips.append(h)
        h = self._run(self.mid_block, h)
        for turn, block in enumerate(self.out_blocks):
            s = skips.pop()
            h = self._run(block, h, s, self._scale(s, turn))
        h = self.decoder_pred(self.norm(h))[:, self.extras :]
        side = self.img_size // self.patch_size
        h = h.unflatten(-1, (self.patch_size, self.patch_size, self.in_chans)).unflatten(1, (side, side))
        return self.final_layer(h.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3))  # type: ignore[no-any-return]

    def _scale(self, skip: Tensor, turn: int) -> float | Tensor:
        """The factor of the skip that block ``turn`` of the decoder takes; turn 0 takes the deepest, i = N."""
        if isinstance(self.se, LSToken):
            return self.se.gate(skip)
        if self.se is not None:
            return self.se[turn].gate(skip)  # type: ignore[no-any-return, index]
        return self.kappas[len(self.kappas) - 1 - turn]

    def _run(self, block: nn.Module, *args: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)  # type: ignore[no-any-return]
        return block(*args)  # type: ignore[no-any-return]

    def _check_inputs(self, x: Tensor, y: Tensor | None, context: Tensor | None) -> None:
        if x.shape[1:] != (self.in_chans, self.img_size, self.img_size):
            expected = f"(B, {self.in_chans}, {self.img_size}, {self.img_size})"
            raise ValueError(f"images of shape {tuple(x.shape)} came, {expected} is expected: U-ViT has one resolution")
        if (y is not None) != (self.num_classes > 0):
            raise ValueError(
                f"y is {'missing' if y is None else 'given'}, and the model has num_classes={self.num_classes}: give "
                "labels exactly when it has classes"
            )
        dim = self.config["context_dim"]
        if (context is not None) != (dim is not None):
            raise ValueError(
                f"context is {'missing' if context is None else 'given'}, and the model has context_dim={dim}: give "
                "context exactly when it has a width for it"
            )
        if context is not None and context.shape[1:] != (self.num_context_tokens, dim):
            raise ValueError(
                f"context of shape {tuple(context.shape)} came, (B, {self.num_context_tokens}, {dim}) is expected"
            )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})["kappas"] = self.kappas

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *args: Any) -> None:
        there = local_metadata.get("kappas", self.kappas)
        if there != self.kappas:
            warnings.warn(
                f"the weights come from a U-ViT with kappas {_few(there)}, this one has {_few(self.kappas)}: build it "
                "with the same scaling and kappa, or use scalelong.load",
                ScalingWarning,
                stacklevel=2,
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding: cat(cos(t ω_j), sin(t ω_j)) with ω_j = 10000^(-j/half), in float32.

    Args:
        timesteps: ``(B,)``.
        dim: Width; with an odd one the last column is 0.

    Returns:
        ``(B, dim)``.

    Example:
        >>> timestep_embedding(torch.tensor([0]), 4)
        tensor([[1., 1., 0., 0.]])
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies
    return nn.functional.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


_ARGUMENTS = (
    "img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "mlp_time_embed",
    "num_classes", "conv", "skip", "scaling", "kappa", "context_dim", "num_context_tokens",
)  # fmt: skip


def _few(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def _check(given: dict[str, Any]) -> None:
    depth, scaling, context = given["depth"], given["scaling"], given["context_dim"]
    if depth < 2 or depth % 2:
        raise ValueError(f"depth is {depth}; it must be even and at least 2: half of the blocks feed the other half")
    if given["img_size"] % given["patch_size"]:
        raise ValueError(f"patch_size {given['patch_size']} does not divide img_size {given['img_size']}")
    if given["embed_dim"] % given["num_heads"]:
        raise ValueError(f"num_heads {given['num_heads']} does not divide embed_dim {given['embed_dim']}")
    if scaling is not None and scaling not in get_args(Scaling):
        raise ValueError(f"scaling is {scaling!r}; it must be None or one of {', '.join(get_args(Scaling))}")
    if scaling is not None and not given["skip"]:
        raise ValueError(f"scaling is {scaling!r}, and skip=False leaves no long skips to scale")
    if (context is None) != (given["num_context_tokens"] == 0):
        raise ValueError("context_dim and num_context_tokens go together: give both or neither")
    if context is not None and given["num_classes"] > 0:
        raise ValueError("num_classes and context_dim exclude each other: a model has labels or context")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
