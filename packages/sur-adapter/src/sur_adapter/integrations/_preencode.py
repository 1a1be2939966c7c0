"""Encode the images and prompts of a training once: latents, text states by slot, and what else the denoiser reads.

The latents are the mode of the VAE's posterior, shifted and scaled as the pipeline does. Images are not mirrored, for
they are encoded once.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sail_core.runs import write_atomic
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from sur_adapter._encoded import EncodedStore
from sur_adapter._surd import Surd
from sur_adapter._train_config import TrainConfig
from sur_adapter.functional import token_mask

from ._parts import encoders, load_parts, text_encoders
from ._slots import Family, Slot, family_of, open_slots, plain

_ROWS = 8  # at once through the encoders


def encode_shards(
    config: TrainConfig, data: Surd, store: EncodedStore, shards: Sequence[int], accelerator: Any, *, description: Path
) -> None:
    """Encode some files of the store, and write down the pipeline's family and slots.

    Raises:
        ValueError: The pipeline is of no family that training knows, or an image cannot be decoded.
    """
    latents = config.diffusion_weight > 0
    pipe = load_parts(config.model, encoders if latents else text_encoders, dtype=torch.float32)
    pipe.to(accelerator.device)
    if latents and hasattr(pipe.vae, "enable_slicing"):
        pipe.vae.enable_slicing()  # one image at a time: at 1024 pixels the VAE needs gigabytes for each
    family = family_of(pipe)
    if family is None:
        raise ValueError(f"training knows SD1.x, SD2, SDXL, SD3 and Flux, and {config.model} is {type(pipe).__name__}")
    slots = open_slots(pipe, None)
    described = {"family": family, "slots": {name: [slot.field, slot.width] for name, slot in slots.items()}}
    write_atomic(description, json.dumps(described, indent=1) + "\n")
    for shard in tqdm(shards, delay=2, disable=None if accelerator.is_main_process else True, desc="encode"):
        rows, parts = store.rows_of(shard), []
        for first in range(rows.start, rows.stop, _ROWS):
            part = range(first, min(first + _ROWS, rows.stop))
            parts.append(_encode(pipe, family, slots, data, part, config, latents))
        store.add(shard, {name: torch.cat([part[name] for part in parts]) for name in parts[0]})


@torch.inference_mode()
def _encode(
    pipe: Any,
    family: Family,
    slots: dict[str, Slot],
    data: Surd,
    part: range,
    config: TrainConfig,
    latents: bool,
) -> dict[str, Tensor]:
    dtype: torch.dtype = getattr(torch, config.encoded_dtype)
    narrative = [data.rows[row].narrative for row in part]
    complex_ = [data.rows[row].complex for row in part]
    found: dict[str, Tensor] = {}
    for name, slot in slots.items():
        for kind, texts in (("narrative", narrative), ("complex", complex_)):
            states, mask = slot_states(slot, texts, t5_tokens=config.t5_tokens)
            found[f"{kind}/{name}"], found[f"{kind}_mask/{name}"] = states.to(dtype), mask
    if not latents:
        return found
    pooled = pooled_states(pipe, family, narrative)
    if pooled is not None:
        found["extra/pooled"] = pooled.to(dtype)
    images = [open_image(data.image(row), config.resolution, where=data.rows[row].image or "") for row in part]
    if family == "sdxl":
        found["extra/time_ids"] = torch.tensor([time_ids for _, time_ids in images], dtype=torch.float32)
    pixels = torch.stack([image for image, _ in images]).to(pipe.vae.device, pipe.vae.dtype)
    clean = pipe.vae.encode(pixels).latent_dist.mode()
    shift = getattr(pipe.vae.config, "shift_factor", None) or 0.0
    found["latents"] = ((clean - shift) * pipe.vae.config.scaling_factor).to(dtype)
    return found


def slot_states(slot: Slot, texts: Sequence[str], *, t5_tokens: int) -> tuple[Tensor, Tensor]:
    """Return the states that the pipeline reads from a slot ``(B, N, d)``, and where the text is ``(B, N)``."""
    encoder: Any = slot.encoder
    is_t5 = type(plain(encoder)).__name__ == "T5EncoderModel"
    ids = _ids(slot.tokenizer, texts, t5_tokens if is_t5 else slot.tokenizer.model_max_length)
    mask = token_mask(ids, slot.tokenizer.eos_token_id)
    options: dict[str, Any] = {}
    if slot.field == "last" and getattr(plain(encoder).config, "use_attention_mask", None):
        options["attention_mask"] = mask.long().to(encoder.device)
    if slot.field == "last":
        return encoder(ids.to(encoder.device), **options).last_hidden_state, mask
    output = encoder(ids.to(encoder.device), output_hidden_states=True, **options)
    return output.hidden_states[int(slot.field[len("hidden_states[") : -1])], mask


def pooled_states(pipe: Any, family: Family, texts: Sequence[str]) -> Tensor | None:
    """Return the pooled text that the denoiser reads beside the states, ``(B, d)``; the adapter leaves it alone."""
    names = {
        "sd": (),
        "sdxl": ("text_encoder_2",),
        "sd3": ("text_encoder", "text_encoder_2"),
        "flux": ("text_encoder",),
    }[family]
    found = []
    for name in names:
        encoder, tokenizer = getattr(pipe, name), getattr(pipe, name.replace("text_encoder", "tokenizer"))
        output = encoder(_ids(tokenizer, texts, tokenizer.model_max_length).to(encoder.device))
        found.append(output.pooler_output if family == "flux" else output[0])
    return torch.cat(found, -1) if found else None


def open_image(file: bytes, resolution: int, *, where: str) -> tuple[Tensor, tuple[int, ...]]:
    """Decode an image: ``(3, resolution, resolution)`` in [-1, 1], and SDXL's original size, crop and target size.

    Raises:
        ValueError: It cannot be decoded; ``where`` is named.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where} cannot be decoded ({error}); leave it out") from error
    width, height = image.size
    ratio = resolution / min(width, height)
    wide, high = max(resolution, round(width * ratio)), max(resolution, round(height * ratio))
    left, top = (wide - resolution) // 2, (high - resolution) // 2
    image = image.resize((wide, high), Image.Resampling.LANCZOS)
    image = image.crop((left, top, left + resolution, top + resolution))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1
    return pixels, (height, width, top, left, resolution, resolution)


def _ids(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    found = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return found["input_ids"]  # type: ignore[no-any-return]
