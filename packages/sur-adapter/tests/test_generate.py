"""The command `generate` on a tiny pipeline on disk."""

import json

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from random_adapters import trained
from sur_adapter import Provenance, SURAdapterBundle
from sur_adapter._generate import GenerateConfig, generate
from tiny_pipelines import SLOTS, trained_for

LONG = "a red dog jumps over the fence and " * 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline and its adapters in folders, by family."""
    made = {}

    def get(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            tiny.build(family).save_pretrained(folder / "pipe")
            trained_for(family).save_pretrained(folder / "adapter")
            made[family] = {"model": str(folder / "pipe"), "adapter": folder / "adapter"}
        return made[family]

    return get


def config(folders, out, family="sd15", **options):
    small = {"height": 16, "width": 16, "steps": 2, "device": "cpu", "prompt": ("a red dog", "two birds")}
    return GenerateConfig(**folders(family), out=out, **(small | options))


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_base_and_adapter_from_the_same_noise_in_a_grid(folders, tmp_path, capsys):
    generate(config(folders, tmp_path, compare=True, grid=True, scale=(0.25, 0.5)))
    assert "6 images of 2 prompts, grid.png" in capsys.readouterr().out
    record = json.loads((tmp_path / "generate.json").read_text())
    assert [one["scale"]["text_encoder"] for one in record["images"]] == [0.0, 0.25, 0.5] * 2
    assert [one["seed"] for one in record["images"]] == [0, 0, 0, 1, 1, 1]
    pipe = tiny.build("sd15")
    options = {"height": 16, "width": 16, "num_inference_steps": 2}
    base = pipe("a red dog", generator=torch.Generator().manual_seed(0), **options).images[0]
    assert (np.asarray(base).astype(int) == pixels(tmp_path / "0000-0.png")).all()
    assert (pixels(tmp_path / "0000-0.png") != pixels(tmp_path / "0000-0.5.png")).any()
    grid = pixels(tmp_path / "grid.png")
    assert grid.shape == (2 * 16 + 2, 3 * 16 + 4, 3)
    assert (grid[18:, 36:] == pixels(tmp_path / "0001-0.5.png")).all()


def test_the_same_command_gives_the_same_bytes(folders, tmp_path):
    for name in ("a", "b"):
        generate(config(folders, tmp_path / name, prompt=("a cat",), seed=7))
    assert (tmp_path / "a" / "0000-own.png").read_bytes() == (tmp_path / "b" / "0000-own.png").read_bytes()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("sdxl", {"negative_prompt": "ugly", "negative": "skip", "clip_skip": 1}),
        ("sd3", {"negative_prompt": "ugly", "max_sequence_length": 24}),
        ("flux", {"negative_prompt": "ugly", "true_cfg_scale": 2.0, "max_sequence_length": 24}),
        ("sd15", {"guidance_scale": 1.0}),
    ],
)
def test_other_families_and_options(folders, tmp_path, family, options):
    generate(config(folders, tmp_path, family, prompt=("a boat",), compare=True, **options))
    assert (pixels(tmp_path / "0000-0.png") != pixels(tmp_path / "0000-own.png")).any()


def test_prompts_of_a_file_and_long_ones(folders, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text(f"a cat\n\n  {LONG}\n", encoding="utf-8")
    options = {"prompt": (), "prompts_file": tmp_path / "prompts.txt"}
    generate(config(folders, tmp_path / "cut", **options))
    assert "warning: text_encoder reads 77 of" in capsys.readouterr().err
    record = json.loads((tmp_path / "cut" / "generate.json").read_text())
    assert [one["prompt"] for one in record["images"]] == ["a cat", LONG.strip()]
    assert record["truncated"][0]["tokens"] > 77
    generate(config(folders, tmp_path / "whole", long="chunk", **options))
    assert capsys.readouterr().err == ""
    assert (pixels(tmp_path / "cut" / "0001-own.png") != pixels(tmp_path / "whole" / "0001-own.png")).any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": ()}, ValueError, "there is no prompt"),
        ({"prompt": ("a dog", " ")}, ValueError, "prompt 2 of 2 is empty"),
        ({"prompts_file": "missing.txt"}, FileNotFoundError, "missing.txt"),
        ({"adapter": "no/adapter"}, FileNotFoundError, "there is no folder no/adapter"),
        ({"model": "/no/pipeline"}, FileNotFoundError, "there is no folder /no/pipeline"),
        ({"scale": (float("nan"),)}, ValueError, "scale is nan"),
    ],
)
def test_bad_input(folders, tmp_path, options, error, message):
    from pathlib import Path

    paths = {name: Path(value) for name, value in options.items() if name in ("prompts_file", "adapter")}
    small = {"height": 16, "width": 16, "steps": 1, "device": "cpu", "prompt": ("a dog",)}
    with pytest.raises(error, match=message):
        generate(GenerateConfig(**(folders("sd15") | small | options | paths), out=tmp_path))


def test_a_model_that_is_no_folder_here_nor_on_the_hub(folders, tmp_path):
    arguments = folders("sd15") | {"model": "runs/model", "prompt": ("a dog",), "device": "cpu"}
    with pytest.raises(FileNotFoundError, match="there is no folder runs/model here, and the Hub gave no pipeline"):
        generate(GenerateConfig(**arguments, out=tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no model_index\.json"):
        generate(GenerateConfig(**(arguments | {"model": str(tmp_path / "empty")}), out=tmp_path))


def test_another_base_model_is_refused_on_request(folders, tmp_path):
    width = SLOTS["sd15"]["text_encoder"]
    foreign = trained(width, provenance=Provenance(base_model_id="org/other"))
    SURAdapterBundle({"text_encoder": foreign}).save_pretrained(tmp_path / "foreign")
    arguments = folders("sd15") | {"adapter": tmp_path / "foreign", "prompt": ("a dog",), "device": "cpu"}
    with pytest.raises(ValueError, match="trained on 'org/other'"):
        generate(GenerateConfig(**arguments, out=tmp_path, strict_base=True))
