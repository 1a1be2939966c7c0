"""Names that lead out of a folder or an archive, and archives that are larger than they look."""

import os
import stat
import struct
import zipfile

import pytest
from oogiri_go import _archive
from oogiri_go._archive import open_pictures
from oogiri_go._issue import Defect
from oogiri_go._synthetic import encoded, picture

GOOD = encoded(picture(1))


@pytest.fixture
def make(tmp_path):
    def make(*members, name="images.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                archive.writestr(member, data)
        return path

    return make


def refusal(path, image_id):
    with open_pictures(path) as pictures, pytest.raises(Defect) as caught:
        pictures.read(image_id)
    return caught.value.code


def info(name, *, mode=0o100644):
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    member.create_system = 3
    return member


def test_a_good_archive(make):
    path = make(("images/7.jpg", GOOD), ("images/8.png", GOOD), ("9", GOOD), ("README.md", b"x"), ("images/", b""))
    with open_pictures(path) as pictures:
        assert list(pictures) == ["7", "8", "9"]
        assert len(pictures) == 3
        assert pictures.read("8") == GOOD
        assert "7" in pictures
        assert "README" not in pictures
        assert pictures.defects == {}


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("../7.jpg", "7"),
        ("images/../../7.jpg", "7"),
        ("/7.jpg", "7"),
        ("\\7.jpg", "7"),
        ("..\\7.jpg", "..\\7"),
        ("C:\\7.jpg", "7"),
        ("C:7.jpg", "7"),
    ],
)
def test_a_name_that_leads_out_is_refused(make, name, image_id):
    path = make((name, GOOD), ("8.jpg", GOOD))
    with open_pictures(path) as pictures:
        assert [defect.code for defect in pictures.defects.values()] == ["zip-path"]
        assert list(pictures) == ["8"]
    assert refusal(path, image_id) in ("zip-path", "image-id", "image-missing")


def test_a_name_with_nul_is_refused(make):
    path = make(("7.jpgXa.txt", GOOD), ("8.jpg", GOOD))
    path.write_bytes(path.read_bytes().replace(b"7.jpgXa.txt", b"7.jpg\0a.txt"))
    with open_pictures(path) as pictures:
        assert [defect.code for defect in pictures.defects.values()] == ["zip-path"]
        assert list(pictures) == ["8"]


def test_a_symbolic_link_is_refused(make):
    path = make((info("7.jpg", mode=stat.S_IFLNK | 0o777), b"/etc/passwd"))
    assert refusal(path, "7") == "zip-link"


def test_an_encrypted_member_is_refused(make):
    path = make(("7.jpg", GOOD))
    data = bytearray(path.read_bytes())
    for head, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.index(head)
        data[start + at] |= 1
    path.write_bytes(bytes(data))
    assert refusal(path, "7") == "zip-encrypted"


def test_a_bomb_is_refused_unread(make):
    path = make(("7.jpg", bytes(2 << 20)))
    assert refusal(path, "7") == "zip-bomb"


def test_a_member_that_is_too_large_is_refused(make, monkeypatch):
    monkeypatch.setattr(_archive, "MAX_BYTES", 1000)
    path = make(("7.jpg", os.urandom(1001)), ("8.jpg", os.urandom(1000)))
    assert refusal(path, "7") == "image-size"
    with open_pictures(path) as pictures:
        assert len(pictures.read("8")) == 1000


@pytest.mark.parametrize("declared", [-5, 5, 1 << 20])
def test_a_declared_size_that_is_not_the_real_one(make, declared):
    path = make(("7.jpg", GOOD))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", len(GOOD) + declared)
    path.write_bytes(bytes(data))
    assert refusal(path, "7") == ("zip-bomb" if declared > 10_000 else "zip-member")


def test_a_member_whose_bytes_were_changed(make):
    path = make(("7.jpg", GOOD))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert refusal(path, "7") == "zip-member"


def test_too_many_members(make, monkeypatch):
    monkeypatch.setattr(_archive, "MAX_MEMBERS", 3)
    path = make(*((f"{at}.jpg", b"x") for at in range(4)))
    with pytest.raises(ValueError, match="has 4 members; at most 3"):
        open_pictures(path)


@pytest.mark.parametrize("cut", [4, 30, -10])
def test_a_truncated_or_foreign_file_is_no_archive(make, tmp_path, cut):
    path = make(("7.jpg", GOOD))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="no readable zip file"):
        open_pictures(path)


def test_of_two_members_with_one_identifier_the_first(make):
    path = make(("a/7.jpg", GOOD), ("b/7.png", b"other"))
    with open_pictures(path) as pictures:
        assert pictures.read("7") == GOOD
        assert [defect.code for defect in pictures.defects.values()] == ["image-twice"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = make(("7.jpg", GOOD), ("7.jpg", b"other"), name="twice.zip")
    with open_pictures(path) as pictures:
        assert pictures.read("7") == GOOD
        assert [defect.code for defect in pictures.defects.values()] == ["image-twice"]


@pytest.mark.parametrize("image_id", ["../secret", "/etc/passwd", "a/b", "..", "", "x" * 129, "7\0", "C:\\x"])
def test_an_identifier_that_is_a_path_is_refused_before_anything_is_opened(make, tmp_path, image_id):
    (tmp_path / "secret.jpg").write_bytes(GOOD)
    (tmp_path / "images").mkdir()
    for path in (make(("7.jpg", GOOD)), tmp_path / "images"):
        assert refusal(path, image_id) == "image-id"


def test_a_folder(tmp_path):
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    (root / "7.jpg").write_bytes(GOOD)
    (root / "deep" / "8.PNG").write_bytes(b"eight")
    (root / ".DS_Store").write_bytes(b"x")
    with open_pictures(root) as pictures:
        assert list(pictures) == ["7", "8"]
        assert pictures.read("8") == b"eight"
    assert refusal(root, "9") == "image-missing"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_links_out_of_a_folder_are_refused(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(GOOD)
    (root / "1.jpg").write_bytes(GOOD)
    (root / "7.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "8.jpg").symlink_to(root / "1.jpg")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "9.jpg").write_bytes(GOOD)
    (root / "sub").symlink_to(tmp_path / "other", target_is_directory=True)
    assert refusal(root, "7") == "image-link"
    with open_pictures(root) as pictures:
        assert list(pictures) == ["1", "8"]
        assert pictures.read("8") == GOOD
        (root / "1.jpg").unlink()
        (root / "1.jpg").symlink_to(tmp_path / "secret.jpg")  # swapped after it was listed
        with pytest.raises(Defect, match="lies outside"):
            pictures.read("1")


def test_what_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_pictures(tmp_path / "no.zip")
