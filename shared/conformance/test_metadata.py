"""Laws 1, 5 and 6: what a package may depend on, its version, and its floors."""

import re
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from release import index_page
from workspace import RELEASED, canonical

SIBLINGS = {  # folder -> the siblings that its requirements and extras may name
    "sail-core": set(),
    "oogiri-go": set(),
    "clot": {"oogiri-go", "sail-core"},
}


@pytest.fixture(scope="module")
def metadata(package):
    return distribution(package.dist).metadata


@pytest.fixture(scope="module")
def requirements(metadata):
    return [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]


def test_siblings_are_those_of_the_design(package):
    assert package.siblings(extras=True) <= SIBLINGS.get(package.folder, {"sail-core"})


def test_ranges_on_siblings_are_two_sided(requirements, package):
    for requirement in requirements:
        if canonicalize_name(requirement.name) in set(RELEASED) - {package.dist}:
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators == {">=", "<"}, f"{requirement} needs a lower and an upper bound"


def test_every_requirement_is_a_range_with_a_floor_and_no_address(requirements, package):
    for requirement in requirements:
        assert requirement.url is None
        if canonicalize_name(requirement.name) != package.dist:
            assert any(specifier.operator in {">=", "=="} for specifier in requirement.specifier), str(requirement)


def test_python_and_torch_floors(metadata, requirements):
    assert metadata["Requires-Python"] == ">=3.11"
    for requirement in requirements:
        if requirement.name == "torch":
            assert "2.7.0" not in requirement.specifier
            assert "2.7.1" in requirement.specifier


def test_version_is_static_and_the_changelogs_top_entry(package, metadata):
    assert "dynamic" not in package.pyproject["project"]
    top = re.search(r"^## \[([^\]]+)\] - \d{4}-\d{2}-\d{2}$", (package.path / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert top is not None, "CHANGELOG.md has no entry `## [X.Y.Z] - YYYY-MM-DD`"
    assert Version(top[1]) == Version(package.version) == Version(metadata["Version"])


def test_readme_and_licence_travel_with_the_wheel(package, metadata, wheel):
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload().strip() == index_page(package).strip()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
    assert "MIT License" in (package.path / "LICENSE").read_text(encoding="utf-8")


def test_every_script_has_its_demo_and_all_extras(package):
    if package.script is not None:
        assert package.script == package.folder
        assert {"demo", "all"} <= package.extras.keys()
        assert {"matplotlib", "scikit-learn"} <= {canonical(line) for line in package.extras["demo"]}
