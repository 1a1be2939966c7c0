"""Prompts to the arguments that a pipeline takes instead of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sur_adapter._long_prompts import chunked, chunks_needed, token_ids
from sur_adapter.functional import token_mask

from ._hook import SlotHook, paused
from ._slots import Family, family_of, plain

Negative = Literal["adapt", "skip"]


def encode_prompts(
    pipe: Any,
    hooks: Sequence[SlotHook],
    prompts: Sequence[str],
    negatives: Sequence[str] | None,
    *,
    negative: Negative,
    guidance: bool,
    clip_skip: int | None,
    chunk: bool,
    max_sequence_length: int | None,
) -> dict[str, Tensor]:
    """Encode with the attached adapters; ``hooks`` are those to pause for the negative when it is to be skipped."""
    family = family_of(pipe)
    if family is None:
        raise ValueError(
            f"encode knows SD1.x, SD2, SDXL, SD3 and Flux, not {type(pipe).__name__}; call the pipeline itself, the "
            "attached adapter works on it"
        )
    if chunk and family in ("sd3", "flux"):
        raise ValueError(
            f"{type(pipe).__name__} reads long prompts with T5: raise max_sequence_length; long='chunk' is for SD1.x, "
            "SD2 and SDXL"
        )
    if clip_skip is not None and (family == "flux" or clip_skip < 0):
        raise ValueError(f"clip_skip is {clip_skip}; it must be None or >= 0, and None for Flux")
    if max_sequence_length is not None and family in ("sd", "sdxl"):
        raise ValueError(f"max_sequence_length is for SD3 and Flux; {type(pipe).__name__} reads 77 tokens a chunk")
    skipped = hooks if negative == "skip" else []
    if family in ("sd", "sdxl"):
        return _clip(pipe, family, skipped, prompts, negatives, guidance=guidance, clip_skip=clip_skip, chunk=chunk)
    options: dict[str, Any] = {} if max_sequence_length is None else {"max_sequence_length": max_sequence_length}
    if family == "flux":
        return _flux(pipe, skipped, prompts, negatives, options)
    return _sd3(pipe, skipped, prompts, negatives, guidance=guidance, options=options | {"clip_skip": clip_skip})


def _clip(
    pipe: Any,
    family: Family,
    skipped: Sequence[SlotHook],
    prompts: Sequence[str],
    negatives: Sequence[str] | None,
    *,
    guidance: bool,
    clip_skip: int | None,
    chunk: bool,
) -> dict[str, Tensor]:
    """SD1.x, SD2, SDXL: as their pipelines do, and in chunks where prompts are long.

    The states are computed here and not by ``encode_prompt``, which has no chunks and, in diffusers 0.42 with
    transformers >= 5.6, no clip_skip on SD1.x.
    """
    zeros = family == "sdxl" and negatives is None and pipe.config.force_zeros_for_empty_prompt
    negatives = [""] * len(prompts) if negatives is None else negatives
    last: Any = plain(pipe.text_encoder_2 if family == "sdxl" else pipe.text_encoder)
    texts = [*prompts, *(negatives if guidance and not zeros else [])]
    names = [name for name in ("text_encoder", "text_encoder_2") if getattr(pipe, name, None) is not None]
    tokenizers = {name: getattr(pipe, name.replace("text_encoder", "tokenizer")) for name in names}
    ids = {name: token_ids(one, _converted(pipe, one, texts)) for name, one in tokenizers.items()}
    chunks = max(chunks_needed(ids[name], one) for name, one in tokenizers.items()) if chunk else 1

    def states(rows: slice, skip: int | None) -> tuple[Tensor, Tensor | None]:
        parts, pooled = [], None
        for name, tokenizer in tokenizers.items():
            cut = chunked(ids[name][rows], tokenizer, chunks=chunks)
            part, summary = _read(pipe, getattr(pipe, name), tokenizer, cut, family, skip)
            parts.append(part)
            pooled = summary if summary is not None and pooled is None else pooled
        return torch.cat(parts, -1).to(last.dtype), pooled

    count = len(prompts)
    embeds, pooled = states(slice(0, count), clip_skip)
    result = {"prompt_embeds": embeds}
    result |= {} if pooled is None else {"pooled_prompt_embeds": pooled}
    if guidance:
        if zeros:
            return result | {f"negative_{name}": torch.zeros_like(value) for name, value in result.items()}
        with paused(skipped):
            embeds, pooled = states(slice(count, None), None)  # the pipelines skip no layer for the negative
        result["negative_prompt_embeds"] = embeds
        result |= {} if pooled is None else {"negative_pooled_prompt_embeds": pooled}
    return result


def _read(
    pipe: Any, encoder: Any, tokenizer: Any, ids: Tensor, family: Family, clip_skip: int | None
) -> tuple[Tensor, Tensor | None]:
    """Run an encoder on chunks ``(B, n, 77)``: the states ``(B, n 77, d)``, and what it pools of each first chunk."""
    rows, chunks, length = ids.shape
    flat = ids.view(rows * chunks, length).to(pipe._execution_device)
    options: dict[str, Any] = {}
    if family == "sd" and getattr(plain(encoder).config, "use_attention_mask", None):
        options["attention_mask"] = token_mask(flat, tokenizer.eos_token_id).long()
    if family == "sd" and clip_skip is None:
        states = encoder(flat, **options).last_hidden_state
        pooled = None
    elif family == "sd":
        states = encoder(flat, output_hidden_states=True, **options).hidden_states[-(clip_skip + 1)]  # type: ignore[operator]
        inner: Any = plain(encoder)
        states = getattr(inner, "text_model", inner).final_layer_norm(states)
        pooled = None
    else:
        output = encoder(flat, output_hidden_states=True)
        states = output.hidden_states[-((clip_skip or 0) + 2)]
        pooled = output[0].view(rows, chunks, -1)[:, 0] if output[0].ndim == 2 else None
    return states.reshape(rows, chunks * length, -1), pooled


def _sd3(
    pipe: Any,
    skipped: Sequence[SlotHook],
    prompts: Sequence[str],
    negatives: Sequence[str] | None,
    *,
    guidance: bool,
    options: Mapping[str, Any],
) -> dict[str, Tensor]:
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")

    def call(guided: bool) -> dict[str, Tensor]:
        found = pipe.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            negative_prompt=None if negatives is None else list(negatives),
            do_classifier_free_guidance=guided,
            **options,
        )
        return {name: value for name, value in zip(names, found, strict=True) if value is not None}

    if not guidance or not skipped:
        return call(guidance)
    adapted = call(False)
    with paused(skipped):
        raw = call(True)
    return adapted | {name: value for name, value in raw.items() if name.startswith("negative")}


def _flux(
    pipe: Any,
    skipped: Sequence[SlotHook],
    prompts: Sequence[str],
    negatives: Sequence[str] | None,
    options: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Flux has its guidance inside the model: a negative only where one is given, for ``true_cfg_scale``."""

    def call(texts: Sequence[str], prefix: str = "") -> dict[str, Tensor]:
        embeds, pooled, _ = pipe.encode_prompt(prompt=list(texts), prompt_2=None, **options)
        return {f"{prefix}prompt_embeds": embeds, f"{prefix}pooled_prompt_embeds": pooled}

    result = call(prompts)
    if negatives is not None:
        with paused(skipped):
            result |= call(negatives, "negative_")
    return result


def _converted(pipe: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Expand textual inversions of several vectors, as the pipelines do."""
    added = tokenizer.get_added_vocab()
    if not any(f"{token}_1" in added for token in added):
        return list(prompts)
    return list(pipe.maybe_convert_prompt(list(prompts), tokenizer))
