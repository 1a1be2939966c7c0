"""The command line on the model classes that users have: prepare, nouns, train, evaluate, generate, refine.

The same words with ``--model Qwen/Qwen2.5-VL-7B-Instruct`` or a Qwen3-VL run the same code: the folders here hold the
same classes, saved small and loaded with ``from_pretrained``.
"""

import json
import sys

import pytest
from clot.cli import main
from clot.integrations.tiny import save_tiny
from oogiri_go import write_jsonl


@pytest.fixture
def data(tmp_path, tiny_world):
    """The tiny world as files: records of both splits, pictures, captions."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for split in ("train", "test"):
        write_jsonl(tiny_world.split(split), folder / split / "en.jsonl")
    for name, picture in tiny_world.pictures.items():
        (folder / "images" / f"{name}.png").write_bytes(picture)
    rows = [{"image": name, "text": text} for name, text in tiny_world.captions.items()]
    (folder / "literals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("family", ["qwen2_5_vl", pytest.param("qwen3_vl", marks=pytest.mark.slow)])
def test_every_command_takes_the_model(family, data, tmp_path, tiny_world, monkeypatch, capsys):
    model = str(save_tiny(tmp_path / "model", family, texts=tiny_world.texts(), context=4096))

    def clot(*words):
        monkeypatch.setattr(sys, "argv", ["clot", *map(str, words), "--json"])
        assert main() == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    pictures = ("--images", data / "images")
    train, test = data / "train", data / "test"
    nouns = clot("nouns", "--sources", train, "--out", tmp_path / "nouns.json", "--method", "heuristic")
    assert nouns["nouns"]["en"] > 5
    sources = ("--sources", train, *pictures, "--literals", data / "literals.jsonl", "--nouns", "heuristic")
    prepared = clot("prepare", *sources, "--out", tmp_path / "made", "--per-record", 0.5)
    assert prepared["instructions"] > 20
    learnt = ("--steps", 2, "--batch", 4, "--micro-batch", 2, "--lora-r", 2, "--lr", 1e-3)
    here = ("--model", model, "--device", "cpu")
    trained = clot("train", *here, "--instructions", tmp_path / "made", *pictures, "--out", tmp_path / "ait", *learnt)
    assert trained["steps"] == 2
    here = (*here, "--adapter", trained["adapter"])
    asked = (
        "--sources",
        test,
        *pictures,
        "--literals",
        data / "literals.jsonl",
        "--limit",
        3,
        "--tasks",
        "2T1",
        "rank",
    )
    found = clot("evaluate", *here, *asked, "--tasks", "2T1", "rank", "--out", tmp_path / "evaluation")
    assert found
    picture = data / "images" / f"{next(iter(tiny_world.pictures))}.png"
    ours = ("--nouns", tmp_path / "nouns.json", "--n", 3, "--max-new-tokens", 6)
    answer = clot("generate", *here, "--image", picture, *ours)
    assert len(answer["proposals"]) == 3
    words = ("--sources", train, *pictures, "--limit", 2, "--min-discrimination", -1, "--out", tmp_path / "refined")
    refined = clot("refine", *here, *words, *ours, *learnt, "--no-train")
    assert refined
