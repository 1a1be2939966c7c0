"""The Divergent Association Task against the authors' rules written again, and CLoT's tenth word."""

import itertools
import json
import os
import re

import numpy as np
import pytest
from clot import EchoBackend, LetterScorer, dat
from clot.dat import Embeddings
from hypothesis import given
from hypothesis import strategies as st

WORDS = [
    *("cat", "dog", "thimble", "cul-de-sac", "tophat", "moon", "idea", "river", "justice", "piano"),
    *("sulphur", "noodle", "verb", "glacier", "top-hat", "culdesac"),
]
VECTORS = {word: np.random.default_rng(at).normal(size=8).astype(np.float32) for at, word in enumerate(WORDS)}


def olson(words, vectors, minimum=7):
    """The rules, in the order of the authors' description, with scipy's distance."""
    cosine = pytest.importorskip("scipy.spatial.distance").cosine
    uniques = []
    for word in words:
        clean = re.sub(r"[^a-zA-Z- ]+", "", word).strip().lower()
        if len(clean) <= 1:
            continue
        candidates = []
        if " " in clean:
            candidates += [re.sub(r" +", "-", clean), re.sub(r" +", "", clean)]
        else:
            candidates.append(clean)
            if "-" in clean:
                candidates.append(re.sub(r"-+", "", clean))
        valid = next((one for one in candidates if one in vectors), None)
        if valid and valid not in uniques:
            uniques.append(valid)
    if len(uniques) < minimum:
        return None
    pairs = list(itertools.combinations(uniques[:minimum], 2))
    return sum(cosine(vectors[a].astype(float), vectors[b].astype(float)) for a, b in pairs) / len(pairs) * 100


ANSWERS = st.lists(
    st.sampled_from(
        [*WORDS, "Cat", "CAT!", "cul de sac", "Top Hat", "top  hat", "x", "", "unknown", "m00n", "top--hat", "12"]
    )
    | st.text(max_size=6),
    max_size=14,
)


@given(ANSWERS, st.integers(2, 8))
def test_the_score_is_the_authors(words, minimum):
    ours, theirs = dat.score(words, VECTORS, minimum=minimum), olson(words, VECTORS, minimum)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_seven_of_ten_count_and_21_pairs():
    ten = WORDS[:3] + WORDS[5:12]
    assert dat.score(ten, VECTORS) == dat.score(ten[:7], VECTORS) == dat.mean_distance(ten[:7], VECTORS)
    assert dat.score(ten[:6], VECTORS) is None
    assert dat.score([*ten[:6], ten[0].upper(), "  " + ten[1]], VECTORS) is None  # repeated ones count once


def test_a_dictionary_narrows_the_words():
    assert dat.score(["cat", "dog"], VECTORS, minimum=2, dictionary={"cat", "dog"}) is not None
    assert dat.score(["cat", "dog"], VECTORS, minimum=2, dictionary={"cat"}) is None
    assert dat.score(["top hat", "cat"], VECTORS, minimum=2, dictionary={"tophat", "cat"}) is not None


def test_the_real_dictionary(sail_data):
    words = dat.read_dictionary(sail_data("humor/dat_words.txt"))
    assert {"cat", "thimble", "cul-de-sac"} <= words
    assert not [one for one in words if not re.fullmatch(r"[a-z][a-z-]*[a-z]", one)]
    assert dat.clean("Cul De Sac", words) == "cul-de-sac"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: dat.score(["cat"], VECTORS, minimum=1), "expected at least 2"),
        (lambda: dat.mean_distance(["cat"], VECTORS), "expected at least 2"),
        (lambda: dat.distance("cat", "unknown", VECTORS), "'unknown' has no vector"),
        (lambda: dat.distance("cat", "nil", VECTORS | {"nil": np.zeros(8)}), "zero or not finite"),
        (lambda: Embeddings(["a", "a"], np.ones((2, 2), np.float32)), "stands twice"),
        (lambda: Embeddings(["a"], np.ones((2, 2), np.float32)), "a row for each word"),
    ],
)
def test_what_has_no_distance(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()


def write_glove(path, head=""):
    lines = [f"{word} {' '.join(f'{number:.6f}' for number in vector)}" for word, vector in VECTORS.items()]
    lines.insert(3, "at name@domain.com " + " ".join(["0.5"] * 8))  # GloVe 840B has tokens with spaces
    lines.append("cat " + " ".join(["9.0"] * 8))  # the last of a word that comes twice counts
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["", "18 8\n"])
def test_vectors_from_a_file(tmp_path, head):
    vectors = Embeddings.from_glove(write_glove(tmp_path / "glove.txt", head))
    assert "at name@domain.com" in vectors
    assert vectors["dog"] == pytest.approx(VECTORS["dog"], abs=1e-6)
    assert vectors["cat"].tolist() == [9.0] * 8
    assert vectors["dog"].dtype == np.float32


def test_the_cache_is_read_instead_of_the_file(tmp_path, monkeypatch):
    path, cache = write_glove(tmp_path / "glove.txt"), tmp_path / "cache"
    first = Embeddings.from_glove(path, words={"cat", "moon"}, cache=cache)
    assert sorted(first) == ["cat", "moon"]
    monkeypatch.setattr("clot.dat._embeddings._read", lambda *_: pytest.fail("the file was read again"))
    again = Embeddings.from_glove(path, words={"moon", "cat"}, cache=cache)
    assert {word: again[word].tolist() for word in again} == {word: first[word].tolist() for word in first}
    monkeypatch.undo()
    assert len(Embeddings.from_glove(path, cache=cache)) == len(WORDS) + 1  # other words, another cache
    os.utime(path, (1, 1))
    monkeypatch.setattr("clot.dat._embeddings._read", lambda *_: (["cat"], np.zeros((1, 8), np.float32)))
    assert list(Embeddings.from_glove(path, words={"cat", "moon"}, cache=cache)) == ["cat"]  # the file has changed


@pytest.mark.parametrize("broken", ["truncated", "garbage", "other"])
def test_a_broken_cache_is_made_again(tmp_path, broken):
    path, cache = write_glove(tmp_path / "glove.txt"), tmp_path / "cache"
    Embeddings.from_glove(path, cache=cache)
    [matrix] = cache.glob("*.npy")
    [names] = cache.glob("*.json")
    if broken == "truncated":
        matrix.write_bytes(matrix.read_bytes()[:100])
    elif broken == "garbage":
        names.write_text("{", encoding="utf-8")
    else:
        names.write_text(json.dumps(["cat"]), encoding="utf-8")
    assert len(Embeddings.from_glove(path, cache=cache)) == len(WORDS) + 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cat 1 2 3\ndog 1 2\n", "line 2: 2 numbers; expected 3"),
        ("cat 1 2 3\ndog 1 x 3\n", "line 2: 'dog' is not followed by 3 numbers"),
        ("", "none of the wanted words"),
    ],
)
def test_files_of_another_form(tmp_path, text, problem):
    path = tmp_path / "glove.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        Embeddings.from_glove(path)
    with pytest.raises(FileNotFoundError):
        Embeddings.from_glove(tmp_path / "nowhere.txt")


def test_tenth_words():
    words = [f"word{chr(97 + at)}" for at in range(26)]
    vectors = {word: np.random.default_rng(at).normal(size=6) for at, word in enumerate(words)}
    items = dat.make_completions(words, 12, seed=3, embeddings=vectors)
    assert items == dat.make_completions(words[::-1], 12, seed=3)
    assert items != dat.make_completions(words, 12, seed=4)
    assert all(len({*one.given, *one.options}) == 13 for one in items)

    def oracle(pick):
        def answer(prompt, letter):
            shown = dict(line.split(". ") for line in prompt.text.splitlines() if re.fullmatch(r"[A-D]\. \w+", line))
            given = re.search(r"given: (.*)\n", prompt.text)[1].split(", ")
            best = pick(shown, key=lambda one: dat.mean_distance([*given, shown[one]], vectors))
            return 0.0 if letter == best else -50.0

        return dat.complete(LetterScorer(EchoBackend(logprob=answer)), items, vectors)

    far, near = oracle(max), oracle(min)
    assert far.asd == pytest.approx(far.best)
    assert far.best_rate == 1.0
    assert near.asd == pytest.approx(near.worst)
    assert near.worst < near.random < near.best
    assert far.interval[0] <= far.asd <= far.interval[1]


def test_an_unread_tenth_word_counts_as_drawn():
    from clot import GenerateScorer

    words = list(VECTORS)
    items = dat.make_completions(words, 5, embeddings=VECTORS)
    found = dat.complete(GenerateScorer(EchoBackend(answer=lambda request, at: "no idea")), items, VECTORS)
    assert found.parse_rate == 0
    assert found.asd == pytest.approx(found.random)
    assert found.best_rate == 0.25
    with pytest.raises(ValueError, match="no item"):
        dat.complete(LetterScorer(EchoBackend()), [], VECTORS)
    with pytest.raises(ValueError, match="at least 13"):
        dat.make_completions(words[:12], 5)
