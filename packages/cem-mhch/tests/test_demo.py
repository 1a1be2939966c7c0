"""The demo on a small profile: everything the report promises is there and is what it says."""

import json

import numpy as np
import pytest
from cem_mhch import demo as demo_module
from cem_mhch import simulate
from cem_mhch._fit import FitConfig
from cem_mhch.demo import COLUMNS, DemoConfig, Profile, demo
from cem_mhch.ope import Logs, evaluate_policy

SMALL = Profile(seeds=2, train=120, val=30, test=40, logs=8, fit=FitConfig(epochs=8, learning_rate=0.01))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "QUICK", SMALL)
        demo(DemoConfig(out=path, seed=5, device="cpu"))
    return path


@pytest.fixture(scope="module")
def report(out):
    return json.loads((out / "report.json").read_text())


def test_models_stand_beside_the_baselines(report):
    test = report["metrics"]["test"]
    assert list(test) == ["never", "always", "keyword", "tfidf", "host", "host+CEM"]
    assert all(set(rows) == set(COLUMNS) and len(rows["f1"]) == 2 for rows in test.values())
    assert test["never"]["f1"] == [0.0, 0.0]
    assert np.mean(test["host+CEM"]["macro_f1"]) > np.mean(test["keyword"]["macro_f1"])
    assert (report["package"], report["profile"], report["seed"]) == ("cem-mhch", "default", 5)


def test_the_doubly_robust_cost_is_near_the_known_truth(report):
    costs = report["metrics"]["cost of a turn under host+CEM"]
    assert costs["truth"]["mean error"] == 0
    assert abs(costs["dr"]["mean error"]) < 0.1
    assert abs(costs["naive"]["mean error"]) > 0.1


def test_verdicts_and_figures(report, out):
    assert [one["measured"] is not None and len(one["interval"]) == 2 for one in report["verdicts"]] == [True] * 3
    differences = np.subtract(*(report["metrics"]["test"][name]["macro_f1"] for name in ("host+CEM", "host")))
    assert report["verdicts"][1]["measured"] == pytest.approx(differences.mean())
    names = ("scores", "costs", "timeline")
    assert report["figures"] == [f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    assert all((out / name).stat().st_size > 1000 for name in report["figures"])


def test_the_estimate_is_unbiased_on_the_simulator_where_the_naive_mean_is_biased():
    """A policy and a model of the costs that read the words alone, over independent logs."""
    errors = {"dr": [], "ips": [], "naive": []}
    for seed in range(150):
        simulation = simulate(40, seed=seed)
        logs = Logs.from_dialogues(simulation.dialogues)
        turns = [turn for one in simulation.dialogues for turn in one.turns]
        policy = np.array([int(turn.sentiment == 0) for turn in turns])
        crude = np.stack([0.5 + 2.0 * policy, np.full(len(policy), 1.5)], 1)
        truth = np.take_along_axis(np.concatenate(simulation.potential), policy[:, None], 1).mean()
        errors["dr"].append(evaluate_policy(logs, policy, estimator="dr", predicted=crude).value - truth)
        errors["ips"].append(evaluate_policy(logs, policy, estimator="ips").value - truth)
        errors["naive"].append(logs.cost[logs.action == policy].mean() - truth)
    z = {name: np.mean(found) / (np.std(found, ddof=1) / len(found) ** 0.5) for name, found in errors.items()}
    assert abs(z["dr"]) < 3
    assert abs(z["ips"]) < 3
    assert abs(z["naive"]) > 10
    assert np.std(errors["dr"]) < np.std(errors["ips"])


@pytest.mark.slow
def test_the_full_profile(tmp_path):
    demo(DemoConfig(out=tmp_path, full=True, device="cpu"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdicts"][0]["holds"] is True  # above TF-IDF
    assert report["verdicts"][2]["holds"] is True  # nearer to the truth
