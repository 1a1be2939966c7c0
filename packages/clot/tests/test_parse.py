"""Strict reading of choices and orders: what is certain is read, everything else is None."""

from string import ascii_uppercase

import pytest
from clot import parse_answer, parse_ranking
from clot._templates import one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from oogiri_go import fold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", (1,)),
        ("B.", (1,)),
        ("(C)", (2,)),
        ("[C]", (2,)),
        ("**B**. A pigeon.", (1,)),
        ("B. A pigeon.", (1,)),
        ("B: A pigeon.", (1,)),
        ("Ｂ．鳩です", (1,)),
        ("B.鳩です", (1,)),
        ("The answer is B.", (1,)),
        ("Answer: B. A pigeon.", (1,)),
        ("答案是B。", (1,)),
        ("答案：B. 鸽子", (1,)),
        ("我选B", (1,)),
        ("答えはB", (1,)),
        ("正解：B", (1,)),
        ("A, C", (0, 2)),
        ("C and A.", (0, 2)),
        ("A、C", (0, 2)),
        ("A和C", (0, 2)),
        ("A. One.\nC. Two.", (0, 2)),
        ("B. A pigeon.\nIt is funny because nobody expects it.", (1,)),
    ],
)
def test_certain_choices(text, expected):
    assert parse_answer(text, 4) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "b",
        "A or B",
        "A man walks into a bar",
        "A.M. is early",
        "E. There is no such option",
        "AB",
        "A, A",
        "A. One.\nA. One.",
        "A. One.\nActually, B is better.",
        "B is funny",
        "I would say it depends",
        "A, B, C, D",
        "A. One\nB. Two\nC. Three\nD. Four",
        "A. B.",
        "A. and B.",
        "A、B. C.",
        "Not B",
        "选项",
    ],
)
def test_uncertain_choices(text):
    assert parse_answer(text, 4) is None


@pytest.mark.parametrize(
    "text", ["A. I choose B. Always.", "A. The answer is B.", "A. B. C. D. and so on", "A. (B) or (C)"]
)
def test_an_option_that_imitates_an_answer_stays_text(text):
    assert parse_answer(text, 4) == (0,)


def test_option_texts_settle_what_letters_leave_open():
    options = ["B.", "plan B. C. now", "C"]
    assert parse_answer("A. B.", 3) is None
    assert parse_answer("A. and C.", 3) is None
    assert parse_answer("A. and C.", 3, options=["one", "two", "three"]) == (0, 2)
    assert parse_answer("A. and C.", 3, options=["and C.", "two", "three"]) == (0,)
    assert parse_answer("A. B.", 3, options=options) == (0,)
    assert parse_answer("B. plan B. C. now C. C", 3, options=options) == (1, 2)
    assert parse_answer("A. plan B. C. now", 3, options=options) is None  # the letter of one, the text of another
    assert parse_answer("A. something new", 3, options=options) == (0,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. B. x\n2. A. y\n3. C. z", (1, 0, 2)),
        ("1. B. x 2. A. y 3. C. z", (1, 0, 2)),
        ("1) (B) x\n2) (A) y\n3) (C) z", (1, 0, 2)),
        ("1. B\n2. A\n3. C", (1, 0, 2)),
        ("1.B.x\n2.A.y\n3.C.z", (1, 0, 2)),
        ("B > A > C", (1, 0, 2)),
        ("B, A, C", (1, 0, 2)),
        ("Here is my order:\n1. B. x\n2. A. y\n3. C. z", (1, 0, 2)),
        ("1. B. 2. A. is inside\n2. A. y\n3. C. z", (1, 0, 2)),
        ("1. B. x\n2. A. y", None),
        ("1. B. x\n2. B. y\n3. C. z", None),
        ("2. B. x\n1. A. y\n3. C. z", None),
        ("1. B. x\n2. A. y\n3. D. z", None),
        ("A. x\nB. y\nC. z", None),
        ("1. B. 2. C. joke 2. A. y 3. C. z", None),
        ("", None),
    ],
)
def test_orders(text, expected):
    assert parse_ranking(text, 3) == expected


def test_an_order_whose_texts_belong_to_other_letters_is_not_certain():
    options = ["one", "two", "three"]
    assert parse_ranking("1. B. two\n2. A. one\n3. C. three", 3, options=options) == (1, 0, 2)
    assert parse_ranking("1. B. one\n2. A. two\n3. C. three", 3, options=options) is None


@pytest.mark.parametrize("count", [0, 1, 27])
def test_numbers_of_options_that_letters_cannot_name(count):
    for parse in (parse_answer, parse_ranking):
        with pytest.raises(ValueError, match="expected 2 to 26"):
            parse("A", count)
        with pytest.raises(ValueError, match="1 option texts"):
            parse("A", 3, options=["one"])


# Texts that look like answers, in pieces that can be put together in any way.
PIECES = st.lists(
    st.sampled_from(
        [*"ABCDEF", "A. ", "B. ", "(C) ", "1. ", "2. ", "3. ", "\n", " ", "and ", "The answer is ", "猫", "x "]
    ),
    max_size=12,
).map("".join)


@given(PIECES | st.text(max_size=60), st.integers(2, 26))
def test_nothing_is_invented(text, count):
    """A position is only given if its letter was written, and always in range, ascending, once."""
    import unicodedata

    shown = unicodedata.normalize("NFKC", text)
    choice, order = parse_answer(text, count), parse_ranking(text, count)
    for found in (choice or (), order or ()):
        assert all(0 <= at < count and ascii_uppercase[at] in shown for at in found)
    if choice is not None:
        assert list(choice) == sorted(set(choice))
        assert len(choice) < count
    if order is not None:
        assert sorted(order) == list(range(count))


OPTIONS = st.lists(
    st.one_of(PIECES, st.text(max_size=30)).map(one_line).filter(fold), min_size=2, max_size=6, unique_by=fold
)


@settings(max_examples=150)
@given(OPTIONS, st.data())
def test_the_asked_for_form_is_never_read_as_another_option(options, data):
    """Whatever an option says, `A. text` is read as A or not at all."""
    right = data.draw(st.integers(0, len(options) - 1))
    line = f"{ascii_uppercase[right]}. {options[right]}"
    assert parse_answer(line, len(options)) in ((right,), None)
    assert parse_answer(line, len(options), options=options) in ((right,), None)


@settings(max_examples=100)
@given(OPTIONS, st.randoms(use_true_random=False))
def test_the_asked_for_order_is_never_read_as_another_order(options, random):
    order = list(range(len(options)))
    random.shuffle(order)
    text = "\n".join(f"{place}. {ascii_uppercase[at]}. {options[at]}" for place, at in enumerate(order, 1))
    assert parse_ranking(text, len(options)) in (tuple(order), None)
    assert parse_ranking(text, len(options), options=options) in (tuple(order), None)


@given(
    st.lists(st.from_regex(r"[a-z][a-z ]{2,20}[a-z]", fullmatch=True), min_size=3, max_size=6, unique_by=fold),
    st.data(),
)
def test_plain_options_are_always_read(options, data):
    """The strictness costs nothing where there is no doubt."""
    right = sorted(data.draw(st.sets(st.integers(0, len(options) - 1), min_size=1, max_size=2)))
    text = "\n".join(f"{ascii_uppercase[at]}. {options[at]}" for at in right)
    assert parse_answer(text, len(options)) == tuple(right)
    assert parse_answer(text, len(options), options=options) == tuple(right)
