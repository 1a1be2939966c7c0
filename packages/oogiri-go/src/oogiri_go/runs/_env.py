"""What a number was measured with."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any


def env_report() -> dict[str, Any]:
    """Describe the interpreter, the libraries, the processor and the commit, without naming a host, a user or a path.

    Returns:
        JSON scalars: ``python``, ``platform``, ``cpu`` (model), ``cpu_count`` (usable by this process), ``pyarrow``,
        ``pillow``, ``msgspec``, ``commit`` and ``dirty`` (of the checkout the current directory belongs to; tracked
        files only). What does not exist here is None.

    Example:
        >>> env_report()["msgspec"] == version("msgspec")
        True
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "pyarrow": version("pyarrow"),
        "pillow": version("pillow"),
        "msgspec": version("msgspec"),
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None where there is no git, no checkout or no answer."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # looking must not write an index
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, env=environment, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
