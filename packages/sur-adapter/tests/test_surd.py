"""Reading triplets in the layout of SURD, from a folder and from an archive."""

import json
import zipfile

import pytest
import train_world
from sur_adapter._surd import Surd


@pytest.fixture
def folder(tmp_path):
    return train_world.write_data(tmp_path / "data", rows=4)


def archive(folder, path, prefix="SURD/train/"):
    with zipfile.ZipFile(path, "w") as file:
        for one in folder.iterdir():
            file.write(one, prefix + one.name)
    return path


def test_names_without_extension_are_found_in_folder_and_archive(folder, tmp_path):
    """The authors' exporter writes names without the extension."""
    from_folder, from_zip = Surd(folder), Surd(archive(folder, tmp_path / "SURD.zip"))
    assert from_folder.rows == from_zip.rows
    assert from_folder.digest() == from_zip.digest()
    row = from_folder.rows[2]
    assert (row.image, row.narrative, row.complex) == ("image 2.png", "a blue wall", "wall 2, blue, best quality")
    assert from_folder.image(2) == from_zip.image(2) == (folder / "image 2.png").read_bytes()


def test_texts_alone_need_no_images(folder):
    for path in folder.glob("*.png"):
        path.unlink()
    assert len(Surd(folder, images=False)) == 4
    assert len(Surd(folder / "metadata.jsonl", images=False)) == 4
    with pytest.raises(ValueError, match=r"4 of 4 images are missing; first: image 0"):
        Surd(folder)
    with pytest.raises(ValueError, match="without its images"):
        Surd(folder, images=False).image(0)


def test_the_real_rows_of_surd(sail_data):
    rows = Surd(sail_data("surd/surd_example_metadata.jsonl"), images=False).rows
    assert [row.narrative for row in rows] == [
        "a woman in a black dress holding a golden zodiac sign",
        "a woman in a white dress with blue hair and angel wings",
    ]
    assert all(len(row.complex) > 100 for row in rows)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 has no file_name, text and prompt"),
        ('{"file_name": "a", "text": "b"}', "line 2 has no file_name, text and prompt"),
        ("[]", "line 2 has no"),
        ('{"file_name": "image 0", "text": " ", "prompt": "c"}', "line 2: .* not empty"),
        ('{"file_name": "image 0", "text": 3, "prompt": "c"}', "line 2: .* must be texts"),
        ('{"file_name": "../image", "text": "b", "prompt": "c"}', "1 of 2 images are missing; first: ../image"),
    ],
)
def test_bad_rows_are_named(folder, line, words):
    first = json.dumps({"file_name": "image 0", "text": "a", "prompt": "b"})
    (folder / "metadata.jsonl").write_text(f"{first}\n{line}\n")
    with pytest.raises(ValueError, match=words):
        Surd(folder)


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"SURD\.zip, or a folder"):
        Surd(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="has no rows"):
        Surd(tmp_path)
    (tmp_path / "SURD.zip").write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(ValueError, match="not a whole zip archive"):
        Surd(tmp_path / "SURD.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("a.txt", "")
    with pytest.raises(FileNotFoundError, match=r"holds no metadata\.jsonl"):
        Surd(tmp_path / "empty.zip")
