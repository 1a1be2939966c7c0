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
from pathlib import Path
from xml.etree import ElementTree

import nox
from nox.project import dependency_groups, load_toml
from nox.virtualenv import UV

if sys.version_info < (3, 11):  # noqa: UP036 - older Pythons do reach this line
    sys.exit(f"This workspace needs Python >= 3.11 to run nox, and this is {sys.version.split()[0]}.")
ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

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
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1", "UV": UV}
if "SAIL_DATA" not in os.environ and (ROOT.parent / "shared" / "data").is_dir():
    ENVIRONMENT["SAIL_DATA"] = str(ROOT.parent / "shared" / "data")

each_package = nox.parametrize("package", list(PACKAGES))


def uv(*arguments: str | Path) -> str:
    """Run uv at the root and return what it printed."""
    return subprocess.run([UV, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@functools.cache
def constraints() -> Path:
    """Every version of uv.lock, as a constraints file."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "constraints.txt"
    path.write_text(
        uv(
            "export",
            "--frozen",
            "--all-packages",
            "--all-extras",
            "--all-groups",
            "--no-emit-workspace",
            "--no-hashes",
            "--no-header",
            "--no-annotate",
            "--quiet",
        )
    )
    return path


@functools.cache
def wheels() -> dict[str, Path]:
    """Build the wheel of every package and of the test kit once, by folder name."""
    out = WORK / "wheels"
    shutil.rmtree(out, ignore_errors=True)
    for folder in [*(f"packages/{name}" for name in PACKAGES), "shared/testkit"]:
        uv("build", "--quiet", "--wheel", "--build-constraints", constraints(), "--out-dir", out, folder)
    built = {path.name.split("-")[0].replace("_", "-"): path for path in out.glob("*.whl")}
    return {folder: built[package.dist] for folder, package in PACKAGES.items()} | {"testkit": built["sail-testkit"]}


def wheel_requirements(package: Package, extras: str = "") -> list[str]:
    """The package's wheel with extras such as `[all]`, and the wheels of its siblings."""
    members = closure(package)
    return [f"{m.dist}{extras if m is members[0] else ''} @ {wheels()[m.folder].as_uri()}" for m in members]


def all_extras(package: Package) -> str:
    return "[all]" if "all" in package.extras else ""


def group(package: Package, name: str) -> list[str]:
    return list(dependency_groups(package.pyproject, name))


def root_group(name: str) -> list[str]:
    return list(dependency_groups(load_toml("pyproject.toml"), name))


def test_requirements(package: Package) -> list[str]:
    """What a package's tests need: its wheel with every extra, its test group, and the plugin."""
    return [*wheel_requirements(package, all_extras(package)), *group(package, "test"), str(wheels()["testkit"])]


def install(session: nox.Session, *requirements: str) -> None:
    session.install("--constraint", str(constraints()), *requirements)


def environment(name: str, *requirements: str) -> Path:
    """Make a clean environment beside the session's own and return its interpreter."""
    path = WORK / "venv" / name
    uv("venv", "--quiet", "--clear", "--python", sys.executable, path)
    python = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    uv("pip", "install", "--quiet", "--python", python, "--constraint", constraints(), *requirements)
    return python


def chosen(session: nox.Session) -> tuple[list[Package], list[str]]:
    """Split `-- names options` into packages (all of them when none is named) and the rest."""
    names = [word for word in session.posargs if word in PACKAGES]
    rest = [word for word in session.posargs if word not in PACKAGES]
    return [PACKAGES[name] for name in names or PACKAGES], rest


def run_tests(session: nox.Session, package: Package, *selection: str, **variables: str) -> float:
    """Run a package's tests from outside its sources; an empty rung is not a failure. Return the seconds."""
    start = time.monotonic()
    session.run(
        "python",
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
    install(session, *root_group("lock"))
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
    install(session, *root_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def tools(session: nox.Session) -> None:
    """The tests of tools/ and of the pytest plugin."""
    install(session, str(wheels()["testkit"]), *root_group("tools"))
    session.run("python", "-m", "pytest", "tools/tests", "shared/testkit/tests", *session.posargs, env=ENVIRONMENT)


@nox.session
@each_package
def types(session: nox.Session, package: str) -> None:
    """Mypy, strict, on src/."""
    member = PACKAGES[package]
    install(session, *wheel_requirements(member, all_extras(member)), *root_group("types"))
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
    suite = ["-m", "pytest", "-p", "no:cacheprovider", f"--package=packages/{package}", f"--wheel={wheels()[package]}"]
    readme = "shared/conformance/test_readme.py"
    install(session, *wheel_requirements(member), *root_group("wheel"))
    session.run("python", *suite, "shared/conformance", f"--ignore={readme}", "-rP", env=ENVIRONMENT)
    extras = member.install_line.removeprefix(member.dist)
    python = environment(f"readme-{package}", *wheel_requirements(member, extras), *root_group("wheel"))
    session.run(str(python), *suite, readme, external=True, env=ENVIRONMENT)


@nox.session
@each_package
def downstream(session: nox.Session, package: str) -> None:
    """A stranger's project pins the package, by range over built wheels and by git tag, and gets nothing else."""
    install(session, *root_group("wheel"))
    folder = wheels()[package].parent
    session.run("python", "tools/downstream.py", package, str(folder), str(constraints()), env=ENVIRONMENT)


@nox.session(python=PYTHONS, tags=["matrix"], default=False)
@nox.parametrize("package,torch", [(p, t) for p in PACKAGES for t in TORCHES])
def matrix(session: nox.Session, package: str, torch: str) -> None:
    """One package on one Python and one torch, freely resolved; a pair that this tree has passed is not run again."""
    member = PACKAGES[package]
    results = ROOT / "benchmarks" / "results" / "matrix.jsonl"
    digest = hashlib.sha256(b"".join(wheels()[m.folder].read_bytes() for m in closure(member))).hexdigest()
    key = {"package": package, "python": session.python, "torch": torch, "wheels_sha256": digest}
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if any(row["ok"] and key.items() <= row.items() for row in rows):
        session.log("this tree has passed this pair: see benchmarks/results/matrix.jsonl")
        return
    session.install(*test_requirements(member), *([] if torch == "newest" else [f"torch=={torch}"]))
    report = Path(session.create_tmp()) / "junit.xml"
    report.unlink(missing_ok=True)
    start = time.monotonic()
    with_report = ["python", "-m", "pytest", f"packages/{package}/tests", f"--junitxml={report}"]
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
    named = [*closure_requirements(member), *group(member, "test")]
    floors = sorted({line for line in named if canonical(line) not in RELEASED})
    built = [f"{m.dist} @ {wheels()[m.folder].as_uri()}" for m in closure(member)]
    session.install("--resolution", "lowest-direct", *floors, *built, str(wheels()["testkit"]))
    session.run("python", "tools/floors.py", *floors)
    run_tests(session, member)


def closure_requirements(package: Package) -> list[str]:
    """Every requirement and extra of a package and its siblings."""
    lists = [lines for m in closure(package) for lines in [m.requirements, *m.extras.values()]]
    return [line for lines in lists for line in lines]


@nox.session(default=False)
@each_package
def locked(session: nox.Session, package: str) -> None:
    """The tests on exactly the pins of uv.lock, every file checked against its hash."""
    member = PACKAGES[package]
    pins = Path(session.create_tmp()) / "pins.txt"
    pins.write_text(
        uv(
            "export",
            "--frozen",
            "--package",
            member.dist,
            "--all-extras",
            "--group",
            "test",
            "--no-emit-workspace",
            "--no-header",
            "--no-annotate",
            "--quiet",
        )
    )
    session.install("--require-hashes", "-r", str(pins))
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
    install(session, *dict.fromkeys(needs), *root_group("tools"))
    session.run("python", "-m", "pytest", "-m", "browser", "tools/tests", "packages", env=ENVIRONMENT)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """Every package's demo, then runs/demo/index.html. `-- NAME --full` runs one package's in full."""
    chosen_packages, options = chosen(session)
    failed = []
    for package in chosen_packages:
        if package.script is None:
            continue
        out = ROOT / "runs" / "demo" / package.folder
        python = environment(f"demo-{package.folder}", *wheel_requirements(package, "[demo]"))
        try:
            session.run(
                str(python.with_name(package.script)),
                "demo",
                "--out",
                str(out),
                *options,
                external=True,
                env=ENVIRONMENT,
            )
        except nox.command.CommandFailed:
            failed.append(package.folder)
        session.run(str(python), "tools/demo_page.py", "runs/demo", external=True)
    session.log("the page: runs/demo/index.html")
    if failed:
        session.error(f"these demos failed: {', '.join(failed)}")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every package's benchmarks against its peers; `-- NAME --quick` chooses. Rows go to benchmarks/results/."""
    chosen_packages, options = chosen(session)
    for package in chosen_packages:
        scripts = sorted(package.path.glob("benchmarks/bench_*.py"))
        needs = [*wheel_requirements(package, all_extras(package)), *group(package, "bench")]
        python = environment(f"bench-{package.folder}", *needs)
        out = ROOT / "benchmarks" / "results" / package.folder / "cpu.jsonl"
        out.parent.mkdir(parents=True, exist_ok=True)
        for script in scripts:
            session.run(str(python), str(script), "--out", str(out), *options, external=True, env=ENVIRONMENT)
    session.log("nox -s bench_check reads the rows against the goals")


@nox.session(default=False)
def bench_check(session: nox.Session) -> None:
    """Print each goal of benchmarks/goals/ as met, missed or unmeasured, and render benchmarks/README.md."""
    install(session, *wheel_requirements(PACKAGES["sail-core"]))
    session.run("python", "tools/results_page.py", env=ENVIRONMENT)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site; a warning is an error."""
    needs = [line for package in PACKAGES.values() for line in wheel_requirements(package, all_extras(package))]
    install(session, *dict.fromkeys(needs), *root_group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-E", "-q", "-b", "html", "docs", "docs/_build/html", env=ENVIRONMENT
    )
    session.log("the site: docs/_build/html/index.html")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Write uv.lock anew in its index-neutral form, keeping every version; `-- --upgrade` moves them."""
    session.run("uv", "lock", *session.posargs, external=True)
    session.run("python", "tools/lockform.py", "uv.lock")


@nox.session(default=False)
def release_check(session: nox.Session) -> None:
    """Tag = version = changelog, sdist and wheel build without the workspace; `-- TAG`, else every package as it is."""
    install(session, *root_group("wheel"))
    for tag in session.posargs or [f"{package.dist}-v{package.version}" for package in PACKAGES.values()]:
        session.run("python", "tools/release.py", tag, env=ENVIRONMENT)
        package = next(p for p in PACKAGES.values() if tag.startswith(f"{p.dist}-v"))
        out = Path(session.create_tmp()) / "dist"
        shutil.rmtree(out, ignore_errors=True)
        uv("build", "--no-sources", "--build-constraints", constraints(), "--out-dir", out, package.path)
        session.run("python", "-m", "twine", "check", "--strict", *map(str, out.glob("*.*")), env=ENVIRONMENT)
