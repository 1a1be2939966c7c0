"""Two real processes under DDP or FSDP2 end with the weights of one process on the whole batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.mark.parametrize(
    ("wrap", "form", "steps"),
    [
        ("ddp", "joint", 2),
        pytest.param("ddp", "reference", 30, marks=pytest.mark.slow),
        pytest.param("ddp", "joint", 30, marks=pytest.mark.slow),
        pytest.param("fsdp", "reference", 10, marks=pytest.mark.slow),
        pytest.param("fsdp", "joint", 10, marks=pytest.mark.slow),
    ],
)
def test_two_processes_equal_one(tmp_path, wrap, form, steps):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(WORKER)]
    arguments = [str(tmp_path), form, str(steps), wrap]
    workers = [subprocess.Popen([*command, str(rank), *arguments], env=environment) for rank in range(2)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    results = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2)]
    spec = importlib.util.spec_from_file_location("ddp_worker", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    net, untrained = worker.network(), worker.network().state_dict()
    worker.train(net, slice(None), steps)
    for key, expected in net.state_dict().items():
        assert torch.equal(results[0][key], results[1][key])
        torch.testing.assert_close(results[0][key], expected, rtol=1e-4, atol=1e-5)
        if ".dia.w" in key:
            assert not torch.equal(expected, untrained[key])
