"""The ledger: what it holds, what it repairs, what it refuses."""

import json
import os
import subprocess
import sys
import tracemalloc

import pytest
from clot._candidate import FIELDS, NEXT, Block
from clot._ledger import Ledger, read_ledger

VALUES = {"condition": None, "text": "so", "rank": 1, "score": 0.25, "preference": 0.5, "truth": 0.25}
VALUES |= {"chosen": True, "margin": 0.25, "reason": "rank"}
PATH = ("planned", "generated", "ranked", "selected", "kept")


def stage(block, state, drop=()):
    moves = []
    for one in block.pending():
        name = "dropped" if one.index in drop and "dropped" in NEXT[one.state] else state
        moves.append((name, {field: VALUES[field] for field in FIELDS[name]}))
    return moves


def run(ledger, blocks=3, until=None):
    """Four blocks of two records with three candidates; the first is dropped by rank. Stop after `until` commits."""
    done = 0
    ledger.mark({"round": 1, "model": "m"})
    for number in range(blocks):
        block = Block.of(1, [f"r{number}-{at}" for at in range(2)], 3)
        ledger.replay(block)
        while pending := block.pending():
            if done == until:
                return block
            state = PATH[0] if not pending[0].state else PATH[PATH.index(pending[0].state) + 1]
            ledger.commit(block, stage(block, state, drop=(0,) if state in ("ranked", "selected") else ()))
            done += 1
    return None


@pytest.fixture
def whole(tmp_path):
    with Ledger(tmp_path / "whole.jsonl", "c") as ledger:
        run(ledger)
    return (tmp_path / "whole.jsonl").read_bytes()


def test_lines(whole):
    lines = [json.loads(line) for line in whole.splitlines()]
    assert lines[0] == {"ledger": 1, "config": "c"}
    assert lines[1] == {"round": 1, "model": "m"}
    events = lines[2:]
    assert len(events) == 3 * 2 * (3 + 3 + 3 + 2 + 2)  # the first of three is dropped when it is ranked
    assert {(one["round"], one["config"]) for one in events} == {(1, "c")}
    assert [one["state"] for one in events if (one["record"], one["candidate"]) == ("r1-0", 1)] == list(PATH)


@pytest.mark.parametrize("until", range(16))
def test_a_stop_between_any_two_commits(tmp_path, whole, until):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, "c") as ledger:
        run(ledger, until=until)
    assert whole.startswith(path.read_bytes())
    with Ledger(path, "c") as ledger:
        run(ledger)
    assert path.read_bytes() == whole


def test_every_torn_length_is_repaired(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # not what is tested, and slow
    path = tmp_path / "ledger.jsonl"
    for size in range(0, len(whole) + 1, 13):
        path.write_bytes(whole[:size])
        with Ledger(path, "c") as ledger:
            run(ledger)
        assert path.read_bytes() == whole


def test_a_torn_stage_is_done_again_as_a_whole(tmp_path, whole):
    path = tmp_path / "ledger.jsonl"
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]))  # head, mark, six planned, and four of six generated
    with Ledger(path, "c") as ledger:
        block = run(ledger, until=0)
        assert [one.state for one in block.candidates] == ["planned"] * 6
    assert path.read_bytes() == b"".join(lines[:8])


def test_zeros_at_the_end_are_cut(tmp_path, whole):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(whole[:-30] + b"\0" * 500)  # what a file system may leave after a power cut
    with Ledger(path, "c") as ledger:
        run(ledger)
    assert path.read_bytes() == whole


def test_damage_elsewhere_is_refused_and_left_alone(tmp_path, whole):
    path = tmp_path / "ledger.jsonl"
    lines = whole.splitlines(keepends=True)
    lines[9] = b'{"round":1,\n'
    path.write_bytes(b"".join(lines))
    with Ledger(path, "c") as ledger, pytest.raises(ValueError, match="line 10 is damaged"):
        run(ledger)
    assert path.read_bytes() == b"".join(lines)


def test_drift_and_an_unwanted_resume(tmp_path, whole):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="configuration c, and this one is other"):
        Ledger(path, "other")
    with pytest.raises(ValueError, match="resume=True"):
        Ledger(path, "c", resume=False)
    with Ledger(path, "c") as ledger, pytest.raises(ValueError, match=r"line 2.*stands where"):
        ledger.mark({"round": 1, "model": "another"})
    with Ledger(path, "c") as ledger:
        ledger.mark({"round": 1, "model": "m"})
        with pytest.raises(ValueError, match="line 3: it is about"):
            ledger.replay(Block.of(1, ["someone"], 3))
    with Ledger(path, "c") as ledger, pytest.raises(ValueError, match="not replayed"):
        ledger.commit(Block.of(1, ["x"], 1), [("planned", {"condition": None})])
    assert path.read_bytes() == whole


def test_states_that_cannot_follow(tmp_path):
    with Ledger(tmp_path / "ledger.jsonl", "c") as ledger:
        block = Block.of(1, ["r"], 2)
        with pytest.raises(ValueError, match="got 1 moves"):
            ledger.commit(block, [("planned", {"condition": None})])
        with pytest.raises(ValueError, match="'kept' cannot follow ''; expected planned"):
            ledger.commit(block, [("kept", {"margin": 1.0})] * 2)
        with pytest.raises(ValueError, match="has condition, not nothing"):
            ledger.commit(block, [("planned", {})] * 2)


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_two_processes_do_not_share_it(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = "import sys; from clot._ledger import Ledger; Ledger(sys.argv[1], 'c')"
    with Ledger(path, "c"):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert "is open in another process" in done.stderr
    assert subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True).returncode == 0


def test_reading(tmp_path, whole):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(whole[:-5])
    assert [json.loads(line) for line in whole.splitlines()[1:-1]] == list(read_ledger(path))
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="not a ledger"):
        next(read_ledger(path))


def test_memory_does_not_grow_with_the_candidates(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def peak(blocks):
        path = tmp_path / f"{blocks}.jsonl"
        tracemalloc.start()
        for _ in range(2):  # write, then replay
            with Ledger(path, "c") as ledger:
                run(ledger, blocks=blocks)
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    peak(2)
    few, many = peak(10), peak(300)
    assert (tmp_path / "300.jsonl").stat().st_size > 20 * (tmp_path / "10.jsonl").stat().st_size
    assert many < 1.2 * few + 20_000
