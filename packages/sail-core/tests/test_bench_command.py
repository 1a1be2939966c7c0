"""The command line, and the exact traffic of the joint forms against timm's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sail_core.bench import append_rows, read_goals, read_rows
from sail_core.bench.__main__ import main

pytest.importorskip("timm")

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("form", "layout", "se", "with_residual"),
    [("cpu", "nchw", 11, 19), ("cpu", "nhwc", 11, 19), ("cuda", "nchw", 7, 13), ("cuda", "nhwc", 9, 15)],
)
def test_passes_over_the_map(form, layout, se, with_residual):
    from sail_core.bench._recalibrate import traffic

    passes = {case: int(count) for case, count in traffic(form=form, layout=layout).items()}
    assert passes == {
        ("se", "sail_core"): se,
        ("se", "timm"): 13,
        ("se_res_relu", "sail_core"): with_residual,
        ("se_res_relu", "timm"): 21,
        ("se_res_relu", "timm_inplace"): 21,
    }


def test_traffic_exits_by_the_limit(capsys):
    assert main(["traffic", "--max-passes", "se=11", "--max-passes", "se_res_relu=19"]) == 0
    assert main(["traffic", "--max-passes", "se=10"]) == 1
    assert "too many" in capsys.readouterr().out
    assert main(["traffic", "--max-passes", "eca=10"]) == 2
    assert "expected se or se_res_relu" in capsys.readouterr().err


def test_the_benchmark_file_appends_rows_that_report_and_check_read(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    script = Path(__file__).parents[1] / "benchmarks" / "bench_recalibrate.py"
    done = subprocess.run(
        [sys.executable, script, "--out", out, "--quick"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = read_rows(out)
    cases = [("se", impl) for impl in ("sail_core", "timm", "torchvision")]
    cases += [("se_res_relu", impl) for impl in ("sail_core", "timm", "timm_inplace", "torchvision")]
    expected = {(*case, layout) for case in cases for layout in ("nchw", "nhwc")}
    assert {(row["op"], row["impl"], row["layout"]) for row in rows} == expected
    assert all(row["correct"] and row["threads"] == 1 for row in rows)
    assert main(["report", str(out)]) == 0
    assert "2x64x7x7" in capsys.readouterr().out

    goals = tmp_path / "goals.toml"
    for least, code in ((1e-3, 0), (1e3, 1)):
        goals.write_text(
            f'[[goal]]\nname="g"\nwhere={{impl="sail_core"}}\npeer="timm"\nstatistic="min"\nat_least={least}\n'
        )
        for row in rows:
            row["noisy"] = False
        append_rows(out, rows)
        assert main(["check", str(out), str(goals)]) == code


def test_bad_input_is_one_line_and_2(tmp_path, capsys):
    missing = tmp_path / "missing.jsonl"
    assert main(["report", str(missing)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_committed_goals_are_well_formed():
    path = ROOT / "benchmarks" / "goals" / "sail-core.toml"
    if not path.exists():
        pytest.skip("not in a source tree")
    assert len(read_goals(path)) >= 7


@pytest.mark.parametrize("command", [["traffic"], ["recalibrate", "--quick", "--out", "rows.jsonl"]])
def test_without_timm_the_extra_is_named(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("timm", "timm.layers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(command) == 2
    assert "pip install 'sail-core[bench]'" in capsys.readouterr().err
