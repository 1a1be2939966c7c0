"""From images and prompts to training data: on real prompts with the real colour layouts of their images."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import blurhash
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sur_adapter import _prepare
from sur_adapter._infotext import parse_infotext, read_infotext
from sur_adapter._plugins import load_plugin
from sur_adapter._prepare import PrepareDataConfig, prepare_data
from sur_adapter._surd import Surd


def png(colour, size=(80, 70), kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(np.broadcast_to(np.array(colour, np.uint8), (size[1], size[0], 3)).copy()).save(
        buffer, format=kind, **options
    )
    return buffer.getvalue()


def describe(images):
    """A captioner that looks: names the strongest channel."""
    means = [np.asarray(image).reshape(-1, 3).mean(0) for image in images]
    return [f"a {('red', 'green', 'blue')[int(mean.argmax())]} picture" for mean in means]


def not_red(image, row):
    red, green, _ = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0)
    return red <= green and row.facts.get("nsfw") != "X"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    entries = []
    for number, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 60, 200), (0, 90, 200), (10, 200, 9), (9, 200, 90)]):
        kind = ("PNG", "JPEG", "WEBP")[number % 3]
        (folder / f"{number}.{kind.lower()}").write_bytes(png(colour, kind=kind))
        entries.append({"file_name": str(number), "prompt": f"(picture {number}:1.2), <lora:x:1> best quality"})
    entries[3]["file_name"] = "3.png"
    entries[4]["nsfw"] = "X"
    (folder / "metadata.json").write_text(json.dumps(entries))
    return folder


def test_images_become_an_imagefolder(source, tmp_path):
    """Each reason to drop a row, extensions that fit the content, and a folder that the reader of SURD takes."""
    entries = json.loads((source / "metadata.json").read_text())
    entries += [
        {"file_name": "1", "prompt": "<lora:x:1>"},
        {"file_name": "1", "prompt": "picture 2, best quality"},
        {"file_name": "none", "prompt": "missing"},
        {"file_name": "broken", "prompt": "broken"},
        {"file_name": "small", "prompt": "small"},
    ]
    (source / "broken.png").write_bytes(png((0, 9, 0))[:-30])
    (source / "small.png").write_bytes(png((0, 9, 0), size=(20, 90)))
    (source / "metadata.json").write_text(json.dumps(entries))
    out = tmp_path / "out"
    result = prepare_data(PrepareDataConfig(source=source, out=out, batch_size=2), captioner=describe, safety=not_red)
    assert result.kept == 4
    reasons = ("no image", "no prompt", "not decoded", "prompt seen before", "too small")
    assert result.dropped == dict.fromkeys(reasons, 1) | {"unsafe": 2}
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert rows[0] == {"file_name": "00000001.jpg", "text": "a green picture", "prompt": "picture 1, best quality"}
    assert [row["file_name"] for row in rows] == ["00000001.jpg", "00000002.webp", "00000003.png", "00000005.webp"]
    names = {path.name for path in out.iterdir()}
    assert names == {row["file_name"] for row in rows} | {"metadata.jsonl", "summary.json"}
    data = Surd(out)
    assert data.image(1) == (source / "2.webp").read_bytes()
    assert not out.with_name("out.partial").exists()


def test_the_host_reads_what_is_written(source, tmp_path):
    datasets = pytest.importorskip("datasets")
    prepare_data(PrepareDataConfig(source=source, out=tmp_path / "out"), captioner=describe)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    first = loaded["train"][0]
    assert (first["text"], first["prompt"]) == ("a red picture", "picture 0, best quality")
    assert first["image"].size == (80, 70)


def test_texts_of_the_source_are_the_captions_without_a_captioner(source, tmp_path):
    entries = json.loads((source / "metadata.json").read_text())
    for entry in entries[:3]:
        entry["text"] = f"caption  {entry['file_name']}\n"
    (source / "metadata.json").write_text(json.dumps(entries))
    config = PrepareDataConfig(source=source, out=tmp_path / "out", keep_syntax=True)
    assert prepare_data(config).dropped == {"no caption": 3}
    rows = Surd(tmp_path / "out").rows
    assert (rows[0].narrative, rows[0].complex) == ("caption 0", "(picture 0:1.2), <lora:x:1> best quality")


def test_images_of_the_web_interface_carry_their_prompts(tmp_path):
    text = "a (cat:1.2),\nred\nNegative prompt: bad\nSteps: 20, Sampler: Euler a, CFG scale: 7, Size: 80x70"
    info = PngInfo()
    info.add_text("parameters", text)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.replace("cat", "dog").encode("utf-16-be")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.png").write_bytes(png((200, 0, 0), pnginfo=info))
    (folder / "b.jpg").write_bytes(png((0, 200, 0), kind="JPEG", exif=exif))
    (folder / "c.png").write_bytes(png((0, 200, 0)))
    result = prepare_data(PrepareDataConfig(source=folder, out=tmp_path / "out"), captioner=describe)
    assert (result.kept, result.dropped) == (2, {"no prompt": 1})
    assert [row.complex for row in Surd(tmp_path / "out").rows] == ["a cat, red", "a dog, red"]
    found = parse_infotext(text)
    assert (found.negative, found.settings["CFG scale"]) == ("bad", "7")
    assert parse_infotext("only a prompt: with colons").prompt == "only a prompt: with colons"
    with pytest.raises(ValueError, match="no image"):
        read_infotext(b"nothing")


@pytest.fixture(scope="module")
def real(sail_data, tmp_path_factory):
    """The 500 real prompts with the layouts of their own images, decoded from BlurHash."""
    folder = tmp_path_factory.mktemp("real")
    records = json.loads(sail_data("surd/civitai_prompts_sample.json").read_text())
    lines = []
    for record in records:
        layout = Image.fromarray(blurhash.decode(record["blurhash"]))
        layout.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{record['image_id']}.png")
        lines.append(json.dumps({"file_name": str(record["image_id"]), "prompt": record["prompt"]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_the_real_prompts_are_prepared(real, tmp_path):
    result = prepare_data(PrepareDataConfig(source=real, out=tmp_path / "out"), captioner=describe)
    assert result.kept + sum(result.dropped.values()) == 500
    assert result.kept >= 490
    rows = Surd(tmp_path / "out").rows
    assert len({row.complex for row in rows}) == result.kept
    assert not any("<lora" in row.complex or "\n" in row.complex for row in rows)
    assert len({row.narrative for row in rows}) == 3


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[3])
from pathlib import Path
import test_prepare
from sur_adapter._prepare import PrepareDataConfig, prepare_data
def slow(images):
    time.sleep(0.02)
    return test_prepare.describe(images)
prepare_data(PrepareDataConfig(source=Path(sys.argv[1]), out=Path(sys.argv[2])), captioner=slow)
"""


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_stopped_at_any_row_it_goes_on(source, tmp_path):
    whole = PrepareDataConfig(source=source, out=tmp_path / "whole", batch_size=1)
    prepare_data(whole, captioner=describe)
    for stop in range(1, 6):
        calls = []

        def stopping(images, calls=calls, stop=stop):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return describe(images)

        part = PrepareDataConfig(source=source, out=tmp_path / f"part {stop}", batch_size=1)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(part, captioner=stopping)
        assert not part.out.exists()
        with (tmp_path / f"part {stop}.partial/rows.jsonl").open("ab") as file:
            file.write(b'{"file_name": "000')  # half a line, as a kill leaves it
        prepare_data(part, captioner=describe)
        assert tree(part.out) == tree(whole.out)


@pytest.mark.slow
def test_killed_it_goes_on(real, tmp_path):
    prepare_data(PrepareDataConfig(source=real, out=tmp_path / "whole"), captioner=describe)
    part = tmp_path / "part"
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(real), str(part), str(Path(__file__).parent)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        rows = part.with_name("part.partial") / "rows.jsonl"
        before = rows.stat().st_size if rows.exists() else 0
        deadline = time.monotonic() + 60
        while (not rows.exists() or rows.stat().st_size == before) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    prepare_data(PrepareDataConfig(source=real, out=part), captioner=describe)
    assert tree(part) == tree(tmp_path / "whole")


def test_plug_ins_are_named(source, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    config = PrepareDataConfig(
        source=source, out=tmp_path / "out", captioner="test_prepare:describe", safety="test_prepare:not_red"
    )
    assert prepare_data(config).kept == 4
    for name, words in {
        "describe": "write MODULE:NAME",
        "test_prepare:nothing": "cannot load test_prepare:nothing",
        "no_such_module:x": "cannot load no_such_module:x",
        "math:pi": "is a float",
    }.items():
        with pytest.raises(ValueError, match=words):
            load_plugin(name)


def test_bad_input(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        prepare_data(PrepareDataConfig(source=tmp_path / "none", out=tmp_path / "out"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="neither"):
        prepare_data(PrepareDataConfig(source=empty, out=tmp_path / "out"))
    with pytest.raises(ValueError, match=r"of 6 rows none is left: \{'no caption': 6\}"):
        prepare_data(PrepareDataConfig(source=source, out=tmp_path / "out"))
    with pytest.raises(ValueError, match="begun with min_side '64', this run has '9'"):
        prepare_data(PrepareDataConfig(source=source, out=tmp_path / "out", min_side=9))
    with pytest.raises(ValueError, match="gave 0 captions for 6"):
        prepare_data(PrepareDataConfig(source=source, out=tmp_path / "b"), captioner=lambda images: [])
    with pytest.raises(ValueError, match="exists; give another folder"):
        prepare_data(PrepareDataConfig(source=source, out=empty), captioner=describe)
    with pytest.raises(ValueError, match="batch_size is 0"):
        PrepareDataConfig(source=source, batch_size=0)
    (source / "metadata.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="holds a dict"):
        prepare_data(PrepareDataConfig(source=source, out=tmp_path / "c"))
    (source / "metadata.jsonl").write_text('{"prompt": "x"}')
    with pytest.raises(ValueError, match=r"entry 1 .* has no file_name"):
        prepare_data(PrepareDataConfig(source=source, out=tmp_path / "c"))


@pytest.mark.slow
def test_a_captioner_model(source, tmp_path):
    """A tiny BLIP with random weights, of the real class: one text an image, the same each time."""
    import tiny_models

    tiny_models.blip(tmp_path / "blip")
    config = PrepareDataConfig(source=source, out=tmp_path / "out", captioner=f"model:{tmp_path / 'blip'}")
    captioner = _prepare._captioner(config.captioner)
    images = [Image.open(path).convert("RGB") for path in sorted(source.glob("*.png"))]
    captions = captioner(images)
    assert len(captions) == len(images)
    assert captions == captioner(images)
    with pytest.raises(FileNotFoundError, match="no hub was asked"):
        _prepare._captioner("model:./no/such/model")
