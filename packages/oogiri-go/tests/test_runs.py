"""Atomic files, reports and command lines, which other packages use too."""

import json
import os
from dataclasses import dataclass

import pytest
from oogiri_go.runs import MissingExtra, Report, Verdict, env_report, figure_style, main, needs, write_atomic

KEYS = "package version seed profile device protocol env seconds metrics verdicts figures"


def test_write_atomic(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomic(path, "one\r\n")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]
    with pytest.raises(TypeError, match="bytes or str"):
        write_atomic(path, 3)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "one")
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomic(path, "two")
    assert path.read_text() == "one"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("one")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "two"


def test_a_report(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "protocol.json").write_text("{}")
    report = Report("oogiri-go", "0", seed=1, profile="default", device="cpu", protocol=tmp_path / "protocol.json")
    report.metrics |= {"a": 1, "b": {"c": float("nan"), "d": (1, 2.5)}}
    report.verdicts.append(Verdict("it works", "> 0", 1.0, (0.5, 1.5), True))
    with figure_style():
        from matplotlib.figure import Figure

        fig = Figure()
        fig.subplots().plot([1, 2])
    report.add_figure(fig, "line")
    content = json.loads(report.write(tmp_path / "out").read_text("utf-8"))
    assert list(content) == KEYS.split()
    assert content["metrics"] == {"a": 1, "b": {"c": None, "d": [1, 2.5]}}
    assert content["verdicts"] == [
        {"claim": "it works", "expected": "> 0", "measured": 1.0, "interval": [0.5, 1.5], "holds": True}
    ]
    assert content["figures"] == ["line.svg", "line.png"]
    assert len(content["protocol"]) == 64
    assert content["env"].keys() == env_report().keys() >= {"python", "pyarrow", "commit"}
    assert "holds" in report.table()
    with pytest.raises(ValueError, match="already"):
        report.add_figure(fig, "line")
    with pytest.raises(ValueError, match="may hold only"):
        report.add_figure(fig, "../line")
    report.metrics["bad"] = object()
    with pytest.raises(TypeError, match=r"metrics\.bad"):
        report.write(tmp_path)


@dataclass(frozen=True)
class Config:
    """Draw."""

    seed: int = 0


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (None, 0, ""),
        (ValueError("lr is -1\n  bad"), 2, "lots: lr is -1 bad\n"),
        (FileNotFoundError("no"), 2, "lots: no\n"),
        (MissingExtra("needs x"), 2, "lots: needs x\n"),
        (RuntimeError("broke"), 1, "lots: RuntimeError: broke (--debug shows the traceback)\n"),
        (KeyboardInterrupt(), 130, "lots: interrupted\n"),
    ],
)
def test_exit_codes(capsys, error, code, says):
    def draw(config: Config) -> None:
        """Draw."""
        if error is not None:
            raise error

    assert main({"draw": draw}, prog="lots", description="Lots.", argv=["draw", "--seed", "3"]) == code
    assert capsys.readouterr() == ("", says)


@pytest.mark.parametrize("argv", [[], ["darw"], ["draw", "--sede", "1"], ["draw", "--seed", "x"]])
def test_usage(capsys, argv):
    def draw(config: Config) -> int:
        """Draw."""
        return config.seed

    assert main({"draw": draw}, prog="lots", description="Lots.", argv=argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main({"draw": draw}, prog="lots", description="Lots.", argv=["draw", "--seed", "7"]) == 7


def test_needs():
    with pytest.raises(MissingExtra, match=r"pip install 'oogiri-go\[hf\]'"), needs("oogiri-go", "hf"):
        import no_such_host  # noqa: F401
    with pytest.raises(KeyError), needs("oogiri-go", "hf"):
        raise KeyError("of the block's own")
