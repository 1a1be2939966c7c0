"""Builds: what is in them, the same bytes always, kills, real data, and the library that reads them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pyarrow.parquet as pq
import pytest
from oogiri_go import DataError, OogiriDataset, build, card, fold, group_key, read_jsonl, split, verify, write_jsonl
from oogiri_go._check import check_pictures
from oogiri_go._shards import write_shard
from oogiri_go._synthetic import encoded, lines, picture, write_layout
from PIL import Image

SPLITS = ("train", "validation", "test")


def tree(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def every(root):
    return [one for name in SPLITS for one in OogiriDataset(root, split=name)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_layout(folder, records=900, pictures=40, bad=8, seed=0)
    return folder


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "oogiri"
    return build(raw, out=out, source="made up", license="CC0-1.0")


def test_what_is_in_a_build(raw, built):
    assert sorted(path.name for path in built.path.iterdir()) == ["README.md", "data", "issues.jsonl", "manifest.json"]
    assert sorted(path.name for path in (built.path / "data").iterdir()) == sorted(
        f"{name}-00000-of-00001.parquet" for name in SPLITS
    )
    rows = every(built.path)
    assert built.rows == {name: len(OogiriDataset(built.path, split=name)) for name in SPLITS}
    good = [one for name in ("en", "cn", "jp") for one in read_jsonl(raw / f"{name}.jsonl", on_error="skip")]
    assert {one.id for one in rows} < {one.id for one in good}
    assert len({(group_key(one), one.lang, fold(one.text)) for one in rows}) == len(rows)
    assert {one.source for one in rows} == {"made up"}
    assert verify(built.path).ok
    issues = [json.loads(line) for line in (built.path / "issues.jsonl").read_text("utf-8").splitlines()]
    assert len(issues) == built.dropped["defects"] > 30
    assert {one["source"] for one in issues} == {"en.jsonl", "cn.jsonl", "jp.jsonl"}
    assert built.dropped["exact"] > 20
    assert sum(built.dropped.values()) + len(rows) == 900


def test_no_prompt_and_no_picture_crosses(built):
    groups = [set(OogiriDataset(built.path, split=name).groups) for name in SPLITS]
    pictures = [{one.image for one in OogiriDataset(built.path, split=name)} - {None} for name in SPLITS]
    for sets in (groups, pictures):
        assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
    # the pictures that are another one again, made smaller
    where = {name: at for at, names in enumerate(pictures) for name in names}
    again = [(str(5_650_000 + at), str(5_650_000 + at - 1)) for at in (19, 29, 39)]
    assert all(where[one] == where[other] for one, other in again if one in where and other in where)


def test_the_split_is_that_of_split(tmp_path):
    path = tmp_path / "en.jsonl"
    path.write_bytes(b"\n".join(lines(400, lang="en", seed=1, pictures=[])))
    for by in ("group", "row"):
        result = build(path, out=tmp_path / by, split_by=by, seed=3, ratios=(0.6, 0.2, 0.2))
        parts = split(every(result.path), by=by, seed=3, ratios=(0.6, 0.2, 0.2))
        for name in SPLITS:
            assert {one.id for one in getattr(parts, name)} == {
                one.id for one in OogiriDataset(result.path, split=name)
            }
        assert verify(result.path).ok


def test_records_between_two_splits_are_counted(tmp_path):
    rows = [{"type": "T2T", "question": f"Q{at}?", "image": None, "text": "a", "star": 1} for at in range(30)]
    rows += [{"type": "I2T", "question": None, "image": f"p{at}", "text": "a", "star": 1} for at in range(30)]
    rows += [{"type": "IT2T", "question": f"Q{at}?", "image": f"p{at}", "text": "b", "star": 1} for at in range(30)]
    (tmp_path / "zh.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = build(tmp_path / "zh.jsonl", out=tmp_path / "out", ratios=(0.5, 0.25, 0.25))
    parts = split(read_jsonl(tmp_path / "zh.jsonl"), ratios=(0.5, 0.25, 0.25))
    assert result.dropped["crossing"] == len(parts.crossing) > 5
    assert result.rows == {name: len(getattr(parts, name)) for name in SPLITS}
    assert verify(result.path).ok


def test_growth_moves_nothing(tmp_path):
    old, new = tmp_path / "en.jsonl", tmp_path / "more_en.jsonl"
    old.write_bytes(b"\n".join(lines(300, lang="en", seed=1, pictures=[])))
    new.write_bytes(b"\n".join(lines(300, lang="en", seed=2, pictures=[])))
    before, after = build(old, out=tmp_path / "a"), build([old, new], out=tmp_path / "b")
    for name in SPLITS:
        assert {one.id for one in OogiriDataset(before.path, split=name)} <= {
            one.id for one in OogiriDataset(after.path, split=name)
        }


@pytest.mark.parametrize("near", [None, 0.8])
def test_the_same_bytes_again_and_with_other_partitions(raw, tmp_path, monkeypatch, near):
    first = build(raw, out=tmp_path / "a", near=near)
    again = build(raw, out=tmp_path / "b", near=near, workers=2)
    assert tree(first.path) == tree(again.path)
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr("oogiri_go._build._PARTITION_BYTES", 8_000)
    monkeypatch.setattr("oogiri_go._spool._IN_MEMORY", 500)
    many = build(raw, out=tmp_path / "c", near=near)
    assert [one.id for one in every(many.path)] == [one.id for one in every(first.path)]


def test_the_same_call_finds_its_build(raw, built):
    before = {path: path.stat().st_mtime_ns for path in built.path.rglob("*")}
    again = build(raw, out=built.path, source="made up", license="CC0-1.0")
    assert (again.rows, again.prompts, again.dropped) == (built.rows, built.prompts, built.dropped)
    assert {path: path.stat().st_mtime_ns for path in built.path.rglob("*")} == before
    with pytest.raises(ValueError, match="holds something else"):
        build(raw, out=built.path, seed=1, source="made up", license="CC0-1.0")


def test_a_folder_that_is_in_use_is_left_alone(raw, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        build(raw, out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert build(raw / "en.jsonl", out=tmp_path / "empty").rows["train"]


KILL = """
import os, signal, sys
import oogiri_go._build as module
from oogiri_go import build
wanted, count = int(sys.argv[3]), 0
def trap(name):
    whole = getattr(module, name)
    def call(*arguments, **options):
        global count
        count += 1
        if count == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **options)
    setattr(module, name, call)
for name in ("write_atomic", "write_shard", "clean_partition", "sync_directory", "render_card"):
    trap(name)
module._PARTITION_BYTES = 40_000
build(sys.argv[1], out=sys.argv[2], shard_mb=1)
"""


def killed_at(raw, out, step):
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(raw), str(out), str(step)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Enough pictures for several shards of 1 MB."""
    folder = tmp_path_factory.mktemp("large")
    names = [str(at) for at in range(30)]
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for at, name in enumerate(names):
            noise = Image.effect_noise((640, 480), 90).convert("RGB")
            archive.writestr(f"{name}.jpg", encoded(Image.blend(picture(at, size=(640, 480)), noise, 0.5)))
    (folder / "en.jsonl").write_bytes(b"\n".join(lines(400, lang="en", seed=0, pictures=names)))
    return folder


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_build_goes_on_to_the_same_bytes(large, tmp_path):
    assert not killed_at(large, tmp_path / "whole", -1)
    whole = tree(tmp_path / "whole")
    assert sum(name.startswith("data/train") for name in whole) > 2
    out = tmp_path / "killed"
    kills = [step for step in (3, 9, 2) if killed_at(large, out, step)]  # each goes on from the last
    assert len(kills) >= 3
    assert not out.exists()
    assert not killed_at(large, out, -1)
    assert tree(out) == whole
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_at_every_step(large, tmp_path):
    assert not killed_at(large, tmp_path / "whole", -1)
    whole = tree(tmp_path / "whole")
    step = 1
    while killed_at(large, tmp_path / f"out-{step}", step):
        assert not killed_at(large, tmp_path / f"out-{step}", -1)
        assert tree(tmp_path / f"out-{step}") == whole, step
        step += 1
    assert step > 15


def test_what_was_done_is_not_done_again(large, tmp_path, monkeypatch):
    whole = build(large, out=tmp_path / "whole", shard_mb=1)
    written, checked = [], []

    def counting_shard(path, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_shard(path, *arguments)

    def counting_check(images, names, **options):
        checked.extend(names)
        return check_pictures(images, names, **options)

    monkeypatch.setattr("oogiri_go._build.write_shard", counting_shard)
    monkeypatch.setattr("oogiri_go._build.check_pictures", counting_check)
    with pytest.raises(KeyboardInterrupt):
        build(large, out=tmp_path / "out", shard_mb=1)
    assert len(checked) > 20
    first = list(written)
    checked.clear()
    with pytest.raises(KeyboardInterrupt):
        build(large, out=tmp_path / "out", shard_mb=1)
    assert checked == []
    assert written == first
    written.clear()
    monkeypatch.setattr("oogiri_go._build.write_shard", lambda *a: (written.append(a[0].name), write_shard(*a))[1])
    result = build(large, out=tmp_path / "out", shard_mb=1)
    assert not set(written) & set(first)
    assert len(written) + 2 == len(list((result.path / "data").iterdir()))
    assert tree(result.path) == tree(whole.path)


def test_a_torn_line_of_the_picture_log_is_cut_off(raw, tmp_path, monkeypatch):
    whole = build(raw, out=tmp_path / "a")
    monkeypatch.setattr("oogiri_go._build._spool", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    log = tmp_path / ".b.building" / "pictures.jsonl"
    for _ in range(2):  # the second time, what followed the cut must be whole lines
        with pytest.raises(KeyboardInterrupt):
            build(raw, out=tmp_path / "b")
        lines_ = log.read_bytes().splitlines()
        assert len({json.loads(line)["image_id"] for line in lines_}) == len(lines_) > 30
        log.write_bytes(log.read_bytes()[:-40])
    monkeypatch.undo()
    assert tree(build(raw, out=tmp_path / "b").path) == tree(whole.path)


def test_another_plan_clears_what_was_begun(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("oogiri_go._build._write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(raw, out=tmp_path / "b", seed=1)
    monkeypatch.undo()
    assert tree(build(raw, out=tmp_path / "b").path) == tree(build(raw, out=tmp_path / "c").path)


def test_the_first_defect_stops_a_strict_build(raw, tmp_path):
    with pytest.raises(DataError, match=r"\.jsonl"):
        build(raw / "cn.jsonl", out=tmp_path / "out", on_error="raise")
    assert not (tmp_path / "out").exists()


def test_layout_of_the_files(built):
    path = built.path / "data" / "train-00000-of-00001.parquet"
    metadata = pq.read_metadata(path)
    for at in range(metadata.row_group(0).num_columns):
        column = metadata.row_group(0).column(at)
        assert column.compression == "ZSTD"
        assert column.has_offset_index
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["image_id"] == {"dtype": "string", "_type": "Value"}
    assert str(pq.read_schema(path).field("image").type) == "struct<bytes: binary, path: string>"


def test_a_picture_stands_once_in_a_row_group(tmp_path):
    (tmp_path / "images").mkdir()
    data = encoded(picture(1, size=(640, 480)).effect_spread(12))
    (tmp_path / "images" / "7.jpg").write_bytes(data)
    row = '{"type":"I2T","question":null,"image":"7","text":"answer %d","star":1}'
    (tmp_path / "en.jsonl").write_text("\n".join(row % at for at in range(40)))
    result = build(tmp_path, out=tmp_path / "out", ratios=(1, 0, 0))
    size = (tmp_path / "out" / "data" / "train-00000-of-00001.parquet").stat().st_size
    assert len(data) < size < 2 * len(data)
    assert OogiriDataset(result.path).image_bytes(39) == data


def test_a_folder_and_a_zip_give_the_same_records(raw, built, tmp_path):
    with zipfile.ZipFile(raw / "images.zip") as archive:
        archive.extractall(tmp_path)  # made by this test suite
    for name in ("en", "cn", "jp"):
        (tmp_path / f"{name}.jsonl").write_bytes((raw / f"{name}.jsonl").read_bytes())
    result = build(tmp_path, out=tmp_path / "out", source="made up", license="CC0-1.0")
    assert tree(result.path / "data") == tree(built.path / "data")


def test_the_card(built):
    text = card(built.path)
    assert text == (built.path / "README.md").read_text("utf-8")
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "configs:" in front
    assert "path: data/validation-*" in front
    assert f"| all rows | {built.rows['train']:,} | {built.rows['validation']:,} | {built.rows['test']:,} |" in body
    assert "no prompt and no picture is in two splits" in body
    assert "Rights" in body


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split_by": "prompt"}, "split_by"), ({"ratios": (1, 1, 1)}, "shares"), ({"near": 2}, "similarity"),
        ({"shard_mb": 0}, "shard_mb"),
        ({"lang": "de"}, "expected one of en"), ({"on_error": "collect"}, "on_error"), ({"workers": 0}, "workers"),
    ],
)  # fmt: skip
def test_bad_options(raw, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        build(raw, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_bad_sources(raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        build(tmp_path / "no", out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no \\.jsonl"):
        build(tmp_path, out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="pictures"):
        build(raw / "en.jsonl", out=tmp_path / "out", images=tmp_path / "no.zip")
    with pytest.raises(ValueError, match="no source"):
        build([], out=tmp_path / "out")
    with pytest.raises(ValueError, match="one name"):
        build([raw / "en.jsonl", raw / "en.jsonl"], out=tmp_path / "out")


def test_an_empty_source(tmp_path):
    (tmp_path / "en.jsonl").write_bytes(b"")
    result = build(tmp_path / "en.jsonl", out=tmp_path / "out")
    assert result.rows == dict.fromkeys(SPLITS, 0)
    assert verify(result.path).ok
    assert len(OogiriDataset(result.path)) == 0


def test_the_human_rated_captions(sail_data, tmp_path):
    source = sail_data("humor/nycc_en.jsonl")
    first = build(source, out=tmp_path / "a")
    assert tree(build(source, out=tmp_path / "b").path) == tree(first.path)
    assert sum(first.rows.values()) + first.dropped["exact"] == 7_368
    questions = {fold(json.loads(line)["question"]) for line in source.read_text("utf-8").splitlines()}
    assert sum(first.prompts.values()) == len(questions) == 124  # two of the 125 cartoons are described alike
    held = {one.extra["group"] for one in OogiriDataset(first.path, split="test")}
    assert held
    assert not held & {one.extra["group"] for one in OogiriDataset(first.path)}


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_human_rated_captions_killed_and_resumed(sail_data, tmp_path):
    source = sail_data("humor/nycc_en.jsonl")
    assert not killed_at(source, tmp_path / "whole", -1)
    assert [killed_at(source, tmp_path / "out", step) for step in (2, 90)] == [True, True]
    assert not killed_at(source, tmp_path / "out", -1)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_datasets_reads_a_build(built):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(built.path), cache_dir=str(built.path.parent / "cache"))
    assert {name: len(part) for name, part in found.items()} == built.rows
    assert isinstance(found["train"].features["image"], datasets.Image)
    ours = OogiriDataset(built.path)
    at = next(at for at, one in enumerate(ours) if one.image is not None)
    row = found["train"][at]
    assert (row["id"], row["text"], row["star"]) == (ours[at].id, ours[at].text, ours[at].star)
    assert row["image"].size == ours.image(at).size
    for part in found.values():
        for image in part["image"]:
            assert image is None or image.convert("RGB").getpixel((0, 0))
    stream = datasets.load_dataset(str(built.path), split="test", streaming=True)
    assert len(list(stream)) == built.rows["test"]


PEAK = """
import sys
from pathlib import Path
from oogiri_go import build, read_jsonl, verify
def peak():  # not getrusage, whose maximum begins with that of the process that forked this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
"""
SOAK = (
    PEAK
    + """
result = build(sys.argv[1], out=sys.argv[2])
print(sum(result.rows.values()), result.seconds, peak())
found = verify(sys.argv[2])
assert found.ok, found.codes
print(found.records, found.seconds, peak())
"""
)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@pytest.mark.slow
@LINUX
def test_a_million_records_in_bounded_memory(tmp_path):
    source = tmp_path / "zh.jsonl"
    with source.open("wb") as file:
        for part in range(10):
            file.writelines(line + b"\n" for line in lines(100_000, lang="zh", seed=0, pictures=[], first=part))
    done = subprocess.run(
        [sys.executable, "-c", SOAK, str(source), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    print(done.stdout)
    (built, seconds, kilobytes), (verified, _, after) = (line.split() for line in done.stdout.splitlines())
    assert int(built) == int(verified) > 900_000
    assert float(seconds) > 0
    assert int(kilobytes) < 500_000
    assert int(after) < 500_000


@LINUX
def test_memory_does_not_grow_with_the_records(tmp_path):
    """Three times the records, and hardly more memory, for reading and verifying."""
    script = PEAK + "print(sum(1 for _ in read_jsonl(sys.argv[1])), verify(sys.argv[1]).records, peak())"
    used = []
    for count in (20_000, 60_000):
        source = tmp_path / f"{count}_zh.jsonl"
        source.write_bytes(b"\n".join(lines(count, lang="zh", seed=0, pictures=[])))
        done = subprocess.run([sys.executable, "-c", script, str(source)], capture_output=True, text=True, check=True)
        records, verified, kilobytes = map(int, done.stdout.split())
        assert records == verified == count
        used.append(kilobytes)
    assert used[1] - used[0] < 4_000


def test_seconds_are_reported(tmp_path):
    write_jsonl([], tmp_path / "en.jsonl")
    start = time.perf_counter()
    assert 0 < build(tmp_path / "en.jsonl", out=tmp_path / "out").seconds <= time.perf_counter() - start
