"""Law 4: what a package offers is listed, importable and documented, and it knows its version."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest


def public_modules(package):
    """Return the package and its public submodules that import without a host."""
    top = importlib.import_module(package.module)
    names = [module.name for module in pkgutil.walk_packages(top.__path__, f"{package.module}.")]
    private = ("._", ".integrations", ".demo", ".cli", ".__main__")
    return [top, *(importlib.import_module(name) for name in names if not any(part in name for part in private))]


def test_all_is_complete_and_importable(package):
    for module in public_modules(package):
        assert hasattr(module, "__all__"), f"{module.__name__} has no __all__"
        assert module.__doc__, f"{module.__name__} has no docstring"
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert missing == [], module.__name__
        assert len(module.__all__) == len(set(module.__all__)), f"{module.__name__}.__all__ repeats itself"


def test_every_public_name_is_documented(package):
    bare = []
    for module in public_modules(package):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                own = thing.__doc__ if inspect.isroutine(thing) else vars(thing).get("__doc__")
                bare += [] if own and not own.startswith(f"{name}(") else [f"{module.__name__}.{name}"]
    assert bare == []


def test_version_comes_from_the_installed_metadata(package):
    assert importlib.import_module(package.module).__version__ == package.version


@pytest.mark.parametrize("known", [True, False])
def test_version_without_metadata_says_source(package, known):
    code = f"""
import importlib.metadata as metadata
original = metadata.version
def version(name):
    if name == {package.dist!r} and not {known}:
        raise metadata.PackageNotFoundError(name)
    return original(name)
metadata.version = version
import {package.module}
print({package.module}.__version__)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (package.version if known else "0+source")
