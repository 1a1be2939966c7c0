"""Forward and backward of ResNet-164 with each attention: bench_step.py --out FILE [--device cpu] [--quick].

The same comparison as the command `dia-attention bench`, at the papers' depth: all networks have the same convolutions,
the peers' squeeze-and-excitation stands behind the last norm of every block with reduction 16. The optimizer is not
timed. A network is timed only if its loss and the gradient at its first convolution agree with its own in float64.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dia_attention._bench import compare_steps

ATTENTIONS = ("dia", "se", "ras", "lsas", "asr", "step")


def main(argv: Sequence[str] | None = None) -> int:
    """Append one row for each network and layout; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="A training step of ResNet-164 with and without attention.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--attention", nargs="+", default=list(ATTENTIONS), help="those to time")
    parser.add_argument("--quick", action="store_true", help="ResNet-29, batch 4, to see that it runs")
    arguments = parser.parse_args(argv)
    depth, batch, seconds = (29, 4, 0.5) if arguments.quick else (164, 32 if arguments.device == "cpu" else 128, 15.0)
    correct = True
    for layout in ("nchw", "nhwc"):
        rows = compare_steps(
            arguments.attention,
            depth=depth,
            batch=batch,
            size=32,
            layout=layout,
            device=arguments.device,
            seconds=seconds,
            out=arguments.out,
        )
        correct &= all(row["correct"] for row in rows)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
