"""The adapter: text states in, text states of the same shape out.

``functional`` has the formula. ``fc`` starts at zero, so that a fresh adapter changes nothing, bit for bit.

Differences from the authors' code:
    - Attention runs along the tokens; theirs runs across the batch, so that prompts leak into one another.
    - The correction is added, ``x + scale c``; theirs also shrinks x, and its bias does not start at zero.
    - No dropout by default; theirs stays on at inference.
    - A mask of the padding, a bottleneck for wide encoders, gradient checkpointing and a scale for each call are ours.
    - Their unused parameters (30 %) are gone. `SURAdapter.original` and ``convert_original_checkpoint`` give their
      outputs.

References:
    - Zhong, Huang, Wen, Qin, Lin: SUR-adapter: Enhancing Text-to-Image Pre-trained Diffusion Models with Large Language
      Models. ACM Multimedia 2023, arXiv 2305.05189.
"""

import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ._encoder_layer import EncoderLayer, weights_of
from ._provenance import Provenance
from ._save import read_adapter, write_adapter
from .functional import Mixing, Residual, residual, token_attention


def check_scale(scale: float) -> float:
    """Return a finite scale as a float, with a warning outside 0 .. 1."""
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise TypeError(f"scale is {scale!r} of type {type(scale).__name__}; it must be a number")
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; it must be finite, usually within 0 .. 1")
    if not 0 <= scale <= 1:
        warnings.warn(f"scale is {scale}; adapters are trained and used within 0 .. 1", stacklevel=3)
    return float(scale)


class SURAdapter(nn.Module):
    """An adapter of the states of one text encoder.

    ``out = x + scale fc(token_attention(encoder(x), x))``

    Args:
        hidden_size: Width d of the text states.
        depth: Layers of the encoder, >= 1.
        num_heads: Heads of their attention; they divide the width, which is ``low_rank`` where that is given.
        ff_dim: Their inner width.
        scale: eta, the strength; finite, usually within 0 .. 1. An attribute that may be set.
        mixing: What the encoder's attention runs along. ``"tokens"``; ``"none"``: nothing, each token alone;
            ``"batch"``: the prompts of the batch, the authors' code, with a warning.
        residual: ``"add"`` or ``"lerp"``, see ``functional.residual``.
        dropout: In the encoder, in training mode.
        low_rank: Inner width r < d. All but the last layer then works at width r, behind a linear map from d to r;
            4096-wide states need 252 million parameters without it.
        mask_padding: Whether whoever attaches the adapter shall give it the mask of the padding. Training and use
            must agree on it, so it is saved.
        init: ``"identity"``: fc is zero. ``"original"``: its weight alone, its bias is nn.Linear's.
        provenance: Where it comes from. An attribute that may be set; it is saved.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> import torch
        >>> from sur_adapter import SURAdapter
        >>> adapter = SURAdapter(64, ff_dim=128)
        >>> x = torch.randn(2, 77, 64)
        >>> bool((adapter(x) == x).all())
        True
        >>> out, h, c = adapter(x, return_intermediates=True)
        >>> h.shape
        torch.Size([2, 77, 64])
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        depth: int = 2,
        num_heads: int = 8,
        ff_dim: int = 2048,
        scale: float = 0.1,
        mixing: Mixing = "tokens",
        residual: Residual = "add",
        dropout: float = 0.0,
        low_rank: int | None = None,
        mask_padding: bool = False,
        init: Literal["identity", "original"] = "identity",
        provenance: Provenance | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(hidden_size, depth, num_heads, ff_dim, mixing, residual, dropout, low_rank, init)
        if mixing == "batch":
            if mask_padding:
                raise ValueError("mixing='batch' attends across prompts and has no mask; leave mask_padding out")
            warnings.warn(
                "mixing='batch' is the authors' code: a prompt's result depends on the other prompts of its batch; "
                "use 'none' to serve its weights",
                stacklevel=2,
            )
        self.hidden_size, self.depth, self.num_heads, self.ff_dim = hidden_size, depth, num_heads, ff_dim
        self.mixing, self.residual, self.dropout = mixing, residual, dropout
        self.low_rank, self.mask_padding, self.init = low_rank, mask_padding, init
        self._scale = check_scale(scale)
        self.provenance = provenance or Provenance()
        self._checkpointing = False
        width = self.width
        where: Any = {"device": device, "dtype": dtype}
        self.down = None if low_rank is None else nn.Linear(hidden_size, width, **where)
        self.layers = nn.ModuleList(
            EncoderLayer(width, ff_dim, num_heads, mixing=mixing, dropout=dropout, **where) for _ in range(depth)
        )
        self.query = nn.Linear(width, width, **where)
        self.key = nn.Linear(width, width, **where)
        self.hidden = nn.Linear(width, width, **where)
        self.output = nn.Linear(width, width, **where)
        self.fc = nn.Linear(width, hidden_size, **where)
        self.reset_parameters()

    @classmethod
    def original(cls, hidden_size: int = 768, *, scale: float = 0.1, **options: Any) -> Self:
        """Build the authors' module: attention across the batch, their residual, their dropout, their initial bias.

        Args:
            hidden_size: Width of the text states.
            scale: eta; their class has 0.01, their training script 1e-4, their run 0.1.
            **options: Of the constructor; they override the preset.

        Returns:
            An adapter in training mode, as theirs.

        Example:
            >>> SURAdapter.original(64, mixing="none").residual
            'lerp'
        """
        preset: dict[str, Any] = {"mixing": "batch", "residual": "lerp", "dropout": 0.1, "init": "original"}
        return cls(hidden_size, scale=scale, **(preset | options))

    @classmethod
    def for_encoder(cls, text_encoder: nn.Module, **options: Any) -> Self:
        """Build an adapter of the width of a text encoder.

        Args:
            text_encoder: A transformers model, whose config has ``hidden_size`` or ``d_model``.
            **options: Of the constructor.

        Returns:
            The adapter, on the encoder's device and in its dtype unless ``device`` and ``dtype`` say otherwise.

        Raises:
            ValueError: The encoder's config names no width.
        """
        first = next(text_encoder.parameters())
        where: dict[str, Any] = {"device": first.device, "dtype": first.dtype}
        return cls(encoder_width(text_encoder), **(where | options))

    @property
    def width(self) -> int:
        """The width of the encoder state h: ``low_rank``, or ``hidden_size`` without one."""
        return self.hidden_size if self.low_rank is None else self.low_rank

    @property
    def scale(self) -> float:
        """eta, the strength."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._scale = check_scale(value)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew; call it after ``to_empty`` on an adapter built on the meta device."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
        for layer in self.layers:
            cast(EncoderLayer, layer).reset_attention()
        nn.init.zeros_(self.fc.weight)
        if self.init == "identity":
            nn.init.zeros_(self.fc.bias)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the encoder's layers in the backward pass, which saves their activations."""
        self._checkpointing = True

    def disable_gradient_checkpointing(self) -> None:
        """Keep the activations again."""
        self._checkpointing = False

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = ...,
        scale: float | None = ...,
        return_intermediates: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = ...,
        scale: float | None = ...,
        return_intermediates: Literal[True],
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        scale: float | None = None,
        return_intermediates: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Adapt text states.

        Args:
            x: ``(B, N, d)``.
            mask: ``(B, N)`` bool, True on tokens of the text; the others are looked at by none. None looks at all.
            scale: Instead of the adapter's own.
            return_intermediates: Whether to return also the encoder state and the correction.

        Returns:
            The adapted states ``(B, N, d)``, or with intermediates the tuple (out, h, c): h is ``(B, N, width)``, c the
            output of fc ``(B, N, d)``.

        Raises:
            ValueError: The shape of ``x`` or ``mask`` does not fit.
        """
        if x.ndim != 3 or x.shape[-1] != self.hidden_size:
            raise ValueError(
                f"the text states have shape {tuple(x.shape)}; this adapter expects (B, N, {self.hidden_size})"
            )
        if mask is not None and self.mixing == "batch":
            raise ValueError("mixing='batch' attends across prompts and has no mask")
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"the mask is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of {tuple(x.shape[:2])}"
            )
        inner = x if self.down is None else self.down(x)
        h = inner
        for layer in self.layers:
            if self._checkpointing and torch.is_grad_enabled():
                h = cast(Tensor, checkpoint(layer, h, mask, use_reentrant=False))
            else:
                h = layer(h, mask)
        r = token_attention(h, inner, weights_of(self, "query", "key", "hidden", "output"), mask=mask)
        c = self.fc(r)
        out = residual(x, c, scale=self._scale if scale is None else check_scale(scale), mode=self.residual)
        return (out, h, c) if return_intermediates else out

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``diffusion_pytorch_model.safetensors``, the layout of diffusers.

        A new folder appears whole or not at all; in an existing one each file is replaced atomically.

        Args:
            save_directory: The folder; made when missing.
        """
        write_adapter(Path(save_directory), self)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load an adapter from a local folder; nothing is downloaded and nothing is executed.

        Args:
            folder: Written by `save_pretrained`, or by diffusers from a ``SURAdapterModel``.
            device: Of the parameters; None is the CPU.
            dtype: Of the parameters; None is that of the file.

        Returns:
            The adapter, in evaluation mode.

        Raises:
            FileNotFoundError: There is no such folder, or a file in it is missing.
            ValueError: A file is damaged, of another format, a pickle, or does not fit the config.
        """
        config, provenance, tensors = read_adapter(Path(folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the mixing; whoever built it was warned
                adapter = cls(**config, provenance=provenance, device="meta")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder}: config.json does not describe an adapter: {error}") from error
        _load(adapter, tensors, folder, device, dtype)
        return adapter.eval()

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        rank = "" if self.low_rank is None else f", low_rank={self.low_rank}"
        return f"{self.hidden_size}, scale={self.scale}, mixing={self.mixing!r}, residual={self.residual!r}{rank}"


def encoder_width(text_encoder: nn.Module) -> int:
    """Return the width of a transformers text encoder's states."""
    config = getattr(text_encoder, "config", None)
    for name in ("hidden_size", "d_model"):
        if isinstance(width := getattr(config, name, None), int):
            return width
    raise ValueError(f"the config of {type(text_encoder).__name__} names no width (hidden_size or d_model)")


def _load(
    adapter: SURAdapter,
    tensors: dict[str, Tensor],
    folder: str | os.PathLike[str],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    expected = adapter.state_dict()
    for key, value in expected.items():
        if key not in tensors:
            raise ValueError(f"{folder}: the weights lack {key}, which config.json asks for")
        if tensors[key].shape != value.shape:
            got, wanted = tuple(tensors[key].shape), tuple(value.shape)
            raise ValueError(f"{folder}: {key} has shape {got}, and config.json asks for {wanted}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ValueError(f"{folder}: the weights hold {unknown[0]}, which config.json does not ask for")
    adapter.load_state_dict(tensors, assign=True)
    adapter.to(device=device, dtype=dtype)


def _check(
    hidden_size: int,
    depth: int,
    num_heads: int,
    ff_dim: int,
    mixing: str,
    residual: str,
    dropout: float,
    low_rank: int | None,
    init: str,
) -> None:
    counts = {"hidden_size": hidden_size, "depth": depth, "num_heads": num_heads, "ff_dim": ff_dim}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a positive int")
    if low_rank is not None and not 1 <= low_rank < hidden_size:
        raise ValueError(f"low_rank is {low_rank}; it must lie in 1 .. {hidden_size - 1}, below hidden_size")
    width = low_rank or hidden_size
    if width % num_heads:
        which = "hidden_size" if low_rank is None else "low_rank"
        raise ValueError(f"num_heads={num_heads} does not divide {which}={width}")
    if mixing not in ("tokens", "none", "batch"):
        raise ValueError(f"mixing is {mixing!r}; it must be 'tokens', 'none' or 'batch'")
    if residual not in ("add", "lerp"):
        raise ValueError(f"residual is {residual!r}; it must be 'add' or 'lerp'")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; it must lie in 0 .. 1, below 1")
    if init not in ("identity", "original"):
        raise ValueError(f"init is {init!r}; it must be 'identity' or 'original'")
