"""Metrics against a brute-force oracle, scikit-learn, and what they must not depend on."""

import math

import numpy as np
import pytest
from cem_mhch import CostModel, metrics
from hypothesis import given, settings
from hypothesis import strategies as st

DIALOGUES = st.lists(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)


def unzip(dialogues):
    labels, preds, scores = ([[turn[part] for turn in one] for one in dialogues] for part in range(3))
    return labels, preds, [[score / 20 for score in row] for row in scores]


def oracle(labels, preds, t, lamb):
    """The formula of the paper in loops."""
    total = 0.0
    for y, p in zip(labels, preds, strict=True):
        gold = [i for i, value in enumerate(y) if value == 1]
        said = [i for i, value in enumerate(p) if value == 1]
        if not gold:
            total += 0.0 if said else 1.0
        elif said:
            best = []
            for i in said:
                near = []
                for j in gold:
                    sign = (i > j) - (i < j)
                    near.append(math.exp(-((i - j) ** 2) / ((1 - lamb * sign) * 2 * (t + 1e-7) ** 2)))
                best.append(max(near))
            total += sum(best) / len(best)
    return total / len(labels)


@settings(max_examples=150, deadline=None)
@given(DIALOGUES, st.integers(1, 4), st.floats(-0.95, 0.95))
def test_golden_transfer_is_the_formula(dialogues, t, lamb):
    labels, preds, _ = unzip(dialogues)
    found = metrics.golden_transfer(labels, preds, tolerance=t, lamb=lamb)
    assert found == pytest.approx(oracle(labels, preds, t, lamb), abs=1e-9)
    assert 0 <= found <= 1
    assert metrics.golden_transfer(labels, preds, tolerance=t + 1, lamb=lamb) >= found - 1e-12
    backwards = [row[::-1] for row in labels], [row[::-1] for row in preds]
    assert metrics.golden_transfer(*backwards, tolerance=t, lamb=-lamb) == pytest.approx(found, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(labels))
    mixed = [labels[i] for i in order], [preds[i] for i in order]
    assert metrics.golden_transfer(*mixed, tolerance=t, lamb=lamb) == pytest.approx(found, abs=1e-9)
    later = [[0, 0, *row] for row in labels], [[0, 0, *row] for row in preds]
    assert metrics.golden_transfer(*later, tolerance=t, lamb=lamb) == pytest.approx(found, abs=1e-9)
    swapped = oracle(preds, labels, t, -lamb)
    assert metrics.golden_transfer_recall(labels, preds, tolerance=t, lamb=lamb) == pytest.approx(swapped, abs=1e-9)


def test_golden_transfer_by_hand():
    assert metrics.golden_transfer([[0, 1, 0, 0]], [[0, 0, 0, 1]], tolerance=2) == pytest.approx(
        math.exp(-0.5), rel=1e-6
    )
    assert metrics.golden_transfer([[0, 1, 0]], [[0, 0, 1]], lamb=0.5) == pytest.approx(math.exp(-1), rel=1e-6)
    assert metrics.golden_transfer([[0, 1, 0]], [[1, 0, 0]], lamb=0.5) == pytest.approx(math.exp(-1 / 3), rel=1e-6)
    quiet = [[0, 0], [0, 1]], [[0, 0], [0, 0]]
    assert metrics.golden_transfer(*quiet) == 0.5
    assert metrics.golden_transfer(*quiet, gold_only=True) == 0.0
    spam = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert metrics.golden_transfer(*spam) == 1.0
    assert metrics.golden_transfer_recall(*spam) == pytest.approx(0.5)
    assert metrics.golden_transfer_f(*spam) == pytest.approx(2 / 3)


@settings(max_examples=100, deadline=None)
@given(DIALOGUES)
def test_the_report_is_scikit_learns(dialogues):
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    labels, preds, scores = unzip(dialogues)
    report = metrics.handoff_report(labels, preds, scores)
    assert list(report) == ["f1", "macro_f1", "auc", "gt1", "gt2", "gt3", "error_cost"]
    y, p, s = (np.concatenate(rows) for rows in (labels, preds, scores))
    assert report["f1"] == pytest.approx(f1_score(y, p, zero_division=0))
    assert report["macro_f1"] == pytest.approx(f1_score(y, p, average="macro", labels=[0, 1], zero_division=0))
    assert report["error_cost"] == sum(1 for one, two in zip(y, p, strict=True) if one == 0 and two == 1)
    if len(set(y)) == 2:
        assert report["auc"] == pytest.approx(roc_auc_score(y, s))
        assert metrics.roc_auc(labels, scores) == report["auc"]
    else:
        assert report["auc"] is None
    if y.any():
        assert metrics.pr_auc(labels, scores) == pytest.approx(average_precision_score(y, s))
    else:
        assert metrics.pr_auc(labels, scores) is None
        assert metrics.timing_report(labels, preds, scores)["gt1_gold_only"] is None


def test_alarms_by_hand():
    labels = [[0, 1, 0, 0], [0, 0, 1], [1, 0], [0, 0], [0]]
    preds = [[0, 0, 0, 1], [1, 0, 0], [0, 0], [0, 1], [0]]
    report = metrics.alarm_report(labels, preds)
    assert report == {
        "first_alarm_delay": 0.0,  # +2 and -2
        "false_alarm_rate": 0.5,
        "miss_rate": pytest.approx(1 / 3),
        "containment_rate": 0.4,
    }
    nobody = metrics.alarm_report([[0]], [[0]])
    assert nobody["miss_rate"] is None
    assert nobody["first_alarm_delay"] is None


@settings(max_examples=100, deadline=None)
@given(DIALOGUES, st.integers(0, 100))
def test_a_threshold_for_a_rate_is_kept_and_the_lowest(dialogues, rate):
    scores = unzip(dialogues)[2]
    threshold = metrics.threshold_for_rate(scores, rate)

    def alarms(level):
        return sum(max(row) >= level for row in scores)

    assert alarms(threshold) * 100 <= rate * len(scores)
    lower = [score for row in scores for score in row if score < threshold]
    if lower:
        assert alarms(max(lower)) * 100 > rate * len(scores) or alarms(max(lower)) == alarms(threshold)


def test_flat_scores_count_as_dialogues_of_one_turn():
    assert metrics.threshold_for_rate([0.1, 0.4, 0.8, 0.9], 50) == np.nextafter(0.4, 1)
    assert metrics.threshold_for_rate([0.5, 0.5, 0.5, 0.1], 50) > 0.5  # ties: none rather than too many


@settings(max_examples=80, deadline=None)
@given(DIALOGUES)
def test_costs_and_recalls_of_thresholds(dialogues):
    labels, _, scores = unzip(dialogues)
    model = CostModel(false_handoff=2.0, missed_handoff=3.0, handoff=0.5)
    curve = metrics.cost_recall_curve(labels, scores, cost=model)
    budgets = metrics.cost_at_budget(labels, scores, [0, 30, 100], cost=model)
    for point in (*curve, *budgets):
        cost, hits = 0.0, 0
        for row, given_scores in zip(labels, scores, strict=True):
            for y, score in zip(row, given_scores, strict=True):
                act = score >= point.threshold
                cost += (0.5 + 2.0 * (y == 0)) if act else 3.0 * y
                hits += act and y == 1
        assert point.cost == pytest.approx(cost / len(labels), abs=1e-5)
        gold = sum(map(sum, labels))
        assert point.recall == pytest.approx(hits / gold if gold else 1.0)
    recalls = [point.recall for point in curve]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0


def test_calibration_by_hand():
    labels, scores = [[0, 1, 1, 0]], [[0.1, 0.15, 0.9, 1.0]]
    rows = metrics.reliability(labels, scores, bins=5)
    assert [(row.count, row.frequency) for row in rows] == [(2, 0.5), (2, 0.5)]
    assert metrics.calibration_error(labels, scores, bins=5) == pytest.approx(0.5 * 0.375 + 0.5 * 0.45)
    rng = np.random.default_rng(0)
    chance = rng.random(20000)
    truth = (rng.random(20000) < chance).astype(int)
    assert metrics.calibration_error([truth.tolist()], [chance.tolist()]) < 0.02


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tolerance": 0}, ValueError, "tolerance is 0"),
        ({"tolerance": -2}, ValueError, "tolerance is -2"),
        ({"tolerance": 1.0}, TypeError, "tolerance is 1.0"),
        ({"tolerance": True}, TypeError, "tolerance is True"),
        ({"lamb": 1.0}, ValueError, "lamb is 1.0"),
        ({"lamb": -1.5}, ValueError, "lamb is -1.5"),
        ({"lamb": math.nan}, ValueError, "lamb is nan"),
    ],
)
def test_options_out_of_range(options, error, words):
    for metric in (metrics.golden_transfer, metrics.golden_transfer_recall, metrics.golden_transfer_f):
        with pytest.raises(error, match=words):
            metric([[0, 1]], [[0, 1]], **options)


@pytest.mark.parametrize(
    ("labels", "preds", "scores", "words"),
    [
        ([], [], [], "no dialogue"),
        ([[0], []], [[0], []], [[0.1], []], "dialogue 1 has no turn"),
        ([[0, 2]], [[0, 1]], [[0.1, 0.2]], "dialogue 0, turn 1: the label is 2"),
        ([[0, 1]], [[0, -1]], [[0.1, 0.2]], "dialogue 0, turn 1: the prediction is -1"),
        ([[0, 1]], [[0]], [[0.1, 0.2]], "dialogue 0: there are 2 labels and 1 predictions"),
        ([[0, 1]], [[0, 1], [0]], [[0.1, 0.2]], "1 dialogues and predictions of 2"),
        ([[0, 1]], [[0, 1]], [[0.1]], "dialogue 0: there are 2 labels and 1 scores"),
        ([[0, 1]], [[0, 1]], [[0.1, math.nan]], "dialogue 0, turn 1: the score is NaN"),
        ([[0, 1]], [[0, 1]], [[math.inf, 0.1]], "dialogue 0, turn 0: the score is inf"),
    ],
)
def test_labels_and_scores_that_cannot_be_read(labels, preds, scores, words):
    for report in (metrics.handoff_report, metrics.timing_report):
        with pytest.raises(ValueError, match=words):
            report(labels, preds, scores)


def test_what_thresholds_and_bins_cannot_be():
    for rate in (-1, 101, math.nan):
        with pytest.raises(ValueError, match="max_handoffs_per_100"):
            metrics.threshold_for_rate([[0.1]], rate)
    for scores in ([], [[]]):
        with pytest.raises(ValueError, match="no score"):
            metrics.threshold_for_rate(scores, 10)
    with pytest.raises(ValueError, match="score is NaN"):
        metrics.threshold_for_rate([math.nan], 10)
    with pytest.raises(ValueError, match="bins is 0"):
        metrics.reliability([[0]], [[0.1]], bins=0)
    with pytest.raises(ValueError, match=r"a score is 1\.5"):
        metrics.reliability([[0]], [[1.5]])
    with pytest.raises(ValueError, match="no dialogue has a gold handoff"):
        metrics.golden_transfer([[0]], [[0]], gold_only=True)
    assert metrics.timing_report([[0, 1]], [[0, 1]], [[-2.0, 3.0]])["calibration_error"] is None
