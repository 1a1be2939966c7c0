"""Two real processes, started by torchrun, train as one, and go on after a kill with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from dia_attention._train import build, fit
from sail_core.runs import latest, load_state

sys.path.insert(0, str(Path(__file__).parent))
from train_ddp_worker import config, data

WORKER = Path(__file__).with_name("train_ddp_worker.py")


def start(directory, norm):
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(WORKER)]
    return subprocess.Popen([*program, str(directory), norm], env=environment, start_new_session=True)


def test_two_processes_train_like_one(tmp_path):
    """Without BatchNorm the weights of two processes are, up to rounding, those of one on the whole batch."""
    process = start(tmp_path / "two", "none")
    torch.set_num_threads(1)
    settings = config("none")
    one = fit(build(settings, data(settings)), data(settings), settings, tmp_path / "one")
    assert process.wait(timeout=240) == 0
    results = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert results[0] == results[1]
    assert (results[0]["steps"], results[0]["validation_accuracy"]) == (one.steps, one.validation_accuracy)
    ours, theirs = (load_state(latest(tmp_path / name))["model"] for name in ("two", "one"))
    for key, expected in theirs.items():
        torch.testing.assert_close(ours[key], expected, rtol=1e-3, atol=1e-4)
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("two", "one")]
    assert len(rows[0]) == len(rows[1]) == one.steps  # one process writes
    losses = [[json.loads(row)["loss"] for row in log] for log in rows]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_a_killed_group_goes_on_with_the_same_bits(tmp_path):
    whole = start(tmp_path / "whole", "batch")
    assert whole.wait(timeout=240) == 0
    killed = tmp_path / "killed"
    process = start(killed, "batch")
    while latest(killed) is None and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # torchrun and both processes: its own session
    process.wait()
    again = start(killed, "batch")
    assert again.wait(timeout=240) == 0
    results = [json.loads((tmp_path / f"{name}-0.json").read_text()) for name in ("whole", "killed")]
    assert results[0] == results[1]
    assert (killed / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    from dia_attention._distributed import Group

    settings = config("batch")
    with pytest.raises(ValueError, match="41 processes cannot share"):
        fit(build(settings, data(settings)), data(settings), settings, tmp_path, group=Group(0, 41))
