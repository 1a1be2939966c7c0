"""The command `clot`."""

from oogiri_go.runs import main as run_command

from ._command_evaluate import run_dat, run_evaluate, run_export
from ._command_generate import run_generate, run_ui
from ._command_prepare import run_nouns, run_prepare
from ._command_refine import run_refine
from ._command_report import run_report
from ._command_train import run_train
from .demo import demo


def main() -> int:
    """Run the command line and give its exit code: 0 done, 1 failed, 2 bad input or usage."""
    return run_command(
        {
            "prepare": run_prepare,
            "nouns": run_nouns,
            "train": run_train,
            "refine": run_refine,
            "evaluate": run_evaluate,
            "generate": run_generate,
            "dat": run_dat,
            "export": run_export,
            "report": run_report,
            "ui": run_ui,
            "demo": demo,
        },
        prog="clot",
        description="Creative Leap-of-Thought: tune a model on humorous answers, let it refine itself, evaluate it.",
    )


if __name__ == "__main__":
    raise SystemExit(main())
