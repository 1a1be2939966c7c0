"""Write into each README the table of versions that the package is tested with. Run as `python tools/tested.py`.

The floor is that of pyproject.toml, which `nox -s lowest` installs; the newest is that of uv.lock, which `nox` takes.
"""

import re
import tomllib

from workspace import RELEASED, ROOT, Package, canonical, closure, packages

HEAD = "| distribution | floor | newest |\n|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(?:\|.*\n)*")


def locked() -> dict[str, list[str]]:
    """Return the versions of uv.lock by distribution; there are several where Pythons need different ones."""
    found: dict[str, list[str]] = {}
    for row in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]:
        if "version" in row:
            found.setdefault(row["name"], []).append(row["version"])
    return found


def floors(package: Package) -> dict[str, str]:
    """Return the floors of what a package and its extras name, its siblings' hard requirements included."""
    hard = [line for member in closure(package, extras=False) for line in member.requirements]
    hosts = [line for extra, lines in package.extras.items() if extra != "demo" for line in lines]
    pairs = {canonical(line): re.search(r">=([\w.]+)", line) for line in [*hard, *hosts]}
    ours = {*RELEASED, "tqdm", "tyro"}
    return {name: floor[1] for name, floor in sorted(pairs.items()) if floor and name not in ours}


def table(package: Package) -> str:
    """Return the table of a package."""
    versions = locked()
    rows = [f"| {name} | {floor} | {', '.join(versions[name])} |\n" for name, floor in floors(package).items()]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    for member in packages().values():
        path = member.path / "README.md"
        readme = path.read_text(encoding="utf-8")
        if not TABLE.search(readme):
            raise SystemExit(f"{path} has no table that begins with {HEAD.splitlines()[0]!r}")
        path.write_text(TABLE.sub(table(member), readme), encoding="utf-8")
