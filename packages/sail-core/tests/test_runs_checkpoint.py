"""Checkpoints are whole or absent, and a changed one is never returned."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from sail_core.runs import CheckpointError, latest, load_state, save_state


def names(directory):
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_layout_and_retention(tmp_path):
    for step in range(5):
        path = save_state(tmp_path / "new" / "dir", {"step": step}, step=step, keep=2)
        assert path == tmp_path / "new" / "dir" / f"step-{step:08d}"
    assert names(path.parent) == ["step-00000003", "step-00000004"]
    assert names(path) == ["manifest.json", "state.json", "tensors.safetensors"]
    assert latest(path.parent) == path
    assert load_state(path) == {"step": 4}


def test_the_new_checkpoint_is_kept_even_when_its_step_is_lower(tmp_path):
    for step in (10, 20, 5):
        save_state(tmp_path, step, step=step, keep=2)
    assert names(tmp_path) == ["step-00000005", "step-00000020"]
    save_state(tmp_path, 1, step=1, keep=1)
    assert names(tmp_path) == ["step-00000001"]


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (99_999_999, 100_000_000):
        save_state(tmp_path, step, step=step)
    assert load_state(latest(tmp_path)) == 100_000_000


def test_the_same_step_is_replaced(tmp_path):
    save_state(tmp_path, "first", step=1)
    path = save_state(tmp_path, "second", step=1)
    assert load_state(path) == "second"
    assert names(tmp_path) == ["step-00000001"]


def test_latest_without_checkpoints(tmp_path):
    assert latest(tmp_path / "absent") is None
    assert latest(tmp_path) is None
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-2").mkdir()
    (tmp_path / "step-00000003").write_text("a file")
    assert latest(tmp_path) is None


@pytest.mark.parametrize("damage", ["manifest", "state", "truncated", "garbage", "empty manifest"])
def test_latest_passes_over_incomplete_checkpoints(tmp_path, damage):
    good = save_state(tmp_path, "good", step=1)
    bad = save_state(tmp_path, "bad", step=2)
    match damage:
        case "manifest":
            (bad / "manifest.json").unlink()
        case "state":
            (bad / "state.json").unlink()
        case "truncated":
            os.truncate(bad / "tensors.safetensors", 3)
        case "garbage":
            (bad / "manifest.json").write_bytes(b"\xff\x00")
        case _:
            (bad / "manifest.json").write_bytes(b"")
    assert latest(tmp_path) == good
    with pytest.raises(CheckpointError, match=bad.name):
        load_state(bad)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_every_changed_byte_is_found(tmp_path, name):
    path = save_state(tmp_path, {"w": torch.arange(4)}, step=1)
    content = (path / name).read_bytes()
    for position in range(len(content)):
        (path / name).write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(CheckpointError, match=rf"{name} was changed"):
            load_state(path)
    (path / name).write_bytes(content)
    assert load_state(path)["w"].tolist() == [0, 1, 2, 3]


def test_every_truncation_is_found(tmp_path):
    path = save_state(tmp_path, {"w": torch.arange(4)}, step=1)
    for name in names(path):
        content = (path / name).read_bytes()
        for size in range(len(content)):
            (path / name).write_bytes(content[:size])
            with pytest.raises(CheckpointError, match=name):
                load_state(path)
        (path / name).write_bytes(content)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="not a checkpoint directory: use another"):
        load_state(tmp_path / "absent")
    path = save_state(tmp_path, 1, step=1)
    (path / "extra.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"extra\.bin does not belong to this checkpoint: remove it"):
        load_state(path)
    (path / "extra.bin").unlink()
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read \(No such file"):
        load_state(path)
    (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        load_state(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].update({"../../secret": m["files"]["state.json"]}),
        lambda m: m["files"].update({"/etc/hostname": {"bytes": 1, "sha256": "0"}}),
        lambda m: m["files"].pop("state.json"),
        lambda m: m.pop("files"),
        lambda m: m.update(format="sail-checkpoint/99"),
        lambda m: m.update(files=[1]),
        lambda m: m["files"].update({"state.json": {"bytes": "x", "sha256": "0"}}),
    ],
)
def test_a_manifest_that_says_something_else(tmp_path, change):
    path = save_state(tmp_path, 1, step=1)
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        load_state(path)
    assert latest(tmp_path) is None


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    path = save_state(tmp_path, {"w": torch.ones(2), "x": (1,)}, step=1)

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert load_state(path)["x"] == (1,)
    (path / "tensors.safetensors").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(CheckpointError):
        load_state(path)


@pytest.mark.parametrize(("step", "keep"), [(-1, 2), (True, 2), (1.0, 2), ("1", 2), (1, 0), (1, None)])
def test_bad_step_or_keep(tmp_path, step, keep):
    with pytest.raises(ValueError, match="must be an int of at least"):
        save_state(tmp_path / "d", 1, step=step, keep=keep)
    assert not (tmp_path / "d").exists()


def test_leftovers_of_dead_writers_are_removed(tmp_path):
    (tmp_path / ".tmp-dead").mkdir(parents=True)
    (tmp_path / ".tmp-dead" / "tensors.safetensors").write_bytes(b"half")
    save_state(tmp_path, 1, step=1)
    assert names(tmp_path) == ["step-00000001"]


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path):
    path = save_state(tmp_path, "only", step=7)
    path.rename(tmp_path / "step-00000007.old")
    assert load_state(latest(tmp_path)) == "only"
    save_state(tmp_path, "again", step=7)
    assert load_state(latest(tmp_path)) == "again"
    assert names(tmp_path) == ["step-00000007"]


def test_after_a_crash_before_the_old_one_goes_the_new_one_counts(tmp_path):
    new = save_state(tmp_path, "new", step=7)
    other = save_state(tmp_path / "x", "old", step=7)
    shutil.move(other, tmp_path / "step-00000007.old")
    assert latest(tmp_path) == new
    save_state(tmp_path, "newer", step=7)
    assert load_state(latest(tmp_path)) == "newer"
    assert names(tmp_path) == ["step-00000007", "x"]


def test_the_modes_of_the_files_agree(tmp_path):
    path = save_state(tmp_path, torch.ones(1), step=1)
    assert len({(path / name).stat().st_mode for name in names(path)}) == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see which file is synced")
def test_everything_is_on_the_disk_before_it_is_visible(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1]
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), rename(a, b))[1])
    path = save_state(tmp_path, torch.ones(1), step=1)
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert {Path(one).name for one in before} >= {"tensors.safetensors", "state.json", "manifest.json"}
    assert Path(before[-1]).name.startswith(".tmp-")
    assert after == [str(path.parent)]


def test_a_full_disk_at_any_fsync_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    save_state(tmp_path, "before", step=1)
    fsync = os.fsync
    failures = 0
    for allowed in range(10):
        calls = 0

        def full(fd, allowed=allowed):
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with suppress(OSError):
                save_state(tmp_path, "after", step=2)
                break
        failures += 1
        if allowed < 4:  # the fifth fsync comes after the rename
            assert load_state(latest(tmp_path)) == "before"
            assert names(tmp_path) == ["step-00000001"]
    assert failures == 5
    assert load_state(latest(tmp_path)) == "after"


FULL_DISK = """
import resource, signal, sys, torch
from sail_core.runs import latest, load_state, save_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save_state(sys.argv[1], {"w": torch.zeros(10)}, step=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for big in ({"w": torch.zeros(100_000)}, {"s": "x" * 100_000}):
    try:
        save_state(sys.argv[1], big, step=2)
    except OSError as error:
        print(error)
print(load_state(latest(sys.argv[1]))["w"].shape)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no RLIMIT_FSIZE")
def test_a_real_write_error(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second, loaded = done.stdout.splitlines()
    assert "tensors.safetensors" in first
    assert "File too large" in first
    assert "File too large" in second
    assert loaded == "torch.Size([10])"
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_during_a_save_does_not_keep_the_lock(tmp_path):
    """A data loader may start its workers while another thread saves."""
    code = """
import os, signal, sys
from sail_core.runs import _checkpoint, save_state
publish = _checkpoint._publish
def fork_then_publish(*paths):
    global child
    if (child := os.fork()) == 0:
        signal.pause()
    return publish(*paths)
_checkpoint._publish = fork_then_publish
save_state(sys.argv[1], 1, step=1)
_checkpoint._publish = publish
try:
    signal.alarm(20)
    save_state(sys.argv[1], 2, step=2)
finally:
    os.kill(child, signal.SIGKILL)
print("saved")
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "saved\n", done.stderr


@pytest.mark.gpu
def test_tensors_on_a_gpu(tmp_path):
    base = torch.arange(12.0, device="cuda").reshape(3, 4)
    state = {"base": base, "again": base, "column": base[:, 1], "half": base.half()}
    back = load_state(save_state(tmp_path, state, step=1))
    assert all(value.device.type == "cpu" and torch.equal(value, state[name].cpu()) for name, value in back.items())
    assert back["base"] is back["again"]


def test_two_writers_wait_for_each_other(tmp_path):
    errors = []

    def write(offset):
        try:
            for step in range(offset, 20, 2):
                save_state(tmp_path, torch.full((5000,), step), step=step, keep=3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(offset,)) for offset in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert load_state(latest(tmp_path)).eq(19).all()
    assert not [name for name in names(tmp_path) if not name.startswith("step-")]
