"""write_atomic leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from sail_core.runs import write_atomic


def test_content_parents_and_replacement(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    write_atomic(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_data_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(Path(a).read_text()), replace(a, b)))
    write_atomic(tmp_path / "file", "data")
    assert events == ["fsync", "data", "fsync"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    write_atomic(tmp_path / "real" / "file", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"


def test_the_mode_is_that_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_text("")
    write_atomic(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("data", [None, bytearray(b"x"), 3, ["a"]])
def test_other_types_are_refused(tmp_path, data):
    with pytest.raises(TypeError, match="bytes or str"):
        write_atomic(tmp_path / "file", data)
    assert list(tmp_path.iterdir()) == []
