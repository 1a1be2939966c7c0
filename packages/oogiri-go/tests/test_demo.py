"""The demo, whole."""

import json
import subprocess
import sys

import pytest
from oogiri_go import OogiriDataset, verify
from oogiri_go.demo import DemoConfig, demo

pytest.importorskip("matplotlib")


def test_the_demo(tmp_path, capsys):
    demo(DemoConfig(out=tmp_path / "demo"))
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "demo" / "report.json").read_text("utf-8"))
    head = ["package", "version", "seed", "profile", "device", "protocol", "env", "seconds"]
    assert list(report) == [*head, "metrics", "verdicts", "figures"]
    assert [one["holds"] for one in report["verdicts"]] == [True] * 4
    assert report["metrics"]["records written"] == 600
    assert report["metrics"]["pictures"] == 60
    assert report["verdicts"][0]["measured"] == 20
    assert {one["kind"] for one in report["metrics"]["issues by kind"]} >= {
        "json",
        "utf8",
        "surrogate",
        "duplicate-key",
        "star",
    }
    assert report["metrics"]["rows built"] == sum(one["rows"] for one in report["metrics"]["rows by split"])
    assert "every broken picture is found" in out
    for name in report["figures"]:
        assert (tmp_path / "demo" / name).stat().st_size > 2_000
    assert verify(tmp_path / "demo" / "oogiri").ok
    assert len(OogiriDataset(tmp_path / "demo" / "oogiri")) > 300
    assert (tmp_path / "demo" / "review.html").exists()
    before = (tmp_path / "demo" / "issues.svg").read_bytes()
    demo(DemoConfig(out=tmp_path / "demo"))  # again, in the same folder
    assert (tmp_path / "demo" / "issues.svg").read_bytes() == before


def test_without_its_extra(tmp_path):
    code = """
import sys
sys.modules["matplotlib"] = None
from oogiri_go.cli import main
sys.argv = ["oogiri-go", "demo", "--out", sys.argv[1]]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'oogiri-go[demo]'" in done.stderr
    assert not (tmp_path / "x").exists()
