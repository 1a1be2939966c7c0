"""A training killed with SIGKILL at random moments ends with the weights of one that was not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("fit_worker.py")


def start(directory):
    return subprocess.Popen(
        [sys.executable, WORKER, directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(directory):
    output, errors = start(directory).communicate(timeout=300)
    assert errors == ""  # also: no progress bar where stderr is no terminal
    return output.strip()


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    expected = finish(tmp_path / "whole")
    assert len(expected) == 64
    rng, killed, log = random.Random(0), 0, tmp_path / "killed" / "metrics.jsonl"
    for row in (1, 4, 8, 9, 14, 19):
        process = start(tmp_path / "killed")
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= row):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    assert finish(tmp_path / "killed") == expected
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
