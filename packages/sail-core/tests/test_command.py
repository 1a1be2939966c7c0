"""Exit codes, one-line errors and configurations from the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from sail_core.command import _usage_error, main
from sail_core.extras import needs
from sail_core.runs import CheckpointError

pytest.importorskip("tyro")


@dataclass(frozen=True)
class Config:
    """How to draw."""

    out: Path = Path("runs")
    """Where the lots go."""
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    full: bool = False

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")


@dataclass(frozen=True)
class Required:
    path: Path


def draw(config: Config) -> None:
    """Draw lots."""
    print("drew", config)


def show(config: Required) -> int:
    """Show lots."""
    print("showed", config.path)
    return 3


def again(config: Config) -> None:
    """Draw again, with the same configuration class."""
    print("again", config.seed)


COMMANDS = {"draw": draw, "show": show, "draw-again": again}


def run(capsys, *argv, commands=COMMANDS):
    code = main(commands, prog="lots", description="Draws lots.", argv=argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_command_gets_its_configuration(capsys):
    code, out, err = run(capsys, "draw", "--seed", "3", "--full", "--out", "x/y", "--device", "cpu")
    assert (code, err) == (0, "")
    assert out == f"drew {Config(Path('x/y'), 3, 'cpu', True)!r}\n"
    assert run(capsys, "draw") == (0, f"drew {Config()!r}\n", "")


def test_two_commands_of_one_configuration(capsys):
    assert run(capsys, "draw-again", "--seed", "2") == (0, "again 2\n", "")


def test_a_command_may_return_an_exit_code(capsys):
    assert run(capsys, "show", "--path", "p") == (3, "showed p\n", "")


@pytest.mark.parametrize("commands", [COMMANDS, {"draw": draw}], ids=["several", "one"])
@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["draw", "--help"], ["draw", "--seed", "1", "-h"]])
def test_help(capsys, commands, argv):
    code, out, err = run(capsys, *argv, commands=commands)
    assert (code, err) == (0, "")
    assert "usage: lots" in out
    if argv[0] == "draw":
        assert "--out PATH" in out
        assert "Where the lots go." in out
        assert "config.seed" not in out
    else:
        assert "Draws lots." in out
        assert "--debug" in out
        assert "Draw lots." in out


@pytest.mark.parametrize("commands", [COMMANDS, {"draw": draw}], ids=["several", "one"])
@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "draw"),
        (["darw"], "darw"),
        (["--seed", "1"], "--seed"),
        (["draw", "--sede", "1"], "--sede"),
        (["draw", "--seed", "x"], "--seed: invalid literal for int"),
        (["draw", "--seed"], "--seed"),
        (["draw", "--seed", "-1"], "seed is -1; it must be at least 0"),
        (["draw", "--device", "gpu"], "--device"),
        (["draw", "extra"], "extra"),
        (["None"], "None"),
    ],
)
def test_usage_errors_are_one_line(capsys, commands, argv, says):
    code, out, err = run(capsys, *argv, commands=commands)
    assert (code, out) == (2, "")
    assert err.startswith("lots: ")
    assert says in err
    assert err.count("\n") == 1
    assert not set("│─╭╮╰╯\x1b") & set(err)
    assert "tyro" not in err


def test_a_missing_option(capsys):
    code, _, err = run(capsys, "show")
    assert code == 2
    assert err == "lots: Missing from lots show: --path PATH (required); lots --help explains the usage\n"


BOX = """\
╭─ Value error ─────────────────────╮
│ \x1b[1mError parsing\x1b[0m --seed: a long   │
│ explanation - of 'x'.             │
│ ───────────────────────────────── │
│ Argument helptext:                │
╰───────────────────────────────────╯
"""


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (BOX, "Error parsing --seed: a long explanation - of 'x'"),
        (
            re.sub("[─╭╮╰╯│]", lambda rule: "-" if rule[0] == "─" else " ", BOX),
            "Error parsing --seed: a long explanation - of 'x'",
        ),
        ("Error: no frame\n", "Error: no frame"),
        ("", ""),
    ],
)
def test_every_frame_the_parser_draws(box, message):
    assert _usage_error(box, "lots") == f"{message}; lots --help explains the usage"


def missing():
    with needs("dia-attention", "demo"):
        import no_such_host  # noqa: F401


def raising(error):
    def command(config: Config) -> None:
        """Fail."""
        if error is missing:
            missing()
        raise error

    return {"fail": command}


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ValueError("lr is -1\n  it must be positive"), 2, "lr is -1 it must be positive"),
        (TypeError("no tensor"), 2, "no tensor"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "[Errno 2] No such file or directory: 'a.txt'"),
        (CheckpointError("torn"), 2, "torn"),
        (ValueError(), 2, "ValueError"),
        (missing, 2, "dia-attention demo needs no_such_host: pip install 'dia-attention[demo]'"),
        (RuntimeError("broke"), 1, "RuntimeError: broke (--debug shows the traceback)"),
        (KeyError("x"), 1, "KeyError: 'x' (--debug shows the traceback)"),
        (PermissionError(13, "Permission denied", "b"), 1, "PermissionError: [Errno 13] Permission denied: 'b'"),
        (ImportError("broken host"), 1, "ImportError: broken host"),
        (AssertionError(), 1, "AssertionError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_a_command(capsys, error, code, says):
    got, out, err = run(capsys, "fail", commands=raising(error))
    assert (got, out) == (code, "")
    assert err.startswith(f"lots: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--debug", "fail"], ["fail", "--debug"], ["fail", "--debug", "--seed", "1"]])
def test_debug_anywhere_prints_the_traceback_before_the_line(capsys, argv):
    code, _, err = run(capsys, *argv, commands=raising(RuntimeError("broke")))
    assert code == 1
    assert err.startswith("Traceback")
    assert "in command" in err
    assert err.splitlines()[-1].startswith("lots: RuntimeError: broke")


def test_debug_changes_nothing_else(capsys):
    assert run(capsys, "--debug", "draw-again") == (0, "again 0\n", "")


def test_an_exit_of_the_command_itself_passes(capsys):
    with pytest.raises(SystemExit) as stop:
        run(capsys, "fail", commands=raising(SystemExit(7)))
    assert stop.value.code == 7


SCRIPT = """
from __future__ import annotations
import signal, sys, time
from dataclasses import dataclass
from sail_core.command import main

@dataclass(frozen=True)
class Config:
    lines: int = 1

def count(config: Config) -> None:
    "Count."
    if config.lines < 0:
        raise RuntimeError("cannot count down")
    for line in range(config.lines):
        print(line)
    if not config.lines:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
        print("ready", flush=True)
        time.sleep(60)

sys.exit(main({"count": count}, prog="counter", description="Counts."))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "counter.py"
    path.write_text(SCRIPT)
    return [sys.executable, str(path)]


def test_a_real_process(script):
    done = subprocess.run([*script, "count", "--lines", "-1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "counter: RuntimeError: cannot count down (--debug shows the traceback)\n"


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
@pytest.mark.parametrize("lines", [1, 200_000])
def test_a_closed_pipe_is_quiet(script, lines):
    process = subprocess.Popen(
        [*script, "count", "--lines", str(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupt(script):
    process = subprocess.Popen(
        [*script, "count", "--lines", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process.stdout, process.stderr:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
        assert process.stderr.read() == "counter: interrupted\n"
