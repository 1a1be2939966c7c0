import json
import sys
from importlib.metadata import distribution

import pytest
from newcomer import TORCH, size, timed
from workspace import ROOT, packages


def test_the_clock_and_the_processor_are_told_apart(tmp_path):
    clock, processor = timed(sys.executable, "-I", "-c", "import time; time.sleep(2)", cwd=tmp_path)
    assert clock >= 2
    assert processor < clock


def test_a_step_that_fails_ends_the_script_with_what_it_said(tmp_path):
    with pytest.raises(SystemExit, match="no such thing"):
        timed(sys.executable, "-I", "-c", "raise SystemExit('no such thing')", cwd=tmp_path)


def test_what_a_size_leaves_out():
    assert all(map(TORCH.fullmatch, ("torch", "triton", "nvidia-cublas", "cuda-bindings")))
    assert not any(map(TORCH.fullmatch, ("torchvision", "torchdiffeq", "numpy", "sail-core")))
    one = distribution("pytest")
    assert size(one) > 100_000


def test_every_package_was_timed_with_the_install_line_of_its_readme():
    rows = map(json.loads, (ROOT / "benchmarks" / "results" / "newcomer.jsonl").read_text("utf-8").splitlines())
    assert {row["package"]: row["install"] for row in rows} == {
        name: package.install_line for name, package in packages().items()
    }
