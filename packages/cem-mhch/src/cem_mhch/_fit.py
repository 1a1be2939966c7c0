"""Training in two stages; resumed from any kill, it ends with the weights of the run that was never killed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from sail_core.runs import Run, latest, load_state, rng_state, save_state, seed_everything, set_rng_state
from torch import Tensor

from ._batch import collate
from ._evaluate import macro_f1, predict
from ._save import weights_hash

if TYPE_CHECKING:
    from ._cem import CEM
    from ._types import Dialogue
    from ._vocab import Encoder


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How to train: AdamW, a linear warm-up and a cosine to zero, gradients clipped.

    The first stage trains everything and the cost simulator; in the second the simulator is frozen and its expected
    cost joins the loss.

    Args:
        epochs: Passes over the training dialogues.
        stage_one: Share of the epochs in the first stage, in [0, 1].
        batch_size: Dialogues a step.
        learning_rate: The largest one.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the learning rate rises, in [0, 1).
        clip: Largest norm of the gradient.
        seed: Of the order, the dropout and the simulated actions; the weights were drawn when the model was built.
        max_turns: Dialogues are cut to their first turns, None keeps all.

    Raises:
        ValueError: A value is outside its range.
    """

    epochs: int = 12
    stage_one: float = 0.4
    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0
    max_turns: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")
        if not 0 <= self.stage_one <= 1 or not 0 <= self.warmup < 1 or self.weight_decay < 0:
            raise ValueError(
                f"stage_one {self.stage_one}, warmup {self.warmup} and weight_decay {self.weight_decay} must lie in "
                "[0, 1], [0, 1) and [0, inf)"
            )


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training came to.

    Attributes:
        steps: Optimizer steps.
        losses: Mean training loss of each epoch.
        best_epoch: The epoch (from 1) whose weights were kept: the last, or with validation dialogues the first of the
            largest macro-F1 there.
        validation_macro_f1: Of the kept weights, or None.
        weights: SHA-256 of the weights.
    """

    steps: int
    losses: list[float]
    best_epoch: int
    validation_macro_f1: float | None
    weights: str


def fit(
    model: CEM,
    train: Sequence[Dialogue],
    val: Sequence[Dialogue] | None = None,
    *,
    vocab: Encoder | None = None,
    config: FitConfig | None = None,
    directory: str | PathLike[str] | None = None,
    device: torch.device | None = None,
) -> FitResult:
    """Train a model in place, or go on from the newest checkpoint of a directory.

    On a CPU, a training that was killed at any moment and started again ends with exactly the weights of one that was
    not. Turns without a label and padding take no part in any loss.

    Args:
        model: The model, its weights freshly drawn; it stays on `device`, in eval mode.
        train: Training dialogues; some may lack handoffs, sentiments or the satisfaction.
        val: With it the epoch of the best macro-F1 at 0.5 is kept, else the last.
        vocab: Turns text into ids; not needed for dialogues of ids.
        config: Hyper-parameters.
        directory: Receives config.json, env.json, metrics.jsonl (one row an epoch) and a checkpoint after each epoch.
            Another configuration in it is refused. None keeps nothing on disk.
        device: Where to train; None is the CPU.

    Returns:
        Steps, losses, the epoch that was kept, and the hash of the weights.

    Raises:
        ValueError: There is no dialogue, the directory holds another run, or the loss is not finite.
        CheckpointError: The checkpoint does not match its manifest.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    config = config or FitConfig()
    if not train:
        raise ValueError("there is no dialogue to train on")
    device = device or torch.device("cpu")
    seed_everything(config.seed)
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=device.type in ("cpu", "cuda")
    )
    lengths = [len(one.turns[: config.max_turns]) for one in train]
    per_epoch = len(_order(lengths, config, 0))
    total = config.epochs * per_epoch
    progress: dict[str, Any] = {"epoch": 0, "losses": [], "best": None, "best_epoch": 0, "best_f1": None}
    run = None
    if directory is not None:
        run = Run(directory, config={"fit": asdict(config), "model": asdict(model.config), "dialogues": len(train)})
        checkpoint = latest(directory)
        if checkpoint is not None:
            state = load_state(checkpoint)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            set_rng_state(state["rng"])
            progress = state["progress"]
        run.rewind(progress["epoch"])
    first_of_two = round(config.epochs * config.stage_one)
    with tqdm(total=total, initial=progress["epoch"] * per_epoch, delay=2, disable=None, unit="step") as bar:
        while progress["epoch"] < config.epochs:
            epoch = progress["epoch"]
            if epoch >= first_of_two:
                model.freeze_simulator()
            model.train()
            sums: dict[str, float] = {}
            for number, chosen in enumerate(_order(lengths, config, epoch)):
                rate = learning_rate(config, epoch * per_epoch + number, total)
                batch = collate([train[index] for index in chosen], vocab, max_turns=config.max_turns).to(device)
                losses = _step(model, batch, optimizer, rate, config.clip)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value / per_epoch
                bar.update()
            progress["epoch"] = epoch + 1
            progress["losses"].append(sums["loss"])
            scored = None if val is None else _validate(model, val, vocab, config)
            if scored is None or progress["best_f1"] is None or scored > progress["best_f1"]:
                progress |= {"best_epoch": epoch + 1, "best_f1": scored}
                if val is not None:
                    progress["best"] = {name: value.detach().clone() for name, value in model.state_dict().items()}
            if run is not None:
                run.log(epoch + 1, **sums, validation_macro_f1=scored, beta=model.beta.item())
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng_state()}
                save_state(run.directory, state | {"progress": progress}, step=epoch + 1)
    if config.stage_one < 1:
        model.freeze_simulator()
    if progress["best"] is not None:
        model.load_state_dict(progress["best"])
    model.eval()
    return FitResult(
        steps=total,
        losses=progress["losses"],
        best_epoch=progress["best_epoch"],
        validation_macro_f1=progress["best_f1"],
        weights=weights_hash(model),
    )


def learning_rate(config: FitConfig, step: int, total: int) -> float:
    """The rate of a step: up in a line over the warm-up, then down by a half cosine.

    Example:
        >>> [round(learning_rate(FitConfig(learning_rate=1.0, warmup=0.2), step, 10), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    rising = config.warmup * total
    if step + 1 <= rising:
        return config.learning_rate * (step + 1) / rising
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))


def _order(lengths: Sequence[int], config: FitConfig, epoch: int) -> list[list[int]]:
    """The batches of an epoch, a function of the seed and the epoch alone.

    Dialogues are shuffled, sorted by length within chunks of eight batches, so that little is padded, and the batches
    are shuffled again.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
    size, batches = config.batch_size, []
    for start in range(0, len(order), 8 * size):
        chunk = sorted(order[start : start + 8 * size], key=lambda index: lengths[index])
        batches += [chunk[first : first + size] for first in range(0, len(chunk), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _step(model: CEM, batch: Any, optimizer: torch.optim.Optimizer, rate: float, clip: float) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = rate
    out = model(batch)
    if out.loss is None:
        raise ValueError("a batch has no label at all: training dialogues need handoffs, sentiments or a satisfaction")
    if not bool(torch.isfinite(out.loss)):
        raise ValueError(f"the loss became {out.loss.item()}: lower the learning rate, or look for huge costs")
    optimizer.zero_grad()
    torch.autograd.backward(out.loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    parts: dict[str, Tensor] = out.losses or {}
    return {"loss": out.loss.item()} | {name: value.item() for name, value in parts.items()}


def _validate(model: CEM, val: Sequence[Dialogue], vocab: Encoder | None, config: FitConfig) -> float:
    found = predict(model, val, vocab=vocab, max_turns=config.max_turns)
    return macro_f1(found.labels, found.scores)
