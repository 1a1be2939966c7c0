"""The recipes and the commands, whole: real classes, tiny sizes, a SURD archive, a language model as teacher."""

import dataclasses
import json
import zipfile

import pytest
import tiny_models
import tiny_pipelines as tiny
import train_world
from sur_adapter import SURAdapter, SURAdapterBundle
from sur_adapter._encode_command import EncodeTeacherConfig, encode_teacher_command, read_prompts
from sur_adapter._teacher_cache import TeacherCache
from sur_adapter._train_command import RECIPES, TrainCommand, read_recipe, train_command
from sur_adapter._train_config import TrainConfig
from sur_adapter.integrations import training
from sur_adapter.integrations.diffusers import attach

SMALL = ("resolution=16", "num_heads=4", "ff_dim=32", "steps=4", "batch_size=8", "checkpoint_every=2", "warmup=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    data = train_world.write_data(folder / "data")
    with zipfile.ZipFile(folder / "SURD.zip", "w") as file:
        for one in data.iterdir():
            file.write(one, f"SURD/{one.name}")
    tiny_models.llama(folder / "llama")
    return folder


@pytest.mark.parametrize("recipe", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_the_whole_run_of_a_recipe(world, tmp_path, capsys, recipe):
    """encode-teacher on the archive, train by the recipe with every option it has, attach the result."""
    model = train_world.write_pipeline(tmp_path / recipe, recipe)
    encode_teacher_command(
        EncodeTeacherConfig(
            prompts=world / "SURD.zip",
            out=tmp_path / "teacher",
            model=str(world / "llama"),
            layer="-1:raw",
            pooling="last",
            device="cpu",
        )
    )
    assert "6 prompts encoded, 0 were there" in capsys.readouterr().out
    paths = (f"model={model}", f"data={world / 'SURD.zip'}", f"teacher={tmp_path / 'teacher'}")
    command = TrainCommand(config=recipe, set=paths + SMALL, out=tmp_path / "run", device="cpu")
    assert train_command(command) == 0
    assert "4 steps; the adapter is in" in capsys.readouterr().out
    kind = SURAdapter if recipe == "sd15" else SURAdapterBundle
    kind.from_pretrained(tmp_path / "run/adapter")
    pipe = tiny.build(recipe)
    with attach(pipe, tmp_path / "run/adapter", scale=1.0):
        tiny.call(recipe, pipe, prompt="a red wall")
    told = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert (told["mixed_precision"], told["gradient_checkpointing"], told["min_snr"]) == ("bf16", True, 5.0)
    assert train_command(command) == 0  # the same again reads only
    alone = dataclasses.replace(command, diffusion=False, out=tmp_path / "alone")
    assert train_command(alone) == 0
    assert "diffusion" not in json.loads((tmp_path / "alone/metrics.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("recipe", ["sd15", "sdxl"])
def test_recipes_mark_their_predictions(capsys, recipe):
    text = (RECIPES / f"{recipe}.toml").read_text()
    assert "Predicted, not measured" in text
    settings, predicted = read_recipe(recipe, ("model=a", "data=b"))
    assert predicted.keys() == {"gpu_memory_gib", "disk_gib", "hours_on_one_a100"}
    assert settings.resolution == {"sd15": 512, "sdxl": 1024}[recipe]
    assert train_command(TrainCommand(config=recipe, set=("model=a", "data=b"), show=True)) == 0
    out = capsys.readouterr().out
    assert f"predicted, not measured: gpu_memory_gib {predicted['gpu_memory_gib']}" in out
    assert all(f"{field.name} = " in out for field in dataclasses.fields(TrainConfig))


def test_values_are_read_by_their_type():
    changes = ("model=a b", "data=c", "slots=['text_encoder']", "min_snr=none", "learning_rate=1", "compat=original")
    settings, _ = read_recipe("sd15", changes)
    assert (settings.model, settings.slots, settings.min_snr) == ("a b", ("text_encoder",), None)
    assert (settings.learning_rate, settings.compat) == (1, "original")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ((), ValueError, "give the model: --set model=PATH"),
        (("model=a",), ValueError, "give the data"),
        (("model=a", "data=b", "step=3"), ValueError, "no training option 'step'"),
        (("model=a", "data=b", "steps=many"), ValueError, "steps is 'many'; expected"),
        (("model=a", "data=b", "steps=1.5"), ValueError, "steps is 1.5"),
        (("model=a", "data=b", "mixing=rows"), ValueError, "mixing is 'rows'"),
        (("model=a", "data=b", "steps"), ValueError, "write NAME=VALUE"),
    ],
)
def test_bad_settings_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        read_recipe("sd15", changes)


def test_bad_recipes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recipe 'sd99' \(sd15, sdxl\)"):
        read_recipe("sd99")
    (tmp_path / "x.toml").write_text("[train")
    with pytest.raises(ValueError, match="is not TOML"):
        read_recipe(str(tmp_path / "x.toml"))
    (tmp_path / "x.toml").write_text("[training]\nsteps = 1")
    with pytest.raises(ValueError, match="has a table 'training'"):
        read_recipe(str(tmp_path / "x.toml"))


def test_a_training_that_ends_early_fails(monkeypatch, tmp_path, capsys):
    result = training.Trained(adapters={}, steps=3, nonfinite_step=4, directory=tmp_path)
    monkeypatch.setattr(training, "train", lambda *a, **k: result)
    assert train_command(TrainCommand(set=("model=a", "data=b"))) == 1
    assert "step 4 had a loss or gradient that is not finite" in capsys.readouterr().out


def test_prompts_of_every_kind_are_read(world, tmp_path):
    assert len(read_prompts(world / "SURD.zip")) == 12
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "a.json").write_text('["one", "two"]')
    assert read_prompts(tmp_path / "a.txt") == read_prompts(tmp_path / "a.json") == ["one", "two"]
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(ValueError, match="no list of prompts"):
        read_prompts(tmp_path / "b.json")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_prompts(tmp_path / "c.txt")


def test_the_authors_teacher_file_needs_its_model(tmp_path, capsys):
    import torch

    torch.save({"a cat": torch.zeros(4)}, tmp_path / "39.pt")
    config = EncodeTeacherConfig(prompts=tmp_path / "39.pt", out=tmp_path / "cache")
    with pytest.raises(ValueError, match="say which model"):
        encode_teacher_command(config)
    encode_teacher_command(dataclasses.replace(config, model="llama-13b", layer="40:raw"))
    assert "1 vectors imported" in capsys.readouterr().out
    assert TeacherCache(tmp_path / "cache").facts.model == "llama-13b"
