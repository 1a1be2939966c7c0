"""The command `dia-attention`."""

from sail_core.command import main as run_command

from ._commands import bench, evaluate, fold_run, show, train
from .demo import demo


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {"demo": demo, "train": train, "evaluate": evaluate, "fold": fold_run, "bench": bench, "list": show},
        prog="dia-attention",
        description="Attention that the residual blocks of a network share, or that folds away.",
    )
