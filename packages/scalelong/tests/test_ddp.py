"""Two real gloo processes end with the weights of one that saw the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("ddp_worker.py")
sys.path.insert(0, str(WORKER.parent))

from ddp_worker import train  # noqa: E402


def both(mode):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        environment |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(WORKER), mode]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(out.splitlines()[-1]) for out in outs]


@pytest.mark.parametrize(
    "mode", ["ls", *(pytest.param(m, marks=pytest.mark.slow) for m in ("cs", "ls_scalar", "none"))]
)
def test_two_processes_equal_one(mode):
    first, second = both(mode)
    assert first["world"] == second["world"] == 2
    assert first["pid"] != second["pid"]
    alone = train(mode, None)
    assert first["result"] == second["result"]
    for name, value in alone.items():
        assert first["result"][name] == pytest.approx(value, rel=1e-9), name
