"""The command evaluate on a tiny SD1.5: pictures, scores, figures, the page; and it goes on."""

import json

import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from sur_adapter import SURAdapter
from sur_adapter._evaluate import EvaluateConfig, evaluate
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

SUITE = [
    {"prompt": "a red cat", "options": ["a red cat", "a blue cat"]},
    {"prompt": "two dogs and a cat", "options": ["two dogs", "a cat"]},
    {"prompt": "a cat on a dog", "options": ["a cat", "a dog"], "answer": 1},
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A pipeline, an adapter, a CLIP and a training's losses on the disk."""
    folder = tmp_path_factory.mktemp("parts")
    tiny.build("sd15").save_pretrained(folder / "pipe")
    torch.manual_seed(0)
    adapter = SURAdapter(32, num_heads=4, ff_dim=32, scale=1.0)
    torch.nn.init.normal_(adapter.fc.weight)
    adapter.save_pretrained(folder / "adapter")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 613, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = sizes | {"image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=sizes | tokens, vision_config=vision, projection_dim=8)).save_pretrained(
        folder / "clip"
    )
    tiny.clip_tokenizer().save_pretrained(folder / "clip")
    edge = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=edge).save_pretrained(folder / "clip")
    (folder / "suite.jsonl").write_text("\n".join(map(json.dumps, SUITE)))
    (folder / "training").mkdir()
    rows = [{"step": step, "loss": 1 / step, "diffusion": 0.5 / step} for step in range(1, 30)]
    (folder / "training" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def config(parts, out, **changes):
    options = {
        "model": str(parts / "pipe"),
        "adapter": parts / "adapter",
        "suite": str(parts / "suite.jsonl"),
        "clip": parts / "clip",
        "training": parts / "training",
        "steps": 2,
        "dtype": "float32",
        "device": "cpu",
        "out": out,
    }
    return EvaluateConfig(**(options | changes))


def test_everything_is_written_and_goes_on(parts, tmp_path, capsys):
    out = tmp_path / "out"
    evaluate(config(parts, out))
    report = json.loads((out / "report.json").read_text())
    assert set(report["figures"]) == {f"{n}.{s}" for n in ("grid", "drift", "losses") for s in ("png", "svg")}
    score, choice = report["metrics"]["clip score"], report["metrics"]["clip choice"]
    assert score["prompts"] == choice["prompts"] == 3
    assert score["p"] is None
    assert 0 < choice["p"] <= 1
    assert [one["claim"] for one in report["verdicts"]] == [
        "the adapter raises the clip score",
        "the adapter raises the clip choice",
    ]
    assert "clip score" in capsys.readouterr().out
    pictures = sorted(path.relative_to(out) for path in out.glob("*/*.png"))
    assert len(pictures) == 2 * 3 * 2
    base, adapted = (Image.open(out / name / "000-0.png").tobytes() for name in ("base", "adapter"))
    assert base != adapted
    pipe = tiny.build("sd15")
    alone = pipe("a red cat", generator=torch.Generator().manual_seed(0), num_inference_steps=2).images[0]
    assert alone.tobytes() == base
    assert "a red cat" in (out / "pairs.html").read_text()

    (out / "adapter" / "001-1.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
    evaluate(config(parts, out))
    assert (out / "adapter" / "001-1.png").is_file()
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    again = json.loads((out / "report.json").read_text())
    assert again["metrics"] == report["metrics"]
    with pytest.raises(ValueError, match="scale"):
        evaluate(config(parts, out, scale=0.5))


def test_without_scorers_it_still_shows(parts, tmp_path):
    evaluate(config(parts, tmp_path / "out", clip=None, training=None, seeds=(0,), limit=2, scale=0.0))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdicts"] == []
    assert report["metrics"] == {"truncated prompts": 0}
    for number in range(2):
        same = [(tmp_path / "out" / name / f"{number:03}-0.png").read_bytes() for name in ("base", "adapter")]
        assert same[0] == same[1]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"seeds": ()}, ValueError, "seeds"),
        ({"seeds": (1, 1)}, ValueError, "none twice"),
        ({"limit": 1}, ValueError, "at least 2"),
        ({"suite": "colours"}, ValueError, "action"),
        ({"model": "/no/such/pipe"}, FileNotFoundError, "no/such"),
        ({"clip": "/no/such/clip"}, FileNotFoundError, "CLIP"),
    ],
)
def test_bad_input(parts, tmp_path, changes, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(config(parts, tmp_path / "out", **changes))


def test_a_folder_without_losses(parts, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    for folder, kind in ((tmp_path / "none", FileNotFoundError), (tmp_path, ValueError)):
        with pytest.raises(kind, match=r"metrics\.jsonl"):
            evaluate(config(parts, tmp_path / "out", training=folder, clip=None))
