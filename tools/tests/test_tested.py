import re

import pytest
from tested import HEAD, TABLE, floors, locked, table
from workspace import Package, packages


def number(version):
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


@pytest.mark.parametrize("member", packages().values(), ids=lambda member: member.folder)
def test_the_readmes_table_has_the_floors_and_versions_that_were_tested(member):
    found = TABLE.findall((member.path / "README.md").read_text(encoding="utf-8"))
    assert len(found) == 1
    rows = [row.strip("| ").split(" | ") for row in found[0].removeprefix(HEAD).splitlines()]
    assert {name: floor for name, floor, _ in rows} == floors(member)
    newest = locked()
    for name, floor, tested in rows:  # a lock that moved on does not make what was tested wrong; a version beyond it is
        for one in tested.split(", "):
            assert number(floor) <= number(one) <= max(map(number, newest[name])), (name, one)


def test_a_table_leaves_out_what_is_ours_and_what_only_the_demo_needs(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["numpy>=1.26", "sail-core>=0.1,<0.2", "tqdm>=4"]\n'
        '[project.optional-dependencies]\nhost = ["timm>=1.0.15"]\ndemo = ["matplotlib>=3.9"]\nall = ["x[demo,host]"]\n'
    )
    assert floors(Package(tmp_path)) == {"numpy": "1.26", "safetensors": "0.4.5", "timm": "1.0.15", "torch": "2.7.1"}
    assert re.fullmatch(TABLE, table(Package(tmp_path)))
