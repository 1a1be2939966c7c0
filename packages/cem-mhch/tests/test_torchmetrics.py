"""The torchmetrics classes: equal to the functions over any batches, with states that add up over processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cem_mhch import metrics

pytest.importorskip("torchmetrics")
from cem_mhch.integrations.torchmetrics import GoldenTransfer, HandoffF1, handoff_metrics


def random_dialogues(seed, count=40):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 15, count)
    labels = [(rng.random(n) < 0.2).astype(int) for n in lengths]
    return labels, [rng.random(n).astype(np.float32) for n in lengths]


def padded(rows, fill):
    width = max(map(len, rows)) + 2
    return torch.tensor(np.stack([np.pad(row, (0, width - len(row)), constant_values=fill) for row in rows]))


@pytest.mark.parametrize("seed", range(5))
def test_they_are_the_functions(seed):
    labels, scores = random_dialogues(seed)
    collection = handoff_metrics(threshold=0.6)
    for start in range(0, 40, 7):
        part = slice(start, start + 7)
        collection.update(padded(scores[part], 0.99), padded(labels[part], -1))  # padding that would be an alarm
    preds = [(row >= 0.6).astype(int).tolist() for row in scores]
    expected = metrics.handoff_report(labels, preds, scores) | {"pr_auc": metrics.pr_auc(labels, scores)}
    for name, value in collection.compute().items():
        assert value.item() == pytest.approx(expected[name], abs=1e-6), name


def test_lamb_and_gold_only():
    labels, scores = random_dialogues(9)
    preds = [(row >= 0.5).astype(int).tolist() for row in scores]
    for gold_only in (False, True):
        metric = GoldenTransfer(tolerance=2, lamb=0.4, gold_only=gold_only)
        metric.update(padded(scores, 0.0), padded(labels, -1))
        expected = metrics.golden_transfer(labels, preds, tolerance=2, lamb=0.4, gold_only=gold_only)
        assert metric.compute().item() == pytest.approx(expected, abs=1e-9)


def test_the_state_of_f1_and_golden_transfer_does_not_grow():
    for metric in (HandoffF1(), GoldenTransfer()):
        sizes = []
        for seed in range(3):
            labels, scores = random_dialogues(seed)
            metric.update(padded(scores, 0.0), padded(labels, -1))
            sizes.append(sum(value.numel() for value in metric.metric_state.values()))
        assert len(set(sizes)) == 1


def test_states_add_up():
    """Merged as the library merges processes: stacked, then reduced by each state's own function."""
    labels, scores = random_dialogues(3)
    for make in (HandoffF1, GoldenTransfer):
        whole, parts = make(), [make(), make()]
        whole.update(padded(scores, 0.0), padded(labels, -1))
        for metric, part in zip(parts, (slice(0, 13), slice(13, 40)), strict=True):
            metric.update(padded(scores[part], 0.0), padded(labels[part], -1))
        for name, reduce in whole._reductions.items():
            setattr(parts[0], name, reduce(torch.stack([getattr(one, name) for one in parts])))
        assert parts[0].compute().item() == pytest.approx(whole.compute().item(), abs=1e-12)


@pytest.mark.slow
def test_two_processes_say_what_one_says(tmp_path):
    labels, scores = random_dialogues(6)
    rows = {"scores": padded(scores, 0.9).tolist(), "labels": padded(labels, -1).tolist()}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    worker = str(Path(__file__).with_name("metrics_worker.py"))
    workers = [
        subprocess.Popen([sys.executable, worker, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    try:
        assert [one.wait(timeout=240) for one in workers] == [0, 0]
    finally:
        for one in workers:
            one.kill()
    whole = handoff_metrics()
    whole.update(torch.tensor(rows["scores"]), torch.tensor(rows["labels"]))
    expected = {name: pytest.approx(value.item(), abs=1e-6) for name, value in whole.compute().items()}
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == expected


def test_what_cannot_be_counted():
    metric = HandoffF1()
    good = torch.tensor([[0.5]])
    for preds, target, words in [
        (good, torch.tensor([[2]]), "target must hold"),
        (good, torch.tensor([[0.0]]), "target must hold"),
        (good, torch.tensor([0]), "must both be"),
        (torch.tensor([[float("nan")]]), torch.tensor([[1]]), "NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            metric.update(preds, target)
    metric.update(torch.tensor([[float("nan")]]), torch.tensor([[-1]]))  # on padding anything goes
    with pytest.raises(ValueError, match="average is 'micro'"):
        HandoffF1(average="micro")
    with pytest.raises(TypeError, match="tolerance"):
        GoldenTransfer(tolerance=1.5)
