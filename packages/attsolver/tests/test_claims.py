"""The script behind the claims page, on a protocol of seconds; the multiplicative form is there and nowhere else."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from attsolver import generate, systems

pytest.importorskip("scipy")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def claims():
    specification = importlib.util.spec_from_file_location("attsolver_claims", FOLDER / "claims.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def short(tmp_path):
    protocol = json.loads((FOLDER / "claims_protocol.json").read_text())
    protocol["seeds"] = [1, 2]
    protocol["training"]["iterations"] = 150
    protocol["test"]["trajectories"] = 4
    protocol["multiplicative"] |= {"cases": [["elastic_pendulum", "rk4"]], "trajectories": 12}
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps(protocol))
    return path


def test_the_additive_form_corrects_more_than_the_multiplicative(claims, short, tmp_path, capsys):
    out = tmp_path / "claims.jsonl"
    common = ["--protocol", str(short), "--out", str(out), "--only", "multiplicative"]
    assert claims.main(common) == 0
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert first["part"] == "multiplicative"
    (row,) = first["rows"]
    for coarse, additive, multiplicative in zip(row["coarse"], row["additive"], row["multiplicative"], strict=True):
        assert additive < 1e-2 * coarse
        assert additive < multiplicative
    additive = second["rows"][-2]
    assert additive["claim"].startswith("additive against multiplicative")
    expected = [math.log10(a / b) for a, b in zip(row["multiplicative"], row["additive"], strict=True)]
    assert additive["differences"] == pytest.approx(expected)
    assert additive["mean"] == pytest.approx(sum(expected) / 2)
    assert claims.main(common) == 0  # the part is there: only the summary is written again
    assert len(out.read_text().splitlines()) == 3
    assert capsys.readouterr().out.count("additive against multiplicative") == 2


def test_a_multiplicative_form_cannot_correct_where_the_increment_is_zero(claims):
    solver = claims.Multiplicative("euler", 0.1, dim=2, hidden=4, features="state", linear=False)
    with torch.no_grad():
        solver.w2.normal_()
    s = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    correction = solver.correction(0.0, torch.ones_like(s), s)
    assert correction[0, 0] == 0
    assert correction[0, 1] != 0


def test_verdicts_need_an_interval_without_zero(claims):
    row = {
        "system": "kepler",
        "base": "rk4",
        "trajectories": 5,
        "noise": 0.0,
        "coarse": [1.0, 1.0, 1.0],
        "state": [1e-2, 2e-2, 3e-2],
    }
    row |= {"increment": [1e-2, 3e-2, 2e-2], "both": [1e-4, 2e-4, 3e-4]}
    found = {r["claim"]: r for r in claims.summary({"grid": [row]})}
    assert found["both against state, 5 trajectories, noise 0.0"]["holds"] is True
    assert found["increment against state, 5 trajectories, noise 0.0"]["holds"] is None
    assert found["both against the base, 5 trajectories, noise 0.0"]["mean"] == pytest.approx(3.74, abs=0.01)
    row["both"][0] = math.inf  # a blow-up is no number, and decides nothing
    found = {r["claim"]: r for r in claims.summary({"grid": [row]})}
    assert found["both against state, 5 trajectories, noise 0.0"]["holds"] is None


def test_noise_is_in_units_of_the_local_error():
    system = systems.get("elastic_pendulum")
    quiet = generate(system, 20, 20, 0.1)
    noisy = generate(system, 20, 20, 0.1, noise=0.3)
    added = (noisy.y - noisy.clean)[:, 1:].std((0, 1))
    from attsolver import AttSolver
    from attsolver._targets import make_pairs, problem_of

    pairs = make_pairs(AttSolver("rk4", 0.1, dim=4), quiet, problem_of(quiet, None, 0), 0.0)
    torch.testing.assert_close(added, 0.3 * pairs.error.std(0), rtol=0.15, atol=0)
