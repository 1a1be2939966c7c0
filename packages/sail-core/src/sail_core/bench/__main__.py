"""Command line of the benchmarks: ``python -m sail_core.bench recalibrate|traffic|report|check``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ._goals import check, read_goals
from ._report import report
from ._rows import append_rows, read_rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 is success, 1 a missed goal or limit, 2 bad usage or input."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError, ImportError) as error:
        print(f"python -m sail_core.bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sail_core.bench", description="Benchmarks of sail-core.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("recalibrate", help="time recalibrate against timm's SqueezeExcite (needs timm)")
    one.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    one.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    one.add_argument("--quick", action="store_true", help="the smallest map only, to see that it runs")
    one.set_defaults(run=_recalibrate)

    one = commands.add_parser("traffic", help="count passes over the map exactly (needs timm)")
    one.add_argument("--form", choices=["cpu", "cuda"], default="cpu", help="whose formulas to count")
    one.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
    one.add_argument("--max-passes", metavar="OP=N", action="append", default=[], type=_limit)
    one.set_defaults(run=_traffic)

    one = commands.add_parser("report", help="print rows as Markdown")
    one.add_argument("rows", nargs="+", type=Path)
    one.set_defaults(run=_report)

    one = commands.add_parser("check", help="hold rows against goals")
    one.add_argument("rows", nargs="+", type=Path)
    one.add_argument("goals", type=Path, help="TOML file of goals")
    one.set_defaults(run=_check)
    return parser


def _limit(text: str) -> tuple[str, int]:
    op, _, number = text.partition("=")
    return op, int(number)


def _recalibrate(arguments: argparse.Namespace) -> int:
    from ._recalibrate import recalibrate_rows

    correct = True
    for rows in recalibrate_rows(device=arguments.device, quick=arguments.quick):
        append_rows(arguments.out, rows)
        ours = rows[0]
        correct &= all(row["correct"] for row in rows)
        ratio = (
            ", ".join(f"{ratio:.2f}x {peer}" for peer, ratio in (ours["peer_ratio"] or {}).items()) or "wrong result"
        )
        noisy = ", noisy" if ours["noisy"] else ""
        print(f"{ours['op']:12} {ours['shape']!s:20} {ours['dtype']} {ours['layout']}: {ratio}{noisy}", flush=True)
    return 0 if correct else 1


def _traffic(arguments: argparse.Namespace) -> int:
    from ._recalibrate import OPS, traffic

    limits = dict(arguments.max_passes)
    if not set(limits) <= set(OPS):
        raise ValueError(f"--max-passes names {sorted(set(limits) - set(OPS))}; expected {' or '.join(OPS)}")
    status = 0
    for (op, name), passes in traffic(form=arguments.form, layout=arguments.layout).items():
        over = name == "sail_core" and int(passes) > limits.get(op, passes)
        status |= over
        print(f"{op:12} {name:10} {passes:6.2f} passes{' - too many' if over else ''}")
    return status


def _report(arguments: argparse.Namespace) -> int:
    print(report(read_rows(*arguments.rows)))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    results = check(read_rows(*arguments.rows), read_goals(arguments.goals))
    print(*results, sep="\n")
    return int(any(result.status == "missed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
