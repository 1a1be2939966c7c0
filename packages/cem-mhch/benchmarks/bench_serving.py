"""Streaming and serving: bench_serving.py --out FILE [--device cpu] [--quick].

`push`: one turn of text, batch 1, one thread, the wall time that the decision reports. `serve`: a second process on
loopback, asked over raw asyncio connections at 500 requests a second; the time of a request counts from the moment at
which it was due, so that a queue counts. `sessions`: 100,000 of them through a store of 10,000. The mode of a row is
the percentile that its `median_us` holds; in the row of the sessions, `peak_bytes` is what the process grew by after
the store was full. Each part is checked: pushes against the batch pass, every answer for status, session and turn.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cem_mhch import CEM, HandoffModel, Rules, Sessions, StreamingScorer, Vocab, __version__, predict, simulate
from cem_mhch._folder import load_folder, save_folder
from sail_core.bench import append_rows, make_row

Row = dict[str, Any]
PAGE = resource.getpagesize()


def build(folder: Path) -> None:
    """The default host with random weights: its speed does not depend on them."""
    torch.manual_seed(0)
    vocab = Vocab.build(simulate(300).dialogues)
    save_folder(folder, CEM(HandoffModel.build("hgru", vocab_size=len(vocab))), vocab)


def streaming(folder: Path, turns: int) -> list[Row]:
    """Latency of a push, and whether the pushes equal the batch pass."""
    model, vocab = load_folder(folder)
    scorer = StreamingScorer(model, vocab=vocab, rules=Rules())
    dialogues = simulate(max(20, turns // 6), seed=1).dialogues
    expected = np.concatenate(predict(model, dialogues[:20], vocab=vocab).scores)
    found, latency = [], []
    for number, dialogue in enumerate(dialogues):
        scorer.reset()
        for turn in dialogue.turns:
            decision = scorer.push(turn.role, turn.text or "")
            found.append(decision.prob)
            if number >= 20:
                latency.append(decision.latency_ms)
    error = float(np.abs(np.array(found[: len(expected)]) - expected).max())
    return percentiles("push", latency, shape=(1, 1), correct=error < 1e-5, error=error)


def sessions(folder: Path, count: int) -> Row:
    """Resident memory while many sessions pass through a bounded store."""
    model, vocab = load_folder(folder)
    store = Sessions(lambda: StreamingScorer(model, vocab=vocab), max_sessions=10_000)
    resident = []
    for number in range(count):
        store.push(f"s{number}", "user", "hello, where is my parcel?")
        if (number + 1) % (count // 10) == 0:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
    held = min(count, 10_000)
    full = resident[min(len(resident) - 1, 10 * held // count)]
    return {
        "op": "sessions",
        "mode": "growth",
        "shape": [count, held],
        "rep": count,
        "peak_bytes": resident[-1] - full,
        "correct": len(store) == held and store.evicted == count - held,
    }


def percentiles(
    op: str, milliseconds: Sequence[float], *, shape: Sequence[int], correct: bool, error: float
) -> list[Row]:
    """Two rows, of the median and of the 99th percentile."""
    low, middle, high, tail = np.percentile(milliseconds, [20, 50, 80, 99]).tolist()
    shared = {"op": op, "shape": list(shape), "rep": len(milliseconds), "correct": correct, "rel_err": error}
    spread = {"p20_us": 1e3 * low, "p80_us": 1e3 * high}
    return [
        shared | spread | {"mode": "p50", "median_us": 1e3 * middle},
        shared | spread | {"mode": "p99", "median_us": 1e3 * tail},
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(folder: Path, rate: int, seconds: float) -> list[Row]:
    """Latency of `POST /v1/score` at a fixed rate."""
    port = free_port()
    command = [sys.executable, "-c", "from cem_mhch.cli import main; raise SystemExit(main())"]
    command += ["serve", "--model", str(folder), "--port", str(port)]
    server = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        wait(port, server)
        ask(port, 100, 1.0)  # warm
        milliseconds, errors = ask(port, rate, seconds)
    finally:
        server.terminate()
        server.wait()
    print(f"serve: {len(milliseconds)} requests at {rate}/s, {errors} errors")
    return percentiles("serve", milliseconds, shape=(rate,), correct=errors == 0, error=errors / len(milliseconds))


def wait(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not open its port")


def ask(port: int, rate: int, seconds: float) -> tuple[list[float], int]:
    """Milliseconds from the due time of each request, and the number of wrong answers."""
    return asyncio.run(_ask(port, rate, int(rate * seconds)))


async def _ask(port: int, rate: int, count: int, connections: int = 32) -> tuple[list[float], int]:
    """Each connection is one session and sends every 32nd request; it sends when due, or as soon as it is free."""
    milliseconds, errors = [0.0] * count, 0
    name = f"{time.time_ns()}"
    start = time.perf_counter() + 0.2

    async def one(connection: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn, number in enumerate(range(connection, count, connections)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            session = f"{name}-{connection}"
            role = "bot" if turn % 2 else "user"
            body = json.dumps({"session_id": session, "role": role, "text": "where is my parcel, order 512?"}).encode()
            head = (
                f"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            writer.write(head.encode() + b"\r\n\r\n" + body)
            header = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in header.split(b"\r\n")[1:] if b": " in line)
            answer = json.loads(await reader.readexactly(int(fields[b"content-length"])))
            milliseconds[number] = (time.perf_counter() - due) * 1e3
            right = header.startswith(b"HTTP/1.1 200") and answer["session_id"] == session and answer["turn"] == turn
            errors += not right
        writer.close()

    await asyncio.gather(*(one(connection) for connection in range(connections)))
    return milliseconds, errors


def main(argv: Sequence[str] | None = None) -> int:
    """Append a row for each part; 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Latency of a push, of the server, and memory over many sessions.")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file to append to")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="nothing here uses a GPU")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda":
        print("nothing here uses a GPU")
        return 0
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        rows += streaming(folder, 600 if arguments.quick else 12_000)
        rows += serving(folder, 500, 2.0 if arguments.quick else 20.0)
        rows.append(sessions(folder, 2_000 if arguments.quick else 100_000))
    shared = {"impl_version": __version__, "dtype": "float32", "layout": "text"}
    shared |= {"noisy": arguments.quick or os.getloadavg()[0] > (os.cpu_count() or 1)}
    append_rows(arguments.out, [make_row(impl="cem_mhch", **shared, **row) for row in rows])
    for row in rows:
        value = f"{row['median_us'] / 1e3:.3f} ms" if row["op"] != "sessions" else f"{row['peak_bytes'] / 1e6:.1f} MB"
        print(f"{row['op']} {row['mode']} {value}{'' if row['correct'] else ', wrong'}")
    return 0 if all(row["correct"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
