import io
import shutil
import tarfile

import numpy as np
import pytest
import torch
from dia_attention._cifar10 import CLASSES, read_cifar10
from dia_attention._sources import Source

Image = pytest.importorskip("PIL.Image", reason="pictures need the extra demo")


def jpeg(grey, side=32, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (side, side), (grey,) * 3 if mode == "RGB" else grey).save(buffer, "JPEG")
    return buffer.getvalue()


def archive(path, *more, mode="w:xz"):
    """A small archive of the data set's form: two pictures of each class and part, and further members."""
    members = [
        (f"{part}/{name}/{n:04}.jpg", jpeg(20 * label + n + 3 * (part == "test")))
        for part, count in (("train", 4), ("test", 2))
        for label, name in enumerate(CLASSES)
        for n in range(count)
    ]
    with tarfile.open(path, mode) as tar:
        for name, content in [*members, *more]:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_archive_is_read_in_the_order_of_class_and_name(tmp_path):
    splits = read_cifar10(archive(tmp_path / "a.tar.xz"))
    assert splits["train"].images.shape == (40, 3, 32, 32)
    assert splits["test"].labels.tolist() == [label for label in range(10) for _ in range(2)]
    greys = splits["train"].images.float().mean((1, 2, 3))
    expected = torch.tensor([20.0 * label + n for label in range(10) for n in range(4)])
    torch.testing.assert_close(greys, expected, atol=2.0, rtol=0)
    assert splits["train"].mirror


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../evil.jpg", b"x"),
        ("/train/cat/1.jpg", b"x"),
        ("train/cat/../../1.jpg", b"x"),
        ("train/lion/1.jpg", b"x"),
        ("train/cat/1.png", b"x"),
        ("train/cat/big.jpg", b"x" * 70_000),
        ("train/cat/text.jpg", b"no picture"),
        ("train/cat/half.jpg", jpeg(9)[:300]),
        ("train/cat/large.jpg", jpeg(9, side=64)),
        ("train/cat/grey.jpg", jpeg(9, mode="L")),
    ],
)
def test_foreign_members_are_refused_by_name(tmp_path, name, content):
    path = archive(tmp_path / "a.tar", (name, content), mode="w")
    with pytest.raises(ValueError, match=r"a\.tar") as refused:
        read_cifar10(path)
    assert name.rpartition("/")[2] in str(refused.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tar"]  # nothing was unpacked


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("train/cat/9999.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(ValueError, match="no member of this data set"):
        read_cifar10(archive(tmp_path / "a.tar", (member, b""), mode="w"))


def test_a_truncated_and_an_empty_archive_are_bad_input(tmp_path):
    path = archive(tmp_path / "a.tar.xz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot be read"):
        read_cifar10(path)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match="no pictures below train/"):
        read_cifar10(tmp_path / "empty.tar")
    with pytest.raises(FileNotFoundError, match="SAIL_DATA"):
        read_cifar10(tmp_path / "absent.tar")


def test_cache_is_made_once_belongs_to_its_archive_and_heals(tmp_path, monkeypatch):
    from dia_attention import _cifar10

    path, cache = archive(tmp_path / "a.tar.xz"), tmp_path / "cache"
    first = read_cifar10(path, cache=cache)
    (file,) = cache.iterdir()
    calls, real = [], _cifar10._decode
    monkeypatch.setattr(_cifar10, "_decode", lambda path: calls.append(path) or real(path))
    again = read_cifar10(path, cache=cache)
    assert not calls
    assert torch.equal(again["train"].images, first["train"].images)
    file.write_bytes(file.read_bytes()[:-100])  # as a full disk would leave it, were it not written atomically
    assert torch.equal(read_cifar10(path, cache=cache)["test"].images, first["test"].images)
    assert len(calls) == 1
    other = archive(tmp_path / "b.tar.xz", ("train/cat/7777.jpg", jpeg(250)))
    assert len(read_cifar10(other, cache=cache)["train"]) == 41
    shutil.copy(cache / file.name, next(one for one in cache.iterdir() if one.name != file.name))
    assert len(read_cifar10(other, cache=cache)["train"]) == 41  # a file of another archive under this name


def test_real_archive_has_all_pictures(sail_data, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "cifar10"  # as test_bias
    splits = read_cifar10(sail_data("cifar10"), cache=cache)
    assert {name: tuple(split.images.shape) for name, split in splits.items()} == {
        "train": (50_000, 3, 32, 32),
        "test": (10_000, 3, 32, 32),
    }
    assert splits["test"].labels.bincount().tolist() == [1000] * 10
    assert 100 < splits["train"].images.float().mean() < 140
    source = Source(data="cifar10", root=sail_data("cifar10"), cache=cache, size=16)
    data = source.load(seed=0, per_class=3, validation_per_class=2)
    assert data.train.images.shape == (30, 3, 16, 16)
    assert (len(data.validation), data.classes) == (20, CLASSES)
    area = splits["test"].images[:4].float().unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5)).round()
    assert torch.equal(source.load_test().images[:4].float(), area)


def test_cifar_from_the_environment_and_splits_are_disjoint(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    archive(tmp_path / "cifar10" / "cifar10-jpeg.tar.xz")
    monkeypatch.setenv("SAIL_DATA", str(tmp_path))
    source = Source(data="cifar10")
    data = source.load(seed=4, validation_per_class=1)
    assert (len(data.train), len(data.validation)) == (30, 10)
    seen = {image.numpy().tobytes() for image in data.train.images}
    assert not seen & {image.numpy().tobytes() for image in data.validation.images}
    assert source.load_test(per_class=1).labels.tolist() == list(range(10))
    with pytest.raises(ValueError, match="give 1 to 3"):
        source.load(seed=0, per_class=4, validation_per_class=1)
    with pytest.raises(ValueError, match="at least one must be left"):
        source.load(seed=0, validation_per_class=4)
    monkeypatch.delenv("SAIL_DATA")
    with pytest.raises(FileNotFoundError, match="--root"):
        source.load(seed=0)


def folder(root, parts=("",)):
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (root / part / name / "deep").mkdir(parents=True)
            for n in range(12):
                pixels = np.full((20 + n, 30, 3), 100 * label + n, np.uint8)
                Image.fromarray(pixels).save(root / part / name / ("deep" if n % 2 else ".") / f"{n}.png")
    return root


def test_folders_are_scaled_sorted_and_divided(tmp_path):
    source = Source(data="folder", root=folder(tmp_path, ("train", "test")), size=10)
    data = source.load(seed=0)
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (22, 3, 10, 10)
    assert data.validation.labels.tolist() == [0, 1]  # a tenth, at least one of each class
    assert all(
        (image.float().mean() > 50) == bool(label)
        for image, label in zip(data.train.images, data.train.labels, strict=True)
    )
    assert len(source.load_test()) == 24


def test_undivided_folders_train_and_have_no_test(tmp_path):
    source = Source(data="folder", root=folder(tmp_path))
    assert len(source.load(seed=0).train) == 22
    with pytest.raises(ValueError, match="no test folder"):
        source.load_test()
    (tmp_path / "cat" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        source.load(seed=0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "broken.png").unlink()
    with pytest.raises(ValueError, match="empty holds no picture"):
        source.load(seed=0)
    with pytest.raises(FileNotFoundError, match="--root"):
        Source(data="folder", root=tmp_path / "absent").load(seed=0)
    with pytest.raises(ValueError, match="0 class folders"):
        Source(data="folder", root=tmp_path / "empty").load(seed=0)


def test_torchvision_sets_are_read_where_they_lie(tmp_path):
    pytest.importorskip("torchvision", reason="needs the extra torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.repeat(labels, 28 * 28).reshape(count, 28, 28)
        sizes = np.array([count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + labels.tobytes())
    source = Source(data="torchvision:MNIST", root=tmp_path, size=14)
    data = source.load(seed=0)
    assert data.train.images.shape == (20, 1, 14, 14)
    assert torch.equal(data.train.images[:, 0, 0, 0].long(), data.train.labels)
    assert not data.train.mirror
    assert len(source.load_test()) == 10
    with pytest.raises(ValueError, match="not whole below"):
        Source(data="torchvision:CIFAR10", root=tmp_path).load(seed=0)
    with pytest.raises(ValueError, match="no data set 'os'"):
        Source(data="torchvision:os", root=tmp_path).load(seed=0)


def test_photographs_for_training_and_testing_do_not_overlap():
    pytest.importorskip("sklearn", reason="the photographs need the extra demo")
    source = Source(data="digits-on-photographs")
    data = source.load(seed=0, per_class=2)
    assert data.train.images.shape == (20, 3, 16, 16)
    test, masks = source.load_masks()
    assert torch.equal(test.images, source.load_test().images)
    assert masks.any((1, 2)).all()
    with pytest.raises(ValueError, match="no masks"):
        Source(data="digits").load_masks()
