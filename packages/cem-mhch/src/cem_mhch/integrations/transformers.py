"""Utterances read by a transformers encoder, frozen with cached embeddings, or tuned by LoRA."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from typing import Any, Literal

import torch
from sail_core.extras import needs
from torch import Tensor, nn

from cem_mhch.hosts._hgru import DialogueGRU


class TransformersEncoder(nn.Module):
    """Pooled last hidden state of an encoder: `(N, S)` ids, 0 = padding and else the tokenizer's id + 1, to `(N, d)`.

    Equal utterances of a batch are encoded once. A frozen encoder stays in eval mode, and the vectors of its last
    `cache_size` different utterances are kept.

    Args:
        model: A transformers model whose output has `last_hidden_state`.
        pooling: `"mean"` over the tokens, or `"cls"`, the first.
        frozen: Whether the encoder is never trained.
        cache_size: Utterances that a frozen encoder remembers; 0 remembers none.
    """

    def __init__(self, model: nn.Module, *, pooling: Literal["mean", "cls"], frozen: bool, cache_size: int) -> None:
        super().__init__()
        self.model = model
        self.output_size = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.pooling, self.frozen, self.cache_size = pooling, frozen, cache_size
        self.cache: OrderedDict[bytes, Tensor] = OrderedDict()
        if frozen:
            model.requires_grad_(False)
        self.register_load_state_dict_post_hook(lambda module, _: module.cache.clear())  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> TransformersEncoder:
        """Set the mode; a frozen encoder has no dropout in either."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode; a row without tokens gives the mean over nothing, zeros."""
        distinct, inverse = torch.unique(tokens, dim=0, return_inverse=True)
        if not self.frozen:
            return self._encode(distinct)[inverse]
        with torch.no_grad():
            return self._cached(distinct)[inverse]

    def _cached(self, tokens: Tensor) -> Tensor:
        keys = [row[row > 0].numpy().tobytes() for row in tokens.cpu()]
        found = {key: self.cache[key] for key in keys if key in self.cache}
        missing = [index for index, key in enumerate(keys) if key not in found]
        if missing:
            encoded = self._encode(tokens[missing])
            found |= {keys[index]: vector for index, vector in zip(missing, encoded, strict=True)}
        for key in keys:
            self.cache[key] = found[key]
            self.cache.move_to_end(key)
        while len(self.cache) > self.cache_size:
            self.cache.popitem(last=False)
        return torch.stack([found[key] for key in keys])

    def _encode(self, tokens: Tensor) -> Tensor:
        present = tokens > 0
        present[:, 0] |= ~present.any(1)  # attention over no token at all is NaN in some encoders
        width = int(present.sum(1).max())
        known = int(self.model.config.vocab_size)  # type: ignore[union-attr, arg-type]
        if int(tokens.max()) > known:
            raise ValueError(f"a token has the id {int(tokens.max())}, the encoder's tokenizer gives 1 to {known}")
        ids, present = (tokens - 1).clamp(min=0)[:, :width], present[:, :width]
        states: Tensor = self.model(input_ids=ids, attention_mask=present.long()).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weight = (tokens[:, :width] > 0).unsqueeze(2).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1)

    def _apply(self, fn: Any, recurse: bool = True) -> TransformersEncoder:
        self.cache.clear()  # another device or dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class TransformersHost(DialogueGRU):
    """Any transformers encoder under a causal GRU over the turns.

    Args:
        model: Name on the hub, or a folder; its weights must be safetensors.
        adapter: None keeps the encoder frozen; `"lora"` tunes it through peft.
        rank: Rank of LoRA.
        pooling: `"mean"` or `"cls"`.
        size: Width of the GRU; `hidden_size` is twice that.
        dropout: Of the GRU's input and output and inside the head.
        cache_size: Utterances whose vectors a frozen encoder keeps.
        architecture: The encoder's configuration as a dict; with it the encoder is built with random weights for a
            state dict, and `model` is only a name. Saving writes it.

    Raises:
        ValueError: An adapter or pooling of another name, or a model that cannot be found.
        MissingExtra: transformers, or peft for LoRA, is not installed.
    """

    def __init__(
        self,
        *,
        model: str,
        adapter: Literal["lora"] | None = None,
        rank: int = 8,
        pooling: Literal["mean", "cls"] = "mean",
        size: int = 96,
        dropout: float = 0.3,
        cache_size: int = 50_000,
        architecture: dict[str, Any] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if adapter not in (None, "lora"):
            raise ValueError(f"adapter is {adapter!r}; it must be None (frozen) or 'lora'")
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling is {pooling!r}; it must be 'mean' or 'cls'")
        encoder = _encoder(model, architecture)
        described = json.loads(encoder.config.to_json_string(use_diff=False))  # type: ignore[union-attr, operator]
        if adapter == "lora":
            with needs("cem-mhch", "hf"):
                import peft
            lora = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            with warnings.catch_warnings():  # peft asks transformers for names that it has renamed
                warnings.simplefilter("ignore", FutureWarning)
                encoder = peft.get_peft_model(encoder, lora)
        reader = TransformersEncoder(encoder, pooling=pooling, frozen=adapter is None, cache_size=cache_size)
        super().__init__(reader.to(device=device, dtype=dtype), size=size, dropout=dropout, device=device, dtype=dtype)
        self.name = f"hf:{model}"
        self.options = {
            "adapter": adapter,
            "rank": rank,
            "pooling": pooling,
            "size": size,
            "dropout": dropout,
            "cache_size": cache_size,
            "architecture": described,
        }


def _encoder(model: str, architecture: dict[str, Any] | None) -> nn.Module:
    with needs("cem-mhch", "hf"):
        from transformers import AutoConfig, AutoModel
    if architecture is not None:
        options = {name: value for name, value in architecture.items() if name != "model_type"}
        config = AutoConfig.for_model(architecture["model_type"], **options)
        return AutoModel.from_config(config)  # type: ignore[no-any-return, no-untyped-call]
    try:
        return AutoModel.from_pretrained(model, use_safetensors=True)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no transformers encoder with safetensors weights at {model!r}: {str(error).splitlines()[0]}"
        ) from error
