"""Law 2: the script answers in the bare environment, and its demo names the extra that it needs."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def script(package):
    if package.script is None:
        pytest.skip(f"{package.folder} has no script")

    def run(*arguments, cwd):
        program = Path(sys.executable).with_name(package.script)
        return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True)

    return run


def test_help_works_bare(script, package, tmp_path):
    done = script("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert package.script in done.stdout
    assert "demo" in done.stdout


def test_demo_names_its_extra(script, package, tmp_path):
    done = script("demo", "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"{package.dist}[demo]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_command_is_a_usage_error(script, tmp_path):
    assert script("no-such-command", cwd=tmp_path).returncode == 2
