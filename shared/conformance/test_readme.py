"""The README's Python blocks run, in order, in the environment that its install line makes."""

import os
import re
import subprocess
import sys

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_readme_blocks_run(package, tmp_path):
    blocks = BLOCK.findall((package.path / "README.md").read_text(encoding="utf-8"))
    assert blocks, "README.md shows no Python"
    (tmp_path / "readme.py").write_text("\n".join(blocks), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-W", "error", "readme.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_has_the_parts_of_an_index_page(package):
    text = (package.path / "README.md").read_text(encoding="utf-8").lower()
    for part in ("install", "what it does not do", "citation", "|---"):
        assert part in text, f"README.md lacks {part!r}"
