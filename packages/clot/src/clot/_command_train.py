"""`clot train`: an adapter learnt from instructions."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ._command_prepare import say
from ._instruction_files import read_instructions
from ._pictures import Pictures

if TYPE_CHECKING:
    from .integrations.training import AITOptions, LoRA


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train. The defaults are the paper's for Qwen-VL, where it gives them."""

    lora_r: int = 64
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    lora_target: str = "attention"
    """attention: the projections of the language model's attention; or a regular expression of layer names."""
    epochs: int = 1
    steps: int | None = None
    """Optimizer steps; without it the whole of the epochs."""
    batch: int = 64
    micro_batch: int = 8
    """Instructions in one forward pass of one process."""
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: float = 0.03
    weighting: Literal["token", "example"] = "token"
    """example: an answer of one letter weighs as much as a sentence."""
    save_every: int = 200
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """What several processes of torchrun do with the model."""
    recompute: bool = False
    """Recompute activations in the backward pass to save memory."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingConfig):
    """Teach a model to answer instructions; started again, it goes on. torchrun -m clot.cli train uses several GPUs."""

    model: str
    """A folder, or a name that transformers loads."""
    instructions: Path
    """What prepare wrote: the file, or its folder."""
    out: Path = Path("runs/ait")
    images: Path | None = None
    """Folder or zip file of the pictures."""
    adapter: Path | None = None
    """An adapter to train on, instead of a new one."""
    device: str = "auto"
    seed: int = 0
    resume: bool = True
    dry_run: bool = False
    """Count the instructions and the steps, and train nothing."""
    json: bool = False


def run_train(config: TrainConfig) -> None:
    """Train, and say where the adapter is."""
    path = config.instructions / "instructions.jsonl" if config.instructions.is_dir() else config.instructions
    pictures = None if config.images is None else Pictures(config.images)
    instructions = list(read_instructions(path))
    kinds = dict(Counter(one.kind for one in instructions))
    if pictures is None and (blind := sum(one.image is not None for one in instructions)):
        raise ValueError(f"{blind} instructions are about a picture; name the folder or zip file with --images")
    if config.dry_run:
        per_epoch = -(-len(instructions) // config.batch)
        say({"instructions": len(instructions), "kinds": kinds, "steps": config.steps or config.epochs * per_epoch},
            config.json)  # fmt: skip
        return
    from .integrations.training import train_ait

    options, lora = settings(config, seed=config.seed)
    trained = train_ait(
        config.model,
        instructions,
        out=config.out,
        options=options,
        lora=lora,
        adapter=config.adapter,
        pictures=pictures,
        dtype=config.dtype,
        device=config.device,
        resume=config.resume,
    )
    result = {"adapter": str(trained.folder), "steps": trained.steps, "kinds": kinds, "losses": trained.losses}
    say(result | {"dropped": trained.dropped}, config.json)


def settings(config: TrainingConfig, *, seed: int) -> tuple["AITOptions", "LoRA"]:
    """The options of a training run and its adapter."""
    from .integrations.training import AITOptions, LoRA

    options = AITOptions(
        epochs=config.epochs,
        steps=config.steps,
        batch=config.batch,
        micro_batch=config.micro_batch,
        lr=config.lr,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        weighting=config.weighting,
        seed=seed,
        save_every=config.save_every,
        parallel=config.parallel,
        recompute=config.recompute,
    )
    lora = LoRA(r=config.lora_r, alpha=config.lora_alpha, dropout=config.lora_dropout, target=config.lora_target)
    return options, lora
