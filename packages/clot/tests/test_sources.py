"""Records and pictures from files, folders, archives and built data sets; models that a command line names."""

import io
import stat
import zipfile

import pytest
from clot import EchoBackend, OpenAIBackend, Pictures
from clot._load import load_records
from clot._open import open_backend
from oogiri_go import Record, build, write_jsonl
from PIL import Image

ROWS = [Record("", "T2T", f"Question {at % 3}?", None, f"Answer {at}.", at, "en") for at in range(9)]
PICTURED = [Record("", "I2T", None, f"p{at}", f"Caption {at}.", at, "ja") for at in range(4)]


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def layout(tmp_path):
    folder = tmp_path / "oogiri"
    write_jsonl(ROWS, folder / "en.jsonl")
    write_jsonl(PICTURED, folder / "jp.jsonl")
    (folder / "images").mkdir()
    for at in range(4):
        (folder / "images" / f"p{at}.png").write_bytes(png((at, 0, 0)))
    return folder


def texts(records):
    return sorted(one.text for one in records)


def test_a_folder_in_the_published_layout(layout):
    loaded = load_records([layout])
    assert texts(loaded.records) == texts([*ROWS, *PICTURED])
    assert loaded.issues == 0
    assert loaded.pictures["p2"] == png((2, 0, 0))
    assert {one.lang for one in loaded.records} == {"en", "ja"}


def test_files_folders_with_splits_and_lines_that_cannot_be_read(tmp_path, layout):
    write_jsonl(ROWS[:2], tmp_path / "split" / "train.jsonl")
    write_jsonl(ROWS[2:], tmp_path / "split" / "test.jsonl")
    assert texts(load_records([tmp_path / "split"], split="test").records) == texts(ROWS[2:])
    path = tmp_path / "more_en.jsonl"
    path.write_bytes((layout / "en.jsonl").read_bytes() + b'{"torn')
    loaded = load_records([path, layout / "jp.jsonl"], images=layout / "images")
    assert (len(loaded.records), loaded.issues, len(loaded.pictures)) == (13, 1, 4)


def test_a_built_data_set(tmp_path, layout):
    built = build(layout, out=tmp_path / "built", ratios=(0.5, 0.25, 0.25)).path
    found = [load_records([built], split=name) for name in ("train", "validation", "test") if _has(built, name)]
    assert texts(one for part in found for one in part.records) == texts([*ROWS, *PICTURED])
    for part in found:
        for one in part.records:
            if one.image:
                assert part.pictures[one.image] == (layout / "images" / f"{one.image}.png").read_bytes()
        with pytest.raises(KeyError):
            part.pictures["nothing"]


def _has(built, split):
    try:
        return bool(load_records([built], split=split).records)
    except ValueError as error:
        assert "there is no record" in str(error)  # noqa: PT017
        return False


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_sources_that_are_not_there(tmp_path, missing):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=missing):
        load_records([tmp_path / missing])
    with pytest.raises(ValueError, match="no source"):
        load_records([])
    (tmp_path / "en.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"there is no record .*\(1 lines cannot be read\)"):
        load_records([tmp_path / "en.jsonl"])


def test_pictures_of_an_archive(tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/5651380.jpg", b"one")
        archive.writestr("../../evil.png", b"two")  # a name, never a path: nothing is extracted
        archive.writestr("notes.txt", b"no picture")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    found = Pictures(path)
    assert dict(found) == {"5651380": b"one", "evil": b"two"}
    assert "link" not in found
    assert len(found) == 2


def test_pictures_of_a_folder_stay_inside_it(tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(b"secret")
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.PNG").write_bytes(b"a")
    (folder / "b.png").symlink_to(outside)
    (folder / "c.png").symlink_to(folder / "deep" / "a.PNG")
    assert dict(Pictures(folder)) == {"a": b"a", "c": b"a"}


def test_pictures_that_cannot_be_had(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x" * 100)
    monkeypatch.setattr("clot._pictures.MAX_BYTES", 99)
    with pytest.raises(ValueError, match="'a' is larger"):
        Pictures(tmp_path)["a"]
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png .* have one identifier"):
        Pictures(tmp_path)
    with pytest.raises(FileNotFoundError):
        Pictures(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(ValueError, match=r"broken\.zip is no zip file"):
        Pictures(tmp_path / "broken.zip")


def test_the_model_of_a_command_line(tmp_path):
    pytest.importorskip("httpx")
    assert isinstance(open_backend("echo"), EchoBackend)
    server = open_backend("m", server="http://localhost:8000/v1", log=tmp_path / "log.jsonl")
    assert isinstance(server, OpenAIBackend)
    for options in ({"model": "echo"}, {"model": "m", "server": "http://localhost:8000/v1"}):
        with pytest.raises(ValueError, match="an adapter belongs to a model that is loaded here"):
            open_backend(**options, adapter=tmp_path)


def test_a_folder_with_a_model(tiny_folders):
    from clot.integrations.hf import HFBackend

    assert isinstance(open_backend(str(next(iter(tiny_folders.values()))), device="cpu"), HFBackend)
