import io
import tarfile

import pytest
import torch
from safetensors.torch import save_file
from scalelong._data import batch_indices, load_images


def jpeg(color, size=(40, 30)):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def archive(path, members):
    with tarfile.open(path, "w:xz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_digits_are_split_without_overlap():
    from sklearn.datasets import load_digits

    train, test = load_images("digits"), load_images("digits", split="test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.pixels.shape[1:] == (1, 8, 8)
    assert float(train.pixels.min()) == -1
    assert float(train.pixels.max()) == 1
    together = torch.cat([train.pixels, test.pixels]).flatten(1)
    raw = torch.from_numpy(load_digits().data).float() / 8 - 1
    assert torch.equal(together.sum(1).sort().values, raw.sum(1).sort().values)


def test_every_epoch_sees_every_picture_once_and_order_depends_on_the_seed():
    rows = torch.cat([batch_indices(10, 4, step, seed=3) for step in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert not torch.equal(rows[:10], rows[10:])
    assert not torch.equal(batch_indices(10, 10, 0, seed=3), batch_indices(10, 10, 0, seed=4))


def test_a_batch_larger_than_the_data_repeats_it():
    assert batch_indices(3, 7, 0, seed=0).bincount().tolist() == [3, 2, 2] or len(batch_indices(3, 7, 0, seed=0)) == 7


def test_an_archive_gives_pixels_and_classes(tmp_path):
    members = {"train/cat/1.png": jpeg("red"), "train/dog/1.png": jpeg("blue"), "test/cat/2.png": jpeg("lime")}
    source = archive(tmp_path / "small.tar.xz", members)
    train, test = load_images(source), load_images(source, split="test")
    assert train.pixels.shape == (2, 3, 32, 32)
    assert train.labels.tolist() == [0, 1]
    assert train.pixels[0, :, 5, 5].tolist() == [1.0, -1.0, -1.0]
    assert test.pixels[0, :, 5, 5].tolist() == [-1.0, 1.0, -1.0]


def test_a_folder_gives_classes_and_text(tmp_path):
    for name, color in {"a/1": "red", "b/1": "blue", "b/2": "white"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(jpeg(color))
    images = load_images(str(tmp_path), size=16)
    assert images.labels.tolist() == [0, 1, 1]
    assert images.context is None
    tokens = {f"{name}.png": torch.full((3, 4), float(index)) for index, name in enumerate(["a/1", "b/1", "b/2"])}
    save_file(tokens, tmp_path / "context.safetensors")
    images = load_images(str(tmp_path), size=16)
    assert images.context[:, 0, 0].tolist() == [0, 1, 2]
    chosen = images[torch.tensor([2, 0])]
    assert chosen.context[:, 0, 0].tolist() == [2, 0]
    assert chosen.labels.tolist() == [1, 0]


def test_a_folder_with_splits_keeps_them_apart(tmp_path):
    for split, color in {"train": "red", "test": "blue"}.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.png").write_bytes(jpeg(color))
    assert load_images(str(tmp_path), size=8, split="test").pixels[0, 2].min() == 1
    assert load_images(str(tmp_path), size=8).pixels[0, 0].min() == 1
    assert load_images(str(tmp_path), size=8).labels is None


def test_bad_sources_are_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png: not a picture"):
        load_images(str(tmp_path), size=8)
    with pytest.raises(ValueError, match="needs a size"):
        load_images(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="neither"):
        load_images(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        load_images(str(tmp_path / "empty"), size=8)
    with pytest.raises(ValueError, match="8 x 8"):
        load_images("digits", size=32)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        load_images("digits", split="validation")
    source = archive(tmp_path / "other.tar.xz", {"readme.txt": b"nothing"})
    with pytest.raises(ValueError, match="has no picture train"):
        load_images(source)


def test_text_must_cover_every_picture(tmp_path):
    (tmp_path / "1.png").write_bytes(jpeg("red"))
    save_file({"other.png": torch.zeros(1, 1)}, tmp_path / "context.safetensors")
    with pytest.raises(ValueError, match=r"no tokens for 1\.png"):
        load_images(str(tmp_path), size=8)


@pytest.mark.slow
def test_the_real_archive(sail_data):
    images = load_images(str(sail_data("cifar10/cifar10-jpeg.tar.xz")), split="test")
    assert images.pixels.shape == (10000, 3, 32, 32)
    assert images.labels.bincount().tolist() == [1000] * 10
