"""The prompt syntax of the web interface: its documented examples, any text, and real prompts."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sur_adapter._a1111 import Network, clean_prompt, parse_prompt


def weights(prompt):
    return {chunk.text: round(chunk.weight, 4) for chunk in parse_prompt(prompt).chunks}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", {"normal text": 1.0}),
        ("an (important) word", {"an ": 1.0, "important": 1.1, " word": 1.0}),
        ("(unbalanced", {"unbalanced": 1.1}),
        (r"\(literal\]", {"(literal]": 1.0}),
        ("(unnecessary)(parens)", {"unnecessaryparens": 1.1}),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))",
            {"a ": 1.0, "house": 1.573, " ": 1.1, "on": 1.0, " a ": 1.1, "hill": 0.55, ", sun, ": 1.1, "sky": 1.4641},
        ),
        ("[[a]]", {"a": round(1 / 1.21, 4)}),
        ("(a: 1.5 )", {"a": 1.5}),
        ("a:b (c:d) (e:.5)", {"a:b ": 1.0, "c:d": 1.1, " ": 1.0, "e": 0.5}),
        ("a) b]", {"a) b]": 1.0}),
        (r"a\\b \c", {r"a\b \c": 1.0}),
        ("", {}),
    ],
)
def test_weights(prompt, expected):
    """The first six are the examples in the web interface's own source."""
    assert weights(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a [cat:dog:0.5] here", "a dog here"),
        ("a [dog:10] here", "a dog here"),
        ("a [cat::0.5]here", "a here"),
        ("[cow|horse] in a field", "cow horse in a field"),
        ("[a:[b:c:0.2]:0.5]", "c"),
        ("[soft] light", "soft light"),
        ("[(a:1.2)]", "a"),
        ("[a:b]", "a:b"),
        ("a [tower : (waffles:1.3) : 7], x", "a waffles, x"),
        ("[(a:1.2)::0.05] b", "b"),
        ("1 woman((body)), a\n:1.2), b", "1 woman body, a, b"),
        ("smile:1.3, a ratio of 16:9, sky:.5", "smile, a ratio of 16:9, sky"),
        ("one BREAK two AND three", "one, two, three"),
        ("BREAKFAST AND ANDES", "BREAKFAST, ANDES"),
        ("a,,b , c,\n\nd,", "a, b, c, d"),
        ("<lora:x:0.5><hypernet:y:1>", ""),
        ("a\x00b\u2028c cafe\u0301", "a b c caf\u00e9"),
    ],
)
def test_clean(prompt, expected):
    assert clean_prompt(prompt) == expected


def test_networks():
    found = parse_prompt("x <lora:ink style:0.7> <hypernet:y> <lora:a:b> <lora:c:0.5:1>").networks
    assert found == (
        Network("lora", "ink style", 0.7),
        Network("hypernet", "y", None),
        Network("lora", "a:b", None),
        Network("lora", "c", 0.5),
    )


SYNTAX = st.text(alphabet="ab ,:()[]\\|<>.5lora\n", max_size=40)


@given(SYNTAX)
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_prompt(prompt):
    parsed = parse_prompt(prompt)
    assert all(chunk.weight == chunk.weight for chunk in parsed.chunks)
    cleaned = clean_prompt(prompt)
    assert "\n" not in cleaned
    assert cleaned == cleaned.strip()
    assert ", ," not in cleaned


@given(st.text(alphabet="abc ,.", max_size=30))
@settings(max_examples=100, deadline=None)
def test_plain_text_stays(prompt):
    assert "".join(chunk.text for chunk in parse_prompt(prompt).chunks) == prompt
    assert clean_prompt(clean_prompt(prompt)) == clean_prompt(prompt)


def test_many_brackets_take_no_time():
    assert clean_prompt("(" * 5000 + "a" + ")" * 5000) == "a"
    assert clean_prompt("[" * 300 + "a" + "]" * 300) == "a"


def letters(text):
    return "".join(re.findall(r"[^\W_]+", text))


def test_real_prompts_agree_with_an_independent_cleaning(sail_data):
    """The data has the same prompts cleaned by another program; letters are compared, blanks and commas not.

    They differ in prompt editing, of which it keeps all forms, in ratios (4:3) and smileys (:3), whose digits it drops,
    and in text between angle brackets, which it drops.
    """
    records = json.loads(sail_data("surd/civitai_prompts_sample.json").read_text())
    expected = [letters(one["prompt_clean"].replace("BREAK", "")) for one in records]
    found = [letters(clean_prompt(one["prompt"])) for one in records]
    differing = [one for one, a, b in zip(records, found, expected, strict=True) if a != b]
    assert len(records) == 500
    assert len(differing) <= 20, [(one["prompt"], one["prompt_clean"]) for one in differing[:3]]
    for one in records:
        assert not re.search(r"<lora:|(?<!\\)\(\(|:\d\.\d+\)", clean_prompt(one["prompt"])), one["prompt"]
