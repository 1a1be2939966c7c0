"""Trainings that are killed, and trainings of two processes that torchrun started."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import train_world
from sail_core.runs import latest
from sur_adapter.integrations.training import train

WORKER = Path(__file__).with_name("train_worker.py")
# without diffusion and on texts that are encoded already: a worker then needs neither diffusers nor transformers
SHORT = {"diffusion_weight": 0.0, "steps": 3, "encoded": "encoded"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    train_world.write_data(folder / "data")
    train_world.write_teacher(folder / "teacher")
    train_world.write_pipeline(folder / "sd15", "sd15")
    train(train_world.config(folder, **SHORT), folder / "encoding", device="cpu")
    return folder


def torchrun(world, directory, changes, processes=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--master-port={port}", str(WORKER), str(world), str(directory), json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((directory / f"told-{rank}.json").read_text()) for rank in range(processes)]


def start(world, directory, changes):
    command = [sys.executable, str(WORKER), str(world), str(directory), json.dumps(changes)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def here(world, directory, changes):
    """The same training in this process."""
    return train_world.adapter_tensors(train(train_world.config(world, **changes), directory, device="cpu"))


def alone(world, directory, changes):
    process = start(world, directory, changes)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    return json.loads((directory / "told-0.json").read_text())


CASES = [
    SHORT,
    pytest.param({"steps": 6}, marks=pytest.mark.slow),
    pytest.param({"steps": 4, "family": "sdxl", "accumulation": 2}, marks=pytest.mark.slow),
    pytest.param({"steps": 4, "compat": "original", "dropout": 0.0}, marks=pytest.mark.slow),
    pytest.param({"steps": 4, "mixed_precision": "bf16", "dropout": 0.1}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("changes", CASES)
def test_two_processes_train_as_one(world, tmp_path, changes):
    changes = {"batch_size": 4, "prompt_match": "mse", "teacher_match": "mse"} | changes
    if changes.get("family") == "sdxl":
        train_world.write_pipeline(world / "sdxl", "sdxl")
    first, second = torchrun(world, tmp_path / "two", changes)
    assert first["processes"] == second["processes"] == 2
    assert first["pid"] != second["pid"]
    assert first["hash"] == second["hash"]
    assert first["steps"] == changes["steps"]
    here(world, tmp_path / "one", changes)
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    ]
    # each process means over the tokens of its own rows, whose numbers differ; dropout and batch mixing differ more
    tolerance = 0.05 if changes.get("compat") is None and "dropout" not in changes else 0.5
    assert rows[0][0]["loss"] == pytest.approx(rows[1][0]["loss"], rel=tolerance)
    if "diffusion" in rows[0][0] and tolerance < 0.1:
        assert rows[0][0]["diffusion"] == pytest.approx(rows[1][0]["diffusion"], rel=1e-5)


@pytest.mark.slow
def test_two_processes_go_on_with_the_same_bits(world, tmp_path):
    changes = {"steps": 60, "dropout": 0.1, "checkpoint_every": 3}
    whole = torchrun(world, tmp_path / "whole", changes)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    command += [str(WORKER), str(world), str(tmp_path / "part"), json.dumps(changes)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while latest(tmp_path / "part") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()  # torchrun ends its workers
    process.wait()
    assert not (tmp_path / "part/told-0.json").exists()
    again = torchrun(world, tmp_path / "part", changes)
    assert again[0]["hash"] == again[1]["hash"] == whole[0]["hash"]


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(world, tmp_path, kills):
    changes = {"steps": 24, "checkpoint_every": 3, "dropout": 0.1} | (SHORT if kills == 1 else {})
    changes |= {"steps": 24}
    whole = here(world, tmp_path / "whole", changes)
    part, drawn = tmp_path / "part", random.Random(0)
    for _ in range(kills):
        process = start(world, part, changes)
        before, deadline = latest(part), time.monotonic() + 120
        while process.poll() is None and latest(part) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.05 * drawn.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert latest(part) is not None
    again = here(world, part, changes)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_killed_while_encoding_it_goes_on(world, tmp_path):
    changes = {"steps": 1}
    whole = alone(world, tmp_path / "whole", changes)
    process, deadline = start(world, tmp_path / "part", changes), time.monotonic() + 120
    while not (tmp_path / "part/encoded/encoded.json").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert latest(tmp_path / "part") is None
    assert alone(world, tmp_path / "part", changes)["hash"] == whole["hash"]


def test_a_batch_that_does_not_divide_is_refused(tmp_path, monkeypatch):
    from sur_adapter.integrations import training

    class Two:
        num_processes = 2
        device = torch.device("cpu")

        def __init__(self, **options):
            pass

    monkeypatch.setattr(training, "Accelerator", Two)
    config = train_world.config(tmp_path, batch_size=5)
    with pytest.raises(ValueError, match="a batch of 5 does not divide among 2 processes"):
        training.train(config, tmp_path / "run", device="cpu")
