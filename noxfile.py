"""Every check of the workspace, in one file, over whatever packages exist: a new folder in packages/ adds its sessions.

`nox` runs the default sessions, `nox -l` lists all. Unless a session says otherwise it installs BUILT wheels, with the
versions of uv.lock, for the interpreter that runs nox.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import nox
from nox.project import dependency_groups, load_toml
from nox.virtualenv import UV

if sys.version_info < (3, 11):  # noqa: UP036 - older Pythons do reach this line
    sys.exit(f"This workspace needs Python >= 3.11 to run nox, and this is {sys.version.split()[0]}.")
ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

from release import index_page  # noqa: E402
from workspace import RELEASED, Package, canonical, closure, packages  # noqa: E402

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lockcheck", "lint", "tools", "types", "tests", "wheel", "downstream"]

PACKAGES = packages()
KERNELS = [folder for folder, package in PACKAGES.items() if any(package.path.glob("src/**/_triton.py"))]
nox.options.sessions += ["interpret", "aot"] if KERNELS else []
PYTHONS = ("3.11", "3.12", "3.13")
TORCHES = ("2.7.1", "2.13.0", "newest")
BUDGET = {"sail-core": 240, "clot": 240}  # seconds of one `tests` session; 150 elsewhere
WORK = ROOT / ".nox" / "work"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "UV": UV}
if "SAIL_DATA" not in os.environ and (ROOT.parent / "shared" / "data").is_dir():
    ENVIRONMENT["SAIL_DATA"] = str(ROOT.parent / "shared" / "data")

README = "shared/conformance/test_readme.py"
BARE = ("shared/conformance", f"--ignore={README}")

each_package = nox.parametrize("package", list(PACKAGES))


def uv(*arguments: str | Path) -> str:
    """Run uv at the root and return what it printed."""
    return subprocess.run([UV, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def export(*what: str) -> str:
    """What uv.lock pins for a choice of packages, extras and groups, as requirement lines."""
    return uv("export", "--frozen", "--quiet", "--no-emit-workspace", "--no-header", "--no-annotate", *what)


@functools.cache
def pins() -> Path:
    """Every version of uv.lock, as a constraints file."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "pins.txt"
    path.write_text(export("--all-packages", "--all-extras", "--all-groups", "--no-hashes"))
    return path


@functools.cache
def wheels() -> dict[str, Path]:
    """Build the wheel of every package and of the test kit once, by folder name."""
    out = WORK / "wheels"
    shutil.rmtree(out, ignore_errors=True)
    for folder in [*(f"packages/{name}" for name in PACKAGES), "shared/testkit"]:
        uv("build", "--quiet", "--wheel", "--build-constraints", pins(), "--out-dir", out, folder)
    built = {path.name.split("-")[0].replace("_", "-"): path for path in out.glob("*.whl")}
    return {folder: built[package.dist] for folder, package in PACKAGES.items()} | {"testkit": built["sail-testkit"]}


@functools.cache
def ours() -> Path:
    """The built wheels, as a constraints file: whatever needs a package of ours gets this one, from no index."""
    path = WORK / "ours.txt"
    path.write_text("\n".join(f"{p.dist} @ {wheels()[folder].as_uri()}" for folder, p in PACKAGES.items()))
    return path


def built(package: Package, extras: str = "") -> str:
    """The requirement that is the package's wheel, with extras such as `[all]`."""
    return f"{package.dist}{extras} @ {wheels()[package.folder].as_uri()}"


def whole(package: Package) -> str:
    """The requirement that is the package's wheel with every extra."""
    return built(package, f"[{','.join(package.extras)}]" if package.extras else "")


def group(name: str, package: Package | None = None) -> list[str]:
    """A dependency group, of a package or of the root."""
    return list(dependency_groups(package.pyproject if package else load_toml("pyproject.toml"), name))


def test_requirements(package: Package) -> list[str]:
    """What a package's tests need: its wheel with [all] (sail-core has none), its test group, and the plugin."""
    return [
        built(package, "[all]" if "all" in package.extras else ""),
        *group("test", package),
        str(wheels()["testkit"]),
    ]


def install(session: nox.Session, *requirements: str) -> None:
    """Install with the versions of uv.lock, and what is ours from the built wheels."""
    session.install("--constraint", str(pins()), "--constraint", str(ours()), *requirements)


def environment(name: str, *requirements: str) -> Path:
    """Make a clean environment beside the session's own, likewise, and return its interpreter."""
    path = WORK / "venv" / name
    uv("venv", "--quiet", "--clear", "--python", sys.executable, path)
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    constraints = ("--constraint", pins(), "--constraint", ours())
    uv("pip", "install", "--quiet", "--python", python, *constraints, *requirements)
    return python


def chosen(session: nox.Session) -> tuple[list[Package], list[str]]:
    """Split `-- names options` into packages (all of them when none is named) and the rest."""
    names = [word for word in session.posargs if word in PACKAGES]
    rest = [word for word in session.posargs if word not in PACKAGES]
    return [PACKAGES[name] for name in names or PACKAGES], rest


def conformance(package: Package, wheel: Path, *suite: str) -> list[str]:
    """The arguments of an interpreter that runs parts of shared/conformance on a wheel."""
    about = [f"--package=packages/{package.folder}", f"--wheel={wheel}"]
    return ["-P", "-m", "pytest", "-p", "no:cacheprovider", *about, *suite]


def run_tests(session: nox.Session, package: Package, *selection: str, **variables: str) -> float:
    """Run a package's tests from outside its sources; an empty rung is not a failure. Return the seconds."""
    start = time.monotonic()
    session.run(
        "python",
        "-P",
        "-m",
        "pytest",
        f"packages/{package.folder}/tests",
        *selection,
        *session.posargs,
        env=ENVIRONMENT | variables,
        success_codes=[0, 5] if "-m" in selection else [0],
    )
    return time.monotonic() - start


@nox.session
def lockcheck(session: nox.Session) -> None:
    """uv.lock is current and names no address; nothing tracked names a package registry."""
    session.run("uv", "lock", "--check", "--no-config", external=True)
    if "://" in (ROOT / "uv.lock").read_text(encoding="utf-8"):
        session.error("uv.lock holds an address; `nox -s lock` rewrites it in the index-neutral form")
    install(session, *group("lock"))
    hosts = session.run(
        "python",
        "-c",
        "from pip._internal.models.index import PyPI as i; print(i.netloc, i.file_storage_domain)",
        silent=True,
    ).split()
    found = subprocess.run(
        ["git", "grep", "-il", *(word for host in hosts for word in ("-e", host))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode != 1:
        session.error(f"a package registry is named in: {found.stdout}{found.stderr}")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def tools(session: nox.Session) -> None:
    """The tests of tools/ and of the pytest plugin."""
    install(session, built(PACKAGES["sail-core"], "[report]"), str(wheels()["testkit"]), *group("tools"))
    session.run(
        "python", "-P", "-m", "pytest", "tools/tests", "shared/testkit/tests", *session.posargs, env=ENVIRONMENT
    )


@nox.session
@each_package
def types(session: nox.Session, package: str) -> None:
    """Mypy, strict, on src/."""
    member = PACKAGES[package]
    install(session, whole(member), *group("types"))
    session.run("mypy", f"packages/{package}/src")


@nox.session
@each_package
def tests(session: nox.Session, package: str) -> None:
    """The unmarked tests and the doctests, against built wheels, within the package's time budget."""
    member = PACKAGES[package]
    install(session, *test_requirements(member))
    seconds = run_tests(session, member, "--doctest-modules", "--pyargs", member.module)
    session.log(f"{package}: {seconds:.0f} s of a budget of {BUDGET.get(package, 150)} s")


@nox.session
@each_package
def wheel(session: nox.Session, package: str) -> None:
    """Conformance of the bare wheel, then the README in the environment of its own install line."""
    member = PACKAGES[package]
    install(session, built(member), *group("wheel"))
    session.run("python", *conformance(member, wheels()[package], *BARE), env=ENVIRONMENT)
    extras = member.install_line.removeprefix(member.dist)
    python = environment(f"readme-{package}", built(member, extras), *group("wheel"))
    session.run(str(python), *conformance(member, wheels()[package], README), external=True, env=ENVIRONMENT)


@nox.session
@each_package
def downstream(session: nox.Session, package: str) -> None:
    """A stranger's project pins the package, by range over built wheels and by git tag, and gets nothing else."""
    install(session, *group("wheel"))
    folder = wheels()[package].parent
    session.run("python", "tools/downstream.py", package, str(folder), str(pins()), env=ENVIRONMENT)


def content(wheel: Path) -> bytes:
    """What of a wheel decides a test: every file and the fields of its metadata, without the README below them."""
    parts = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/RECORD"):
                data = archive.read(name)
                parts += [name.encode(), data.partition(b"\n\n")[0] if name.endswith("/METADATA") else data]
    return b"\0".join(parts)


@nox.session(python=PYTHONS, tags=["matrix"], default=False)
@nox.parametrize("package,torch", [(p, t) for p in PACKAGES for t in TORCHES])
def matrix(session: nox.Session, package: str, torch: str) -> None:
    """One package on one Python and one torch, freely resolved; a pair that these wheels passed is not run again."""
    member = PACKAGES[package]
    results = ROOT / "benchmarks" / "results" / "matrix.jsonl"
    digest = hashlib.sha256(b"".join(content(wheels()[m.folder]) for m in closure(member))).hexdigest()
    key = {"package": package, "python": session.python, "torch": torch, "wheels_sha256": digest}
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if any(row["ok"] and key.items() <= row.items() for row in rows):
        session.log("these wheels have passed this pair: see benchmarks/results/matrix.jsonl")
        return
    pair = [] if torch == "newest" else [f"torch=={torch}"]
    session.install("--constraint", str(ours()), *test_requirements(member), *pair)
    report = Path(session.create_tmp()) / "junit.xml"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    with_report = ["python", "-P", "-m", "pytest", f"packages/{package}/tests", f"--junitxml={report}"]
    session.run(*with_report, env=ENVIRONMENT, success_codes=[0, 1])
    suite = ElementTree.parse(report).getroot()[0].attrib
    freeze = session.run("uv", "pip", "freeze", external=True, silent=True)
    versions = dict(re.findall(r"^(torch|torchvision|timm|numpy|diffusers|transformers)==(\S+)$", freeze, re.MULTILINE))
    count = {name: int(suite[name]) for name in ("tests", "failures", "errors", "skipped")}
    ok = count["tests"] > 0 and not count["failures"] + count["errors"]
    row = key | {"versions": versions, "ok": ok, **count, "seconds": round(time.monotonic() - start)}
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    if not ok:
        session.error(f"{count['failures']} failures and {count['errors']} errors on {key}")


@nox.session(default=False)
@each_package
def lowest(session: nox.Session, package: str) -> None:
    """The tests on the declared floors of everything the package names; the floors are checked, not assumed."""
    member = PACKAGES[package]
    named = [*closure_requirements(member), *group("test", member)]
    floors = sorted({line for line in named if canonical(line) not in RELEASED})
    freely = ["--constraint", str(ours()), "--resolution", "lowest-direct"]
    session.install(*freely, *floors, whole(member), str(wheels()["testkit"]))
    session.run("python", "tools/floors.py", *floors)
    run_tests(session, member, "-W", "default")  # an old host beside the newest of what it needs may warn


def closure_requirements(package: Package) -> list[str]:
    """Every requirement and extra of a package and its siblings."""
    lists = [lines for m in closure(package) for lines in [m.requirements, *m.extras.values()]]
    return [line for lines in lists for line in lines]


@nox.session(default=False)
@each_package
def locked(session: nox.Session, package: str) -> None:
    """The tests on exactly the pins of uv.lock, every file checked against its hash."""
    member = PACKAGES[package]
    hashed = Path(session.create_tmp()) / "pins.txt"
    hashed.write_text(export("--package", member.dist, "--all-extras", "--group", "test"))
    session.install("--require-hashes", "-r", str(hashed))
    session.install("--no-deps", *(str(wheels()[m.folder]) for m in closure(member)), str(wheels()["testkit"]))
    run_tests(session, member)


@nox.session(default=False)
@each_package
def slow(session: nox.Session, package: str) -> None:
    """Rung L3: inductor, several processes, hosts end to end, full kill series, fuzz and soak."""
    install(session, *test_requirements(PACKAGES[package]))
    run_tests(session, PACKAGES[package], "-m", "slow")


@nox.session
@nox.parametrize("package", KERNELS)
def interpret(session: nox.Session, package: str) -> None:
    """Rung L1: Triton kernels under the interpreter."""
    install(session, *test_requirements(PACKAGES[package]))
    run_tests(session, PACKAGES[package], "-m", "interpret", TRITON_INTERPRET="1")


@nox.session
@nox.parametrize("package", KERNELS)
def aot(session: nox.Session, package: str) -> None:
    """Rung L2: Triton kernels compiled for GPUs that need not be here."""
    install(session, *test_requirements(PACKAGES[package]))
    run_tests(session, PACKAGES[package], "-m", "aot")


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """Pages in a real Chromium: the demo page and whatever the packages serve."""
    needs = [line for package in PACKAGES.values() for line in test_requirements(package)]
    install(session, *dict.fromkeys(needs), *group("tools"))
    session.run("python", "-P", "-m", "pytest", "-m", "browser", "tools/tests", "packages", env=ENVIRONMENT)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Every package's demo, then runs/demo/index.html. `-- NAME --full` runs one package's in full."""
    chosen_packages, options = chosen(session)
    failed = []
    for package in chosen_packages:
        if package.script is None:
            continue
        out = ROOT / "runs" / "demo" / (package.folder + ("-full" if "--full" in options else ""))
        if (out / "report.json").exists():  # finished: begin anew; a demo that was killed goes on
            shutil.rmtree(out)
        try:
            python = environment(f"demo-{package.folder}", built(package, "[demo]"))
            command = [str(python.with_name(package.script)), "demo", "--out", str(out), *options]
            session.run(*command, external=True, env=ENVIRONMENT)
        except (nox.command.CommandFailed, subprocess.CalledProcessError):
            failed.append(package.folder)
        session.run("python", "tools/demo_page.py", "runs/demo")
    session.log("the page: runs/demo/index.html")
    if failed:
        session.error(f"these demos failed: {', '.join(failed)}")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every package's benchmarks against its peers; `-- NAME --quick` chooses. Rows go to benchmarks/results/."""
    chosen_packages, options = chosen(session)
    for package in chosen_packages:
        scripts = sorted(package.path.glob("benchmarks/bench_*.py"))
        needs = [whole(package), *(group("bench", package) if "bench" in package.groups else [])]
        python = environment(f"bench-{package.folder}", *needs)
        out = ROOT / "benchmarks" / "results" / package.folder / "cpu.jsonl"
        out.parent.mkdir(parents=True, exist_ok=True)
        for script in scripts:
            session.run(str(python), str(script), "--out", str(out), *options, external=True, env=ENVIRONMENT)
    session.log("nox -s bench_check reads the rows against the goals")


@nox.session(default=False)
def bench_check(session: nox.Session) -> None:
    """Print each goal of benchmarks/goals/ as met, missed or unmeasured, and render benchmarks/README.md."""
    install(session, built(PACKAGES["sail-core"], "[report]"))
    session.run("python", "tools/results_page.py", env=ENVIRONMENT)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site, a warning is an error; then every block of its pages runs. `-- -k NAME` picks pages."""
    needs = [whole(package) for package in PACKAGES.values()]
    install(session, *dict.fromkeys(needs), *group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-E", "-q", "-b", "html", "docs", "docs/_build/html", env=ENVIRONMENT
    )
    session.log("the site: docs/_build/html/index.html")
    session.run("python", "-P", "-m", "pytest", "docs/test_pages.py", *session.posargs, env=ENVIRONMENT)


@nox.session(default=False)
def newcomer(session: nox.Session) -> None:
    """Time environment, install line and first example of each README for docs/newcomer.md; `-- NAME` chooses."""
    results = ROOT / "benchmarks" / "results" / "newcomer.jsonl"
    folder = wheels()["sail-core"].parent
    session.run(
        "python", "tools/newcomer.py", str(folder), str(pins()), str(results), *session.posargs, env=ENVIRONMENT
    )


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Write uv.lock anew in its index-neutral form, keeping every version; `-- --upgrade` moves them."""
    session.run("uv", "lock", *session.posargs, external=True)
    session.run("python", "tools/lockform.py", "uv.lock")


@nox.session(default=False)
@nox.parametrize("package", [folder for folder, package in PACKAGES.items() if package.siblings(extras=True)])
def prior(session: nox.Session, package: str) -> None:
    """The newest published wheel of a dependant against the siblings built here; `-- --find-links DIR` adds a place."""
    install(session, *group("wheel"))
    folder = wheels()[package].parent
    session.run("python", "tools/prior.py", package, str(folder), str(pins()), *session.posargs, env=ENVIRONMENT)


def to_release(package: Package) -> Path:
    """Copy what git tracks of a package, with the README that an index page needs."""
    copy = WORK / "release" / package.folder
    shutil.rmtree(copy, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "."], cwd=package.path, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package.path / name, target)
    (copy / "README.md").write_text(index_page(package), encoding="utf-8")
    return copy


@nox.session(default=False)
def release_check(session: nox.Session) -> None:
    """Build into dist/ what `-- TAG` releases (every package, without one) and check tag, version, changelog, wheel."""
    install(session, *group("wheel"))
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    for tag in session.posargs or [f"{package.dist}-v{package.version}" for package in PACKAGES.values()]:
        session.run("python", "tools/release.py", tag, env=ENVIRONMENT)
        package = next(p for p in PACKAGES.values() if tag == f"{p.dist}-v{p.version}")
        uv("build", "--quiet", "--no-sources", "--build-constraints", pins(), "--out-dir", out, to_release(package))
        released = next(out.glob(f"{package.dist.replace('-', '_')}-*.whl"))
        python = environment(f"release-{package.folder}", built(package), *group("wheel"))
        uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--reinstall", released)
        session.run(str(python), *conformance(package, released, *BARE), external=True, env=ENVIRONMENT)
    session.run("python", "-m", "twine", "check", "--strict", *map(str, out.glob("[!.]*")), env=ENVIRONMENT)
