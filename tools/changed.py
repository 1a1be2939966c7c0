"""Print, as a JSON list, the packages that a change since BASE can affect. Run as `python tools/changed.py BASE`.

A change inside packages/X affects X and its dependants; a change anywhere else (the lock, the test kit, a workflow)
affects every package.
"""

import json
import subprocess
import sys

from workspace import ROOT, dependants, packages


def affected(paths: list[str]) -> list[str]:
    """Return the sorted folders of the packages that a change of these paths can affect."""
    known = set(packages())
    touched = {path.split("/")[1] for path in paths if path.startswith("packages/") and path.count("/") > 1}
    elsewhere = any(not path.startswith("packages/") or path.split("/")[1] not in known for path in paths)
    return sorted(known if elsewhere else dependants(touched))


if __name__ == "__main__":
    command = ["git", "diff", "--name-only", f"{sys.argv[1]}...HEAD"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    print(json.dumps(affected(listed.stdout.split())))
