import dataclasses
import json
import multiprocessing
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from dia_attention._cifar import cifar_resnet
from dia_attention._train import BEST, TrainConfig, accuracy, build, fit, learning_rate, weights_hash
from sail_core.runs import CheckpointError, latest, load_state

sys.path.insert(0, str(Path(__file__).parent))  # the killed processes find their work by name
from train_worker import CONFIG, data, train_in

STEPS = 24
PROCESSES = multiprocessing.get_context("forkserver")  # so that torch is imported once, not in every killed process
PROCESSES.set_forkserver_preload(["train_worker", "torch._dynamo"])


def start(directory):
    process = PROCESSES.Process(target=train_in, args=(directory, directory.with_suffix(".stderr")))
    process.start()
    return process


def rows(directory):
    path = directory / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_at(directory, row, *, delay=0.0):
    """Start the training and kill it with SIGKILL once its log has so many rows; True if it was still running."""
    process = start(directory)
    while rows(directory) < row and process.is_alive():
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join(100)
    assert process.exitcode in (0, -signal.SIGKILL), directory.with_suffix(".stderr").read_text()
    return process.exitcode == -signal.SIGKILL


def finish(directory):
    """Let the training end and return the hash of its weights, read from its last checkpoint."""
    process = start(directory)
    process.join(300)
    errors = directory.with_suffix(".stderr").read_text()
    assert (process.exitcode, errors) == (0, "")  # also: no progress bar where stderr is no terminal
    return fit(build(CONFIG, data(CONFIG)), data(CONFIG), CONFIG, directory).weights


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The run that was never killed, in this process."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("untouched")
    result = fit(build(CONFIG, data(CONFIG)), data(CONFIG), CONFIG, directory)
    assert (result.steps, result.nonfinite_step) == (STEPS, None)
    return directory, result


def test_killed_before_and_after_a_checkpoint_ends_with_the_same_weights(tmp_path, untouched):
    directory, result = untouched
    killed = tmp_path / "killed"
    assert kill_at(killed, 2)
    assert kill_at(killed, 13)
    assert int(latest(killed).name.removeprefix("step-")) >= 10  # a kill costs the steps since a checkpoint, no more
    assert finish(killed) == result.weights
    assert (killed / "metrics.jsonl").read_text() == (directory / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_killed_at_random_moments_many_times(tmp_path, untouched):
    _, result = untouched
    draw = random.Random(0)
    for series in range(4):
        directory = tmp_path / str(series)
        kills = [kill_at(directory, row + draw.randrange(4), delay=draw.random() * 0.05) for row in range(1, 21, 4)]
        assert any(kills)
        assert finish(directory) == result.weights


def test_every_step_is_logged_once(untouched):
    directory, _ = untouched
    logged = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == list(range(1, STEPS + 1))
    assert [row["epoch"] for row in logged] == [epoch for epoch in range(6) for _ in range(4)]


def test_training_learns(tmp_path):
    config = TrainConfig(depth=11, per_class=20, epochs=6, batch_size=10, augment=False)
    assert fit(build(config, data(config)), data(config), config, tmp_path).validation_accuracy > 0.5


def test_best_weights_are_those_of_the_best_epoch(untouched):
    directory, result = untouched
    assert result.best_validation_accuracy >= result.validation_accuracy
    model = build(CONFIG, data(CONFIG))
    model.load_state_dict(load_state(latest(directory / BEST))["model"])
    assert accuracy(model, data(CONFIG).validation) == result.best_validation_accuracy


def test_other_images_in_the_same_directory_are_refused(untouched):
    directory, _ = untouched
    found = data(CONFIG)
    other = dataclasses.replace(found, train=found.validation)
    with pytest.raises(ValueError, match="other images"):
        fit(build(CONFIG, found), other, CONFIG, directory)


def test_a_finished_run_is_only_read(untouched):
    directory, result = untouched
    before = (directory / "metrics.jsonl").stat().st_mtime_ns
    assert fit(build(CONFIG, data(CONFIG)), data(CONFIG), CONFIG, directory) == result
    assert (directory / "metrics.jsonl").stat().st_mtime_ns == before


def test_another_config_in_the_same_directory_is_refused(untouched):
    directory, _ = untouched
    other = dataclasses.replace(CONFIG, epochs=7)
    with pytest.raises(ValueError, match=r"epochs \(6 there, 7 now\)"):
        fit(build(other, data(other)), data(other), other, directory)


def test_a_changed_checkpoint_is_refused(tmp_path):
    config = TrainConfig(depth=11, per_class=1, epochs=1, batch_size=10)
    fit(build(config, data(config)), data(config), config, tmp_path)
    tensors = latest(tmp_path) / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(CheckpointError):
        fit(build(config, data(config)), data(config), config, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_training_and_is_recorded(tmp_path):
    config = TrainConfig(depth=11, attention=None, per_class=2, epochs=3, batch_size=10, learning_rate=1e30)
    result = fit(build(config, data(config)), data(config), config, tmp_path)
    assert result.nonfinite_step is not None
    assert result.steps == result.nonfinite_step - 1 < 6
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == result.nonfinite_step
    assert isinstance(last["loss"], str)  # NaN or Infinity by name: JSON has neither
    assert fit(build(config, data(config)), data(config), config, tmp_path) == result


def test_schedule_is_the_papers():
    """ResNet-164: 180 epochs, 0.1, divided by 10 at 60 and 120."""
    config = TrainConfig()
    rates = [learning_rate(config, epoch / 180) for epoch in (0, 59, 60, 119, 120, 179)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_hash_sees_every_bit_and_the_names():
    net = cifar_resnet(11, attention="dia")
    before = weights_hash(net)
    assert weights_hash(net.to(memory_format=torch.channels_last)) == before
    net.bn1.num_batches_tracked += 1
    counted = weights_hash(net)
    with torch.no_grad():
        net.fc.bias[0].copy_(torch.nextafter(net.fc.bias[0], torch.tensor(9.0)))
    assert len({before, counted, weights_hash(net)}) == 3
    assert weights_hash(torch.nn.Sequential(torch.nn.ReLU())) == weights_hash(torch.nn.ReLU())


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"checkpoint_every": -1}, {"learning_rate": 0.0}, {"milestones": (0.0,)}],
)
def test_impossible_settings_name_themselves(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig(**wrong)
