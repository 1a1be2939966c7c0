"""Rewrite uv.lock so that it names no index: `registry = "wheelhouse"`, and a file name where an address stood.

Hashes, sizes and versions stay, so the lock remains valid (`uv lock --check --no-config`) and serves whatever index or
mirror a user has. Git and workspace sources are left alone. Run as `python tools/lockform.py [uv.lock]`; with `--check`
before the name nothing is written, and a lock that holds an address, such as a bot's update, is an error.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

REGISTRY = re.compile(r'registry = "[^"]*://[^"]*"')
ADDRESS = re.compile(r'\burl = "[^"]*://[^"]*/([^"/?#]+)(?:[?#][^"]*)?"')


def neutral(lock: str) -> str:
    """Return the index-neutral form of the text of a lock; a neutral lock comes back unchanged.

    Raises:
        ValueError: a line still holds an address afterwards, for example a direct URL dependency.
    """
    lock = REGISTRY.sub('registry = "wheelhouse"', lock)
    lock = ADDRESS.sub(lambda match: f'path = "{unquote(match[1])}"', lock)
    left = [number for number, line in enumerate(lock.splitlines(), 1) if "://" in line]
    if left:
        raise ValueError(f"uv.lock holds an address in line {left[0]} that is neither an index nor a file of one")
    return lock


def main(path: Path) -> None:
    """Rewrite the lock at `path` in place, atomically."""
    text = path.read_text(encoding="utf-8")
    temporary = path.with_suffix(".tmp")
    temporary.write_text(neutral(text), encoding="utf-8")
    temporary.replace(path)


def check(path: Path) -> None:
    """Exit with an error, which says how to mend it, where the lock at `path` holds an address."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = next((number for number, line in enumerate(lines, 1) if "://" in line), None)
    if found is not None:
        sys.exit(f"{path.name} holds an address in line {found}; `nox -s lock` rewrites it in the index-neutral form")


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if name != "--check"]
    (check if "--check" in sys.argv else main)(Path(names[0] if names else "uv.lock"))
