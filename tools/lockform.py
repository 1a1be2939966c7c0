"""Rewrite uv.lock so that it names no index: `registry = "wheelhouse"`, and a file name where an address stood.

Hashes, sizes and versions stay, so the lock remains valid (`uv lock --check --no-config`) and serves whatever index or
mirror a user has. Git and workspace sources are left alone. Run as `python tools/lockform.py [uv.lock]`.
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


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "uv.lock"))
