"""Time a newcomer's first steps with each package: an environment, the README's install line, its first example.

Run as `python tools/newcomer.py WHEELS CONSTRAINTS RESULTS [PACKAGE...]` with uv in the environment variable UV; a row
for each package is appended to RESULTS, which docs/newcomer.md shows.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import Distribution, distributions
from pathlib import Path

from workspace import Package, canonical, packages

TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
"""What the size leaves out: torch and what its own wheel brings for GPUs."""
STRANGER = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"}}


def timed(*command: str | Path, cwd: Path) -> tuple[float, float]:
    """Run a command and return the seconds it took, by the clock and of a processor; a failure ends this script."""
    start, before = time.monotonic(), os.times()
    environment = STRANGER | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return round(time.monotonic() - start, 1), round(processor, 1)


def size(one: Distribution) -> int:
    """Return the bytes of a distribution's files."""
    paths = [Path(str(one.locate_file(file))) for file in one.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


def first_steps(package: Package, wheels: Path, constraints: Path, place: Path) -> dict[str, object]:
    """Take the steps in an empty folder and return what they took."""
    load = round(os.getloadavg()[0], 1)
    uv, environment = os.environ["UV"], place / "environment"
    made = timed(uv, "venv", "--quiet", "--python", sys.executable, environment, cwd=place)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    held = ("--constraint", constraints, "--find-links", wheels)
    install = ("pip", "install", "--quiet", "--python", python, *held, package.install_line)
    installed = timed(uv, *install, cwd=place)
    readme = (package.path / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if first is None:
        sys.exit(f"the README of {package.folder} shows no Python")
    (place / "example.py").write_text(first[1], encoding="utf-8")
    ran = timed(python, "-I", "example.py", cwd=place)
    site = next(environment.glob("lib/python*/site-packages"), environment / "Lib" / "site-packages")
    found = {canonical(one.name): one for one in distributions(path=[str(site)])}
    rest = [size(one) for name, one in found.items() if not TORCH.fullmatch(name)]
    return {
        "package": package.folder,
        "install": package.install_line,
        "environment_s": made[0],
        "install_s": installed[0],
        "install_processor_s": installed[1],
        "example_s": ran[0],
        "example_processor_s": ran[1],
        "distributions": len(found),
        "megabytes_without_torch": round(sum(rest) / 1e6),
        "load": load,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main(wheels: str, constraints: str, results: str, *names: str) -> None:
    """Take the steps for every package, or for those that are named."""
    for name in names or packages():
        with tempfile.TemporaryDirectory(prefix="newcomer-") as place:
            row = first_steps(packages()[name], Path(wheels).resolve(), Path(constraints).resolve(), Path(place))
        print(row)
        with Path(results).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
