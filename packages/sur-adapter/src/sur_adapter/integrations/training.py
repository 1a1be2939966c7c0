"""Train adapters for the text encoders of a diffusers pipeline, with accelerate.

One process or many (``torchrun``), on CPU or GPU. Everything that is frozen is encoded once, before the first step. On
a CPU a training that was killed at any moment and started again ends with the bits of one that was not: order, times,
noise and dropout are functions of the seed and the step, and the rest is in the checkpoint, which is safetensors and
JSON. A run directory holds::

    config.json env.json metrics.jsonl   the run, one row a step
    encoded/                             latents and text states
    step-00000500/                       the newest checkpoints
    adapter/                             the averaged adapter, ready for attach; a bundle where there are several slots
    projector.safetensors                for a further training; attach does without
"""

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from sail_core.runs import Run, latest, load_state, save_state
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm  # type: ignore[import-untyped]

from sur_adapter._adapter import SURAdapter
from sur_adapter._bundle import SURAdapterBundle
from sur_adapter._order import rows_of_step
from sur_adapter._projector import TeacherProjector, save_projectors
from sur_adapter._provenance import Provenance
from sur_adapter._step import Step
from sur_adapter._student import Batch, Student
from sur_adapter._surd import Surd
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter._train_config import TrainConfig

from ._encoded_data import EncodedData, encode_data

__all__ = ["TrainConfig", "Trained", "train"]

_STANDARDISED = 4096  # texts from which the projector takes the teacher's mean and deviation


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to.

    Attributes:
        adapters: By slot, with the averaged weights, in evaluation mode.
        steps: Optimizer steps taken.
        nonfinite_step: The step (from 1) whose loss or gradient was not finite and that ended the training before its
            update, or None.
        directory: The run directory, with ``adapter`` in it.
    """

    adapters: dict[str, SURAdapter]
    steps: int
    nonfinite_step: int | None
    directory: Path


def train(config: TrainConfig, directory: str | os.PathLike[str], *, device: str = "auto") -> Trained:
    """Train in ``directory``, or go on from the newest checkpoint there.

    Args:
        config: Hyper-parameters. Another config in the same directory is refused.
        directory: See the module.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The averaged adapters.

    Raises:
        ValueError: The directory holds a run of another config, the data, the pipeline or the teacher do not fit, or
            the batch does not divide among the processes.
        FileNotFoundError: Data, teacher or a local model is not there.
        CheckpointError: The checkpoint does not match its manifest.

    Example:
        >>> train(TrainConfig(model="./sd15", data="SURD.zip", diffusion_weight=0), "runs/x")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no SURD.zip/metadata.jsonl; give SURD.zip, or ...
    """
    accelerator = _accelerator(config, device)
    main = accelerator.is_main_process
    directory = Path(directory)
    surd = Surd(config.data, images=config.diffusion_weight > 0)
    cache = None if config.teacher is None else TeacherCache(config.teacher)
    if cache is not None:
        cache.require([row.narrative for row in surd.rows])
    run = Run(directory, config=config) if main else None
    data = encode_data(config, surd, directory, accelerator)
    with torch.random.fork_rng(devices=[accelerator.device] if accelerator.device.type == "cuda" else []):
        student = build_student(config, data, cache)
        average = AveragedModel(student, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True).to(
            accelerator.device
        )
        optimizer = torch.optim.AdamW(
            [one for one in student.parameters() if one.requires_grad],
            config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        step, nonfinite, finished = 0, None, False
        if (checkpoint := latest(directory)) is not None:
            state = load_state(checkpoint)
            student.load_state_dict(state["student"])
            average.load_state_dict(state["average"])
            step, nonfinite, finished = state["step"], state["nonfinite_step"], state["finished"]
            if not finished:
                optimizer.load_state_dict(state["optimizer"])
        if run and not finished:
            run.rewind(step)
        losses = None if finished else _step(config, accelerator, data)
        wrapped, optimizer = accelerator.prepare(student, optimizer)
        wrapped.train()
        accelerator.wait_for_everyone()
        with tqdm(
            total=config.steps, initial=step, delay=2, disable=None if main else True, unit="step", desc=directory.name
        ) as bar:
            while losses is not None and not finished:
                row = _update(config, accelerator, losses, wrapped, optimizer, data, cache, step)
                nonfinite = None if all(math.isfinite(value) for value in row.values()) else step + 1
                if run:
                    run.log(step + 1, **row)
                if nonfinite is None:
                    optimizer.step()
                    average.update_parameters(accelerator.unwrap_model(wrapped))
                    step += 1
                    bar.update()
                finished = step == config.steps or nonfinite is not None
                if main and (finished or step % config.checkpoint_every == 0):
                    state = {"step": step, "nonfinite_step": nonfinite, "finished": finished}
                    state |= {
                        "student": accelerator.unwrap_model(wrapped).state_dict(),
                        "average": average.state_dict(),
                    }
                    state |= {} if finished else {"optimizer": optimizer.state_dict()}
                    _export(cast(Student, average.module), directory)
                    save_state(directory, state, step=step, keep=1 if finished else 2)
        accelerator.wait_for_everyone()
    kept = cast(Student, average.module).to("cpu").eval()
    adapters = {slot: kept.adapter(slot) for slot in kept.adapters}
    return Trained(adapters=adapters, steps=step, nonfinite_step=nonfinite, directory=directory)


def build_student(config: TrainConfig, data: EncodedData, cache: TeacherCache | None) -> Student:
    """Draw the adapters and projectors of a training from its seed."""
    torch.manual_seed(config.seed)
    build: Any = SURAdapter.original if config.original else SURAdapter
    adapters, projectors = {}, {}
    for slot, (field, width) in data.slots.items():
        teacher = {} if cache is None else _teacher_facts(cache)
        where = Provenance(base_model_id=config.model, encoder_slot=slot, encoder_field=field, **teacher)
        with warnings.catch_warnings():
            if config.original:
                warnings.simplefilter("ignore")  # who asks for the authors' training knows what it mixes
            adapters[slot] = build(width, provenance=where, **config.adapter_options())
    if cache is None:
        return Student(adapters)
    vectors = cache.vectors(data.narratives[:_STANDARDISED])
    for slot, adapter in adapters.items():
        side = "teacher" if config.original else "student"
        projectors[slot] = TeacherProjector(cache.facts.dim, adapter.width, side=side)  # type: ignore[arg-type]
        if not config.original:
            projectors[slot].standardise(vectors)
    return Student(adapters, projectors)


def _update(
    config: TrainConfig,
    accelerator: Any,
    losses: Step,
    student: Any,
    optimizer: Any,
    data: EncodedData,
    cache: TeacherCache | None,
    step: int,
) -> dict[str, float]:
    """Compute a step's gradient, clipped, without the update; returns the losses, the gradient's norm and the rate."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup))
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    torch.manual_seed(((config.seed * 1_000_003 + step) * 4099 + accelerator.process_index) % 2**63)  # for dropout
    totals: dict[str, Tensor] = {}
    for part, (batch, u, eps) in enumerate(_shares(config, accelerator, losses, data, cache, step)):
        last = part == config.accumulation - 1
        with nullcontext() if last else accelerator.no_sync(student):
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.mixed_precision == "bf16"):
                found = losses(student, batch, u, eps)
            accelerator.backward(found["loss"] / config.accumulation)
        for name, value in found.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() / config.accumulation
    norm = accelerator.clip_grad_norm_(student.parameters(), config.clip_norm)
    means = accelerator.reduce(torch.stack([*totals.values()]), "mean").tolist()
    return dict(zip(totals, means, strict=True)) | {"gradient_norm": float(norm), "learning_rate": rate}


def _shares(
    config: TrainConfig, accelerator: Any, losses: Step, data: EncodedData, cache: TeacherCache | None, step: int
) -> Iterator[tuple[Batch, Tensor | None, Tensor | None]]:
    """Yield this process's share of a step's micro-batches: every process draws all of it and takes every n-th row."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step + 7_919)
    rows = rows_of_step(len(data.narratives), config.batch_size, step, seed=config.seed)
    u = eps = None
    if losses.weights.diffusion:
        u = torch.rand(config.batch_size, generator=generator)
        eps = torch.randn(config.batch_size, *data.latent_shape, generator=generator)
        if config.noise_offset:
            eps += config.noise_offset * torch.randn(*eps.shape[:2], 1, 1, generator=generator)
    size = config.batch_size // config.accumulation
    for part in range(config.accumulation):
        mine = slice(part * size + accelerator.process_index, (part + 1) * size, accelerator.num_processes)
        batch = data.batch(rows[mine], cache, accelerator.device)
        if u is None or eps is None:
            yield batch, None, None
        else:
            yield batch, u[mine].to(accelerator.device), eps[mine].to(accelerator.device)


def _accelerator(config: TrainConfig, device: str) -> Accelerator:
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {device!r}; it must be 'auto', 'cpu' or 'cuda'")
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")  # the precision is the run's, set at its step
    if device == "cuda" and accelerator.device.type != "cuda":
        raise ValueError("device is 'cuda', but torch sees no CUDA device here; use 'cpu' or 'auto'")
    share = config.accumulation * accelerator.num_processes
    if config.batch_size % share:
        raise ValueError(
            f"a batch of {config.batch_size} does not divide among {accelerator.num_processes} processes with "
            f"{config.accumulation} micro-batches each; give a multiple of {share}"
        )
    return accelerator


def _teacher_facts(cache: TeacherCache) -> dict[str, str | None]:
    facts = cache.facts
    return {"teacher_id": facts.model, "teacher_layer": facts.layer, "teacher_pooling": facts.pooling}


def _step(config: TrainConfig, accelerator: Any, data: EncodedData) -> Step:
    weights = config.weights()
    if not weights.diffusion:
        return Step(None, None, weights=weights, **config.loss_options())
    from ._frozen import frozen_denoiser  # diffusers is needed only here

    denoise, noise = frozen_denoiser(config, data.family, accelerator.device)
    return Step(denoise, noise, weights=weights, **config.loss_options())


def _averaging(decay: float) -> Any:
    """The moving average; its decay rises with the steps, so that the first weights are soon forgotten."""

    def average(old: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for one, other in zip(old, new, strict=True):
            one.lerp_(other, share)

    return average


def _export(student: Student, directory: Path) -> None:
    adapters = {slot: student.adapter(slot) for slot in student.adapters}
    whole = next(iter(adapters.values())) if len(adapters) == 1 else SURAdapterBundle(adapters)
    whole.save_pretrained(directory / "adapter")
    if student.projectors:
        save_projectors(directory / "projector.safetensors", dict(student.projectors.items()))  # type: ignore[arg-type]
