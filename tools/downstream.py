"""Use one package from a stranger's project, pinned in the two ways its README offers, and look at what came along.

Run as `python tools/downstream.py FOLDER WHEELS CONSTRAINTS` with uv in the environment variable UV:
(a) a version range over a local flat index of built wheels, while a second index offers a higher version of every name;
(b) a git address with tag and subdirectory, from a throw-away repository of one commit (`git archive HEAD`).
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from workspace import RELEASED, ROOT, Package, closure, packages

FAKE = "0.1.999"
"""Inside every sibling's range and above every real version: what an impostor would offer."""


SESSION = {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in SESSION}
"""The stranger's: not that of the session which runs this script."""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it printed; its errors go to our stderr."""
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout


def uv(*arguments: str | Path, cwd: Path) -> str:
    """Run uv in a project."""
    return run(os.environ["UV"], *arguments, cwd=cwd)


def write_wheel(
    folder: Path, dist: str, version: str, *, metadata: str = "", modules: Mapping[str, str] | None = None
) -> Path:
    """Write a pure wheel: metadata is what follows name and version in METADATA, modules are path and text."""
    name = dist.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    files = {
        **(modules or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: fake\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            wheel.writestr(path, text)
    return target


def fake_index(folder: Path) -> Path:
    """Fill a flat index with an empty wheel of version FAKE for every name of ours."""
    folder.mkdir()
    for dist in RELEASED:
        write_wheel(folder, dist, FAKE)
    return folder


def project(folder: Path, dependency: str, constraints: list[str], *tables: str) -> Path:
    """Write a project that depends on one thing; third-party versions are held to those of our lock."""
    folder.mkdir()
    lines = [
        '[project]\nname = "stranger"\nversion = "0"\nrequires-python = ">=3.11"',
        f"dependencies = {json.dumps([dependency])}",
        f"[tool.uv]\nconstraint-dependencies = {json.dumps(constraints)}",
        *tables,
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def flat_index(name: str, folder: Path, *, explicit: bool) -> str:
    """Return the table of a local flat index."""
    return (
        f"[[tool.uv.index]]\nname = {json.dumps(name)}\nurl = {json.dumps(folder.as_posix())}\n"
        f'format = "flat"\nexplicit = {json.dumps(explicit)}'
    )


def installed(folder: Path) -> dict[str, str]:
    """Sync the project into its own environment and return what it then holds, name to version."""
    uv("sync", "--quiet", "--python", sys.executable, cwd=folder)
    return {row["name"]: row["version"] for row in json.loads(uv("pip", "list", "--format", "json", cwd=folder))}


def check(package: Package, found: dict[str, str], folder: Path, how: str) -> None:
    """Exit unless the package and its siblings, at their real versions, are all of ours that came along."""
    hard = closure(package, extras=False)
    ours = {name: version for name, version in found.items() if name in RELEASED}
    if ours != {member.dist: member.version for member in hard}:
        sys.exit(f"{how}: of ours came {ours}, expected {[member.dist for member in hard]}")
    others = {member.module for member in packages().values()} - {member.module for member in hard}
    code = f"import {package.module} as m, importlib.util as u; print(m.__version__)\n"
    code += f"assert not [n for n in {sorted(others)!r} if u.find_spec(n)]"
    version = uv("run", "--no-sync", "python", "-I", "-c", code, cwd=folder).strip()
    if version != package.version:
        sys.exit(f"{how}: imported version {version!r}, expected {package.version!r}")
    print(f"{how}: {ours}, {len(found)} distributions in all")


def major_minor_range(package: Package) -> str:
    """Return the two-sided range that the READMEs recommend."""
    major, minor, *_ = package.version.split(".")
    return f"{package.dist}>={major}.{minor},<{major}.{int(minor) + 1}"


def by_range(package: Package, wheels: Path, constraints: list[str], place: Path) -> None:
    """(a): all names of ours come from the explicit index, though another one offers higher versions."""
    impostor = flat_index("impostor", fake_index(place / "impostor"), explicit=False)
    ranges = [major_minor_range(member) for member in packages().values()]
    sources = "[tool.uv.sources]\n" + "\n".join(f'{name} = {{ index = "sail" }}' for name in RELEASED)
    honest = flat_index("sail", shutil.copytree(wheels, place / "wheels"), explicit=True)  # uv caches an index by path
    folder = project(place / "range", major_minor_range(package), constraints + ranges, sources, honest, impostor)
    check(package, installed(folder), folder, "by range")

    trap = project(place / "trap", major_minor_range(package), constraints, impostor)
    uv("lock", "--quiet", "--python", sys.executable, cwd=trap)
    if FAKE not in (trap / "uv.lock").read_text(encoding="utf-8"):
        sys.exit("the impostor was not taken even without our sources, so its being ignored proves nothing")


def by_tag(package: Package, constraints: list[str], place: Path) -> None:
    """(b): a git tag and a subdirectory; uv takes the siblings from the same commit."""
    repository = place / "repository"
    repository.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=repository, input=archive, check=True)
    who = ["-c", "user.name=downstream", "-c", "user.email=downstream@example.invalid"]
    run("git", "init", "--quiet", cwd=repository)
    run("git", "add", "--all", "--force", cwd=repository)
    run("git", *who, "commit", "--quiet", "-m", "the tree as it stands", cwd=repository)
    tag = f"{package.dist}-v{package.version}"
    run("git", "tag", tag, cwd=repository)
    source = f'git = {json.dumps(repository.as_uri())}, tag = "{tag}", subdirectory = "packages/{package.folder}"'
    sources = f"[tool.uv.sources]\n{package.dist} = {{ {source} }}"
    folder = project(place / "tag", package.dist, constraints, sources)
    check(package, installed(folder), folder, "by git tag")


def main() -> None:
    """Run both ways in a temporary place."""
    package, wheels = packages()[sys.argv[1]], Path(sys.argv[2]).resolve()
    constraints = [line for line in Path(sys.argv[3]).read_text(encoding="utf-8").splitlines() if line]
    with tempfile.TemporaryDirectory(prefix="downstream-") as place:
        by_range(package, wheels, constraints, Path(place))
        by_tag(package, constraints, Path(place))


if __name__ == "__main__":
    main()
