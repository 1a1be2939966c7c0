import json
import sys

import pytest
import torch
from attsolver import AttSolver, TrajectoryData
from attsolver.cli import main

pytest.importorskip("tyro")


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["attsolver", *map(str, arguments)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_simulate_train_evaluate(run, tmp_path):
    data, unseen, out = tmp_path / "data.npz", tmp_path / "unseen.npz", tmp_path / "run"
    for path, seed in ((data, 0), (unseen, 1)):
        common = ("--system", "lotka_volterra", "--trajectories", 8, "--steps", 20, "--dt", 0.1)
        code, said, _ = run("simulate", *common, "--seed", seed, "--out", path)
        assert code == 0
        assert str(path) in said
    assert TrajectoryData.load(data).y.shape == (8, 21, 2)
    train = ("train", "--data", data, "--out", out, "--base", "heun", "--hidden", 8, "--iterations", 100)
    assert run(*train)[0] == 0
    report = json.loads((out / "fit.json").read_text())
    assert report["rel_local"] < report["rel_linear"] < 1
    first = (out / "solver.safetensors").read_bytes()
    assert run(*train)[0] == 0  # finished already: the same solver again
    assert (out / "solver.safetensors").read_bytes() == first
    code, _, said = run(*train[:-1], 101)
    assert code == 2
    assert "another configuration" in said
    code, said, _ = run("evaluate", "--solver", out / "solver.safetensors", "--data", unseen)
    assert code == 0
    assert json.loads(said)["ratio"] > 10


def test_conditioned_training_counts_the_parameters(run, tmp_path):
    data, out = tmp_path / "data.npz", tmp_path / "run"
    run("simulate", "--system", "lotka_volterra", "--trajectories", 4, "--steps", 10, "--dt", 0.1, "--out", data)
    common = ("--base", "heun", "--hidden", 2, "--iterations", 2)
    assert run("train", "--data", data, "--out", out, *common, "--conditioned")[0] == 0
    assert AttSolver.load(out / "solver.safetensors").conditioning == 4


def test_import_neurvec(run, tmp_path):
    names = ("a0", "a1", "a2", "a3", "b0", "b1", "b2")
    state = {f"error.nn.1.{n}": torch.tensor(v) for n, v in zip(names, (0, 0.5, 1.6, 1.2, 1, 0, 2.4), strict=True)}
    for layer, shape in ((0, (6, 4)), (2, (4, 6))):
        state |= {f"error.nn.{layer}.weight": torch.ones(shape), f"error.nn.{layer}.bias": torch.ones(shape[0])}
    torch.save({"state_dict": state, "optimizer": {}}, tmp_path / "net.pth")
    out = tmp_path / "net.safetensors"
    common = ("--base", "rk4_classic", "--dt", 0.1)
    assert run("import-neurvec", "--checkpoint", tmp_path / "net.pth", "--out", out, *common)[0] == 0
    assert AttSolver.load(out).hidden == 6


def test_bench_and_plot(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from attsolver import _work_precision, cli

    def short(*arguments, **options):
        return _work_precision.work_precision(*arguments, **options, substeps=(1, 2), rtols=(), outputs=5, rounds=1)

    monkeypatch.setattr(cli, "work_precision", short)
    points, out = tmp_path / "points.jsonl", tmp_path / "figures"
    code, said, _ = run("bench", "--system", "lotka_volterra", "--no-peers", "--batches", 1, 2, "--out", points)
    assert code == 0
    assert "rk4" in said
    assert run("plot", "--data", points, "--out", out)[0] == 0
    assert (out / "work-precision.csv").read_text().startswith("method,batch,dt")
    assert (out / "work-precision.png").stat().st_size > 1000
    points.write_text('{"method": 3}\n')
    assert run("plot", "--data", points, "--out", out)[0] == 2
    points.write_text("")
    assert run("plot", "--data", points, "--out", out)[0] == 2


def test_advise_prints_the_table(run, tmp_path):
    code, said, _ = run(
        *("advise", "--system", "lotka_volterra", "--rtol", 1e-3, "--batch", 2, "--widths", 4),
        *("--json-out", tmp_path / "advice.json"),
    )
    assert code == 0
    assert "us/trajectory" in said
    content = json.loads((tmp_path / "advice.json").read_text())
    assert content["reason"] in said
    assert len(content["candidates"]) > 4


def test_usage_errors(run, tmp_path):
    for arguments in (
        ("simulate", "--system", "pendulum", "--out", tmp_path / "x"),
        ("simulate", "--system", "kepler", "--size", 3, "--out", tmp_path / "x"),
        ("train", "--data", tmp_path / "none.npz", "--out", tmp_path / "run"),
        ("evaluate", "--solver", tmp_path / "none", "--data", tmp_path / "none.npz"),
        ("no-such-command",),
    ):
        code, _, said = run(*arguments)
        assert code == 2, arguments
        assert said.startswith("attsolver: ")
        assert len(said.strip().splitlines()) == 1
