"""No prompt and no picture in two splits, and nothing ever moves."""

import random
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oogiri_go import Record, fold, group_key, groups, split
from oogiri_go._split import SPLITS


def record(question, image, text, lang="en"):
    game = "T2T" if image is None else "I2T" if question is None else "IT2T"
    return Record("", game, question, image, text, None, lang)


NAMES = st.integers(0, 12)
ROWS = st.lists(
    st.builds(
        record,
        st.none() | NAMES.map("Question {}?".format),
        st.none() | NAMES.map("p{}".format),
        st.text("ab", min_size=1, max_size=6),
    ).filter(lambda one: one.image is not None or one.question is not None),
    max_size=40,
)


def parts_of(found):
    return {name: getattr(found, name) for name in SPLITS}


@settings(max_examples=150)
@given(ROWS, st.integers(0, 3), st.dictionaries(NAMES.map("p{}".format), NAMES.map("c{}".format)))
def test_no_prompt_and_no_picture_crosses(rows, seed, pictures):
    found = split(rows, seed=seed, ratios=(0.4, 0.3, 0.3), pictures=pictures)
    parts = parts_of(found)
    assert Counter(map(id, chain(*parts.values(), found.crossing))) == Counter(map(id, rows))
    for of in (
        lambda one: one.image,
        lambda one: pictures.get(one.image, one.image),
        lambda one: one.question and fold(one.question),
    ):
        seen = [{of(one) for one in part} - {None} for part in parts.values()]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]
    for one in found.crossing:  # only what could not be placed is left out
        assert one.image is not None
        assert one.question is not None


@settings(max_examples=150)
@given(ROWS, ROWS, st.integers(0, 3), st.sampled_from(["group", "row"]))
def test_records_that_come_later_move_nothing(rows, more, seed, by):
    options = {"seed": seed, "ratios": (0.4, 0.3, 0.3), "by": by}
    before = parts_of(split(rows, **options))
    after = parts_of(split(rows + more, **options))
    for name in SPLITS:
        assert [id(one) for one in after[name]][: len(before[name])] == [id(one) for one in before[name]]


@settings(max_examples=50)
@given(ROWS, st.randoms(use_true_random=False))
def test_order_does_not_matter_where_no_record_has_two_prompts(rows, rng):
    rows = [one for one in rows if one.image is None or one.question is None]
    shuffled = rng.sample(rows, len(rows))
    first, second = (parts_of(split(some, ratios=(0.4, 0.3, 0.3))) for some in (rows, shuffled))
    assert all({id(one) for one in first[name]} == {id(one) for one in second[name]} for name in SPLITS)


def test_the_shares_are_kept():
    rows = [record(f"Question {at}?", None, "a") for at in range(20_000)]
    for by in ("group", "row"):
        parts = parts_of(split(rows, by=by, seed=5))
        assert [len(part) / 20_000 for part in parts.values()] == pytest.approx([0.9, 0.05, 0.05], abs=0.006)
    assert split(rows, seed=1).test != split(rows, seed=2).test


def test_by_row_prompts_are_spread():
    rows = [record(f"Question {at % 20}?", None, f"Answer {at}") for at in range(2_000)]
    parts = parts_of(split(rows, by="row", ratios=(0.5, 0.25, 0.25)))
    assert {one.question for one in parts["train"]} & {one.question for one in parts["test"]}
    assert not split(rows, by="row").crossing


def test_a_record_between_two_splits_is_left_out():
    rows = [record(f"Question {at}?", None, "a") for at in range(40)] + [
        record(None, f"p{at}", "a") for at in range(40)
    ]
    tied = [record(f"Question {at}?", f"p{at}", "b") for at in range(40)]
    found = split(rows + tied, ratios=(0.5, 0.25, 0.25))
    assert 10 < len(found.crossing) < 38
    assert all(any(one is other for other in tied) for one in found.crossing)
    assert not split(tied + rows, ratios=(0.5, 0.25, 0.25)).crossing  # the tie came first: both follow it


def test_known_places():
    """The division is a promise: these must never change."""
    rows = [record(f"Question {at}?", None, "a") for at in range(8)] + [record(None, str(at), "a") for at in range(8)]
    parts = parts_of(split(rows, ratios=(0.5, 0.25, 0.25)))
    assert [[rows.index(one) for one in part] for part in parts.values()] == KNOWN


KNOWN = [[0, 1, 2, 5, 7, 9, 11, 13], [3, 6, 10, 14], [4, 8, 12, 15]]


@pytest.mark.parametrize(
    "ratios", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0), (0.7, 0.3 - 1e-12, 0), (1 / 3, 1 / 3, 1 / 3)]
)
def test_shares_at_the_edge(ratios):
    rows = [record(f"Question {at}?", None, "a") for at in range(500)]
    parts = parts_of(split(rows, ratios=ratios))
    assert [bool(part) for part in parts.values()] == [share > 0 for share in ratios]


@pytest.mark.parametrize(
    "ratios", [(0.9, 0.1), (0.9, 0.1, 0.1), (1.1, -0.1, 0), (0.5, 0.2, 0.2), (float("nan"), 0.5, 0.5)]
)
def test_bad_shares(ratios):
    with pytest.raises(ValueError, match="three shares"):
        split([], ratios=ratios)


def test_a_bad_way():
    with pytest.raises(ValueError, match="'group' or 'row'"):
        split([], by="prompt")


def test_groups():
    rng = random.Random(0)
    rows = [record(rng.choice(["Why?", "WHY?", " why? ", "Who?", "Ｗｈｏ？"]), None, str(at)) for at in range(50)]
    rows += [record(rng.choice([None, "Why?"]), rng.choice(["1", "2"]), str(at)) for at in range(50)]
    found = groups(rows)
    assert len(found) == 4
    assert sum(map(len, found.values())) == 100
    assert all(group_key(one) == key for key, group in found.items() for one in group)
    assert len(groups(rows, pictures={"1": "same", "2": "same"})) == 3
    assert group_key(record("image", None, "a")) != group_key(record(None, "image", "a"))
