"""The measurements behind docs/claims/sur-adapter.md: run_claims.py --out DIR --results FILE [--budget SECONDS].

Trains and checks what the protocol says, goes on where an earlier call stopped, begins no training after the budget.
It writes one JSON line for each world with what is there: every system, suite and seed, and the verdicts; exit code 3
says that another call must go on, which the line says too ("complete").
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sail_core.report import Report
from sail_core.runs import Run, env_report, write_atomic
from sur_adapter import __version__
from sur_adapter._paired import paired
from sur_adapter._toy import _figures as figures
from sur_adapter._toy._digits import load_digits
from sur_adapter._toy._experiment import BASE, Result, run_seed
from sur_adapter._toy._judge import train_judge
from sur_adapter._toy._protocol import Protocol
from sur_adapter._toy._summary import ADAPTER, Found, table_of, tabulate, verdicts
from sur_adapter._toy._teacher import teacher_vectors
from sur_adapter._toy._world import Kind

PROTOCOL = Path(__file__).parent / "claims_protocol.json"


def run(protocol: Protocol, out: Path, budget: float) -> tuple[Found, bool]:
    """What there is when the budget ends, one system of all seeds after the other, and whether it is all."""
    deadline = time.monotonic() + budget
    found: dict[tuple[Kind, int], dict[str, Result]] = {}
    vectors = {}
    for kind in protocol.worlds:
        texts = [one.narrative for one in protocol.training_prompts(kind)]
        vectors[kind] = None if protocol.teacher is None else teacher_vectors(texts, out / f"teacher-{kind}")
    for system in protocol.systems:
        for kind, seeds in protocol.worlds.items():
            for seed in seeds:
                if time.monotonic() > deadline:
                    return found, False
                folder = out / f"{kind}-{seed}"
                options = {"teacher": vectors[kind], "systems": [system], "deadline": deadline}
                found.setdefault((kind, seed), {}).update(run_seed(protocol, kind, seed, folder, **options))
    whole = all(len(systems) == 1 + len(protocol.systems) for systems in found.values())
    return found, whole


def rows(protocol: Protocol, found: Found, path: Path) -> list[dict[str, Any]]:
    """One row for each world."""
    train, held_out = load_digits()
    judge = train_judge(train, held_out)
    pixels = b"".join(part.pixels.numpy().tobytes() for part in (train, held_out))
    table = []
    for kind, seeds in protocol.worlds.items():
        own = only(found, kind)
        if not own:
            continue
        accuracy = tabulate(own)
        table.append(
            {
                "package": "sur-adapter",
                "version": __version__,
                "command": "benchmarks/run_claims.py",
                "world": kind,
                "protocol": path.name,
                "protocol_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "data": "scikit-learn load_digits",
                "data_sha256": hashlib.sha256(pixels).hexdigest(),
                "seeds": [seed for _, seed in own],
                "complete": len(own) == len(seeds) and all(len(one) > len(protocol.systems) for one in own.values()),
                "env": env_report(),
                "versions": {name: version(name) for name in ("scikit-learn", "transformers")},
                "judge": {"digits": judge.digit_accuracy, "counts": judge.count_accuracy},
                "accuracy": {suite: row.as_dict() for suite, row in accuracy.items()},
                "adapter against base, over prompts, by seed": {
                    suite: [over_prompts(systems, suite) for systems in own.values()] for suite in accuracy
                },
                "processor seconds": {
                    name: [round(systems[name].seconds, 1) for systems in own.values() if name in systems]
                    for name in (BASE, *protocol.systems)
                },
                "verdicts": [asdict(one) for one in verdicts(own)],
            }
        )
    return table


def only(found: Found, kind: str) -> Found:
    """The seeds of one world that have base and adapter."""
    return {key: systems for key, systems in found.items() if key[0] == kind and len(systems) > 1}


def over_prompts(systems: Mapping[str, Result], suite: str) -> dict[str, Any]:
    """Adapter against base in one seed: bootstrap over prompts, and McNemar."""
    base, adapter = ([float(hit) for hit in systems[name].check.hits[suite]] for name in (BASE, ADAPTER))
    return asdict(paired(base, adapter))


def main() -> int:
    """Run within the budget; exit code 3 says that another call must go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--results", type=Path, required=True, help="receives the JSON lines")
    parser.add_argument("--figures", type=Path, help="receives the figures")
    parser.add_argument("--protocol", type=Path, default=PROTOCOL)
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no training begins")
    arguments = parser.parse_args()
    protocol = Protocol.read(arguments.protocol)
    Run(arguments.out, config={"protocol_sha256": hashlib.sha256(arguments.protocol.read_bytes()).hexdigest()})
    found, whole = run(protocol, arguments.out, arguments.budget)
    lines = rows(protocol, found, arguments.protocol)
    write_atomic(arguments.results, "".join(json.dumps(row) + "\n" for row in lines))
    table = tabulate(found)
    print(table_of(table))
    report = Report("sur-adapter", __version__, seed=0, profile="claims", device="cpu", protocol=arguments.protocol)
    report.verdicts += [one for kind in protocol.worlds for one in verdicts(only(found, kind))]
    print("\n" + report.table())
    if not whole:
        print("the budget is used up; the same command goes on")
        return 3
    if arguments.figures is not None:
        for name, figure in figures.all_figures(protocol, found, table, arguments.out).items():
            report.add_figure(figure, name)
        report.write(arguments.figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
