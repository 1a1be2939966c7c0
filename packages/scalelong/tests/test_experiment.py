import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from scalelong import _compare, _experiment
from scalelong._experiment import Measured, Protocol, judge, largest_stable, measure, tabulate
from scalelong._train import Trained

PROTOCOLS = Path(_experiment.__file__).parent / "protocols"
TINY = {
    "seeds": 2,
    "fixed_loss": 0.9,
    "stable_loss": 2.0,
    "training": {
        "data": "digits",
        "depth": 4,
        "embed_dim": 16,
        "num_heads": 2,
        "steps": 30,
        "batch_size": 8,
        "probe_every": 3,
    },
    "arms": {"org": {"scaling": "org"}, "CS": {"scaling": "cs", "kappa": 0.5}},
    "groups": {"N=2": {"changes": {}, "learning_rates": [0.003, 1e20], "arms": ["org", "CS"]}},
    "comparisons": [
        {
            "claim": "CS ends lower",
            "metric": "final loss",
            "group": "N=2",
            "learning_rate": 0.003,
            "arm": "CS",
            "against": "org",
        },
        {
            "claim": "CS survives",
            "metric": "final loss",
            "group": "N=2",
            "learning_rate": 1e20,
            "arm": "CS",
            "against": "org",
        },
    ],
    "samples": 12,
    "sampling_steps": 2,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="module")
def finished(path, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    report = _compare.compare(path, out, version="0", seed=0, profile="tiny", device="cpu", workers=2)
    return out, json.loads((out / "report.json").read_text()), report


def test_the_protocols_of_the_package_can_be_read():
    names = {file.stem: Protocol.read(file) for file in PROTOCOLS.glob("*.json")}
    assert names.keys() == {"deciding", "demo-default", "demo-full"}
    for protocol in names.values():
        jobs = protocol.jobs(0)
        assert len({job.name for job in jobs}) == len(jobs)
        assert {job.config.seed for job in jobs} == set(range(protocol.seeds))


def test_every_value_of_every_seed_stands_in_the_report(finished, path):
    _, report, _ = finished
    cell = report["metrics"]["runs"]["N=2"]["CS"]["lr 0.003"]
    assert len(cell["final loss"]) == len(cell["oscillation"]) == 2
    assert all(
        value > 0 for values in (cell["final loss"], cell["p99 gradient"], cell["oscillation"]) for value in values
    )
    assert report["protocol"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_that_breaks_is_a_result_and_leaves_its_claim_unmeasured(finished):
    _, report, _ = finished
    cell = report["metrics"]["runs"]["N=2"]["org"]["lr 1e+20"]
    assert cell["final loss"] == [None, None]
    assert cell["stable"] == [False, False]
    assert report["metrics"]["largest stable learning rate"]["N=2"]["org"] == 0.003
    survives = report["verdicts"][1]
    assert (survives["measured"], survives["holds"]) == (None, None)


def test_a_verdict_is_the_paired_interval_of_log_ratios(finished):
    from scipy.stats import ttest_rel

    _, report, _ = finished
    runs = report["metrics"]["runs"]["N=2"]
    ours, theirs = ([math.log(value) for value in runs[arm]["lr 0.003"]["final loss"]] for arm in ("CS", "org"))
    interval = ttest_rel(ours, theirs).confidence_interval()
    assert report["verdicts"][0]["interval"] == pytest.approx([interval.low, interval.high])


def test_quality_is_measured_where_pictures_are_drawn(finished):
    _, report, _ = finished
    assert len(report["metrics"]["quality"]["CS"]["frechet"]) == 2
    assert report["metrics"]["quality"]["CS"]["floor"][0] > 0


def test_figures_are_there_as_svg_and_png(finished):
    out, report, _ = finished
    assert {Path(name).stem for name in report["figures"]} == {"stability-N-2", "final-loss", "samples", "quality"}
    for name in report["figures"]:
        start = (out / name).read_bytes()[:200]
        assert b"PNG" in start if name.endswith("png") else b"<?xml" in start


def same(found, expected):
    """Equal but for last digits: what is computed again may lie otherwise in memory."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, value in zip(found, expected, strict=True):
            same(one, value)
    else:
        assert found == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


def test_started_again_it_reads_what_is_there(finished, path):
    out, report, _ = finished
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.jsonl")}
    _compare.compare(path, out, version="0", seed=0, profile="tiny", device="cpu", workers=1)
    again = json.loads((out / "report.json").read_text())
    same(again["metrics"], report["metrics"])
    same(again["verdicts"], report["verdicts"])
    assert {file: file.stat().st_mtime_ns for file in before} == before


def trained(losses, norms=(1.0,) * 20, nonfinite=None):
    probe = [(10 * (index + 1), loss) for index, loss in enumerate(losses)]
    return Trained(
        model=torch.nn.Identity(), steps=len(norms), nonfinite_step=nonfinite, probe=probe, gradient_norms=list(norms)
    )


def test_what_is_measured_of_a_run(path):
    protocol = Protocol.read(path)
    losses = [math.exp(-0.1 * index + 0.05 * (-1) ** index) for index in range(12)]
    found = measure(trained(losses, norms=[float(index) for index in range(100)]), protocol).metrics
    assert found["final loss"] == pytest.approx(sum(losses[-5:]) / 5)
    assert found["p99 gradient"] == pytest.approx(20 + 0.99 * 79)
    line = torch.tensor([0.05 * (-1) ** index for index in range(6)], dtype=torch.float64)
    at = torch.arange(6, dtype=torch.float64)
    slope = ((at - at.mean()) * (line - line.mean())).sum() / (at - at.mean()).square().sum()
    rest = line - line.mean() - slope * (at - at.mean())
    assert found["oscillation"] == pytest.approx(float((rest.square().sum() / 4).sqrt()))
    smooth = measure(trained([math.exp(-0.1 * index) for index in range(12)]), protocol).metrics
    assert smooth["oscillation"] == pytest.approx(0, abs=1e-12)


def test_steps_to_the_fixed_loss_are_interpolated(path):
    protocol = Protocol.read(path)
    assert measure(trained([1.5, 1.1, 0.7, 0.6, 0.5]), protocol).metrics["steps to the fixed loss"] == pytest.approx(25)
    assert measure(trained([0.8, 0.7, 0.6, 0.5, 0.4]), protocol).metrics["steps to the fixed loss"] == 10
    assert measure(trained([2.0, 1.9, 1.8, 1.7, 1.6]), protocol).metrics["steps to the fixed loss"] is None


def test_stable_means_finite_low_and_near_the_own_minimum(path):
    protocol = Protocol.read(path)
    assert measure(trained([1.0] * 8), protocol).stable
    assert not measure(trained([3.0] * 8), protocol).stable
    assert not measure(trained([0.5] * 3 + [1.0] * 5), protocol).stable
    assert not measure(trained([1.0] * 8, nonfinite=4), protocol).stable


def test_a_comparison_needs_every_seed(path):
    protocol = Protocol.read(path)
    jobs = protocol.jobs(0)
    good = Measured(metrics={"final loss": 1.0}, stable=True, nonfinite_step=None, probe=[], gradient_norms=[])
    bad = Measured(metrics={"final loss": None}, stable=False, nonfinite_step=3, probe=[], gradient_norms=[])
    results = [bad if (job.arm, job.config.seed) == ("org", 1) else good for job in jobs]
    assert [one.measured for one in judge(protocol, jobs, results)] == [None, None]
    assert largest_stable(tabulate(jobs, results)) == {"N=2": {"org": None, "CS": 1e20}}


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 1},
        {"unknown": 3},
        {"groups": {"N=2": {"changes": {}, "learning_rates": [0.1], "arms": ["absent"]}}},
        {"comparisons": [TINY["comparisons"][0] | {"arm": "absent"}]},
        {"training": {"kappas": 3}},
    ],
)
def test_a_bad_protocol_is_refused(tmp_path, change):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(TINY | change))
    with pytest.raises(ValueError, match=r"bad\.json is not a protocol"):
        Protocol.read(path)
    path.write_text("[")
    with pytest.raises(ValueError, match="not a protocol"):
        Protocol.read(path)
