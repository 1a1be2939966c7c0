"""Every block of the guides runs, in order, in a folder of its own; the built site has every public name."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTALL = ("pip install", "uv pip install")
# One process runs a page: Python in one namespace, shell commands in the same folder.
RUNNER = """
import json, subprocess, sys
space = {"__name__": "__main__"}
for kind, text in json.load(sys.stdin):
    if kind == "sh":
        subprocess.run(["bash", "-euc", text], check=True)
    else:
        exec(compile(text, "<page>", "exec"), space)
"""


PAGES = ["index.md", *(f"guides/{path.name}" for path in sorted(DOCS.glob("guides/*.md")) if path.stem != "index")]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page, tmp_path):
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    blocks = [block for block in blocks if not block[1].startswith(INSTALL)]
    assert any(kind == "python" for kind, _ in blocks), "the page shows no Python"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "error", "-c", RUNNER]
    setup = (DOCS / page).with_suffix(".py")
    if setup.exists():
        subprocess.run([sys.executable, "-P", setup], cwd=tmp_path, env=environment, check=True, capture_output=True)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, input=json.dumps(blocks), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_search_finds_every_public_name():
    sys.path.insert(0, str(DOCS.parent / "tools"))
    from workspace import packages

    text = (DOCS / "_build" / "html" / "objects.inv").read_bytes()
    inventory = InventoryFile.loads(text, uri="")
    listed = {name for kind in inventory.data.values() for name in kind}
    missing = [
        f"{package.module}.{name}"
        for package in packages().values()
        for name in import_module(package.module).__all__
        if not name.startswith("__") and not any(entry.endswith(f".{name}") for entry in listed)
    ]
    assert not missing, missing
