import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from sail_core.runs import latest, load_state
from scalelong._build import SkipHalves, build, conditioned, skip_linears
from scalelong._data import Images, load_images
from scalelong._diffusion import Probe, noise_loss, noise_schedule
from scalelong._sample import sample
from scalelong._train import TrainConfig, fit, load_trained, read_config

TINY = TrainConfig(
    depth=4, embed_dim=16, num_heads=2, steps=9, batch_size=8, learning_rate=3e-3, checkpoint_every=4, probe_every=3
)


@pytest.fixture(scope="module")
def digits():
    return load_images("digits"), load_images("digits", split="test")[slice(0, 16)]


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_noise_loss_is_the_formula(digits):
    images = conditioned(digits[1], TINY)
    schedule, noise = noise_schedule(), torch.randn(16, 1, 8, 8)
    t = torch.arange(16) * 60
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[t].view(-1, 1, 1, 1)
    noisy = abar.sqrt() * images.pixels + (1 - abar).sqrt() * noise
    model = build(TINY, images, seed=0)
    expected = (model(noisy.float(), t) - noise).square().mean()
    torch.testing.assert_close(noise_loss(model, images, t, noise, schedule), expected, rtol=1e-5, atol=1e-6)


def test_the_probe_is_the_same_at_every_call_and_keeps_the_mode(digits):
    images = conditioned(digits[1], TINY)
    probe, model = Probe(images, noise_schedule()), build(TINY, images, seed=0).train()
    assert probe(model) == probe(model)
    assert model.training


def test_training_lowers_the_loss(digits, tmp_path):
    result = fit(dataclasses.replace(TINY, steps=60, probe_every=10), *digits, tmp_path, device="cpu")
    assert result.probe[-1][1] < 0.8 * result.probe[0][1]
    assert len(result.gradient_norms) == 60
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 61))


@pytest.mark.parametrize(
    "changes", [{"scaling": "ls"}, {"scaling": "org", "control": "reparametrised"}, {"clip_norm": 0.5, "warmup": 5}]
)
def test_resumed_it_ends_with_the_same_bits(digits, tmp_path, changes):
    config = dataclasses.replace(TINY, **changes)
    whole = fit(config, *digits, tmp_path / "whole", device="cpu")
    part = tmp_path / "part"
    real, calls = torch.optim.AdamW.step, []

    def stop(self, *args):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(config, *digits, part, device="cpu")
    assert load_state(latest(part))["step"] == 4
    torch.manual_seed(999)
    again = fit(config, *digits, part, device="cpu")
    assert equal(weights(whole.model), weights(again.model))
    assert whole.probe == again.probe
    assert whole.gradient_norms == again.gradient_norms
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (part / "metrics.jsonl").read_text()


def test_a_finished_training_is_only_read_again(digits, tmp_path):
    first = fit(TINY, *digits, tmp_path, device="cpu")
    before = (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    second = fit(TINY, *digits, tmp_path, device="cpu")
    assert equal(weights(first.model), weights(second.model))
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == before
    assert equal(weights(load_trained(tmp_path, digits[0])), weights(first.model))
    assert read_config(tmp_path) == TINY


def test_constant_scaling_is_the_reparametrised_plain_net(digits, tmp_path):
    """The two arms start from the same function and take the same steps, up to rounding and Adam's epsilon."""
    pixels = digits[0].pixels.double()
    images = Images(pixels=pixels)
    scaled = build(dataclasses.replace(TINY, scaling="cs", kappa=0.6), images, seed=1).double()
    plain = build(dataclasses.replace(TINY, scaling="org"), images, seed=1).double()
    halves = SkipHalves(plain, 0.6)
    options = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-20}
    steps = [(net, torch.optim.AdamW(net.parameters(), **options)) for net in (scaled, plain)]
    for index in range(5):
        generator = torch.Generator().manual_seed(index)
        t = torch.randint(0, 1000, (8,), generator=generator)
        noise = torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)
        batch = images[slice(8 * index, 8 * index + 8)]
        for net, optimizer in steps:
            optimizer.zero_grad()
            torch.autograd.backward(noise_loss(net, batch, t, noise, noise_schedule()))
            halves.step(optimizer) if net is plain else optimizer.step()
    for index, (ours, theirs) in enumerate(zip(skip_linears(scaled), skip_linears(plain), strict=True)):
        half = ours.in_features // 2
        torch.testing.assert_close(ours.weight[:, :half], theirs.weight[:, :half], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(ours.weight[:, half:] * 0.6**index, theirs.weight[:, half:], rtol=1e-3, atol=1e-6)


def test_the_magnitude_preserving_concatenation_changes_the_plain_net(digits):
    images = conditioned(digits[1], TINY)
    t = torch.full((16,), 500)
    outs = [
        build(dataclasses.replace(TINY, scaling="org", control=control), images, seed=0)(images.pixels, t)
        for control in ("none", "mp_cat")
    ]
    assert not torch.allclose(*outs)


def test_a_loss_that_is_not_finite_ends_the_training_before_its_update(digits, tmp_path):
    images = Images(pixels=digits[0].pixels.clone())
    images.pixels[:] = float("nan")
    result = fit(TINY, images, digits[1], tmp_path, device="cpu")
    assert (result.nonfinite_step, result.steps) == (1, 0)
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())
    assert fit(TINY, images, digits[1], tmp_path, device="cpu").nonfinite_step == 1


def test_another_config_in_the_same_directory_is_refused(digits, tmp_path):
    fit(TINY, *digits, tmp_path, device="cpu")
    with pytest.raises(ValueError, match="kappa"):
        fit(dataclasses.replace(TINY, kappa=0.5), *digits, tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"control": "mp_cat"}, "goes with model 'uvit' and scaling 'org'"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **changes)


def test_pictures_that_do_not_fit_are_refused(digits):
    with pytest.raises(ValueError, match="patches"):
        build(dataclasses.replace(TINY, patch_size=3), digits[0], seed=0)
    with pytest.raises(ValueError, match="no classes"):
        build(dataclasses.replace(TINY, class_conditional=True), conditioned(digits[0], TINY), seed=0)


def test_a_directory_without_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not the directory of a training"):
        read_config(tmp_path)


def test_a_unet_trains_with_each_scaling_and_classes(digits, tmp_path):
    for scaling in ("org", "cs", "ls"):
        config = dataclasses.replace(
            TINY, model="unet", channels=(32,), layers_per_block=1, scaling=scaling, class_conditional=True, steps=2
        )
        result = fit(config, *digits, tmp_path / scaling, device="cpu")
        assert result.nonfinite_step is None
        again = load_trained(tmp_path / scaling, digits[0])
        assert equal(weights(again), weights(result.model))
        like = digits[0][slice(0, 2)]
        assert torch.equal(sample(again, like, steps=2), sample(result.model, like, steps=2))


def test_text_reaches_the_network(digits, tmp_path):
    pixels = digits[0].pixels[:8]
    images = Images(pixels=pixels, context=torch.randn(8, 3, 5))
    config = dataclasses.replace(TINY, steps=2, batch_size=4)
    model = fit(config, images, images, tmp_path, device="cpu").model
    t = torch.full((8,), 500)
    assert not torch.allclose(
        model(pixels, t, context=images.context), model(pixels, t, context=images.context.flip(0))
    )


def test_samples_depend_on_the_seed_and_not_on_the_batch(digits):
    images = conditioned(digits[1], TINY)
    model = build(TINY, images, seed=0)
    a, b = sample(model, images, steps=3, batch_size=5), sample(model, images, steps=3)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(b, sample(model, images, steps=3, seed=1))
    assert b.abs().max() <= 1
    with pytest.raises(ValueError, match="steps is 0"):
        sample(model, images, steps=0)


def test_bf16_trains(digits, tmp_path):
    result = fit(dataclasses.replace(TINY, mixed_precision="bf16", steps=3), *digits, tmp_path, device="cpu")
    assert result.nonfinite_step is None
    assert {value.dtype for value in result.model.parameters()} == {torch.float32}


KILLED = """
import sys
from pathlib import Path
from scalelong._data import load_images
from scalelong._train import TrainConfig, fit
config = TrainConfig(depth=4, embed_dim=16, num_heads=2, steps=60, batch_size=8, checkpoint_every=3, probe_every=3)
fit(config, load_images("digits"), load_images("digits", split="test"), Path(sys.argv[1]), device="cpu")
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    import random

    script = tmp_path / "run.py"
    script.write_text(KILLED)

    def start(out):
        return subprocess.Popen(
            [sys.executable, "-P", str(script), str(out)], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )

    assert start(tmp_path / "whole").wait() == 0
    seed = random.randrange(2**32)
    print("seed of the moments:", seed)
    rng, part, kills = random.Random(seed), tmp_path / "part", 0
    for _ in range(8):
        process = start(part)
        deadline = time.monotonic() + 60
        while latest(part) is None and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 2))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert start(part).wait() == 0
    assert kills > 0
    whole, again = (load_state(latest(tmp_path / name)) for name in ("whole", "part"))
    assert equal(whole["model"], again["model"])
    assert equal(whole["average"], again["average"])
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (part / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """torchrun with two gloo processes: the same batches, so the same weights up to the order of a sum."""
    script = tmp_path / "run.py"
    script.write_text(KILLED.replace("steps=60", "steps=6"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-P", str(script), str(tmp_path / "one")], env=environment, check=True)
    launch = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    launch += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    subprocess.run(
        [*launch, str(script), str(tmp_path / "two")], env=environment | {"ACCELERATE_USE_CPU": "1"}, check=True
    )
    one, two = (load_state(latest(tmp_path / name)) for name in ("one", "two"))
    for name, value in one["model"].items():
        torch.testing.assert_close(value, two["model"][name], rtol=1e-3, atol=1e-4)
