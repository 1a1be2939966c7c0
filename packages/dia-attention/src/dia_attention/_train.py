"""A plain training loop: resumed from any kill, it ends with the weights of the run that was never killed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sail_core.runs import Run, latest, load_state, rng_state, save_state, seed_everything, set_rng_state
from torch import Tensor, nn

from ._cifar import cifar_resnet
from ._data import Digits, Split, batches


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training depends on besides its data: the command line's flags, saved beside every checkpoint.

    The defaults are the paper's for ResNet-164 on CIFAR (SGD, momentum 0.9, weight decay 1e-4, steps of 0.1 at one and
    two thirds of the training), with a depth and a batch for 8x8 digits.
    """

    attention: str | None = "dia"
    """Attention of every stage; None is the plain net."""
    depth: int = 20
    """Layers of the CIFAR ResNet: 9 n + 2, n blocks a stage."""
    batch_norm: bool = True
    """Keep BatchNorm."""
    skip: bool = True
    """Keep the skip connections."""
    augment: bool = True
    """Random crops with one eighth of padding."""
    per_class: int | None = None
    """Training images of each class; None is all."""
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = (1 / 3, 2 / 3)
    """Fractions of the training after which the learning rate is multiplied by 0.1."""
    seed: int = 0
    """Draws the weights, the split, the order and the crops."""
    checkpoint_every: int = 50
    """Steps between checkpoints: what a kill loses at most."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}: give a number above 0")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training came to.

    Attributes:
        steps: Optimizer steps taken.
        validation_accuracy: Share of validation images classified correctly, in [0, 1].
        nonfinite_step: The step (counted from 1) whose loss was not finite and that ended the training, or None.
        weights: SHA-256 of the weights, see `weights_hash`.
    """

    steps: int
    validation_accuracy: float
    nonfinite_step: int | None
    weights: str


def build(config: TrainConfig) -> nn.Module:
    """The untrained net of a config, its weights drawn from the config's seed."""
    seed_everything(config.seed)
    return cifar_resnet(
        config.depth,
        attention=config.attention,
        in_channels=1,
        norm="batch" if config.batch_norm else None,
        skip="all" if config.skip else "none",
    )


def fit(
    model: nn.Module, data: Digits, config: TrainConfig, directory: Path, *, device: torch.device | None = None
) -> TrainResult:
    """Train `model` in `directory`, or go on from the newest checkpoint there.

    On a CPU a training that was killed at any moment and started again ends with exactly the weights of one that was
    not: order, crops and learning rate are functions of the seed and the step, the rest is in the checkpoint. A loss
    that is not finite ends the training before its update; the step is recorded and the last weights are kept.

    Args:
        model: Maps `(B, 1, H, W)` images to `(B, 10)` logits; trained in place.
        data: Training and validation split.
        config: Hyper-parameters. Another config in the same directory is refused.
        directory: Receives config.json, env.json, metrics.jsonl (one row a step) and the checkpoint.
        device: Where to train; None is the CPU.

    Returns:
        Steps, validation accuracy, the first non-finite step and the hash of the weights.

    Raises:
        ValueError: The directory holds a run of another config.
        CheckpointError: The checkpoint does not match its manifest.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    device = device or torch.device("cpu")
    run = Run(directory, config=config)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train = data.train.to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    per_epoch = -(-len(train) // config.batch_size)
    total = config.epochs * per_epoch
    step, nonfinite, finished = 0, None, False
    checkpoint = latest(directory)
    if checkpoint is not None:
        state = load_state(checkpoint)
        model.load_state_dict(state["model"])
        step, nonfinite, finished = state["step"], state["nonfinite_step"], state["finished"]
        if not finished:
            optimizer.load_state_dict(state["optimizer"])
            set_rng_state(state["rng"])
    if not finished:
        run.rewind(step)
    model.train()
    with tqdm(total=total, initial=step, delay=2, disable=None, unit="step", desc=directory.name) as bar:
        while not finished:
            epoch, position = divmod(step, per_epoch)
            for images, labels in batches(
                train, config.batch_size, seed=config.seed, epoch=epoch, augment=config.augment, start=position
            ):
                rate = learning_rate(config, step / total)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = F.cross_entropy(model(images), labels)
                run.log(step + 1, loss=loss.item(), learning_rate=rate, epoch=epoch)
                if not torch.isfinite(loss):
                    nonfinite = step + 1
                    break
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                step += 1
                bar.update()
                if step % config.checkpoint_every == 0 and step < total:
                    state = {"optimizer": optimizer.state_dict(), "rng": rng_state(), "finished": False}
                    _save(directory, model, step, nonfinite, state)
            finished = step == total or nonfinite is not None
            if finished:
                _save(directory, model, step, nonfinite, {"finished": True})
    return TrainResult(
        steps=step,
        validation_accuracy=accuracy(model, data.validation),
        nonfinite_step=nonfinite,
        weights=weights_hash(model),
    )


def _save(directory: Path, model: nn.Module, step: int, nonfinite: int | None, more: dict[str, object]) -> None:
    state = {"model": model.state_dict(), "step": step, "nonfinite_step": nonfinite} | more
    save_state(directory, state, step=step, keep=1 if more["finished"] else 2)


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
        logits = model(split.images[first : first + batch_size].to(device))
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
