"""env_report says what a number was measured with, and nothing about who or where."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
from pathlib import Path

import numpy
import pytest
import safetensors
import torch
from sail_core.runs import env_report

IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(*arguments):
    return subprocess.run(["git", *IDENTITY, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_versions():
    report = json.loads(json.dumps(env_report(), allow_nan=False))
    assert report["python"] == platform.python_version()
    assert report["torch"] == torch.__version__
    assert report["numpy"] == numpy.__version__
    assert report["safetensors"] == safetensors.__version__
    assert report["threads"] == torch.get_num_threads()
    assert 1 <= report["cpu_count"] <= os.cpu_count()
    assert (report["cuda"] is None) == (not torch.cuda.is_available())


def test_nothing_private(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = json.dumps(env_report())
    assert socket.gethostname() not in text
    assert str(tmp_path) not in text
    assert str(Path.home()) + "/" not in text
    assert f'"{getpass.getuser()}"' not in text


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    report = env_report()
    assert report["commit"] is None
    assert report["dirty"] is None


def test_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    report = env_report()
    assert report["commit"] is None
    assert report["dirty"] is None


def test_inside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert env_report()["commit"] is None  # no commit yet
    Path("file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    Path("untracked").write_text("")
    report = env_report()
    assert report["commit"] == git("rev-parse", "HEAD")
    assert report["dirty"] is False
    Path("file").write_text("two")
    assert env_report()["dirty"] is True
