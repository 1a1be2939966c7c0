"""Two real processes under DDP or FSDP2 end with the weights of one process on the whole batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dia_attention import list_attentions
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("ddp_worker.py")
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("wrap", "form", "steps", "name"),
    [
        ("ddp", "joint", 2, "chain"),
        *(pytest.param("ddp", form, 30, "dia", marks=slow) for form in ("reference", "joint")),
        *(pytest.param("ddp", "auto", 10, name, marks=slow) for name in list_attentions() if name != "dia"),
        *(pytest.param("fsdp", form, 10, "dia", marks=slow) for form in ("reference", "joint")),
        *(pytest.param("fsdp", "reference", 5, name, marks=slow) for name in ("se", "lsas", "step")),
    ],
)
def test_two_processes_equal_one(tmp_path, wrap, form, steps, name):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(WORKER)]
    arguments = [str(tmp_path), form, str(steps), wrap, name]
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
    net, untrained = worker.network(name), worker.network(name).state_dict()
    worker.train(net, slice(None), steps)
    moved = {key for key, value in net.named_parameters() if not torch.equal(value, untrained[key])}
    assert moved == {key for key, _ in net.named_parameters()}
    for key, expected in net.state_dict().items():
        assert torch.equal(results[0][key], results[1][key])
        torch.testing.assert_close(results[0][key], expected, rtol=1e-6, atol=1e-9)
