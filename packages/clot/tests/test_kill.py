"""`clot refine` killed at moments drawn from a printed seed: the same ledger and the same kept set, always."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from clot import NounSet, Prompt
from oogiri_go import write_jsonl

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import FakeServer, chat, letters
from joker import NOUNS, judge, records, write

pytest.importorskip("httpx")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")

STATES = ("planned", "generated", "ranked", "selected", "kept")  # a stage is named by the state that it may end in
SEED = 20261124
FILES = ("ledger.jsonl", "round-1/kept.jsonl", "round-1/summary.json", "config.json")


def script(body, number):
    """What joker's rule says, in the protocol."""
    text = body["messages"][0]["content"]
    if "logprobs" not in body:
        return chat([write(SimpleNamespace(prompt=Prompt(text), seed=body["seed"]), 0)])
    shown = [line[0] for line in text.partition("Options:")[2].strip().split("\n")]
    scores = [judge(Prompt(text), letter) for letter in shown]
    total = math.log(sum(map(math.exp, scores)))
    return letters([(letter, score - total) for letter, score in zip(shown, scores, strict=True)])


@pytest.fixture(scope="module")
def server():
    with FakeServer(script) as server:
        server._server.handle_error = lambda *_: None  # clients die in the middle of their requests here
        yield server


@pytest.fixture(scope="module")
def command(tmp_path_factory, server):
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(records(12), folder / "en.jsonl")
    write_jsonl(records(12, first=100), folder / "held_en.jsonl")
    NounSet.from_words(NOUNS, "en").save(folder / "nouns.json")
    options = {
        "model": "joker", "server": server.url, "sources": folder / "en.jsonl", "held-out": folder / "held_en.jsonl",
        "nouns": folder / "nouns.json", "n": 4, "refine-batch": 2, "concurrency": 4,
    }  # fmt: skip
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "clot.cli", "refine", *words, "--json"]


def refine(command, out):
    done = subprocess.run([*command, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The run that nobody kills."""
    out = tmp_path_factory.mktemp("whole")
    said = refine(command, out)
    assert said["steps"]["kept"] > 2
    return out


def commits(path):
    """Where in the file each commit ends, and the stage that it is of."""
    ends, at = [], 0
    lines = path.read_bytes().splitlines(keepends=True)
    kinds = [stage_of(json.loads(line), at) for at, line in enumerate(lines)]
    for number, line in enumerate(lines):
        at += len(line)
        if kinds[number] and (number + 1 == len(lines) or kinds[number + 1] != kinds[number]):
            ends.append((at, kinds[number][1]))
    return ends


def stage_of(line, at, seen={}):  # noqa: B006  what a candidate reached before decides what "dropped" means
    if "state" not in line:
        seen.clear()
        return None
    key = line["record"], line["candidate"]
    stage = seen.get(key, -1) + 1
    seen[key] = stage
    return "stage", STATES[stage]


def test_the_commits_of_the_whole_run(whole):
    found = [stage for _, stage in commits(whole / "ledger.jsonl")]
    assert found == list(STATES) * 6


def kill_when(command, out, offset):
    """Start the command, kill it as soon as the ledger has reached a length, and say how long it then is."""
    process = subprocess.Popen([*command, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = out / "ledger.jsonl"
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            if path.stat().st_size >= offset:
                break
        except FileNotFoundError:
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    return path.stat().st_size, process.returncode


def killed(command, whole, tmp_path, moments):
    """Kill at each moment, go on, compare; give the stages after which a process died."""
    ends = commits(whole / "ledger.jsonl")
    reached = []
    for number, moment in enumerate(moments):
        out = tmp_path / f"run-{number}"
        size, code = kill_when(command, out, ends[moment][0])
        if code == -signal.SIGKILL:
            reached.append(max((end, stage) for end, stage in ends if end <= size)[1])
        refine(command, out)
        for name in FILES:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (SEED, number, name)
    return reached


def test_three_moments(command, whole, tmp_path):
    moments = random.Random(SEED).sample(range(28), 3)
    print(f"seed {SEED}, killed after commits {moments}")
    assert len(killed(command, whole, tmp_path, moments)) == 3


@pytest.mark.slow
def test_twenty_moments_and_every_pair_of_stages(command, whole, tmp_path):
    draws = random.Random(SEED)
    pairs = [5 * draws.randrange(5) + stage for stage in range(5) for _ in range(3)]
    moments = [*pairs, *(draws.randrange(29) for _ in range(5))]
    print(f"seed {SEED}, killed after commits {moments}")
    reached = killed(command, whole, tmp_path, moments)
    assert len(reached) == 20
    for attempt in range(10):  # a process may get further than the moment before the signal arrives
        missing = [stage for stage in range(5) if STATES[stage] not in reached]
        if not missing:
            break
        reached += killed(command, whole, tmp_path / f"again-{attempt}", [5 * draws.randrange(5) + missing[0]])
    assert set(reached) == set(STATES)


@pytest.mark.slow
def test_killed_again_and_again(command, whole, tmp_path):
    """Each run is killed at its next commit but two, so that the ledger is made by many processes."""
    ends = commits(whole / "ledger.jsonl")
    out = tmp_path / "run"
    for moment in (3, 11, 19):
        kill_when(command, out, ends[moment][0])
    refine(command, out)
    for name in FILES:
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_nothing_is_asked_twice(command, whole, tmp_path, server):
    start = len(server.bodies)
    refine(command, tmp_path / "one")
    once = len(server.bodies) - start
    kill_when(command, tmp_path / "two", commits(whole / "ledger.jsonl")[7][0])
    start = len(server.bodies)
    refine(command, tmp_path / "two")
    assert len(server.bodies) - start < once - 12 * 3  # not the held-out questions, nor the first block
    start = len(server.bodies)
    refine(command, tmp_path / "two")
    assert len(server.bodies) == start
