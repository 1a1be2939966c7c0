"""Two real processes train as one; a killed run goes on with the same bits."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clot.integrations.tiny import save_tiny
from safetensors.torch import load_file
from sail_core.runs import latest

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import WORLD, main, member

WORKER = Path(__file__).with_name("train_worker.py")
SECONDS = 540


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), texts=WORLD.texts())


@pytest.fixture(scope="module")
def one(base, tmp_path_factory):
    """What a single process makes of it."""
    out = tmp_path_factory.mktemp("one")
    main(base, out)
    return out


@pytest.fixture(scope="module")
def fresh():
    """Start processes that have imported the package and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["clot._world", "clot.integrations.training"])
    started = []

    def start(base, out, parallel="ddp", size=1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        group = [context.Process(target=member, args=(rank, size, port, base, out, parallel)) for rank in range(size)]
        for process in group:
            process.start()
        started.extend(group)
        return group

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def ended(group):
    for process in group:
        process.join(SECONDS)
    assert [process.exitcode for process in group] == [0] * len(group)


@contextlib.contextmanager
def torchrun(base, out, parallel):
    """Two processes as a user starts them; nothing of their session outlives the block."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(WORKER)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*program, str(base), str(out), parallel], env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def same_but_for_rounding(out, one):
    ours, theirs = (load_file(at / "adapter" / "adapter_model.safetensors") for at in (out, one))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (ours[name] - value).abs().max() < 1e-3 * value.abs().max() + 1e-4, name
    rows = [[json.loads(row) for row in (at / "metrics.jsonl").read_text().splitlines()] for at in (out, one)]
    assert len(rows[0]) == len(rows[1]) == 6  # one process writes
    for ours, theirs in zip(*rows, strict=True):
        assert ours.keys() == theirs.keys() >= {"loss", "loss_generate", "lr", "gradient_norm"}
        assert ours == pytest.approx(theirs, rel=1e-3)


def same_bits(out, other):
    ours, theirs = ((at / "adapter" / "adapter_model.safetensors").read_bytes() for at in (out, other))
    assert ours == theirs
    assert (out / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def wait_for_checkpoint(out, running):
    while latest(out / "checkpoints") is None and running():
        time.sleep(0.005)


def test_two_processes_train_like_one(fresh, base, one, tmp_path):
    ended(fresh(base, tmp_path / "two", size=2))
    same_but_for_rounding(tmp_path / "two", one)


def killed_and_resumed(fresh, base, out, wait=0.0, **options):
    group = fresh(base, out, **options)
    wait_for_checkpoint(out, group[0].is_alive)
    time.sleep(wait)
    for process in group:
        process.kill()
    for process in group:
        process.join()
    ended(fresh(base, out, **options))


def test_a_killed_run_goes_on_with_the_same_bits(fresh, base, one, tmp_path):
    killed_and_resumed(fresh, base, tmp_path / "killed")
    same_bits(tmp_path / "killed", one)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_run_killed_at_any_moment_goes_on_with_the_same_bits(fresh, base, one, tmp_path, seed):
    wait = random.Random(seed).uniform(0, 0.5)
    print(f"killed {wait:.3f} s after the first checkpoint")
    killed_and_resumed(fresh, base, tmp_path / "killed", wait)
    same_bits(tmp_path / "killed", one)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_killed_group_goes_on_with_the_same_bits(fresh, base, tmp_path, parallel):
    ended(fresh(base, tmp_path / "whole", parallel, size=2))
    killed_and_resumed(fresh, base, tmp_path / "killed", parallel=parallel, size=2)
    same_bits(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_torchrun_trains_like_one_process(base, one, tmp_path, parallel):
    """FSDP2: each process keeps half of every tensor, and the adapter that is saved is whole."""
    with torchrun(base, tmp_path / "two", parallel) as process:
        assert process.wait(timeout=SECONDS) == 0
    same_but_for_rounding(tmp_path / "two", one)
