"""The packages of this workspace, read from their own pyproject.toml files."""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ("attsolver", "cem-mhch", "dia-attention", "oogiri-go", "sail-clot", "sail-core", "scalelong", "sur-adapter")
"""The distribution names that are ours, whether or not their folder exists yet."""


def canonical(requirement: str) -> str:
    """Return the normalised distribution name at the head of a requirement string."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def install_line(dist: str, readme: str) -> str:
    """Return what a README tells a user to install, for example `dia-attention[torchvision]`."""
    found = re.search(rf"""pip install ["']?({re.escape(dist)}(?:\[[\w,-]+\])?)["']?\s""", readme)
    if found is None:
        raise ValueError(f"the README of {dist} has no line `pip install {dist}`")
    return found[1]


def python_blocks(readme: str) -> str:
    """Return the Python blocks of a README as one script: they run in order."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL))


@dataclass(frozen=True)
class Package:
    """One folder of packages/, named as its users name it."""

    path: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        """The parsed pyproject.toml."""
        return tomllib.loads((self.path / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def folder(self) -> str:
        """The folder's name, which sessions and scripts use."""
        return self.path.name

    @property
    def module(self) -> str:
        """The import name."""
        return self.folder.replace("-", "_")

    @property
    def dist(self) -> str:
        """The distribution name, which is not always the folder's."""
        return str(self.pyproject["project"]["name"])

    @property
    def version(self) -> str:
        """The static version."""
        return str(self.pyproject["project"]["version"])

    @property
    def extras(self) -> dict[str, list[str]]:
        """The optional dependencies by extra."""
        return dict(self.pyproject["project"].get("optional-dependencies", {}))

    @property
    def requirements(self) -> list[str]:
        """The hard dependencies."""
        return list(self.pyproject["project"].get("dependencies", []))

    @property
    def groups(self) -> dict[str, list[str]]:
        """The dependency groups."""
        return dict(self.pyproject.get("dependency-groups", {}))

    @property
    def script(self) -> str | None:
        """The console script, if there is one."""
        return next(iter(self.pyproject["project"].get("scripts", {})), None)

    def siblings(self, *, extras: bool) -> set[str]:
        """The distributions of this workspace that a requirement, or with `extras` an extra, names."""
        named = [*self.requirements, *(line for lines in self.extras.values() if extras for line in lines)]
        return {canonical(line) for line in named} & set(RELEASED) - {self.dist}

    @property
    def install_line(self) -> str:
        """What the README tells a user to install, for example `dia-attention[torchvision]`."""
        return install_line(self.dist, (self.path / "README.md").read_text(encoding="utf-8"))


def packages() -> dict[str, Package]:
    """Return every package of the workspace by folder name, sorted."""
    found = (Package(path.parent) for path in sorted(ROOT.glob("packages/*/pyproject.toml")))
    return {package.folder: package for package in found}


def closure(package: Package, *, extras: bool = True) -> list[Package]:
    """Return the package, first, and the siblings that it brings, or with `extras` can bring, at any depth."""
    by_dist = {member.dist: member for member in packages().values()}
    order, queue = [], [package]
    while queue:
        member = queue.pop(0)
        if member not in order:
            order.append(member)
            queue += [by_dist[name] for name in sorted(member.siblings(extras=extras)) if name in by_dist]
    return order


def dependants(changed: set[str]) -> set[str]:
    """Return the folders in `changed` and those of every package that can need one of them."""
    return {package.folder for package in packages().values() if {m.folder for m in closure(package)} & changed}
