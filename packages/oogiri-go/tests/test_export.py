"""Builds in other forms, read by those who read them."""

import io
import json
import tarfile

import pytest
from oogiri_go import Issue, OogiriDataset, Record, build, export, read_jsonl
from oogiri_go._synthetic import write_layout
from PIL import Image

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_layout(folder / "raw", records=300, pictures=30, bad=5, seed=4)
    return build(folder / "raw", out=folder / "out", ratios=(0.6, 0.2, 0.2)).path


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("form", ["messages", "dpo", "choice", "jsonl"])
def test_lines(built, tmp_path, form):
    counts = export(built, to=form, out=tmp_path)
    for name in SPLITS:
        rows = rows_of(tmp_path / f"{name}.jsonl")
        assert len(rows) == counts[name] > 0
        data = OogiriDataset(built, split=name)
        if form == "jsonl":
            assert list(read_jsonl(tmp_path / f"{name}.jsonl")) == list(data)
        elif form == "messages":
            assert [row["messages"][1]["content"][0]["text"] for row in rows] == [one.text for one in data]
        elif form == "dpo":
            assert all(row["chosen"] != row["rejected"] for row in rows)
        else:
            assert all(len(row["options"]) == 3 and len(row["answers"]) == 1 for row in rows)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # its own files
def test_webdataset_reads_its_export(built, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    counts = export(built, to="webdataset", out=tmp_path, shard_mb=1)
    for name in SPLITS:
        urls = [str(path) for path in sorted(tmp_path.glob(f"{name}-*.tar"))]
        data = OogiriDataset(built, split=name)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("pil"))
        assert len(samples) == counts[name] == len(data)
        for at, sample in enumerate(samples):
            assert sample["__key__"] == data[at].id
            assert sample["json"]["text"] == data[at].text
            assert isinstance(sample.get("jpg"), Image.Image) == (data[at].image is not None)


def test_archives_are_the_same_again_and_cut_by_size(built, tmp_path):
    export(built, to="webdataset", out=tmp_path / "a")
    export(built, to="webdataset", out=tmp_path / "b")
    names = [path.name for path in sorted((tmp_path / "a").iterdir())]
    assert names == [f"{name}-00000.tar" for name in sorted(SPLITS)]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    with tarfile.open(tmp_path / "a" / "test-00000.tar") as archive:
        for member in archive:
            assert member.mtime == 0
            if member.name.endswith(".jpg"):
                Image.open(io.BytesIO(archive.extractfile(member).read())).load()


def test_bad_arguments(built, tmp_path):
    with pytest.raises(ValueError, match="expected webdataset"):
        export(built, to="csv", out=tmp_path)
    with pytest.raises(ValueError, match="shard_mb"):
        export(built, to="webdataset", out=tmp_path, shard_mb=0)
    with pytest.raises(FileNotFoundError):
        export(tmp_path, to="jsonl", out=tmp_path)


def test_records_of_a_hub_data_set(built, tmp_path):
    datasets = pytest.importorskip("datasets")
    from oogiri_go.integrations.datasets import from_datasets

    loaded = datasets.load_dataset(str(built), split="train", cache_dir=str(tmp_path / "cache"))
    loaded = loaded.remove_columns(["group", "cluster", "extra", "id"])
    found = list(from_datasets(loaded, images=tmp_path / "images"))
    assert found == list(OogiriDataset(built))
    names = {one.image for one in found} - {None}
    assert {path.stem for path in (tmp_path / "images").iterdir()} == names
    stream = loaded.to_iterable_dataset()
    assert list(from_datasets(stream)) == found


def test_bad_rows_of_a_hub_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    from oogiri_go.integrations.datasets import from_datasets

    rows = datasets.Dataset.from_list([
        {"type": "T2T", "question": "Why?", "text": "a", "star": 1, "image": None},
        {"type": "T2I", "question": "Why?", "text": "a", "star": 1, "image": None},
        {"type": "I2T", "question": None, "text": "a", "star": -1, "image": "../x"},
        {"type": "I2T", "question": None, "text": "我", "star": 1, "image": "7"},
    ])  # fmt: skip
    found = list(from_datasets(rows))
    assert [type(one) for one in found] == [Record, Issue, Issue, Record]
    assert [(one.line, one.code) for one in found if isinstance(one, Issue)] == [(2, "type"), (3, "image-id")]
    assert found[3].lang == "zh"
    with pytest.raises(ValueError, match="expected one of en"):
        from_datasets(rows, lang="de")
