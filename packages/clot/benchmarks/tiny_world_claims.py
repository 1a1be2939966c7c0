"""Rows for claims.jsonl from the report of `clot demo --full`: tiny_world_claims.py REPORT.json --out FILE."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Append a row for each verdict, and one for each number of each seed."""
    parser = argparse.ArgumentParser(description="Rows for claims.jsonl from the demo's report.")
    parser.add_argument("report", type=Path, help="report.json of `clot demo --full`")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    arguments = parser.parse_args(argv)
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    common = {"part": "tiny world", "protocol": report["protocol"], "profile": report["profile"]}
    common |= {"commit": report["env"]["commit"], "dirty": report["env"]["dirty"], "seconds": report["seconds"]}
    rows = [common | one for one in report["verdicts"]]
    for name, numbers in report["metrics"].items():
        if name.startswith("seed "):
            rows += [common | {"seed": int(name[5:]), "metric": key, "value": value} for key, value in numbers.items()]
    with arguments.out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    print(f"{len(rows)} rows in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
