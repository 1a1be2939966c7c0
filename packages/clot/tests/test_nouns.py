"""Nouns by taggers and by the heuristic, the set, and conditions drawn from it."""

import sys
from collections import Counter

import pytest
from clot import ConditionSampler, NounSet, nouns_of
from clot._conditions import uses
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go import Record
from oogiri_go.runs import MissingExtra


def rows(*texts, lang="en"):
    return [Record("", "T2T", "Why?", None, text, 1, lang) for text in texts]


def test_chinese_nouns_by_jieba():
    pytest.importorskip("jieba")
    assert nouns_of("老板坐在沙发上看月亮。", "zh") == ["老板", "沙发", "月亮"]


def test_japanese_nouns_by_janome():
    pytest.importorskip("janome")
    assert nouns_of("上司はロボットと会議に行く。", "ja") == ["上司", "ロボット", "会議"]


def test_english_without_the_taggers_data_says_what_to_do(monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk, "pos_tag", lambda words: (_ for _ in ()).throw(LookupError("no data")))
    with pytest.raises(ValueError, match=r"nltk.downloader averaged_perceptron_tagger_eng.*method='heuristic'"):
        nouns_of("The cat.", "en")


def test_english_tags_are_nouns_by_their_first_letter(monkeypatch):
    nltk = pytest.importorskip("nltk")
    tags = {"The": "DT", "cats": "NNS", "ate": "VBD", "Paris": "NNP", "x": "NN"}
    monkeypatch.setattr(nltk, "pos_tag", lambda words: [(word, tags[word]) for word in words])
    assert nouns_of("The cats ate Paris x", "en") == ["cats", "paris"]


@pytest.mark.parametrize(("lang", "host"), [("en", "nltk"), ("zh", "jieba"), ("ja", "janome")])
def test_a_missing_tagger_names_the_extra(monkeypatch, lang, host):
    from clot import _taggers

    for name in [name for name in sys.modules if name.partition(".")[0] == host]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, host, None)
    _taggers._jieba.cache_clear()
    _taggers._janome.cache_clear()
    with pytest.raises(MissingExtra, match=r"sail-clot\[nouns\]"):
        nouns_of("cat", lang)


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("The lawyer put a cactus into my toaster.", "en", ["lawyer", "cactus", "toaster"]),
        ("I was just going to say no.", "en", []),
        ("It's about inflation and happiness.", "en", ["inflation", "happiness"]),
        ("上司はロボットと会議に行く。", "ja", ["上司", "ロボット", "会議"]),
        ("这是沙发和月亮", "zh", ["沙发", "月亮"]),
    ],
)
def test_the_heuristic(text, lang, expected):
    assert nouns_of(text, lang, method="heuristic") == expected


def test_unknown_values():
    with pytest.raises(ValueError, match="'fr' is not known"):
        nouns_of("chat", "fr")
    with pytest.raises(ValueError, match="expected 'tagger' or 'heuristic'"):
        nouns_of("cat", "en", method="guess")


def test_the_set_counts_answers_and_leaves_out(tmp_path):
    texts = ("The cat and the cat.", "My cat, the judge.", "The judge.", "A spoon.")
    found = NounSet.from_records(rows(*texts), method="heuristic", least=2, exclude=["Judge"])
    assert found.counts == {"en": {"cat": 2}}
    every = NounSet.from_records(
        [*rows(*texts), *rows("沙发", lang="zh")], method="heuristic", keep=lambda noun, lang: noun != "spoon"
    )
    assert (every.words("en"), every.words("zh"), every.words("ja"), len(every)) == (("cat", "judge"), ("沙发",), (), 3)
    every.save(tmp_path / "nouns.json")
    assert NounSet.load(tmp_path / "nouns.json") == every


@pytest.mark.parametrize(
    "text", ["", "[]", '{"counts": 1}', '{"counts": {"en": ["cat"]}}', '{"counts": {"en": {"cat": "many"}}}']
)
def test_another_file_is_no_set(tmp_path, text):
    path = tmp_path / "nouns.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"nouns.json is no noun set"):
        NounSet.load(path)


SET = NounSet.from_words([f"noun{chr(97 + at)}" for at in range(20)], "en")


def test_rho_is_the_share_of_empty_conditions_and_nouns_are_uniform():
    sampler = ConditionSampler(SET, rho=0.5, seed=1)
    drawn = [sampler.draw("en", "record", at) for at in range(4000)]
    assert 0.46 < drawn.count(None) / 4000 < 0.54
    counts = Counter(word for word in drawn if word)
    assert len(counts) == 20
    assert max(counts.values()) < 2 * min(counts.values())
    assert {ConditionSampler(SET, rho=1).draw("en", at) for at in range(50)} == {None}
    assert None not in {ConditionSampler(SET, rho=0).draw("en", at) for at in range(50)}


@given(st.integers(), st.text(max_size=8), st.integers(0, 30))
def test_draws_depend_on_seed_and_key_alone(seed, name, at):
    first = ConditionSampler(SET, rho=0.3, seed=seed)
    for other in range(at):
        first.draw("en", name, other)
    assert first.draw("en", name, at) == ConditionSampler(SET, rho=0.3, seed=seed).draw("en", name, at)


def test_words_of_the_prompt_are_passed_over():
    sampler = ConditionSampler(NounSet.from_words(["cat", "dog"], "en"), rho=0)
    assert {sampler.draw("en", at, avoid=["Two CATS met."]) for at in range(40)} == {"dog"}
    assert {sampler.draw("en", at, avoid=["cat", "dog"]) for at in range(5)} == {None}


def test_conditions_that_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"rho is 1\.5"):
        ConditionSampler(SET, rho=1.5)
    with pytest.raises(ValueError, match="no noun in 'ja'"):
        ConditionSampler(SET).draw("ja", 1)
    assert ConditionSampler(SET, rho=1).draw("ja", 1) is None


@pytest.mark.parametrize(
    ("condition", "text", "lang", "expected"),
    [
        ("cat", "The cat.", "en", True),
        ("cat", "CATS!", "en", True),
        ("box", "two boxes", "en", True),
        ("cat", "The cat's tail", "en", True),
        ("cat", "concatenate", "en", False),
        ("c++", "I speak c++ only", "en", True),
        ("月", "月が出た", "ja", True),
        ("ＡＢＣ", "abc", "ja", True),
        ("猫", "狗", "zh", False),
    ],
)
def test_use_of_a_condition(condition, text, lang, expected):
    assert uses(condition, text, lang) is expected
