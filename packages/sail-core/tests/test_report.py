"""Intervals against SciPy, verdicts against their definition, reports against the schema."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sail_core.report import Interval, Report, Verdict, figure_style, paired_interval, verdict

stats = pytest.importorskip("scipy.stats")
hypothesis = pytest.importorskip("hypothesis")
matplotlib = pytest.importorskip("matplotlib")
Figure = pytest.importorskip("matplotlib.figure").Figure
st = hypothesis.strategies

KEYS = "package version seed profile device protocol env seconds metrics verdicts figures"


def report(**options):
    return Report("dia-attention", "0.1.0", seed=3, profile="default", device="cpu", **options)


@hypothesis.given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_intervals_agree_with_scipy(values, confidence):
    if np.std(values) < 1e-6:
        return
    got = paired_interval(values, confidence=confidence)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert got.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert (got.low, got.high) == (pytest.approx(low, rel=1e-6, abs=1e-6), pytest.approx(high, rel=1e-6, abs=1e-6))


def test_equal_differences_give_a_point():
    assert paired_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert paired_interval(np.array([0.5, 0.5])) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ([], {}, "at least 2 differences, 0 came"),
        ([1.0], {}, "at least 2 differences, 1 came"),
        ([1.0, math.nan], {}, "not all finite"),
        ([1.0, math.inf], {}, "not all finite"),
        ([1.0, 2.0], {"confidence": 1.0}, "between 0 and 1"),
        ([1.0, 2.0], {"confidence": 95}, "between 0 and 1"),
    ],
)
def test_bad_intervals(values, options, says):
    with pytest.raises(ValueError, match=says):
        paired_interval(values, **options)


@pytest.mark.parametrize(
    ("differences", "null", "greater"),
    [
        ([1.0, 1.1, 0.9], 0.0, True),
        ([-1.0, -1.1, -0.9], 0.0, False),
        ([-1.0, 1.1, 0.1], 0.0, None),
        ([1.0, 1.1, 0.9], 2.0, False),
        ([1.0, 1.1, 0.9], 1.0, None),
        ([0.0, 0.0], 0.0, None),
    ],
)
def test_a_verdict_needs_the_whole_interval(differences, null, greater):
    less = None if greater is None else not greater
    assert verdict("c", "e", differences, null=null).holds is greater
    assert verdict("c", "e", differences, null=null, direction="less").holds is less


def test_the_content_of_a_verdict():
    got = verdict("A beats B", "> 0", [1.0, 2.0, 3.0])
    assert (got.claim, got.expected, got.measured) == ("A beats B", "> 0", 2.0)
    assert got.interval == (pytest.approx(-0.48413771), pytest.approx(4.48413771))
    with pytest.raises(ValueError, match="'greater' or 'less'"):
        verdict("c", "e", [1.0, 2.0], direction="up")


def test_the_schema(tmp_path):
    protocol = tmp_path / "protocol.toml"
    protocol.write_bytes(b"epochs = 3\n")
    made = report(protocol=protocol)
    made.metrics["accuracy"] = {"dia": np.float64(0.5), "plain": torch.tensor(0.25), "seeds": [1, 2.5, math.nan]}
    made.metrics["note"] = "é"
    made.verdicts.append(verdict("A", "> 0", [1.0, 1.2]))
    made.verdicts.append(Verdict("ImageNet", "77.2", None, None, None))
    made.add_figure(Figure(), "curves")
    path = made.write(tmp_path / "out")
    assert path == tmp_path / "out" / "report.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert " ".join(content) == KEYS
    assert content["protocol"] == hashlib.sha256(b"epochs = 3\n").hexdigest()
    assert content["metrics"] == {"accuracy": {"dia": 0.5, "plain": 0.25, "seeds": [1, 2.5, None]}, "note": "é"}
    assert list(content["verdicts"][0]) == ["claim", "expected", "measured", "interval", "holds"]
    assert content["verdicts"][0]["holds"] is None
    assert content["verdicts"][1] == {
        "claim": "ImageNet",
        "expected": "77.2",
        "measured": None,
        "interval": None,
        "holds": None,
    }
    assert content["figures"] == ["curves.svg", "curves.png"]
    assert content["env"]["torch"] == torch.__version__
    assert sorted(one.name for one in path.parent.iterdir()) == ["curves.png", "curves.svg", "report.json"]


def test_without_a_protocol_and_with_a_missing_one(tmp_path):
    assert json.loads(report().write(tmp_path).read_text())["protocol"] is None
    with pytest.raises(FileNotFoundError):
        report(protocol=tmp_path / "absent.toml")


def test_seconds_start_at_construction(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    made = report()
    now = 112.5
    assert json.loads(made.write(tmp_path).read_text())["seconds"] == 12.5


@pytest.mark.parametrize("value", [object(), {1}, np.zeros(3), b"x"])
def test_metrics_that_json_cannot_hold(tmp_path, value):
    made = report()
    made.metrics["a"] = {"b": [value]}
    with pytest.raises(TypeError, match=r"metrics\.a\.b\[0\] is of type"):
        made.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_report(tmp_path, monkeypatch):
    report().write(tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        report().write(tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before


def test_the_table():
    made = report()
    made.metrics["accuracy"] = {"dia": 0.98251, "plain": 0.97}
    made.metrics["seeds"] = 5
    made.metrics["missing"] = None
    made.verdicts = [
        Verdict("DIA beats plain", "> 0", 0.0125, (0.001, 0.024), True),
        Verdict("trains without skips", "> 0", -1.0, (-2.0, -0.5), False),
        Verdict("ImageNet", 77.2, None, None, None),
    ]
    assert made.table().splitlines() == [
        "accuracy.dia    0.9825",
        "accuracy.plain  0.97",
        "seeds           5",
        "missing         -",
        "",
        "claim                 expected  measured  interval        result",
        "DIA beats plain       > 0       0.0125    0.001 .. 0.024  holds",
        "trains without skips  > 0       -1        -2 .. -0.5      does not hold",
        "ImageNet              77.2      -         -               undecided",
    ]
    assert report().table() == ""


def picture():
    with figure_style():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([1, 3, 2], label="a")
        axes.fill_between([0, 1, 2], [1, 2, 1], [2, 4, 3], alpha=0.3, hatch="/")
        axes.set_title("Accuracy")
        axes.legend()
        return figure


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        made = report()
        made.add_figure(picture(), "curve")
        made.write(tmp_path / name)
    for suffix in ("svg", "png"):
        first, second = ((tmp_path / name / f"curve.{suffix}").read_bytes() for name in "ab")
        assert first == second
        assert len(first) > 1000
    svg = (tmp_path / "a" / "curve.svg").read_text()
    assert "<dc:date>" not in svg
    assert (tmp_path / "a" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_style_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with figure_style():
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        assert len(set(colours)) == 8
        assert matplotlib.rcParams["figure.constrained_layout.use"]
        assert picture().axes[0].lines[0].get_color() == "#0072B2"
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.svg", "a b"])
def test_figure_names(name):
    with pytest.raises(ValueError, match="may hold only"):
        report().add_figure(Figure(), name)


def test_a_figure_name_is_used_once():
    made = report()
    made.add_figure(Figure(), "a")
    with pytest.raises(ValueError, match="already"):
        made.add_figure(Figure(), "a")


HOSTS = """
import sys
import sail_core.runs, sail_core.command, sail_core.extras
from sail_core.report import Report, figure_style
print(sorted({"matplotlib", "scipy", "tyro", "triton"} & sys.modules.keys()))
report = Report("a", "1", seed=0, profile="p", device="cpu")
with figure_style():
    from matplotlib.figure import Figure
    figure = Figure()
    figure.subplots().plot([1, 2])
report.add_figure(figure, "x")
print("matplotlib.pyplot" in sys.modules)
import matplotlib
print(matplotlib.get_backend().lower())
"""


def test_hosts_enter_when_used_and_the_backend_is_left_alone():
    environment = {**os.environ, "MPLBACKEND": "svg"}
    done = subprocess.run([sys.executable, "-c", HOSTS], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "False", "svg"]
