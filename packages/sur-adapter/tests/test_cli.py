"""The command line: every command answers, bad input is one line and exit code 2, and the demo runs whole."""

import json
import re
import sys

import pytest
from sur_adapter import load_suite
from sur_adapter.cli import main
from sur_adapter.demo import DemoConfig, demo

COMMANDS = ("demo", "prepare-data", "encode-teacher", "train", "generate", "evaluate", "convert")
PROTOCOL = {
    "worlds": {"digits": [0, 1]},
    "split": "tuning",
    "base_steps": {"digits": 2},
    "prompts": {"mention": 5, "reasoning": 5, "colour": 5},
    "checked": 8,
    "teacher": None,
    "training": {"steps": 2, "batch": 4, "weights": {"diffusion": 1.0, "teacher": 0.0}},
    "systems": {"adapter": {}, "no diffusion gradient": {"weights": {"diffusion": 0.0}}},
}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sur-adapter", *map(str, arguments)])
    return main()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(monkeypatch, capsys, command):
    assert run(monkeypatch, command, "--help") == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "xpected one of"),
        (["draw"], "draw"),
        (["evaluate", "--model", "/no/such", "--adapter", "/no/such"], "no such|/no/such"),
        (["generate", "--model", "/no/such", "--adapter", "/no/such", "--prompt", "a"], "/no/such"),
        (["demo", "--workers", "0"], "workers"),
        (["demo", "--protocol", "/no/such.json"], "such"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("sur-adapter: ")
    assert re.search(message, line)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "short.json"
    path.write_text(json.dumps(PROTOCOL))
    return path


def test_the_demo_whole(monkeypatch, capsys, protocol, tmp_path):
    out = tmp_path / "out"
    arguments = ("demo", "--out", out, "--protocol", protocol, "--workers", 1, "--device", "cpu")
    assert run(monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert re.search(r"right pictures, %\s+chance\s+base\s+adapter\s+no diffusion gradient", printed)
    report = json.loads((out / "report.json").read_text())
    assert report["profile"] == "short"
    assert re.fullmatch("[0-9a-f]{64}", report["protocol"])
    accuracy = report["metrics"]["accuracy"]
    assert len(accuracy["mention"]["adapter"]) == 2
    names = {"accuracy", "grid", "losses", "drift"}
    assert set(report["figures"]) == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    for name in report["figures"]:
        assert (out / name).stat().st_size > 1000
    claims = {one["claim"] for one in report["verdicts"]}
    assert "the adapter adds 20 points on mention prompts" in claims
    assert "complex prompts lose at most 3 points" in claims

    with pytest.raises(ValueError, match="another configuration"):
        demo(DemoConfig(out=out, protocol=protocol, workers=1, device="cpu", seed=1))


@pytest.mark.slow
def test_seeds_in_processes_give_the_same(protocol, tmp_path):
    for workers in (1, 2):
        demo(DemoConfig(out=tmp_path / str(workers), protocol=protocol, workers=workers, device="cpu"))
    one, two = (json.loads((tmp_path / str(n) / "report.json").read_text())["metrics"]["accuracy"] for n in (1, 2))
    assert one == two


def test_the_suites_of_the_help_are_there():
    for name in ("action", "color", "counting"):
        assert load_suite(name)
