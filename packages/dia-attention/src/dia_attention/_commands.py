"""What the command line does besides the demo: train, evaluate, fold and time networks."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import safetensors.torch
from sail_core.runs import latest, load_state, pick_device, write_atomic
from torch import nn

from ._attach import list_attentions
from ._bench import compare_steps
from ._distributed import process_group
from ._find import attached_configs
from ._fold import fold
from ._save import save
from ._sources import Source
from ._splits import Data
from ._train import BEST, TrainConfig, accuracy, build, build_for, fit


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where a command works and where its images lie; no result depends on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    root: Path | None = None
    """The images: CIFAR-10's archive or its folder, the folder of class folders (or of train/ and test/ with class
    folders), torchvision's root. None is the folder cifar10 below SAIL_DATA."""
    cache: Path | None = None
    """A folder that keeps CIFAR-10 decoded, 184 MB. None decodes it at every start."""


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig, Located):
    """Train a CIFAR ResNet; the same command goes on where a killed one stopped, and torchrun spreads it."""

    out: Path = Path("runs/train/dia-attention")
    """Run directory. Another configuration in the same directory is refused."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Located):
    """Accuracy of a trained run on its validation or test images."""

    run: Path
    """The run directory of `train`."""
    split: Literal["validation", "test"] = "validation"
    weights: Literal["last", "best"] = "last"
    """Those of the last step, or of the best epoch (`train --keep-best`)."""
    folded: bool = False
    """Fold ASR or RAS first."""


@dataclass(frozen=True, kw_only=True)
class FoldCommand:
    """Fold the ASR or RAS of a trained run and write the network; of ASR it is the plain network."""

    run: Path
    """The run directory of `train`."""
    out: Path
    """The safetensors file to write."""
    weights: Literal["last", "best"] = "last"


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Time a training step with each attention against the plain network, and against timm's and torchvision's SE."""

    attention: tuple[str, ...] = ("se", "dia", "ras", "lsas", "asr", "step")
    depth: int = 29
    """Layers of the CIFAR ResNet."""
    batch_size: int = 32
    size: int = 32
    """Side of the images in pixels."""
    channels_last: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seconds: float = 2.0
    """To spend on each network."""
    out: Path | None = None
    """A JSON-lines file that rows are appended to."""


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """List the attentions, one a line."""


def train(config: TrainCommand) -> None:
    """Train, or go on with the training of the run directory."""
    settings = TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
    data = _data(settings, config)
    with process_group(pick_device(config.device)) as (group, device):
        result = fit(build(settings, data), data, settings, config.out, device=device, group=group)
    if not group.leads:
        return
    if result.nonfinite_step is not None:
        print(f"the loss of step {result.nonfinite_step} was not finite; the weights before it are kept")
    best = "" if result.best_validation_accuracy is None else f" (best epoch {result.best_validation_accuracy:.4f})"
    print(f"{result.steps} steps, validation accuracy {result.validation_accuracy:.4f}{best}, weights {result.weights}")


def evaluate(config: EvaluateCommand) -> None:
    """Print the accuracy of a trained run."""
    settings = _settings(config.run)
    data = _data(settings, config)
    split = data.validation if config.split == "validation" else _source(settings, config).load_test()
    model = _trained(config.run, settings, data, config.weights)
    model = (fold(model) if config.folded else model).to(pick_device(config.device))
    print(f"{config.split} accuracy {accuracy(model, split):.4f} on {len(split)} images of {settings.data}")


def fold_run(config: FoldCommand) -> None:
    """Write the folded network of a run: with `save` where an attention is left, else its plain weights."""
    settings = _settings(config.run)
    state = load_state(_checkpoint(config.run, config.weights))["model"]
    classes, channels = state["fc.weight"].shape[0], state["conv1.weight"].shape[1]
    model = build_for(settings, channels=channels, classes=classes)
    model.load_state_dict(state)
    folded = fold(model.eval())
    if attached_configs(folded):
        save(folded, config.out)
    else:
        tensors = {key: value.contiguous() for key, value in folded.state_dict().items()}
        write_atomic(config.out, safetensors.torch.save(tensors))
    counts = [sum(p.numel() for p in net.parameters()) for net in (model, folded)]
    print(f"{settings.attention}: {counts[0]:,} parameters folded to {counts[1]:,} in {config.out}")


def bench(config: BenchCommand) -> int:
    """Print how long a training step takes; 1 if a network computes something wrong."""
    rows = compare_steps(
        config.attention,
        depth=config.depth,
        batch=config.batch_size,
        size=config.size,
        layout="nhwc" if config.channels_last else "nchw",
        device=pick_device(config.device).type,
        seconds=config.seconds,
        out=config.out,
    )
    return 0 if all(row["correct"] for row in rows) else 1


def show(config: ListCommand) -> None:
    """Print the attentions, one a line."""
    print("\n".join(list_attentions()))


def _source(settings: TrainConfig, located: Located) -> Source:
    return Source(data=settings.data, root=located.root, cache=located.cache, size=settings.size)


def _data(settings: TrainConfig, located: Located) -> Data:
    return _source(settings, located).load(
        seed=settings.seed, per_class=settings.per_class, validation_per_class=settings.validation_per_class
    )


def _settings(run: Path) -> TrainConfig:
    """The configuration that `train` left in a run directory."""
    path = run / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no run in {run}: give the --out of a training")
    try:
        stored = json.loads(path.read_text())["config"]
        return TrainConfig(**stored | {"milestones": tuple(stored["milestones"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the configuration of a training ({error})") from error


def _checkpoint(run: Path, weights: str) -> Path:
    checkpoint = latest(run / BEST if weights == "best" else run)
    if checkpoint is None:
        raise FileNotFoundError(f"{run} has no checkpoint of the {weights} weights")
    return checkpoint


def _trained(run: Path, settings: TrainConfig, data: Data, weights: str) -> nn.Module:
    model = build(settings, data)
    model.load_state_dict(load_state(_checkpoint(run, weights))["model"])
    return model.eval()
