"""Filters: what they find, and what they must leave alone."""

import time

import pytest
from oogiri_go import Record, SafetyFilter
from oogiri_go.safety import BlockList, Judged, PersonalData, Screener, screen


def record(text, lang="en", question="Why?"):
    return Record("", "T2T", question, None, text, None, lang)


@pytest.mark.parametrize(
    ("lang", "words", "text", "found"),
    [
        ("en", ["ass"], "What an ASS.", True), ("en", ["ass"], "A glass of bass", False),
        ("en", ["f**k"], "Oh f**k!", True),
        ("en", ["c++"], "I write c++ now", True), ("en", ["c++"], "c+ only", False),
        ("en", ["two words"], "Two  words", True),
        ("en", ["ass"], "ａｓｓ", True), ("zh", ["笨蛋"], "你是笨蛋吗", True), ("zh", ["笨蛋"], "你很聪明", False),
        ("ja", ["ばか"], "ばかみたい", True), ("ja", ["バカ"], "ﾊﾞｶ", True), ("en", ["a"], "", False),
        ("en", [" ", ""], "any", False),
    ],
)  # fmt: skip
def test_block_list(lang, words, text, found):
    for check in (BlockList(words), BlockList({lang: words})):
        assert (check(record(text, lang)) is not None) == found


def test_block_list_by_language_and_in_the_question():
    check = BlockList({"jp": ["死"]})
    assert check(record("死", "ja"))
    assert check(record("死", "zh")) is None
    assert BlockList(["bad"])(record("fine", question="Bad?")) == "the word 'bad'"
    with pytest.raises(ValueError, match="expected one of en"):
        BlockList({"de": ["x"]})


@pytest.mark.parametrize(
    "text",
    [
        "mail ann.b+c@example.co.uk now",
        "日本語test@example.jpです",
        "call +49 30 1234567",
        "(030) 123-45678",
        "电话13812345678。",
        "as @ann_1 said",
        "@ann",
    ],
)
def test_personal_data(text):
    assert PersonalData()(record(text))


@pytest.mark.parametrize(
    "text",
    [
        "In 2024 I had 1,234,567 cats",
        "3.14159265358979",
        "half @ the price",
        "a@b",
        "10:30 - 11:45",
        "e=mc2",
        "100 000",
        "@",
        "@1",
        "12345678",
    ],
)
def test_no_personal_data(text):
    assert PersonalData()(record(text)) is None


@pytest.mark.parametrize(
    "text", ["a" * 2000, "@" * 2000, "1 " * 1000, "a@" + "a." * 990, "+" + "1-" * 990, "a@a" * 600]
)
def test_patterns_take_no_time_on_hostile_text(text):
    start = time.process_time()
    PersonalData()(record(text))
    BlockList(["a b c", "aaaaaaab"])(record(text))
    assert time.process_time() - start < 0.5


def test_screener_reads_the_answer():
    answers = iter(["No.", " YES, clearly", "Maybe"])
    check = Screener(lambda question, record: next(answers), labels=["violence", "insult"])
    assert check(record("x")) == "the screener says yes to insult"
    assert "gave no answer on violence: 'maybe'" in check(record("x"))


def test_screen_reports_and_removes_nothing():
    filters = [PersonalData(), BlockList(["bad"]), Judged(lambda one: None, name="quiet")]
    assert all(isinstance(one, SafetyFilter) for one in filters)
    rows = [record("fine"), record("bad mail a@b.de")]
    found = list(screen(rows, filters))
    assert [one for one, _ in found] == rows
    assert [[finding.filter for finding in findings] for _, findings in found] == [[], ["personal-data", "block-list"]]
