"""The gates: each reason, each language, and the count of repeats."""

from collections import Counter

import pytest
from clot._diversity import Repeats, diversity
from clot._gates import Gates, repetition, speaks, trigrams
from hypothesis import given, settings
from hypothesis import strategies as st
from oogiri_go import Record
from oogiri_go.safety import PersonalData

WHY = Record("", "T2T", "Why is the moon round?", None, "It rolled here.", 3, "en")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Cheese ages in wheels.", None),
        ("", "too short"),
        ("x" * 201, "too long"),
        ("月は丸い", "another language"),
        ("!!! ???", "another language"),
        ("buffalo buffalo buffalo buffalo", "repeats itself"),
        ("It rolled here!", "a known answer"),
        ("why is the moon round", "the question"),
        ("Cheese likes to roll.", "a candidate"),
        ("Ask ann@example.org about it.", "personal-data: an e-mail address"),
    ],
)
def test_reasons(text, reason):
    gates = Gates(filters=(PersonalData(),))
    found = gates.judge(text, WHY, answers=["It rolled here."], earlier=["cheese likes to roll"])
    assert found is None if reason is None else reason in found


def test_a_gate_can_be_opened():
    assert Gates(language=False).judge("月は丸い", WHY) is None
    assert Gates(repetition=1.0).judge("no no no no no", WHY) is None
    assert Gates(overlap=0.5).judge("Why is the moon so round?", WHY) is not None
    assert Gates(overlap=1.0).judge("Why is the moon so round?", WHY) is None
    assert Gates(overlap=1.0).judge("why is the  MOON round?", WHY) == "it repeats the question"


@pytest.mark.parametrize(
    ("text", "en", "zh", "ja"),
    [
        ("The cat is late", True, False, False),
        ("猫迟到了", False, True, True),  # Han alone may be either
        ("猫が遅れた", False, False, True),
        ("ｶﾀｶﾅ", False, False, True),
        ("Кот опоздал", False, False, False),
        ("買い物 in Tokyo today", True, False, False),
        ("12 + 3", False, False, False),
        ("Café crème", True, False, False),
        ("OK猫", True, False, False),
        ("OK的猫猫", False, True, True),
    ],
)
def test_scripts(text, en, zh, ja):
    assert (speaks(text, "en"), speaks(text, "zh"), speaks(text, "ja")) == (en, zh, ja)


def test_repetition_counts_words_or_characters():
    assert repetition("a b a b a b", "en") == pytest.approx(1 - 2 / 5)
    assert repetition("ababab", "en") == 0.0
    assert repetition("哈哈哈哈", "zh") == pytest.approx(1 - 1 / 3)
    assert repetition("one", "en") == 0.0


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"min_chars": 0}, "min_chars"),
        ({"max_chars": 1}, "max_chars"),
        ({"overlap": 1.5}, "overlap"),
        ({"repetition": -0.1}, "repetition"),
        ({"share": 1.0}, "share"),
        ({"repeats": 0}, "repeats"),
        ({"margin": -1.0}, "margin"),
    ],
)
def test_limits_out_of_range(limits, what):
    with pytest.raises(ValueError, match=what):
        Gates(**limits)


def test_settings_are_json():
    assert Gates(filters=(PersonalData(),)).settings()["filters"] == ["personal-data (PersonalData)"]


@given(st.lists(st.sampled_from([f"text {at}" for at in range(40)]), max_size=300))
@settings(max_examples=30, deadline=None)
def test_repeats_are_never_too_low(texts):
    counts, exact = Repeats(), Counter()
    for text in texts:
        exact[text] += 1
        assert counts.add(text) >= min(exact[text], 255)
    assert all(counts.count(text) == count for text, count in exact.items())  # 40 texts do not collide


def test_repeats_hardly_collide_and_do_not_overflow():
    counts = Repeats()
    for at in range(20_000):
        counts.add(f"answer {at}")
    assert sum(counts.count(f"other {at}") >= 2 for at in range(5_000)) <= 5
    for _ in range(300):
        counts.add("again")
    assert counts.count("again") == 255


def test_diversity():
    assert diversity({}) == {"distinct_2": 0.0, "overlap": 0.0}
    alike = diversity({"the cat is late": "en", "the cat is here": "en"})
    apart = diversity({"the cat is late": "en", "moons age in wheels": "en"})
    assert alike["distinct_2"] == pytest.approx(4 / 6)
    assert apart["distinct_2"] == 1.0
    assert alike["overlap"] > 0.4 > 0.1 > apart["overlap"]
    assert trigrams("ab") == {"ab"}
