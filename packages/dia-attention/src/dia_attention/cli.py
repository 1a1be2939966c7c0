"""The command `dia-attention`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from sail_core.command import main as run_command
from sail_core.runs import pick_device

from ._attach import list_attentions
from ._data import digits
from ._train import TrainConfig, build, fit
from .demo import demo


@dataclass(frozen=True, kw_only=True)
class TrainCommand(TrainConfig):
    """Train a CIFAR ResNet on scikit-learn's digits; the same command goes on where a killed one stopped."""

    out: Path = Path("runs/train/dia-attention")
    """Run directory. Another configuration in the same directory is refused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """List the attentions, one a line."""


def train(config: TrainCommand) -> None:
    """Train on the digits, or go on with the training of the run directory."""
    settings = TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
    data = digits(seed=settings.seed, per_class=settings.per_class)
    result = fit(build(settings), data, settings, config.out, device=pick_device(config.device))
    if result.nonfinite_step is not None:
        print(f"the loss of step {result.nonfinite_step} was not finite; the weights before it are kept")
    print(f"{result.steps} steps, validation accuracy {result.validation_accuracy:.4f}, weights {result.weights}")


def show(config: ListCommand) -> None:
    """Print the attentions, one a line."""
    print("\n".join(list_attentions()))


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {"demo": demo, "train": train, "list": show},
        prog="dia-attention",
        description="Attention shared by the residual blocks of a network.",
    )
