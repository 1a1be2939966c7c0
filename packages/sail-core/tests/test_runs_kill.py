"""SIGKILL during a save: the previous checkpoint survives, and nothing torn is ever loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Runs in its own process, imports torch once and forks the victims.
DRIVER = r"""
import json, os, random, shutil, signal, sys, time
import torch
from pathlib import Path
from sail_core.runs import latest, load_state, save_state

torch.set_num_threads(1)
trials, random_seed = int(sys.argv[2]), int(sys.argv[3])
random.seed(random_seed)

def state(count):
    return {"count": count, "pair": (count, float(count)), "w": torch.full((20_000,), count, dtype=torch.int64)}

def check():
    found = latest(directory)
    if found is None:
        return -1
    loaded = load_state(found)
    count = loaded["count"]
    assert loaded["pair"] == (count, float(count)) and loaded["w"].eq(count).all() and loaded["w"].numel() == 20_000
    return count

def save(count):
    step = 7 if mode == "same" else count
    save_state(directory, state(count), step=step, keep=2)

def victim(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child

def at_random():
    reached = 0
    for _ in range(trials):
        reader, writer = os.pipe()
        def work(start=check()):
            count = start
            while True:
                count += 1
                save(count)
                os.write(writer, count.to_bytes(4, "big"))
        child = victim(work)
        os.close(writer)
        os.read(reader, 4)  # the first save is done, the loop runs
        time.sleep(random.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = reached
        while chunk := os.read(reader, 4096):
            acknowledged = int.from_bytes(chunk[-4:], "big")
        os.close(reader)
        reached = check()
        assert acknowledged <= reached, (acknowledged, reached)
    return trials

def at_every_call():
    # The n-th call that changes a name or opens a file under the directory is the last thing the victim does.
    save(1), save(2)
    n = 0
    while True:
        n += 1
        assert n < 500, "a save makes ever more calls"
        before = check()
        def work():
            calls = 0
            def hook(event, arguments):
                nonlocal calls
                if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
                    calls += 1
                    if calls == n:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            save(before + 1)
        _, status = os.waitpid(victim(work), 0)
        after = check()
        assert after in (before, before + 1), (n, before, after)
        if not os.WIFSIGNALED(status):
            assert after == before + 1
            return n - 1

results = {}
for way in (at_every_call, at_random) if trials < 100 else (at_random,):
    for mode in ("growing", "same"):
        directory = Path(sys.argv[1], f"{way.__name__}-{mode}")
        killed = way()
        save(check() + 1)
        left = sorted(path.name for path in directory.iterdir() if path.name != ".lock")
        results[directory.name] = {"killed": killed, "left": left}
print(json.dumps(results))
"""


def drive(tmp_path, *, trials, seed=0):
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(trials), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for name, result in results.items():
        assert len(result["left"]) == (1 if name.endswith("same") else 2), result
        assert all(left.startswith("step-") and not left.endswith(".old") for left in result["left"]), result
    return {name: result["killed"] for name, result in results.items()}


def test_killed_at_every_call_that_touches_the_disk_and_at_random_moments(tmp_path):
    killed = drive(tmp_path, trials=10)
    assert killed["at_random-growing"] == killed["at_random-same"] == 10
    assert killed["at_every_call-growing"] > 10
    assert killed["at_every_call-same"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_many_random_moments(tmp_path, seed):
    assert drive(tmp_path, trials=150, seed=seed) == {"at_random-growing": 150, "at_random-same": 150}
