"""The data of a training: encoded once, by all processes together, then read row by row."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sur_adapter._encoded import EncodedStore
from sur_adapter._student import Batch
from sur_adapter._surd import Surd
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter._train_config import TrainConfig

PIPELINE = "pipeline.json"


@dataclass(frozen=True, kw_only=True)
class EncodedData:
    """The rows of a training.

    Attributes:
        store: The encoded rows.
        narratives: The narrative prompts, by row.
        family: Of the pipeline.
        slots: By slot that gets an adapter: the output that is adapted, and its width.
        masked: Whether padding counts in no loss.
    """

    store: EncodedStore
    narratives: list[str]
    family: str
    slots: dict[str, tuple[str, int]]
    masked: bool

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of a row's latents."""
        return tuple(self.store.batch(torch.tensor([0]))["latents"].shape[1:])

    def batch(self, rows: Tensor, cache: TeacherCache | None, device: torch.device) -> Batch:
        """Return some rows in float32 on a device."""
        tensors = {
            name: value.to(device, torch.float32 if value.is_floating_point() else None)
            for name, value in self.store.batch(rows).items()
        }

        def group(kind: str) -> dict[str, Tensor]:
            return {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}

        teacher = None
        if cache is not None:
            teacher = cache.vectors([self.narratives[row] for row in rows.tolist()]).to(device, torch.float32)
        return Batch(
            latents=tensors.get("latents"),
            narrative=group("narrative/"),
            complex=group("complex/"),
            teacher=teacher,
            narrative_mask=group("narrative_mask/") if self.masked else {},
            complex_mask=group("complex_mask/") if self.masked else {},
            extra=group("extra/"),
        )


def encode_data(config: TrainConfig, data: Surd, directory: Path, accelerator: Any) -> EncodedData:
    """Encode what the store lacks; each process takes every n-th file, and all wait for each other."""
    latents = config.diffusion_weight > 0
    folder = Path(config.encoded) if config.encoded else directory / "encoded"
    facts = {"model": config.model, "data": data.digest(), "dtype": config.encoded_dtype, "latents": latents}
    facts |= {"t5_tokens": config.t5_tokens, "resolution": config.resolution if latents else None}
    store = EncodedStore(folder, facts, count=len(data))
    mine = [one for one in store.missing() if one % accelerator.num_processes == accelerator.process_index]
    if mine or not (folder / PIPELINE).exists():
        from ._preencode import encode_shards  # the encoders and their hosts are needed only here

        encode_shards(config, data, store, mine, accelerator, description=folder / PIPELINE)
    accelerator.wait_for_everyone()
    described = json.loads((folder / PIPELINE).read_bytes())
    return EncodedData(
        store=store,
        narratives=[row.narrative for row in data.rows],
        family=str(described["family"]),
        slots=_chosen(described, config),
        masked=not config.original,
    )


def _chosen(described: dict[str, Any], config: TrainConfig) -> dict[str, tuple[str, int]]:
    """Return the slots that get an adapter."""
    known = {name: (str(field), int(width)) for name, (field, width) in described["slots"].items()}
    if wrong := [name for name in config.slots if name not in known]:
        raise ValueError(f"{config.model} has no slot {wrong[0]!r}; it has {', '.join(known)}")
    names = config.slots or [name for name in known if name != "text_encoder_3" or len(known) == 1]
    return {name: known[name] for name in names}
