"""Off-policy estimates against known potential costs: unbiased over seeds where the naive mean is biased."""

import math

import numpy as np
import pytest
from cem_mhch import Dialogue, Turn, simulate
from cem_mhch.ope import Logs, evaluate_policy


def world(seed, count=250):
    """A simulation, a policy that reads sentiment, its true cost, and rough cost predictions."""
    found = simulate(count, seed=seed)
    logs = Logs.from_dialogues(found.dialogues)
    turns = [turn for one in found.dialogues for turn in one.turns]
    policy = np.array([0.9 if turn.role == "user" and turn.sentiment == 0 else 0.1 for turn in turns])
    costs = np.concatenate(found.potential)
    truth = ((1 - policy) * costs[:, 0] + policy * costs[:, 1]).mean()
    label = np.array([turn.handoff for turn in turns], float)
    predicted = np.stack([0.3 + 4 * label, 1.9 - label], 1)  # roughly right, never exactly
    return logs, policy, truth, predicted


@pytest.fixture(scope="module")
def errors():
    """Over seeds: estimate minus truth, and whether the interval holds it."""
    found = {name: [] for name in ("ips", "snips", "dr", "dr, bad model", "naive")}
    held = {name: [] for name in ("ips", "snips", "dr")}
    for seed in range(60):
        logs, policy, truth, predicted = world(seed)
        for name in ("ips", "snips", "dr"):
            estimate = evaluate_policy(logs, policy, estimator=name, predicted=predicted if name == "dr" else None)
            found[name].append(estimate.value - truth)
            held[name].append(estimate.low <= truth <= estimate.high)
        wrong = np.full_like(predicted, 5.0)
        found["dr, bad model"].append(evaluate_policy(logs, policy, predicted=wrong).value - truth)
        takes = np.where(logs.action == 1, policy, 1 - policy) > 0.5
        found["naive"].append(logs.cost[takes].mean() - truth)
    return {name: np.array(values) for name, values in found.items()}, held


def z(values):
    return values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "dr, bad model"])
def test_estimates_are_unbiased(errors, name):
    assert abs(z(errors[0][name])) < 3.3


def test_the_naive_mean_is_biased(errors):
    assert abs(z(errors[0]["naive"])) > 8


def test_a_model_of_the_costs_helps(errors):
    assert errors[0]["dr"].std() < 0.8 * errors[0]["ips"].std()
    assert errors[0]["dr"].std() < errors[0]["dr, bad model"].std()


def test_intervals_hold_the_truth(errors):
    for name, held in errors[1].items():
        assert np.mean(held) > 0.85, name


def test_by_hand():
    logs = Logs([1, 0, 1], [0.5, 0.25, 1.0], [2.0, 4.0, 6.0], [0, 0, 1])
    policy = [1.0, 0.5, 0.0]
    assert evaluate_policy(logs, policy, estimator="ips").value == pytest.approx((2 * 2 + 2 * 4 + 0) / 3)
    assert evaluate_policy(logs, policy, estimator="snips").value == pytest.approx(3.0)
    assert evaluate_policy(logs, policy, estimator="ips", max_weight=1.0).value == pytest.approx(2.0)
    predicted = [[1.0, 2.0], [3.0, 5.0], [7.0, 0.0]]
    expected = (2.0 + (4.0 + 2 * (4 - 3)) + 7.0) / 3
    found = evaluate_policy(logs, policy, predicted=predicted)
    assert found.value == pytest.approx(expected)
    assert found.effective == pytest.approx(4**2 / 8)
    alone = Logs([1], [0.5], [2.0], [0])
    assert evaluate_policy(alone, [1.0], estimator="ips").high == math.inf


def test_evaluating_the_logged_policy_gives_the_mean():
    logs = Logs.from_dialogues(simulate(50).dialogues)
    logged = np.where(logs.action == 1, logs.propensity, 1 - logs.propensity)
    found = evaluate_policy(logs, logged, estimator="ips")
    assert found.value == pytest.approx(logs.cost.mean())
    assert found.effective == pytest.approx(len(logs.cost))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"propensity": [0.0, 1.0]}, "decision 0: propensity is 0.0"),
        ({"propensity": [1.0, 1.5]}, "decision 1: propensity is 1.5"),
        ({"propensity": [math.nan, 0.5]}, "decision 0: propensity is nan"),
        ({"action": [0, 2]}, "an action is neither"),
        ({"cost": [0.0, math.nan]}, "decision 1: the cost is not finite"),
        ({"cost": [0.0]}, "four rows of the same length"),
        ({"action": [], "propensity": [], "cost": [], "group": []}, "at least 1"),
    ],
)
def test_logs_that_cannot_be(change, words):
    good = {"action": [0, 1], "propensity": [0.5, 0.5], "cost": [1.0, 2.0], "group": [0, 1]}
    with pytest.raises(ValueError, match=words):
        Logs(**(good | change))


def test_what_cannot_be_estimated():
    logs = Logs([0, 1], [0.5, 0.5], [1.0, 2.0], [0, 1])
    for policy, options, words in [
        ([0.5], {"estimator": "ips"}, "2 probabilities"),
        ([0.5, 1.2], {"estimator": "ips"}, "probabilities in"),
        ([0.5, 0.5], {}, "predicted costs belong to the estimator dr"),
        ([0.5, 0.5], {"estimator": "ips", "predicted": [[0, 0], [0, 0]]}, "predicted costs belong"),
        ([0.5, 0.5], {"predicted": [[0, math.nan], [0, 0]]}, "predicted must be finite"),
        ([0.5, 0.5], {"estimator": "magic"}, "estimator is 'magic'"),
        ([0.5, 0.5], {"estimator": "ips", "max_weight": 0}, "max_weight is 0"),
        ([1.0, 0.0], {"estimator": "snips"}, "no action that the policy would take"),
    ]:
        with pytest.raises(ValueError, match=words):
            evaluate_policy(logs, policy, **options)
    with pytest.raises(ValueError, match="dialogue 'a', turn 0: off-policy evaluation needs"):
        Logs.from_dialogues([Dialogue(id="a", turns=(Turn(role="user", text="x"),))])
