"""Print, as a JSON list, the packages that a change since BASE can affect. Run as `python tools/changed.py BASE`.

A change inside packages/X affects X and its dependants; a change anywhere else (the lock, the test kit, a workflow)
affects every package, and so does a BASE that is not known here, such as that of a branch's first push.
"""

import json
import subprocess
import sys
from pathlib import Path

from workspace import ROOT, dependants, packages


def affected(paths: list[str]) -> list[str]:
    """Return the sorted folders of the packages that a change of these paths can affect."""
    known = set(packages())
    touched = {path.split("/")[1] for path in paths if path.startswith("packages/") and path.count("/") > 1}
    elsewhere = any(not path.startswith("packages/") or path.split("/")[1] not in known for path in paths)
    return sorted(known if elsewhere else dependants(touched))


def changed_paths(base: str, root: Path = ROOT) -> list[str] | None:
    """Return the paths that differ since the branch left `base`, a moved file as two; None for an unknown base."""
    known = subprocess.run(["git", "cat-file", "-e", f"{base}^{{commit}}"], cwd=root, capture_output=True)
    if known.returncode:
        return None
    command = ["git", "diff", "--name-only", "--no-renames", "-z", f"{base}...HEAD"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return [path for path in listed.stdout.split("\0") if path]


if __name__ == "__main__":
    paths = changed_paths(sys.argv[1])
    print(json.dumps(sorted(packages()) if paths is None else affected(paths)))
