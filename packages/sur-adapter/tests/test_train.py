"""Training on tiny pipelines of the real classes."""

import json

import diffusers
import pytest
import safetensors.torch
import tiny_pipelines as tiny
import torch
import train_world as world_of
from sail_core.runs import latest, load_state
from sur_adapter import SURAdapter, SURAdapterBundle
from sur_adapter._projector import load_projectors
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter.integrations import training
from sur_adapter.integrations._encoded_data import encode_data
from sur_adapter.integrations._frozen import frozen_denoiser
from sur_adapter.integrations.diffusers import attach
from sur_adapter.integrations.training import train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world_of.write_data(folder / "data")
    world_of.write_teacher(folder / "teacher")
    for family in tiny.FAMILIES:
        world_of.write_pipeline(folder / family, family)
    return folder


def run(world, directory, family="sd15", **changes):
    return train(world_of.config(world, family, **changes), directory, device="cpu")


def equal(a, b):
    a, b = world_of.adapter_tensors(a), world_of.adapter_tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_trains_and_attaches(world, tmp_path, family):
    result = run(world, tmp_path, family, steps=3)
    assert (result.steps, result.nonfinite_step) == (3, None)
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    names = {"loss", "diffusion", "prompt", "teacher", "preservation", "gradient_norm", "learning_rate", "step"}
    assert rows[0].keys() == names
    wanted = [slot for slot in tiny.SLOTS[family] if slot != "text_encoder_3"]
    assert list(result.adapters) == wanted
    assert all(adapter.fc.weight.abs().max() > 0 for adapter in result.adapters.values())
    pipe = tiny.build(family)
    plain = tiny.call(family, pipe, prompt="a red wall")
    with attach(pipe, tmp_path / "adapter", scale=1.0):
        assert (tiny.call(family, pipe, prompt="a red wall") != plain).any()
    facts = next(iter(result.adapters.values())).provenance
    assert (facts.encoder_slot, facts.teacher_id, facts.teacher_layer) == (wanted[0], "teacher", "3:raw")
    assert load_projectors(tmp_path / "projector.safetensors").keys() == set(wanted)
    kind = SURAdapter if len(wanted) == 1 else SURAdapterBundle
    assert "projector" not in str(kind.from_pretrained(tmp_path / "adapter").state_dict().keys())


class Process:
    """One process, for what is not a training."""

    device, process_index, num_processes, is_main_process = torch.device("cpu"), 0, 1, True

    def wait_for_everyone(self):
        pass


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_encoded_text_and_latents_are_what_the_pipeline_makes(world, tmp_path, family):
    """Against encode_prompt and the VAE of the pipeline itself, for every row."""
    config = world_of.config(world, family)
    surd = training.Surd(config.data)
    data = encode_data(config, surd, tmp_path, Process())
    batch = data.batch(torch.arange(len(surd)), None, torch.device("cpu"))
    pipe = tiny.build(family)
    denoise, _ = frozen_denoiser(config, data.family, torch.device("cpu"))
    options = {"max_sequence_length": 24} if family in ("sd3", "flux") else {}
    if family != "flux":
        options["do_classifier_free_guidance"] = False
    for kind, states in (("narrative", batch.narrative), ("complex", batch.complex)):
        texts = [getattr(row, kind) for row in surd.rows]
        more = {"prompt_2": None} if family != "sd15" and family != "sd2" else {}
        more |= {"prompt_3": None} if family == "sd3" else {}
        more |= {"device": "cpu", "num_images_per_prompt": 1}
        found = pipe.encode_prompt(prompt=texts, **more, **options)
        torch.testing.assert_close(denoise.text(states), found[0], rtol=1e-4, atol=1e-5)
        if kind == "narrative" and "pooled" in batch.extra:
            pooled = found[{"sdxl": 2, "sd3": 2, "flux": 1}[family]]
            torch.testing.assert_close(batch.extra["pooled"], pooled, rtol=1e-4, atol=1e-5)
    from sur_adapter.integrations._preencode import open_image

    pixels = torch.stack([open_image(surd.image(row), 16, where="")[0] for row in range(len(surd))])
    with torch.no_grad():
        clean = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    torch.testing.assert_close(batch.latents, clean, rtol=1e-4, atol=1e-5)
    if family == "sdxl":
        assert batch.extra["time_ids"][0].tolist() == [16, 20, 0, 2, 16, 16]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_denoiser_is_called_as_the_pipeline_calls_it(world, tmp_path, family):
    """The first call that sampling makes, repeated through ours with the same latents, time and text."""
    pipe, seen = tiny.build(family), []
    part = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    real = part.forward

    def spy(*args, **kwargs):
        out = real(*args, **kwargs)
        seen.append((args, kwargs, out[0]))
        return out

    part.forward = spy
    tiny.call(family, pipe, prompt="a red wall", guidance_scale=1.0)
    args, kwargs, expected = seen[0]
    config = world_of.config(world, family)
    denoise, _ = frozen_denoiser(config, {"sd15": "sd", "sd2": "sd"}.get(family, family), torch.device("cpu"))
    text = kwargs["encoder_hidden_states"]
    denoise.text = lambda states: text
    noisy = args[0] if args else kwargs["hidden_states"]
    time = args[1] if args else kwargs["timestep"]
    extra = {}
    if family == "sdxl":
        extra = {
            "pooled": kwargs["added_cond_kwargs"]["text_embeds"],
            "time_ids": kwargs["added_cond_kwargs"]["time_ids"],
        }
    elif "pooled_projections" in kwargs:
        extra = {"pooled": kwargs["pooled_projections"]}
    if family == "flux":
        side = int((noisy.shape[1]) ** 0.5)
        noisy = pipe._unpack_latents(noisy, side * 4, side * 4, pipe.vae_scale_factor)
        expected = pipe._unpack_latents(expected, side * 4, side * 4, pipe.vae_scale_factor)
        time = time * 1000
    with torch.no_grad():
        found = denoise(noisy, time.expand(len(noisy)), {"text_encoder": text}, extra)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"accumulation": 2, "dropout": 0.2, "warmup": 4}, {"compat": "original"}])
def test_resumed_it_ends_with_the_same_bits(world, tmp_path, changes):
    whole = run(world, tmp_path / "whole", **changes)
    real, calls = torch.optim.AdamW.step, []

    def stop(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path / "part", **changes)
    assert load_state(latest(tmp_path / "part"))["step"] == 2
    torch.manual_seed(999)
    again = run(world, tmp_path / "part", **changes)
    assert equal(whole, again)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "part/metrics.jsonl").read_text()
    for name in ("adapter/diffusion_pytorch_model.safetensors", "projector.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


def test_a_finished_training_is_only_read_again(world, tmp_path, monkeypatch):
    first = run(world, tmp_path)
    before = (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    monkeypatch.setattr("sur_adapter.integrations._frozen.frozen_denoiser", None)  # not needed any more
    assert equal(first, run(world, tmp_path))
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_diffusion_loss_alone_trains_every_adapter(world, tmp_path, family):
    """eps, v and flow targets: through the frozen denoiser the gradient reaches each slot's adapter."""
    alone = {"teacher": None, "prompt_weight": 0.0, "preservation_weight": 0.0}
    result = run(world, tmp_path, family, steps=1, ema_decay=0.0, **alone)
    assert metrics(tmp_path)[0]["gradient_norm"] > 1e-5
    for adapter in result.adapters.values():
        assert adapter.fc.weight.abs().max() > 1e-3  # Adam's first step is the learning rate, where a gradient is


def test_micro_batches_add_up_to_the_batch(world, tmp_path):
    whole = run(world, tmp_path / "whole", steps=1, batch_size=4)
    parts = run(world, tmp_path / "parts", steps=1, batch_size=4, accumulation=4)
    rows = metrics(tmp_path / "whole")[0], metrics(tmp_path / "parts")[0]
    for name, tolerance in {"diffusion": 1e-4, "preservation": 1e-4, "prompt": 0.05, "teacher": 0.05}.items():
        assert rows[0][name] == pytest.approx(rows[1][name], rel=tolerance), name  # texts differ in tokens
    a, b = world_of.adapter_tensors(whole), world_of.adapter_tensors(parts)
    assert max((a[name] - b[name]).abs().max() for name in a) < 6e-3  # one step of Adam is 3e-3


def test_the_loss_falls(world, tmp_path):
    run(world, tmp_path, steps=30, batch_size=12, scale=1.0, diffusion_weight=0.0, learning_rate=1e-2)
    rows = metrics(tmp_path)
    for name in ("prompt", "teacher"):
        assert rows[-1][name] < 0.85 * rows[0][name], name


def test_without_diffusion_no_image_and_no_denoiser_is_read(world, tmp_path, monkeypatch):
    data = tmp_path / "texts"
    data.mkdir()
    (data / "metadata.jsonl").write_text((world / "data/metadata.jsonl").read_text())
    loaded = []
    real = diffusers.UNet2DConditionModel.from_pretrained
    monkeypatch.setattr(
        diffusers.UNet2DConditionModel, "from_pretrained", lambda *a, **k: loaded.append(1) or real(*a, **k)
    )
    result = run(world, tmp_path / "run", data=str(data), diffusion_weight=0.0)
    assert result.steps == 5
    assert loaded == []
    assert "diffusion" not in metrics(tmp_path / "run")[0]
    stored = safetensors.torch.load_file(tmp_path / "run/encoded/encoded-00000.safetensors")
    assert "latents" not in stored


def test_without_a_teacher_there_is_no_projector(world, tmp_path):
    run(world, tmp_path, teacher=None, steps=1)
    assert not (tmp_path / "projector.safetensors").exists()
    assert "teacher" not in metrics(tmp_path)[0]


def test_the_average_forgets_the_start(world, tmp_path):
    last = run(world, tmp_path / "last", ema_decay=0.0)
    mean = run(world, tmp_path / "mean", ema_decay=0.999)
    state = load_state(latest(tmp_path / "last"))["student"]
    name = "adapters.text_encoder.fc.weight"
    assert torch.equal(world_of.adapter_tensors(last)["text_encoder.fc.weight"], state[name])
    gap = world_of.adapter_tensors(mean)["text_encoder.fc.weight"] - state[name]
    assert 0 < gap.abs().max() < state[name].abs().max()


def test_encoded_rows_are_shared_and_not_made_twice(world, tmp_path, monkeypatch):
    shared = str(tmp_path / "encoded")
    first = run(world, tmp_path / "a", encoded=shared)
    monkeypatch.setattr("sur_adapter.integrations._preencode.load_parts", None)
    second = run(world, tmp_path / "b", encoded=shared)
    assert equal(first, second)
    with pytest.raises(ValueError, match="was encoded with resolution 16, this run has 32"):
        run(world, tmp_path / "c", encoded=shared, resolution=32)


def test_bf16(world, tmp_path):
    result = run(world, tmp_path, mixed_precision="bf16", gradient_checkpointing=True)
    assert result.nonfinite_step is None
    assert all(value.dtype == torch.float32 for value in world_of.adapter_tensors(result).values())
    full = run(world, tmp_path / "full")
    assert metrics(tmp_path)[0]["diffusion"] == pytest.approx(metrics(tmp_path / "full")[0]["diffusion"], rel=0.05)
    assert not equal(result, full)


def test_options_of_the_losses_reach_them(world, tmp_path):
    rows = {}
    for name, changes in {
        "plain": {},
        "snr": {"min_snr": 1.0},
        "offset": {"noise_offset": 0.5},
        "mse": {"prompt_match": "mse"},
        "cosine": {"teacher_match": "cosine"},
    }.items():
        run(world, tmp_path / name, steps=1, **changes)
        rows[name] = metrics(tmp_path / name)[0]
    assert rows["snr"]["diffusion"] < rows["plain"]["diffusion"]
    assert rows["offset"]["diffusion"] != rows["plain"]["diffusion"]
    assert rows["mse"]["prompt"] != rows["plain"]["prompt"]
    assert rows["cosine"]["teacher"] != rows["plain"]["teacher"]


def test_chosen_slots_alone_are_trained(world, tmp_path):
    result = run(world, tmp_path, "sdxl", slots=("text_encoder_2",), steps=1)
    assert list(result.adapters) == ["text_encoder_2"]
    with pytest.raises(ValueError, match="has no slot 'text_encoder_9'; it has text_encoder, text_encoder_2"):
        run(world, tmp_path / "b", "sdxl", slots=("text_encoder_9",))


def test_compat_original_is_the_authors_training(world, tmp_path):
    """Their module, their KL, their weights, a frozen projector; the diffusion gradient unless it is taken away."""
    changes = {"compat": "original", "steps": 1, "ema_decay": 0.0}
    result = run(world, tmp_path / "a", **changes)
    adapter = result.adapters["text_encoder"]
    assert (adapter.mixing, adapter.residual, adapter.dropout, adapter.scale) == ("batch", "lerp", 0.1, 0.1)
    weights = world_of.config(world, compat="original").weights()
    assert (weights.prompt, weights.teacher, weights.preservation) == (1e-5, 1e-5, 0.0)
    before = load_projectors(tmp_path / "a/projector.safetensors")["text_encoder"]
    assert before.side == "teacher"
    more = run(world, tmp_path / "b", **changes | {"steps": 3})
    after = load_projectors(tmp_path / "b/projector.safetensors")["text_encoder"]
    assert torch.equal(before.linear.weight, after.linear.weight)  # frozen
    assert more.steps == 3
    norms = {}
    for detach in (False, True):
        run(world, tmp_path / str(detach), **changes | {"detach_diffusion": detach})
        norms[detach] = metrics(tmp_path / str(detach))[0]["gradient_norm"]
    assert norms[True] < norms[False]


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(world, tmp_path, monkeypatch):
    real, calls = training.Step.__call__, []

    def spoiled(self, *args):
        found = real(self, *args)
        calls.append(1)
        if len(calls) == 4:
            found["loss"] = found["loss"] * float("nan")
        return found

    good = run(world, tmp_path / "good", steps=3)
    monkeypatch.setattr(training.Step, "__call__", spoiled)
    result = run(world, tmp_path / "bad")
    assert (result.nonfinite_step, result.steps) == (4, 3)
    assert equal(result, good)
    kept = SURAdapter.from_pretrained(tmp_path / "bad/adapter")
    assert all(torch.isfinite(value).all() for value in kept.state_dict().values())
    assert metrics(tmp_path / "bad")[-1]["loss"] == "NaN"
    again = run(world, tmp_path / "bad")
    assert (again.nonfinite_step, again.steps) == (4, 3)


def test_no_pickle_is_written(world, tmp_path):
    run(world, tmp_path, steps=1)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".jsonl", ".safetensors", ""}


def test_teacher_misses_are_counted_before_anything_is_encoded(world, tmp_path):
    cache = world_of.write_teacher(tmp_path / "teacher", colours=world_of.COLOURS[:4])
    with pytest.raises(ValueError, match=r"2 of 6 prompts are not in .*; first: 'a light wall'; run encode-teacher"):
        run(world, tmp_path / "run", teacher=str(cache))
    assert not (tmp_path / "run").exists()
    assert len(TeacherCache(cache)) == 4


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate"),
        ({"scale": float("nan")}, ValueError, "scale is nan"),
        ({"batch_size": 5, "accumulation": 2}, ValueError, "does not divide into 2"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay"),
        ({"teacher": None, "teacher_weight": 0.1}, ValueError, "there is no teacher"),
        ({"diffusion_weight": -1.0}, ValueError, "diffusion loss is -1"),
        ({"detach_diffusion": True}, ValueError, "needs compat 'original'"),
        ({"compat": "original", "mixing": "none"}, ValueError, "leave mixing"),
        ({"model": "./no/such/folder"}, FileNotFoundError, "no hub was asked"),
        ({"data": "no/such/data"}, FileNotFoundError, "SURD.zip"),
        ({"teacher": "no/such/cache"}, FileNotFoundError, "encode-teacher makes one"),
    ],
)
def test_bad_settings_are_refused(world, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        run(world, tmp_path, **changes)


def test_another_config_in_the_same_directory_is_refused(world, tmp_path):
    run(world, tmp_path, steps=1)
    with pytest.raises(ValueError, match="learning_rate"):
        run(world, tmp_path, steps=1, learning_rate=1e-5)


def test_a_folder_that_is_no_pipeline_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="not the folder"):
        run(world, tmp_path, model=str(world / "data"))
