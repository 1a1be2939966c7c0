"""The suites: every answer can be checked, and bad files are named."""

import json
from collections import Counter

import pytest
from sur_adapter import Item, load_suite


@pytest.mark.parametrize("name", ["action", "color", "counting"])
def test_thirty_prompts_with_answers(name):
    items = load_suite(name)
    assert len(items) == 30
    assert len({item.prompt for item in items}) == 30
    for item in items:
        assert {answer for _, answer in item.questions} == {"yes", "no"}
        assert len(item.options) == len(set(item.options)) == 4
        assert item.answer == 0


def test_counts_agree_with_captions_and_questions():
    words = ["no", "one", "two", "three", "four", "five", "six"]
    items = load_suite("counting")
    for item in items:
        assert item.options[0].split()[0] == words[item.count]
        assert words[item.count] in item.questions[0][0]
        assert words[item.count] not in item.questions[1][0].split()
    assert min(Counter(item.count for item in items).values()) >= 3


def test_colours_of_questions_agree_with_captions():
    for item in load_suite("color"):
        right = item.questions[0][0].rstrip("?").split()[-1]
        assert right in item.options[0].split()
        assert not any(right in option.split() for option in item.options[1:])


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "A hat"}\n\n{"id": "b", "prompt": "Two hats", "count": 2}\n')
    assert load_suite(path) == [Item("1", "A hat"), Item("b", "Two hats", count=2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ('{"prompt": "  "}', "not empty"),
        ("[]", "prompt"),
        ('{"prompt": "x", "color": 1}', "unknown key 'color'"),
        ('{"prompt": "x", "questions": [["Is it?", "maybe"]]}', "yes"),
        ('{"prompt": "x", "questions": [["Is it?"]]}', "yes"),
        ('{"prompt": "x", "questions": 3}', "line 2"),
        ('{"prompt": "x", "options": ["a"]}', "two captions"),
        ('{"prompt": "x", "options": ["a", "b"], "answer": 2}', "index"),
        ('{"prompt": "x", "count": -1}', "whole number"),
        ('{"prompt": "x", "count": true}', "whole number"),
        ('{"id": "1", "prompt": "x"}', "more than once"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"prompt": "A hat"}) + "\n" + line)
    with pytest.raises(ValueError, match=message):
        load_suite(path)


def test_bad_names(tmp_path):
    with pytest.raises(ValueError, match="action, color, counting"):
        load_suite("colour")
    with pytest.raises(FileNotFoundError, match="no suite file"):
        load_suite(tmp_path / "none.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(ValueError, match="no prompts"):
        load_suite(empty)
