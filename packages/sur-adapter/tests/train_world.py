"""A tiny data set and tiny pipelines in folders, to train on."""

import io
import json

import numpy as np
import torch
from PIL import Image
from sur_adapter._teacher_cache import TeacherFacts
from sur_adapter._teacher_store import TeacherStore
from sur_adapter._train_config import TrainConfig

COLOURS = ("red", "green", "blue", "dark", "light", "grey")


def write_data(folder, rows=12, *, size=(20, 16)):
    """Images of one colour in the layout of SURD: names in the metadata have no extension."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in range(rows):
        pixels = np.random.default_rng(row).integers(0, 255, (1, 1, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(np.broadcast_to(pixels, (size[1], size[0], 3)).copy()).save(buffer, format="PNG")
        (folder / f"image {row}.png").write_bytes(buffer.getvalue())
        colour = COLOURS[row % len(COLOURS)]
        lines.append(
            {"file_name": f"image {row}", "text": f"a {colour} wall", "prompt": f"wall {row}, {colour}, best quality"}
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_teacher(folder, dim=12, *, colours=COLOURS):
    facts = TeacherFacts(model="teacher", layer="3:raw", pooling="mean", dtype="float16", dim=dim)
    vectors = torch.randn(len(colours), dim, generator=torch.Generator().manual_seed(0))
    TeacherStore(folder, facts).add([f"a {colour} wall" for colour in colours], vectors)
    return folder


def write_pipeline(folder, family):
    import tiny_pipelines as tiny  # brings diffusers, which a worker on encoded rows does without

    tiny.build(family).save_pretrained(folder)
    return folder


def config(world, family="sd15", **changes):
    options = {
        "model": str(world / family),
        "data": str(world / "data"),
        "teacher": str(world / "teacher"),
        "resolution": 16,
        "t5_tokens": 24,
        "encoded_dtype": "float32",
        "num_heads": 4,
        "ff_dim": 32,
        "steps": 5,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "checkpoint_every": 2,
    }
    if "encoded" in changes:
        changes["encoded"] = str(world / changes["encoded"])
    return TrainConfig(**options | changes)


def adapter_tensors(trained):
    return {
        f"{slot}.{name}": value for slot, one in trained.adapters.items() for name, value in one.state_dict().items()
    }
