"""One suite for every package: pytest shared/conformance --package packages/NAME --wheel BUILT.whl."""

import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from workspace import Package


def pytest_addoption(parser):
    parser.addoption("--package", required=True, type=Path, help="the package's folder")
    parser.addoption("--wheel", required=True, type=Path, help="the wheel built from it, installed in this environment")


@pytest.fixture(scope="session")
def package(request) -> Package:
    return Package(request.config.getoption("--package").resolve())


@pytest.fixture(scope="session")
def wheel(request):
    with zipfile.ZipFile(request.config.getoption("--wheel")) as archive:
        yield archive


@pytest.fixture(scope="session")
def source(package) -> Path:
    return package.path / "src" / package.module
