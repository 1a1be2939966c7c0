"""The cache on the disk: what is stored, what is missing, what is refused."""

import json
import os
import signal
import subprocess
import sys
import unicodedata

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sur_adapter._teacher_cache import TeacherCache, TeacherFacts
from sur_adapter._teacher_import import import_teacher
from sur_adapter._teacher_store import TeacherStore
from sur_adapter._text_key import text_key

FACTS = TeacherFacts(model="org/model", layer="3:raw", pooling="mean", dtype="float16", dim=4)
TEXTS = [f"prompt {n}" for n in range(10)]
VECTORS = torch.arange(40.0).view(10, 4)


@pytest.fixture
def folder(tmp_path):
    store = TeacherStore(tmp_path, FACTS)
    store.add(TEXTS[:6], VECTORS[:6])
    store.add(TEXTS[6:], VECTORS[6:])
    return tmp_path


def test_every_vector_is_found(folder):
    cache = TeacherCache(folder, model="org/model", dim=4)
    assert torch.equal(cache.vectors(TEXTS), VECTORS.half())
    assert torch.equal(cache[TEXTS[7]], VECTORS[7].half())
    assert len(cache) == 10
    assert TEXTS[3] in cache
    assert "other" not in cache
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.json",
        "teacher-00000.safetensors",
        "teacher-00001.safetensors",
    ]
    assert json.loads((folder / "index.json").read_text())["count"] == 10


def test_misses_are_counted_and_the_first_is_named(folder):
    cache = TeacherCache(folder)
    with pytest.raises(ValueError, match=r"2 of 4 prompts are not in .*; first: 'new'; run encode-teacher"):
        cache.vectors(["prompt 1", "new", "newer", "prompt 2", "new"])
    with pytest.raises(ValueError, match="1 of 1 prompts"):
        cache["new"]
    assert cache.missing(["b", "prompt 1", "a", "b"]) == ["b", "a"]


def test_another_width_or_model_is_refused(folder):
    with pytest.raises(ValueError, match="vectors of width 4, expected 8"):
        TeacherCache(folder, dim=8)
    with pytest.raises(ValueError, match="made by org/model, not by org/other"):
        TeacherCache(folder, model="org/other")
    with pytest.raises(ValueError, match="vectors of width 4, 1 came"):
        TeacherStore(folder, FACTS).add(["x"], torch.zeros(1, 5))


def test_damage_is_named(folder, tmp_path_factory):
    shard = folder / "teacher-00001.safetensors"
    whole = shard.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        shard.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"teacher-00001\.safetensors is damaged"):
            TeacherCache(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=r"is missing, index\.json lists it"):
        TeacherCache(folder)
    shard.write_bytes((folder / "teacher-00000.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"index\.json says 4"):
        TeacherCache(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(ValueError, match="no index of a teacher cache"):
        TeacherCache(folder)
    with pytest.raises(FileNotFoundError, match="encode-teacher makes one"):
        TeacherCache(tmp_path_factory.mktemp("empty"))


def test_an_index_cannot_point_outside(folder):
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["file"] = "../teacher-00000.safetensors"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="outside the folder"):
        TeacherCache(folder)


def test_a_vector_that_is_not_finite_is_refused_by_name(tmp_path):
    store = TeacherStore(tmp_path, FACTS)
    vectors = VECTORS.clone()
    vectors[4, 2] = 1e6  # more than float16 holds
    with pytest.raises(ValueError, match="'prompt 4' is not finite in float16"):
        store.add(TEXTS, vectors)
    assert len(TeacherCache(tmp_path)) == 0


def test_tokens_come_back_with_their_lengths(tmp_path):
    facts = TeacherFacts(model="m", layer="1", pooling="tokens", dtype="float32", dim=2)
    parts = [torch.randn(n, 2) for n in (3, 1, 5)]
    TeacherStore(tmp_path, facts).add(["a", "b", "c"], parts)
    cache = TeacherCache(tmp_path)
    assert all(torch.equal(cache[text], part) for text, part in zip("abc", parts, strict=True))
    with pytest.raises(ValueError, match="a vector for each token"):
        cache.vectors(["a"])


@given(st.lists(st.text(max_size=8), min_size=1, max_size=12, unique_by=text_key))
@settings(max_examples=25, deadline=None)
def test_any_text_is_a_key_in_any_normal_form(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("cache")
    vectors = torch.arange(4.0 * len(texts)).view(-1, 4)
    TeacherStore(folder, FACTS).add(texts, vectors)
    cache = TeacherCache(folder)
    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    assert torch.equal(cache.vectors(decomposed).float(), vectors)


KILLED = """
import sys, torch
from sur_adapter._teacher_cache import TeacherFacts
from sur_adapter._teacher_store import TeacherStore
store = TeacherStore(sys.argv[1], TeacherFacts(model="m", layer="1", pooling="mean", dtype="float32", dim=64))
print("started", flush=True)
n = 0
while True:
    store.add([f"{n} {i}" for i in range(8)], torch.full((8, 64), float(n)))
    n += 1
"""


@pytest.mark.parametrize("delay", [0.02, pytest.param(0.2, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_a_whole_cache(tmp_path, delay):
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "started\n"
    with pytest.raises(subprocess.TimeoutExpired):
        writer.wait(delay)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    cache = TeacherCache(tmp_path)
    for n in range(len(cache) // 8):
        assert cache[f"{n} 7"].eq(n).all()
    store = TeacherStore(tmp_path, cache.facts)
    store.add(["after"], torch.ones(1, 64))
    assert TeacherCache(tmp_path)["after"].eq(1).all()


def test_the_authors_file_is_imported(tmp_path):
    vectors = {"a colorful animal": torch.randn(16).half(), "a cat": torch.randn(16).half()}
    torch.save(vectors, tmp_path / "39.pt")
    assert import_teacher(tmp_path / "39.pt", tmp_path / "cache", model="llama-13b", layer="40:raw") == 2
    cache = TeacherCache(tmp_path / "cache", model="llama-13b", dim=16)
    assert all(torch.equal(cache[text], vector) for text, vector in vectors.items())
    assert (cache.facts.pooling, cache.facts.dtype) == (None, "float16")
    assert import_teacher(tmp_path / "39.pt", tmp_path / "cache", model="llama-13b", layer="40:raw") == 0


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_file_that_would_be_executed_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Bomb()}, "bomb.pt")
    with pytest.raises(ValueError, match="was not loaded"):
        import_teacher("bomb.pt", "cache", model="m", layer="1")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ({}, "expected a dictionary"),
        ({"a": torch.zeros(2, 2)}, "is no text with a vector"),
        ({1: torch.zeros(2)}, "is no text with a vector"),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, "'b' has"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=words):
        import_teacher(tmp_path / "x.pt", tmp_path / "cache", model="m", layer="1")


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        import_teacher(tmp_path / "none.pt", tmp_path / "cache", model="m", layer="1")
    (tmp_path / "x.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="was not loaded"):
        import_teacher(tmp_path / "x.pt", tmp_path / "cache", model="m", layer="1")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="was not loaded"):
        import_teacher(tmp_path / "y.pt", tmp_path / "cache", model="m", layer="1")
