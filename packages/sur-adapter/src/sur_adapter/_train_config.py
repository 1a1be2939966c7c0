"""Everything a training depends on; saved beside its checkpoints."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from ._step import Weights
from .functional import Mixing
from .losses import Match


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train an adapter for the text encoders of a pipeline.

    ``compat="original"`` is the authors' training: their module (attention across the batch, their residual, bias and
    dropout), their KL(student || target) summed over tokens, a frozen random projector, no preservation, no masks and,
    unless given, their weights 1e-5 of the two KL terms. Their diffusion loss reached nothing: that is
    ``detach_diffusion``, and only on request.
    """

    model: str
    """Folder or Hub id of a diffusers pipeline: SD1.x, SD2, SDXL, SD3 or Flux, with safetensors weights."""
    data: str
    """SURD.zip, or a folder with metadata.jsonl (file_name, text, prompt) and its images."""
    teacher: str | None = None
    """Cache of encode-teacher that holds every narrative prompt; None trains without a teacher."""
    slots: tuple[str, ...] = ()
    """Text encoders that get an adapter; empty: all that the pipeline reads states from, of SD3 the two CLIP."""
    resolution: int = 512
    """Side of the training images in pixels: the shorter side is scaled to it, the centre kept."""
    t5_tokens: int = 256
    """Tokens of a T5 encoder (SD3, Flux)."""
    encoded: str | None = None
    """Folder for latents and text states, which trainings on the same data may share; None: in the run directory."""
    encoded_dtype: Literal["float16", "float32"] = "float16"
    """Of what is in it."""

    depth: int = 2
    num_heads: int = 8
    ff_dim: int = 2048
    scale: float = 0.1
    mixing: Mixing = "tokens"
    low_rank: int | None = None
    mask_padding: bool = False
    dropout: float = 0.0

    diffusion_weight: float = 1.0
    """0 trains without denoiser and images: the alignment run."""
    prompt_weight: float | None = None
    """None: 0.1, with compat original 1e-5."""
    teacher_weight: float | None = None
    """None: 0.1, with compat original 1e-5; without a teacher 0."""
    preservation_weight: float | None = None
    """None: 0.1, with compat original 0."""
    prompt_match: Match = "kl"
    teacher_match: Match = "kl"
    min_snr: float | None = None
    """gamma of min-SNR for eps and v targets, such as 5."""
    noise_offset: float = 0.0
    """Adds this much of one normal draw a channel to the noise."""
    compat: Literal["none", "original"] = "none"
    detach_diffusion: bool = False
    """As released: the diffusion loss is computed and reaches nothing. Needs compat original."""

    steps: int = 5000
    batch_size: int = 16
    """Rows of an optimizer step, over all processes and micro-batches."""
    accumulation: int = 1
    """Micro-batches of an optimizer step."""
    learning_rate: float = 1e-4
    warmup: int = 0
    """Steps in which the learning rate rises linearly from 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    """Largest norm of the whole gradient."""
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is saved; reached over the first steps. 0 saves the last ones."""
    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    """Recompute the denoiser's activations in the backward pass."""
    seed: int = 0
    """Draws the weights, the order, the times and the noise."""
    checkpoint_every: int = 500
    """Steps between checkpoints: what a kill loses at most."""

    def __post_init__(self) -> None:
        for name in ("resolution", "t5_tokens", "steps", "batch_size", "accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}: give a finite number above 0")
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm is {self.clip_norm}: give a number above 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: give a number in [0, 1)")
        if self.noise_offset < 0 or not math.isfinite(self.noise_offset):
            raise ValueError(f"noise_offset is {self.noise_offset}: give a finite number of at least 0")
        if self.batch_size % self.accumulation:
            raise ValueError(f"a batch of {self.batch_size} does not divide into {self.accumulation} micro-batches")
        if self.detach_diffusion and not self.original:
            raise ValueError("detach_diffusion reproduces the authors' code: it needs compat 'original'")
        if self.original and (self.mask_padding or self.low_rank is not None or self.mixing != "tokens"):
            raise ValueError("compat 'original' is the authors' module: leave mixing, low_rank and mask_padding out")
        if self.teacher is None and self.teacher_weight:
            raise ValueError(f"teacher_weight is {self.teacher_weight}, but there is no teacher: give its cache")
        if self.teacher is not None and self.teacher_weight == 0:
            raise ValueError("teacher_weight is 0: leave the teacher out")
        self.weights()

    @property
    def original(self) -> bool:
        """Whether to train as the authors did."""
        return self.compat == "original"

    def weights(self) -> Weights:
        """Return the weights of the losses with their defaults filled in."""
        usual = 1e-5 if self.original else 0.1
        filled = {
            "prompt": usual if self.prompt_weight is None else self.prompt_weight,
            "teacher": 0.0 if self.teacher is None else usual if self.teacher_weight is None else self.teacher_weight,
            "preservation": self.preservation_weight,
        }
        if filled["preservation"] is None:
            filled["preservation"] = 0.0 if self.original else 0.1
        return Weights(diffusion=self.diffusion_weight, **{name: float(value or 0) for name, value in filled.items()})

    def adapter_options(self) -> dict[str, Any]:
        """Return the options of `SURAdapter` or, with compat original, of ``SURAdapter.original``."""
        shared: dict[str, Any] = {"depth": self.depth, "num_heads": self.num_heads, "ff_dim": self.ff_dim}
        shared["scale"] = self.scale
        if self.original:
            return shared
        own = ("mixing", "low_rank", "mask_padding", "dropout")
        return shared | {name: getattr(self, name) for name in own}

    def loss_options(self) -> dict[str, Any]:
        """Return the options of `Step`."""
        kl = {"direction": "reverse", "reduction": "batchmean"} if self.original else {}
        named = ("prompt_match", "teacher_match", "detach_diffusion")
        return kl | {name: getattr(self, name) for name in named}
