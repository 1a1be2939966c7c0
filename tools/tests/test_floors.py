import os
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = Path(__file__).resolve().parents[1] / "floors.py"


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("alpha-sail>=2.1", 0, ""),
        ("alpha-sail==2.1", 0, ""),
        ("alpha-sail>=2.0", 1, "alpha-sail>=2.0 is installed as 2.1"),
        ("gamma-sail>=1.0", 0, "gamma-sail>=1.0 is installed as 1.5, which beta-sail asks for"),
        ("gamma-sail>=1.6", 1, "gamma-sail>=1.6 is installed as 1.5"),
    ],
)
def test_a_floor_is_reached_exactly_or_where_another_distribution_raises_it(tmp_path, line, code, told):
    installed = {"alpha-sail": ("2.1", []), "beta-sail": ("1.0", ["gamma-sail>=1.5", "delta-sail==1.*"])}
    installed["gamma-sail"] = ("1.5", [])
    for name, (version, requires) in installed.items():
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        fields = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *fields, ""]))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, FLOORS, line], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
