"""Two real processes train as one; a killed run goes on with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from clot.integrations.tiny import save_tiny
from clot.integrations.training import LoRA, train_ait
from safetensors.torch import load_file
from sail_core.runs import latest

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import WORLD, lessons, options

WORKER = Path(__file__).with_name("train_worker.py")
ENVIRONMENT = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), texts=WORLD.texts())


@pytest.fixture(scope="module")
def one(base, tmp_path_factory):
    """What a single process makes of it."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("one")
    train_ait(base, lessons(), out=out, options=options(), lora=LoRA(r=4, dropout=0.0), device="cpu")
    return out


def start(base, out, *words, processes=1):
    program = [sys.executable, str(WORKER)]
    if processes > 1:
        program[1:1] = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen([*program, str(base), str(out), *words], env=ENVIRONMENT, start_new_session=True)


def weights(out):
    return load_file(out / "adapter" / "adapter_model.safetensors")


def same_but_for_rounding(out, one):
    ours, theirs = weights(out), weights(one)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)
    rows = [[json.loads(row) for row in (at / "metrics.jsonl").read_text().splitlines()] for at in (out, one)]
    assert len(rows[0]) == len(rows[1]) == 6  # one process writes
    for ours, theirs in zip(*rows, strict=True):
        assert ours.keys() == theirs.keys() >= {"loss", "loss_generate", "loss_select", "lr", "gradient_norm"}
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_two_processes_train_like_one(base, one, tmp_path):
    process = start(base, tmp_path / "two", processes=2)
    assert process.wait(timeout=200) == 0
    same_but_for_rounding(tmp_path / "two", one)


@pytest.mark.slow
def test_two_shards_train_like_one(base, one, tmp_path):
    """FSDP2: each process keeps half of every tensor; the adapter that is saved is whole."""
    process = start(base, tmp_path / "two", "fsdp2", processes=2)
    assert process.wait(timeout=200) == 0
    same_but_for_rounding(tmp_path / "two", one)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_killed_group_goes_on_with_the_same_bits(base, tmp_path, parallel):
    whole = start(base, tmp_path / "whole", parallel, processes=2)
    assert whole.wait(timeout=200) == 0
    killed(base, tmp_path / "killed", lambda: None, parallel, processes=2)
    same_bits(tmp_path / "killed", tmp_path / "whole")


def killed(base, out, pause, *words, processes=1):
    """Start, wait for a checkpoint, kill everything, start again and let it end."""
    process = start(base, out, *words, processes=processes)
    while latest(out / "checkpoints") is None and process.poll() is None:
        time.sleep(0.005)
    pause()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert start(base, out, *words, processes=processes).wait(timeout=200) == 0


def same_bits(out, other):
    ours, theirs = ((at / "adapter" / "adapter_model.safetensors").read_bytes() for at in (out, other))
    assert ours == theirs
    assert (out / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def test_a_killed_run_goes_on_with_the_same_bits(base, one, tmp_path):
    killed(base, tmp_path / "killed", lambda: None)
    same_bits(tmp_path / "killed", one)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_any_moment_goes_on_with_the_same_bits(base, one, tmp_path, seed):
    wait = random.Random(seed).uniform(0, 0.8)
    print(f"killed {wait:.3f} s after the first checkpoint")
    killed(base, tmp_path / "killed", lambda: time.sleep(wait))
    same_bits(tmp_path / "killed", one)
