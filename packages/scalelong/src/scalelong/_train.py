"""Train a noise predictor with accelerate: one process or many, resumed from any kill with the same bits on a CPU."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.extras import needs
from sail_core.runs import Run, latest, load_state, rng_state, save_state, set_rng_state
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ._build import ModelConfig, SkipHalves, build, conditioned
from ._data import Images, batch_indices
from ._diffusion import TIMESTEPS, Probe, noise_loss, noise_schedule


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ModelConfig):
    """Everything a training depends on: the command line's flags, saved beside every checkpoint."""

    data: str = "digits"
    """'digits', a CIFAR-10 archive *.tar.xz, or a folder of pictures (subfolders are classes; context.safetensors)."""
    size: int | None = None
    """Side of the pictures in pixels; needed for a folder."""
    steps: int = 1000
    batch_size: int = 64
    """Pictures a step, over all processes."""
    learning_rate: float = 2e-4
    weight_decay: float = 0.03
    betas: tuple[float, float] = (0.99, 0.999)
    warmup: int = 0
    """Steps in which the learning rate rises linearly from 0."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient."""
    ema_decay: float = 0.999
    mixed_precision: Literal["no", "bf16"] = "no"
    seed: int = 0
    """Draws the weights, the batches, the times and the noise."""
    checkpoint_every: int = 500
    """Steps between checkpoints: what a kill loses at most."""
    probe_every: int = 10
    """Steps between losses on the fixed probe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "checkpoint_every", "probe_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}: give a finite number above 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: give a number in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to.

    Attributes:
        model: The network with the averaged weights, in eval mode.
        steps: Optimizer steps taken.
        nonfinite_step: The step (from 1) whose loss or gradient was not finite and that ended the training, or None.
        probe: ``(step, loss)`` on the fixed held-out probe, of the raw weights.
        gradient_norms: Norm of the whole gradient at every step, before clipping.
    """

    model: nn.Module
    steps: int
    nonfinite_step: int | None
    probe: list[tuple[int, float]]
    gradient_norms: list[float]


def fit(config: TrainConfig, images: Images, held_out: Images, directory: Path, *, device: str = "auto") -> Trained:
    """Train in ``directory``, or go on from the newest checkpoint there.

    Batches, times and noise are functions of the seed and the step, so on a CPU a training that was killed at any
    moment and started again ends with the bits of one that was not. Under ``accelerate launch`` or ``torchrun`` each
    process takes its share of the same batch. A loss or gradient that is not finite ends the training before its
    update.

    Args:
        config: Hyper-parameters. Another config in the same directory is refused.
        images: Training pictures.
        held_out: Pictures of the probe.
        directory: Receives config.json, env.json, metrics.jsonl (one row a step) and checkpoints.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The averaged network and the series of the training.

    Raises:
        ValueError: The directory holds a run of another config, or the batch does not divide among the processes.
        CheckpointError: The checkpoint does not match its manifest.
        MissingExtra: accelerate or diffusers is not installed.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    with needs("scalelong", "train"):
        from accelerate import Accelerator
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision="no"
    )  # the precision is this run's, not the process's
    if device == "cuda" and accelerator.device.type != "cuda":
        raise ValueError("device is 'cuda', but torch sees no CUDA device here; use 'cpu' or 'auto'")
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"a batch of {config.batch_size} does not divide among {accelerator.num_processes} processes")
    main = accelerator.is_main_process
    images, held_out = conditioned(images, config), conditioned(held_out, config)
    run = Run(directory, config=config) if main else None
    model = build(config, images, seed=config.seed)
    decay: Any = get_ema_multi_avg_fn
    average = AveragedModel(model, multi_avg_fn=decay(config.ema_decay), use_buffers=True)
    average.to(accelerator.device)
    halves = SkipHalves(model, config.kappa) if config.control == "reparametrised" else None  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    step, nonfinite, finished = 0, None, False
    series: dict[str, list[Any]] = {"probe": [], "gradient_norms": []}
    checkpoint = latest(directory)
    if checkpoint is not None:
        state = load_state(checkpoint)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        step, nonfinite, finished, series = (state[name] for name in ("step", "nonfinite_step", "finished", "series"))
        if not finished:
            optimizer.load_state_dict(state["optimizer"])
            set_rng_state(state["rng"])
    if not finished and run:
        run.rewind(step)
    schedule = noise_schedule()
    probe = Probe(held_out, schedule)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    wrapped.train()
    accelerator.wait_for_everyone()
    bar = tqdm(
        total=config.steps, initial=step, delay=2, disable=None if main else True, unit="step", desc=directory.name
    )
    with bar:
        while not finished:
            loss = _loss(wrapped, images, config, step, schedule, accelerator)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup))
            optimizer.zero_grad()
            accelerator.backward(loss)
            limit = math.inf if config.clip_norm is None else config.clip_norm
            norm = float(accelerator.clip_grad_norm_(wrapped.parameters(), limit))
            total = float(accelerator.reduce(loss.detach(), "mean"))
            if not (math.isfinite(total) and math.isfinite(norm)):
                nonfinite = step + 1
            elif halves:
                halves.step(optimizer)
            else:
                optimizer.step()
            row: dict[str, Any] = {
                "loss": total,
                "gradient_norm": norm,
                "learning_rate": optimizer.param_groups[0]["lr"],
            }
            step += 1
            if nonfinite is None:
                average.update_parameters(accelerator.unwrap_model(wrapped))
                series["gradient_norms"].append(norm)
                if step % config.probe_every == 0 or step == config.steps:
                    row["probe"] = probe(accelerator.unwrap_model(wrapped))
                    series["probe"].append((step, row["probe"]))
            bar.update()
            finished = step == config.steps or nonfinite is not None
            if run:
                run.log(step, **row)
            if run and (finished or step % config.checkpoint_every == 0):
                state = {"step": step - (nonfinite is not None), "nonfinite_step": nonfinite, "finished": finished}
                state |= {"model": accelerator.unwrap_model(wrapped).state_dict(), "average": average.state_dict()}
                state |= {"series": series} | (
                    {} if finished else {"optimizer": optimizer.state_dict(), "rng": rng_state()}
                )
                save_state(directory, state, step=step, keep=1 if finished else 2)
    accelerator.wait_for_everyone()
    return Trained(
        model=average.module.eval(),
        steps=step - (nonfinite is not None),
        nonfinite_step=nonfinite,
        probe=[(int(at), float(value)) for at, value in series["probe"]],
        gradient_norms=series["gradient_norms"],
    )


def _loss(model: nn.Module, images: Images, config: TrainConfig, step: int, schedule: Any, accelerator: Any) -> Any:
    """The loss of this process's share of a step: every process draws the whole batch and keeps every n-th row."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step + 7_919)
    rows = batch_indices(len(images), config.batch_size, step, seed=config.seed)
    t = torch.randint(0, TIMESTEPS, (config.batch_size,), generator=generator)
    noise = torch.randn((config.batch_size, *images.pixels.shape[1:]), generator=generator)
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    device = accelerator.device
    batch = images[rows[mine]].to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"):
        return noise_loss(model, batch, t[mine].to(device), noise[mine].to(device), schedule)


def load_trained(directory: Path, images: Images) -> nn.Module:
    """Return the averaged network of a finished or unfinished training, in eval mode.

    Args:
        directory: What `fit` trained in.
        images: Pictures of the training's shape, classes and text.

    Returns:
        The network, on the CPU.

    Raises:
        ValueError: There is no training here.
        CheckpointError: The checkpoint does not match its manifest.
    """
    config, checkpoint = read_config(directory), latest(directory)
    if checkpoint is None:
        raise ValueError(f"{directory} holds no checkpoint yet; train first")
    average = AveragedModel(build(config, images, seed=config.seed), use_buffers=True)
    average.load_state_dict(load_state(checkpoint)["average"])
    return average.module.eval()


def read_config(directory: Path) -> TrainConfig:
    """Return the config that a training's directory holds.

    Raises:
        ValueError: There is none, or it is not a training's.
    """
    import json

    path = directory / "config.json"
    try:
        fields = json.loads(path.read_bytes())["config"]
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return TrainConfig(**fields | lists)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{directory} is not the directory of a training ({error}): give what `train --out` wrote"
        ) from error
