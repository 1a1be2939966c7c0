"""The command `sur-adapter`."""

from sail_core.command import main as run_command

from ._convert import convert
from ._encode_command import encode_teacher_command
from ._evaluate import evaluate
from ._generate import generate
from ._prepare import PrepareDataConfig, prepare_data
from ._train_command import train_command
from .demo import demo


def prepare(config: PrepareDataConfig) -> None:
    """Prepare a folder of training data, or go on with one that was killed."""
    found = prepare_data(config)
    dropped = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
    print(f"{config.out}: {found.kept} images kept" + (f"; left out: {dropped}" if dropped else ""))


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {
            "demo": demo,
            "prepare-data": prepare,
            "encode-teacher": encode_teacher_command,
            "train": train_command,
            "generate": generate,
            "evaluate": evaluate,
            "convert": convert,
        },
        prog="sur-adapter",
        description="Adapters that let the text encoders of diffusion pipelines read sentences.",
    )
