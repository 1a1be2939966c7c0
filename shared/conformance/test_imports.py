"""Laws 1 to 3: imports stay within what is declared, hosts stay in their corner, and importing is cheap."""

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from workspace import RELEASED, canonical, closure, packages

MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "segmentation-models-pytorch": "segmentation_models_pytorch"}
HEAVY = {"transformers", "peft", "accelerate", "diffusers", "numba", "jax", "triton", "matplotlib", "tyro"}
HOST_FOLDER = "integrations"


def modules_of(requirements):
    """Return the import names of requirement strings, installed or not."""
    installed = packages_distributions()
    names = {canonical(line) for line in requirements}
    found = {module for module, dists in installed.items() if names & {canonical(dist) for dist in dists}}
    return found | {MODULES.get(name, name.replace("-", "_")) for name in names}


def imports(tree):
    """Yield (top-level module, whether it runs at import time) for every absolute import of a syntax tree."""

    def walk(node, at_import):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], at_import
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or typing_only
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import and not inside)

    yield from walk(tree, True)


@pytest.fixture(scope="module")
def hard(package):
    """Import names of the hard dependencies; those of a hard sibling count, because the sibling promises them."""
    names = {canonical(line) for line in package.requirements}
    siblings = [member for member in packages().values() if member.dist in names]
    return modules_of([*package.requirements, *(line for sibling in siblings for line in sibling.requirements)])


def test_imports_are_declared_and_hosts_are_lazy(package, source, hard):
    optional = modules_of(line for lines in package.extras.values() for line in lines)
    wrong = []
    for path in sorted(source.rglob("*.py")):
        host_file = HOST_FOLDER in path.relative_to(source).parts
        for module, at_import in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if module == "triton" and path.name == "_triton.py":
                continue  # kernels: torch brings Triton where it can run, and the file is imported when it is needed
            if module in sys.stdlib_module_names or module == package.module or module in hard - {"tyro"}:
                continue
            lazy = host_file or not at_import
            if not (lazy and (module in optional or module in hard)):
                wrong.append(f"{path.relative_to(source)} imports {module}" + ("" if lazy else " at import time"))
    assert wrong == []


def test_only_declared_siblings_are_imported(package, source):
    ours = {member.module for member in packages().values()} - {package.module}
    allowed = {member.module for member in closure(package)}
    for path in source.rglob("*.py"):
        used = {module for module, _ in imports(ast.parse(path.read_text(encoding="utf-8")))}
        assert used & ours <= allowed, path


def fresh_import(package, hard):
    """Import the package in a new process after its hard dependencies; return what it brought in and the seconds."""
    code = f"""
import contextlib, importlib, json, sys, time
for name in {sorted(hard - {"tyro", package.module})!r}:
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(name)
before, start = set(sys.modules), time.perf_counter()
import {package.module}
seconds = time.perf_counter() - start
print(json.dumps([sorted({{name.split(".")[0] for name in set(sys.modules) - before}}), seconds]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_cheap(package, hard):
    runs = [fresh_import(package, hard) for _ in range(7)]
    assert not HEAVY & set(runs[0][0]), "a heavy module came in through us"
    best = min(seconds for _, seconds in runs)
    print(f"import {package.module}: {1000 * best:.1f} ms, minimum of {len(runs)} (goal 30, limit 100)")
    assert best <= 0.1


def test_nothing_else_of_ours_is_installed(package):
    installed = {canonical(dist) for dists in packages_distributions().values() for dist in dists}
    assert installed & set(RELEASED) <= {member.dist for member in closure(package, extras=False)}
