import subprocess
import sys

import pytest
from lockform import main, neutral
from workspace import ROOT

TRUE = """
source = { registry = "https://index.example/simple" }
sdist = { url = "https://files.example/a/b/pkg-1.0.tar.gz", hash = "sha256:00", size = 1 }
wheels = [
    { url = "https://files.example/c/pkg-1.0%2Bcpu-py3-none-any.whl#x=1", hash = "sha256:11", size = 2 },
]
source = { editable = "packages/sail-core" }
"""


def test_addresses_become_file_names_and_all_else_stays():
    assert (
        neutral(TRUE)
        == """
source = { registry = "wheelhouse" }
sdist = { path = "pkg-1.0.tar.gz", hash = "sha256:00", size = 1 }
wheels = [
    { path = "pkg-1.0+cpu-py3-none-any.whl", hash = "sha256:11", size = 2 },
]
source = { editable = "packages/sail-core" }
"""
    )
    assert neutral(neutral(TRUE)) == neutral(TRUE)


def test_an_address_of_another_kind_is_refused_and_the_file_kept(tmp_path):
    lock = tmp_path / "uv.lock"
    lock.write_text('source = { git = "https://code.example/x?tag=v1#abc" }\n')
    with pytest.raises(ValueError, match="line 1"):
        main(lock)
    assert "code.example" in lock.read_text()


def test_the_committed_lock_is_neutral():
    text = (ROOT / "uv.lock").read_text(encoding="utf-8")
    assert neutral(text) == text


def test_it_runs_as_a_script(tmp_path):
    (tmp_path / "uv.lock").write_text(TRUE)
    subprocess.run([sys.executable, ROOT / "tools" / "lockform.py"], cwd=tmp_path, check=True)
    assert (tmp_path / "uv.lock").read_text() == neutral(TRUE)


@pytest.mark.parametrize(("text", "code"), [(TRUE, 1), (neutral(TRUE), 0)], ids=["a bot's lock", "ours"])
def test_a_lock_that_holds_an_address_is_refused_and_left_as_it_is(tmp_path, text, code):
    lock = tmp_path / "uv.lock"
    lock.write_text(text)
    command = [sys.executable, ROOT / "tools" / "lockform.py", "--check", lock]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert ("uv.lock holds an address in line 2; `nox -s lock` rewrites it" in done.stderr) == bool(code)
    assert lock.read_text() == text
