"""A plain training loop: resumed from any kill, it ends with the weights of the run that was never killed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sail_core.runs import Run, latest, load_state, rng_state, save_state, seed_everything, set_rng_state
from torch import Tensor, nn

from ._cifar import cifar_resnet
from ._distributed import Group
from ._splits import Data, Split, batches, to_float

BEST = "best"  # folder of the best epoch's weights below a run


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training depends on besides its data: the command line's flags, saved beside every checkpoint.

    The defaults are the paper's for ResNet-164 on CIFAR (SGD, momentum 0.9, weight decay 1e-4, steps of 0.1 at one and
    two thirds of the training), with a depth and a batch for 8x8 digits.
    """

    data: str = "digits"
    """digits, cifar10, folder, torchvision:NAME, digits-on-photographs or digits-on-cifar10."""
    size: int | None = None
    """Side of the images in pixels; larger ones are averaged. None is their own."""

    attention: str | None = "dia"
    """Attention of every stage; None is the plain net."""
    depth: int = 20
    """Layers of the CIFAR ResNet: 9 n + 2, n blocks a stage."""
    batch_norm: bool = True
    """Keep BatchNorm."""
    skip: bool = True
    """Keep the skip connections."""
    augment: bool = True
    """Random crops with one eighth of padding, and mirroring where the class allows it."""
    per_class: int | None = None
    """Training images of each class; None is all."""
    validation_per_class: int | None = None
    """Validation images of each class; None is 30 of the digits and a tenth of other data."""
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = (1 / 3, 2 / 3)
    """Fractions of the training after which the learning rate is multiplied by 0.1."""
    seed: int = 0
    """Draws the weights, the split, the order and the crops."""
    keep_best: bool = False
    """After every epoch measure the validation accuracy, and keep the best weights below `best`."""
    checkpoint_every: int = 50
    """Steps between checkpoints: what a kill loses at most."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}: give a number above 0")
        if not all(0 < milestone <= 1 for milestone in self.milestones):
            raise ValueError(f"milestones are {self.milestones}: give fractions of the training, above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training came to.

    Attributes:
        steps: Optimizer steps taken.
        validation_accuracy: Share of validation images classified correctly at the end, in [0, 1].
        best_validation_accuracy: That of the best epoch, whose weights are below `best`; None without `keep_best`.
        nonfinite_step: The step (counted from 1) whose loss was not finite and that ended the training, or None.
        weights: SHA-256 of the weights, see `weights_hash`.
    """

    steps: int
    validation_accuracy: float
    best_validation_accuracy: float | None
    nonfinite_step: int | None
    weights: str


def build(config: TrainConfig, data: Data) -> nn.Module:
    """The untrained net of a config for the data's channels and classes."""
    return build_for(config, channels=data.train.images.shape[1], classes=len(data.classes))


def build_for(config: TrainConfig, *, channels: int, classes: int) -> nn.Module:
    """The untrained net of a config, its weights drawn from the config's seed."""
    seed_everything(config.seed)
    return cifar_resnet(
        config.depth,
        attention=config.attention,
        num_classes=classes,
        in_channels=channels,
        norm="batch" if config.batch_norm else None,
        skip="all" if config.skip else "none",
    )


def fit(
    model: nn.Module,
    data: Data,
    config: TrainConfig,
    directory: Path,
    *,
    device: torch.device | None = None,
    group: Group | None = None,
) -> TrainResult:
    """Train `model` in `directory`, or go on from the newest checkpoint there.

    On a CPU a training that was killed at any moment and started again ends with exactly the weights of one that was
    not: order, crops and learning rate are functions of the seed and the step, the rest is in the checkpoint. A loss
    that is not finite ends the training before its update; the step is recorded and the last weights are kept.

    Args:
        model: Maps `(B, C, H, W)` images to logits; trained in place.
        data: Training and validation split.
        config: Hyper-parameters. Another config, or other data, in the same directory is refused.
        directory: Receives config.json, env.json, metrics.jsonl (one row a step) and the checkpoint.
        device: Where to train; None is the CPU.
        group: The processes that train together, each on its share of every batch; `batch_size` is that of all. None
            is this process alone.

    Returns:
        Steps, validation accuracy, the first non-finite step and the hash of the weights; the same in all processes.

    Raises:
        ValueError: The directory holds a run of another config or of other data, or a batch is smaller than the group.
        CheckpointError: The checkpoint does not match its manifest.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    device, group = device or torch.device("cpu"), group or Group()
    least = len(data.train) % config.batch_size or config.batch_size
    if least < group.size:
        raise ValueError(
            f"{len(data.train)} images in batches of {config.batch_size} leave a batch of {least}, which {group.size} "
            "processes cannot share; choose another batch_size"
        )
    run = Run(directory, config=config) if group.leads else None
    fingerprint = data.train.fingerprint()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = data.train.to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    per_epoch = -(-len(train) // config.batch_size)
    total = config.epochs * per_epoch
    step, nonfinite, finished, best = 0, None, False, None
    group.wait()
    checkpoint = latest(directory)
    if checkpoint is not None:
        state = load_state(checkpoint)
        if state["data"] != fingerprint:
            raise ValueError(f"{directory} belongs to a run on other images; use another directory or the same data")
        model.load_state_dict(state["model"])
        step, nonfinite, finished, best = (state[name] for name in ("step", "nonfinite_step", "finished", "best"))
        if not finished:
            optimizer.load_state_dict(state["optimizer"])
            set_rng_state(state["rng"])
    if run and not finished:
        run.rewind(step)
    group.wait()

    def save(**more: object) -> None:
        if group.leads:
            state = {"step": step, "nonfinite_step": nonfinite, "best": best, "data": fingerprint} | more
            save_state(directory, {"model": model.state_dict()} | state, step=step, keep=1 if more["finished"] else 2)

    def validate() -> float:
        group.agree(model)
        found = accuracy(model, data.validation)
        model.train()
        if group.leads and (best is None or found > best):
            save_state(directory / BEST, {"model": model.state_dict()}, step=step, keep=1)
        return found if best is None else max(best, found)

    model.train()
    parallel = group.wrap(model)
    with tqdm(
        total=total, initial=step, delay=2, disable=None if group.leads else True, unit="step", desc=directory.name
    ) as bar:
        while not finished:
            epoch, position = divmod(step, per_epoch)
            for batch in batches(
                train, config.batch_size, seed=config.seed, epoch=epoch, augment=config.augment, start=position
            ):
                rate = learning_rate(config, step / total)
                for parameters in optimizer.param_groups:
                    parameters["lr"] = rate
                images, labels = group.share(batch)
                # the gradients are averaged over processes: this is this one's part of the mean over the batch
                part = F.cross_entropy(parallel(images), labels, reduction="sum") * (group.size / len(batch[1]))
                loss = group.total(part) / group.size
                if run:
                    run.log(step + 1, loss=loss.item(), learning_rate=rate, epoch=epoch)
                if not torch.isfinite(loss):
                    nonfinite = step + 1
                    break
                optimizer.zero_grad()
                torch.autograd.backward(part)
                optimizer.step()
                step += 1
                bar.update()
                if config.keep_best and step % per_epoch == 0:
                    best = validate()
                if step % config.checkpoint_every == 0 and step < total:
                    save(optimizer=optimizer.state_dict(), rng=rng_state(), finished=False)
            finished = step == total or nonfinite is not None
            if finished:
                save(finished=True)
    group.agree(model)
    group.wait()
    return TrainResult(
        steps=step,
        validation_accuracy=accuracy(model, data.validation),
        best_validation_accuracy=best,
        nonfinite_step=nonfinite,
        weights=weights_hash(model),
    )


def learning_rate(config: TrainConfig, progress: float) -> float:
    """The step schedule: `config.learning_rate` times 0.1 for each milestone at or below `progress` in [0, 1)."""
    return config.learning_rate * 0.1 ** sum(progress >= milestone for milestone in config.milestones)


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, *, batch_size: int = 500) -> float:
    """Share of the split's images whose largest logit is their label, in [0, 1]; leaves the model in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    right = 0
    for first in range(0, len(split), batch_size):
        logits = model(to_float(split.images[first : first + batch_size].to(device)))
        right += int((logits.argmax(1) == split.labels[first : first + batch_size].to(device)).sum())
    return right / len(split)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the ordered state dict: every name, dtype, shape and byte.

    Example:
        >>> weights_hash(nn.Linear(1, 1)) == weights_hash(nn.Linear(1, 1))
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        tensor: Tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
