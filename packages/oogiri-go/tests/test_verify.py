"""Everything that verify must find, in sources and in builds."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oogiri_go import build, verify
from oogiri_go._synthetic import broken, encoded, picture, write_layout


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_layout(folder, records=300, pictures=30, bad=10, seed=2)
    return folder


@pytest.fixture
def built(raw, tmp_path):
    return build(raw, out=tmp_path / "out", ratios=(0.6, 0.2, 0.2)).path


def test_sources(raw):
    found = verify(raw)
    assert not found.ok
    assert found.pictures == 20
    assert found.codes["image-truncated"] == found.codes["image-bomb"] == 2
    assert found.codes["image-format"] == 6
    assert sum(found.codes.values()) == len(found.issues)
    lines = [(file, issue.line) for file, issue in found.issues if issue.line]
    assert len(lines) == 12
    assert verify(raw, workers=2).codes == found.codes
    header = verify(raw, check="header")
    assert "image-truncated" not in header.codes
    assert header.pictures == 22


def test_references(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(encoded(picture(1)))
    (tmp_path / "images" / "2.jpg").write_bytes(broken("truncated", 1))
    (tmp_path / "images" / "3.jpg").write_bytes(encoded(picture(3)))
    rows = [{"type": "I2T", "question": None, "image": name, "text": "a\u202eb", "star": 1} for name in ("1", "2", "4")]
    (tmp_path / "en.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = verify(tmp_path)
    assert found.codes == {"image-truncated": 1, "image-missing": 1}
    assert found.records == 1
    assert found.warnings == {"bidi": 3, "picture-unused": 1}


def test_a_good_file(sail_data):
    found = verify(sail_data("humor/nycc_en.jsonl"))
    assert found.ok
    assert found.records == 7_368


def edit(path, change):
    """Change a Parquet file and make the manifest agree, so that only the contents can tell."""
    table = change(pq.read_table(path))
    pq.write_table(table, path)
    manifest = json.loads((path.parent.parent / "manifest.json").read_bytes())
    import hashlib

    for shard in manifest["shards"]:
        if shard["path"].endswith(path.name):
            shard |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(table)}
    (path.parent.parent / "manifest.json").write_text(json.dumps(manifest))


def put(table, name, values):
    at = table.schema.names.index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def changed(name, at, value):
    def change(table):
        values = table.column(name).to_pylist()
        at_ = at(table) if callable(at) else at
        values[at_] = value
        return put(table, name, values)

    return change


def first_picture(table):
    return next(at for at, value in enumerate(table.column("image").to_pylist()) if value)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed("text", 0, "other"), "id"),
        (changed("id", 3, "0" * 32), "id"),
        (changed("cluster", 4, "0" * 32), "order"),
        (lambda table: table.take(list(range(len(table)))[::-1]), "order"),
        (lambda table: pa.concat_tables([table.slice(0, 1), table]), "duplicate"),
        (changed("image", first_picture, {"bytes": broken("truncated", 1), "path": "x.jpg"}), "image"),
        (changed("image", first_picture, {"bytes": b"", "path": "x.jpg"}), "image"),
        (lambda table: table.drop_columns(["star"]), "schema"),
        (lambda table: table.rename_columns([*table.column_names[:-1], "more"]), "schema"),
    ],
)
def test_changed_rows_are_found(built, change, code):
    assert verify(built).ok
    edit(built / "data" / "train-00000-of-00001.parquet", change)
    found = verify(built)
    assert code in found.codes
    assert not found.ok


def test_a_row_of_another_split_is_found(built):
    other = pq.read_table(built / "data" / "test-00000-of-00001.parquet")
    edit(built / "data" / "train-00000-of-00001.parquet", lambda table: other)
    found = verify(built)
    assert found.codes == {"split": len(other)}


def test_changed_files_are_found(built):
    train = built / "data" / "train-00000-of-00001.parquet"
    shutil.copy(train, built / "data" / "train-00001-of-00002.parquet")
    (built / "README.md").write_text("mine")
    (built / "issues.jsonl").unlink()
    data = bytearray(train.read_bytes())
    data[len(data) // 2] ^= 1
    train.write_bytes(bytes(data))
    (built / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    found = verify(built)
    assert {"file-stray", "file-missing", "sha256", "parquet"} <= set(found.codes)
    assert found.codes["sha256"] == 3


def test_bad_arguments(raw, tmp_path):
    with pytest.raises(ValueError, match="'header' or 'decode'"):
        verify(raw, check="verify")
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "no")
    (tmp_path / "images.zip").write_bytes(b"no zip")
    (tmp_path / "en.jsonl").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable zip"):
        verify(tmp_path)


def test_only_the_first_issues_are_kept(tmp_path):
    (tmp_path / "en.jsonl").write_bytes(b"{\n" * 3_000)
    found = verify(tmp_path)
    assert found.codes == {"json": 3_000}
    assert len(found.issues) == 1_000
