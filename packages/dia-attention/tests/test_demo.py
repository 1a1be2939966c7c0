import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dia_attention import _protocol
from dia_attention import demo as demo_module
from dia_attention._protocol import Job, Protocol
from dia_attention._sources import Source
from dia_attention._train import TrainResult
from dia_attention.demo import DemoConfig, demo

for name in ("sklearn", "matplotlib", "scipy"):
    pytest.importorskip(name, reason="the demo needs the extra demo")

PROTOCOLS = Path(_protocol.__file__).parent / "protocols"
TINY = {
    "seeds": 2,
    "selection_seeds": 1,
    "training": {"depth": 11, "per_class": 2, "epochs": 2, "batch_size": 10, "checkpoint_every": 3},
    "conditions": {
        "few-images": {
            "title": "few images",
            "changes": {"keep_best": True},
            "learning_rates": {"plain": [0.1, 0.03], "DIA": [0.1], "ASR": [0.1]},
            "references": ["plain", "DIA"],
        },
        "no-BatchNorm": {
            "title": "no BatchNorm",
            "changes": {"batch_norm": False, "depth": 56, "epochs": 3},
            "learning_rates": {"plain": [0.1], "DIA": [0.1]},
            "references": ["plain"],
        },
        "on-photographs": {
            "title": "on photographs",
            "changes": {"data": "digits-on-photographs", "size": 14},
            "learning_rates": {"plain": [0.1], "LSAS": [0.1]},
            "references": ["plain"],
        },
    },
}


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="module")
def finished(protocol, tmp_path_factory):
    """One whole demo, its report, and how often it asked for the test digits."""
    out = tmp_path_factory.mktemp("demo") / "out"
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        real = Source.load_test

        def load_test(source, **options):
            calls.append((source.data, len(list(out.glob("trainings/*")))))
            return real(source, **options)

        patch.setattr(Source, "load_test", load_test)
        demo(DemoConfig(out=out, protocol=protocol, device="cpu", workers=1))
    return out, json.loads((out / "report.json").read_text()), calls


def test_test_digits_are_read_once_after_all_trainings(finished):
    out, _, calls = finished
    assert len(list(out.glob("trainings/*"))) == 2 + 2 * 7
    assert calls == [("digits", 16), ("digits-on-photographs", 16)]


def test_report_has_every_seed_and_the_paired_interval(finished):
    from scipy.stats import ttest_rel

    _, report, _ = finished
    assert (report["package"], report["profile"], report["device"]) == ("dia-attention", "tiny", "cpu")
    metrics, verdicts = report["metrics"], {one["claim"]: one for one in report["verdicts"]}
    for claim, ours, theirs in (
        ("DIA is more accurate than plain: few images", "DIA", "plain"),
        ("ASR is more accurate than DIA: few images", "ASR", "DIA"),
    ):
        ours, theirs = (metrics["few-images"][network]["test"] for network in (ours, theirs))
        assert len(ours) == len(theirs) == 2
        verdict = verdicts[claim]
        assert verdict["measured"] == pytest.approx(sum(ours) / 2 - sum(theirs) / 2)
        interval = ttest_rel(ours, theirs).confidence_interval()
        if sum(ours) - sum(theirs) not in (2 * (ours[0] - theirs[0]),):  # scipy gives NaN where all pairs are equal
            assert verdict["interval"] == pytest.approx([interval.low, interval.high])
        low, high = verdict["interval"]
        assert verdict["holds"] is (None if low <= 0 <= high else low > 0)
    assert set(metrics["mean gate correlation of different blocks"]["DIA"]) == {"layer1", "layer2", "layer3"}
    assert metrics["stripe score, mean over blocks"]["ASR"] == pytest.approx([1, 1])
    assert "LSAS has less position bias than plain: on photographs" in verdicts


def test_best_and_last_epoch_are_both_tested(finished):
    _, report, _ = finished
    for row in report["metrics"]["few-images"].values():
        assert len(row["test at the best epoch"]) == 2
        pairs = zip(row["validation at the best epoch"], row["validation"], strict=True)
        assert all(best >= last for best, last in pairs)
    claims = [one["claim"] for one in report["verdicts"]]
    assert "ASR is more accurate than DIA: few images, best epoch" in claims


def test_protocol_hash_stands_in_the_report(finished, protocol):
    import hashlib

    assert finished[1]["protocol"] == hashlib.sha256(protocol.read_bytes()).hexdigest()


def test_figures_are_there_as_svg_and_png(finished):
    out, report, _ = finished
    expected = {"accuracy", "training-loss", "gate-correlation", "stripes", "gate-histogram", "stiffness", "gradients"}
    expected |= {"on-photographs_grad-cam", "on-photographs_bias"}
    assert {Path(name).stem for name in report["figures"]} == expected
    for name in report["figures"]:
        start = (out / name).read_bytes()[:200]
        assert b"PNG" in start if name.endswith("png") else b"<?xml" in start


def test_a_net_that_diverges_is_a_result(finished):
    plain = finished[1]["metrics"]["no-BatchNorm"]["plain"]
    assert all(isinstance(step, int) for step in plain["first non-finite step"])


@pytest.mark.slow
def test_started_again_it_goes_on_to_the_same_metrics(finished, protocol, monkeypatch):
    """As after a kill: one training is missing, one has lost its end; with another number of workers."""
    import shutil

    monkeypatch.setattr(demo_module, "_look_inside", lambda *_: {})  # it looks at the same weights as before

    out, report, _ = finished
    done = sorted(out.glob("trainings/few-images_DIA*"))
    shutil.rmtree(done[0])
    untouched = done[1] / "metrics.jsonl"
    before = untouched.stat().st_mtime_ns
    (out / "report.json").unlink()
    demo(DemoConfig(out=out, protocol=protocol, device="cpu", workers=2))
    again = json.loads((out / "report.json").read_text())
    assert {name: report["metrics"][name] for name in again["metrics"]} == again["metrics"]
    assert again["verdicts"] == [one for one in report["verdicts"] if "bias" not in one["claim"]]
    assert untouched.stat().st_mtime_ns == before


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_no_process_and_ends_the_same(finished, protocol, tmp_path):
    program = (
        "import sys, pathlib\nfrom dia_attention.demo import DemoConfig, demo\nif __name__ == '__main__':\n"
        "    demo(DemoConfig(out=pathlib.Path(sys.argv[1]), protocol=pathlib.Path(sys.argv[2]), device='cpu'))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(program)
    out = tmp_path / "out"
    for trainings in (1, 4, 8):
        command = [sys.executable, str(script), str(out), str(protocol)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            while len(list(out.glob("trainings/*"))) < trainings and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.stderr.read()  # returns when the last process that holds the pipe has gone
    demo(DemoConfig(out=out, protocol=protocol, device="cpu"))
    assert json.loads((out / "report.json").read_text())["metrics"] == finished[1]["metrics"]


def test_the_output_of_another_seed_or_protocol_is_refused(finished, protocol):
    with pytest.raises(ValueError, match="seed"):
        demo(DemoConfig(out=finished[0], protocol=protocol, device="cpu", seed=1))
    with pytest.raises(ValueError, match="protocol"):
        demo(DemoConfig(out=finished[0], device="cpu"))


@pytest.mark.parametrize(
    "broken",
    [
        "no JSON",
        "[]",
        json.dumps(TINY | {"surplus": 1}),
        json.dumps(TINY | {"seeds": 1}),
        json.dumps(TINY | {"training": {"epoch": 3}}),
        json.dumps(TINY | {"conditions": {}}),
        json.dumps(TINY | {"selection_seeds": 0}),
        json.dumps(TINY | {"conditions": {"a": TINY["conditions"]["few-images"] | {"references": ["SE"]}}}),
    ],
)
def test_a_broken_protocol_is_bad_input(tmp_path, broken):
    path = tmp_path / "broken.json"
    path.write_text(broken)
    with pytest.raises(ValueError, match=r"broken\.json is not a protocol"):
        Protocol.read(path)


@pytest.mark.parametrize("name", ["quick", "full"])
def test_shipped_protocols_read_and_keep_selection_apart(name):
    protocol = Protocol.read(PROTOCOLS / f"{name}.json")
    assert protocol.seeds >= 3
    rates = {(name, network): 0.1 for name, row in protocol.conditions.items() for network in row.learning_rates}
    reported = {job.config.seed for job in protocol.reported(7, rates)}
    assert reported == set(range(7, 7 + protocol.seeds))
    assert not reported & {job.config.seed for job in protocol.selection(7)}
    chooses = any(len(found) > 1 for row in protocol.conditions.values() for found in row.learning_rates.values())
    assert chooses == (protocol.selection_seeds > 0)


def test_rates_are_chosen_by_the_mean_and_ties_go_to_the_smaller(protocol):
    read = Protocol.read(protocol)
    jobs = read.selection(0) + [
        Job("few-images", "plain", read.config("few-images", "plain", rate, seed=1001)) for rate in (0.1, 0.03)
    ]

    def chosen(*accuracies):
        results = [
            TrainResult(
                steps=1, validation_accuracy=value, best_validation_accuracy=None, nonfinite_step=None, weights=""
            )
            for value in accuracies
        ]
        return read.choose(jobs, results)["few-images", "plain"]

    assert [job.config.learning_rate for job in jobs] == [0.1, 0.03, 0.1, 0.03]
    assert chosen(0.9, 0.5, 0.2, 0.5) == 0.1
    assert chosen(0.9, 0.5, 0.0, 0.5) == 0.03
    assert chosen(0.5, 0.5, 0.5, 0.5) == 0.03
