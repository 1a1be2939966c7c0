"""What of ours an index offers. Run as `python tools/published.py TAG [options of uv]` before a release.

A release must not come before what it needs: the run fails unless the index meets every range on a sibling.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from workspace import RELEASED, Package, canonical, packages


def uv(*arguments: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run uv from a place outside the workspace, whose sources would answer instead of an index."""
    return subprocess.run([os.environ.get("UV", "uv"), *arguments], cwd=cwd, input=text, capture_output=True, text=True)


def newest(requirement: str, *options: str) -> str | None:
    """Return the newest version that an index offers within a requirement, or None where there is none.

    Args:
        requirement: Such as `sail-core>=0.1,<0.2`.
        *options: Of uv: `--find-links DIR`, `--no-index`, ...; without any, the index that the user has.

    Raises:
        RuntimeError: uv failed for another reason than that there is no such version.
    """
    ask = ("pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "--python", sys.executable)
    with tempfile.TemporaryDirectory() as place:
        done = uv(*ask, *options, "-", cwd=Path(place), text=requirement)
    if done.returncode == 0:
        return re.findall(r"==([^\s;]+)", done.stdout)[0]
    missing = re.search(r"was not found in the|there (is|are) no versions? of|only .* (is|are) available", done.stderr)
    unasked = re.search(r"network was disabled|could not be queried", done.stderr)
    if missing is None or unasked:
        raise RuntimeError(f"uv could not look for {requirement}:\n{done.stderr}")
    return None


def absolute(options: list[str]) -> list[str]:
    """Make the folders among options of uv independent of where uv runs."""
    return [str(Path(one).resolve()) if Path(one).exists() else one for one in options]


def siblings_needed(package: Package) -> list[str]:
    """Return the ranges on siblings that a package or one of its extras names."""
    lines = [*package.requirements, *(line for lines in package.extras.values() for line in lines)]
    return sorted({line for line in lines if canonical(line) in set(RELEASED) - {package.dist}})


def unmet(package: Package, *options: str) -> list[str]:
    """Return the ranges on siblings that no index meets yet."""
    return [line for line in siblings_needed(package) if newest(line, *options) is None]


def main(tag: str, *options: str) -> None:
    """Exit with an error that says what to release first, unless everything that the tag needs is there."""
    package = next((p for p in packages().values() if tag.rpartition("-v")[0] == p.dist), None)
    if package is None:
        sys.exit(f"release: {tag!r} names no package")
    left = unmet(package, *absolute(list(options)))
    if left:
        sys.exit(f"release: {tag} needs {', '.join(left)}, which no index offers yet. Release that first.")
    print(f"{tag}: {', '.join(siblings_needed(package)) or 'no sibling'} can be had")


if __name__ == "__main__":
    main(*sys.argv[1:])
