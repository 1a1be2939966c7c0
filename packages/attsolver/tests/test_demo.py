import json

import numpy as np
import pytest
import torch
from attsolver import AttSolver, FitReport, demo, generate, systems
from attsolver import _plots as plots
from attsolver._evaluate import energy_error, evaluate
from attsolver._work_precision import WorkPoint, work_precision

pytest.importorskip("matplotlib")


def test_the_demo_in_short(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "_TRAJECTORIES", 12)
    monkeypatch.setattr(demo, "_UNSEEN", 6)
    original = demo.fit
    monkeypatch.setattr(demo, "fit", lambda solver, data, **options: original(solver, data, iterations=60, **options))
    monkeypatch.setattr(
        demo, "work_precision", lambda *a, **o: work_precision(*a, **o | {"substeps": (1, 2), "rounds": 1})
    )
    demo.demo(demo.DemoConfig(out=tmp_path, device="cpu"))
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    (metrics,) = [v for k, v in report["metrics"].items() if k.startswith("elastic pendulum, rk4")]
    assert metrics["coarse MSE"][0] > metrics["corrected MSE"][0] > 0
    assert len(report["verdicts"]) == 2
    for name in report["figures"]:
        assert (tmp_path / name).stat().st_size > 1000
    assert len(list(tmp_path.glob("*.csv"))) == len(report["figures"]) / 2 == 7
    assert "on this cheap right-hand side the corrector" in said
    assert AttSolver.load(tmp_path / "solver.safetensors").system == "elastic_pendulum"


def test_evaluation_is_the_mean_square_error():
    system = systems.get("lotka_volterra")
    data = generate(system, 3, 6, 0.1)
    found = evaluate(system, data, "rk4", backend="eager")
    y = data.clean[:, 0]
    states = [y]
    for _ in range(6):  # Kutta's 3/8 rule, written apart
        f = lambda x: system.rhs(0.0, x)  # noqa: E731
        k1 = f(y)
        k2 = f(y + 0.1 * k1 / 3)
        k3 = f(y + 0.1 * (k2 - k1 / 3))
        k4 = f(y + 0.1 * (k1 - k2 + k3))
        y = y + 0.1 * (k1 + 3 * k2 + 3 * k3 + k4) / 8
        states.append(y)
    expected = (torch.stack(states, 1) - data.clean).square().mean()
    assert found.mse == pytest.approx(float(expected), rel=1e-6)
    assert found.distance(data).shape == (3, 7)
    assert evaluate(system, data, "euler", backend="eager").mse > 100 * found.mse


def test_energy_error_of_a_reference_is_small():
    system = systems.get("henon_heiles")
    data = generate(system, 3, 10, 0.5)
    assert energy_error(system, data.clean).max() < 1e-9
    assert energy_error(system, torch.stack([data.clean[:, 0], 1.1 * data.clean[:, 0]], 1))[:, 1].min() > 0.1


def test_every_figure_has_its_numbers():
    rng = np.random.default_rng(0)
    system, t = systems.get("elastic_pendulum"), np.arange(6.0)
    y, errors = rng.normal(size=(6, 4)), rng.uniform(1, 2, (3, 6))
    point = WorkPoint("rk4", 1, 0.1, None, 1e-3, 1e-6, 40, 2.0)
    peer = WorkPoint("scipy:DOP853", 1, None, 1e-6, 1e-6, 1e-12, None, 90.0)
    report = FitReport(10, 2, 0.3, 0.1, 2, [(1, 0.2, 0.3), (2, 0.1, 0.1)], 0.5, 1.0, 0)
    drawn = {
        "trajectories": (plots.trajectories(system, t, y, {"rk4": y + 0.1}), 6),
        "phase": (plots.phase_portrait(system, y, {"rk4": y}), 6),
        "error": (plots.error_in_time(t, {"rk4": errors}), 5),
        "work": (plots.work_precision_curves([point, peer]), 2),
        "drift": (plots.energy_drift(t, {"rk4": errors}), 5),
        "training": (plots.training_curves({"both": report}), 2),
        "local": (plots.local_errors(y, y * 1.01, system.states), 6),
        "domain": (plots.out_of_domain((1.0, 2.0), {"rk4": [(1e-3, 1e-2), (1e-2, 1.0)]}), 2),
    }
    for name, ((figure, table), rows) in drawn.items():
        figure.canvas.draw()
        lines = plots.as_csv(table).splitlines()
        assert len(lines) == rows + 1, name
        assert all(line.count(",") == lines[0].count(",") for line in lines), name
    middle = drawn["error"][0][1][1]
    assert middle[0][3] == pytest.approx(np.median(errors[:, 1]))
