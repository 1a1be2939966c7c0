"""Run a published dependant against siblings that are not published yet, to see that they break nothing.

Run as `python tools/prior.py FOLDER WHEELS CONSTRAINTS [options of uv]`. The newest published wheel of the package is
installed as its own README says, with the siblings built here in place of the published ones, and its README's Python
runs. Where nothing is published, or a sibling's new version lies outside the published range, there is nothing to
break: that is said, and is a success.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from published import absolute, newest, uv
from workspace import canonical, closure, install_line, packages, python_blocks


def run_uv(*arguments: str | Path, cwd: Path) -> str:
    """Run uv, or exit with what it said."""
    done = uv(*arguments, cwd=cwd)
    if done.returncode:
        sys.exit(f"prior: uv failed:\n{done.stderr}")
    return done.stdout


def fetch(dist: str, version: str, place: Path, *options: str) -> Distribution:
    """Return the metadata of a published wheel, without what it needs."""
    target = place / "published"
    run_uv("pip", "install", "--quiet", "--no-deps", *options, "--target", target, f"{dist}=={version}", cwd=place)
    return next(iter(distributions(name=dist, path=[str(target)])))


def outside(published: Distribution, siblings: Mapping[str, Path]) -> list[str]:
    """Return what a published wheel asks of siblings that the ones built here are not."""
    asked = [Requirement(line) for line in published.requires or []]
    version = {dist: parse_wheel_filename(wheel.name)[1] for dist, wheel in siblings.items()}
    named = [one for one in asked if canonical(one.name) in version]
    return [f"{one.name}{one.specifier}" for one in named if not one.specifier.contains(version[canonical(one.name)])]


def prior(dist: str, siblings: Mapping[str, Path], constraints: Path, place: Path, *options: str) -> str:
    """Run the newest published wheel of a distribution against new siblings, and return what was seen.

    Args:
        dist: The distribution.
        siblings: The wheels built here, by distribution name.
        constraints: Versions of everything else.
        place: An empty folder.
        *options: Of uv: where to look for what is published.
    """
    version = newest(dist, *options)
    if version is None:
        return f"{dist}: nothing is published yet, so there is nothing that a new sibling could break"
    published = fetch(dist, version, place, *options)
    left = outside(published, siblings)
    if left:
        return f"{dist} {version} asks for {', '.join(left)}; what was built here is outside: it keeps the older"
    readme = str(published.metadata.get_payload())
    extras = install_line(dist, readme).removeprefix(dist)
    new = place / "siblings.txt"
    new.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in siblings.items()), encoding="utf-8")
    run_uv("venv", "--quiet", "--python", sys.executable, place / "venv", cwd=place)
    python = place / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    held = ("--constraint", constraints.resolve(), "--constraint", new)
    run_uv("pip", "install", "--quiet", "--python", python, *held, *options, f"{dist}{extras}=={version}", cwd=place)
    (place / "readme.py").write_text(python_blocks(readme), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, "-I", "-W", "error", "readme.py"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    built = ", ".join(wheel.name for wheel in siblings.values())
    if done.returncode:
        sys.exit(f"prior: the README of the published {dist} {version} fails with {built}:\n{done.stdout}{done.stderr}")
    return f"{dist} {version}: its README runs with {built}"


def main(folder: str, wheels: str, constraints: str, *options: str) -> None:
    """Run one package of this workspace in a temporary place."""
    package = packages()[folder]
    built = {member.dist: member for member in closure(package) if member != package}
    found = {canonical(path.name.split("-")[0]): path.resolve() for path in Path(wheels).glob("*.whl")}
    siblings = {dist: found[dist] for dist in built}
    with tempfile.TemporaryDirectory(prefix="prior-") as place:
        print(prior(package.dist, siblings, Path(constraints), Path(place), *absolute(list(options))))


if __name__ == "__main__":
    main(*sys.argv[1:])
