"""The command `cem-mhch`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sail_core.command import main as run_command

from ._commands import bench, evaluate, plot, score, serve, train
from ._data_commands import import_data, simulate_data, stats, validate_data
from .demo import demo


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """Import, check, count and simulate dialogues: cem-mhch data --help."""


def data(config: DataCommand) -> None:
    """Import, check, count and simulate dialogues: cem-mhch data --help."""
    raise ValueError("data is followed by import, validate, stats or simulate; cem-mhch data --help explains them")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    words = [one for one in arguments if one != "--debug"]
    if words[:1] == ["data"] and len(words) > 1:
        arguments.remove("data")
        return run_command(
            {"import": import_data, "validate": validate_data, "stats": stats, "simulate": simulate_data},
            prog="cem-mhch data",
            description="Dialogues from logs, public corpora and a simulated customer service.",
            argv=arguments,
        )
    return run_command(
        {
            "demo": demo,
            "train": train,
            "evaluate": evaluate,
            "score": score,
            "data": data,
            "plot": plot,
            "serve": serve,
            "bench": bench,
        },
        prog="cem-mhch",
        description="When should a chatbot hand over to a person?",
        argv=arguments,
    )
