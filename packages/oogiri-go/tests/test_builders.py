"""Datasets, pairs, choices, messages and percentiles."""

import itertools
import json
import math
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go import (
    OogiriDataset,
    Record,
    build,
    choice_questions,
    dpo_row,
    fold,
    group_key,
    groups,
    ranking_pairs,
    read_jsonl,
    star_percentiles,
    statistics,
    to_messages,
)
from oogiri_go._synthetic import write_layout

STARS = st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=12)


def answers(stars, question="Why?"):
    return [Record("", "T2T", question, None, f"answer {at}", star, "en") for at, star in enumerate(stars)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_layout(folder / "raw", records=400, pictures=30, bad=4, seed=1)
    return build(folder / "raw", out=folder / "out").path


@given(STARS, STARS)
def test_percentiles_are_their_definition(first, second):
    rows = [*answers(first), *answers(second, "Who?")]
    found = star_percentiles(rows)
    for stars, part in ((first, found[: len(first)]), (second, found[len(first) :])):
        known = [star for star in stars if star is not None]
        for star, percentile in zip(stars, part, strict=True):
            if star is None or len(known) < 2:
                assert percentile is None
                continue
            beaten = sum(other < star for other in known) + (sum(other == star for other in known) - 1) / 2
            assert percentile == pytest.approx(beaten / (len(known) - 1))


@given(STARS, st.integers(1, 3))
def test_pairs_against_every_pair(stars, least):
    rows = answers(stars)
    found = [(pair.chosen.text, pair.rejected.text) for pair in ranking_pairs(rows, least=least)]
    wanted = {
        (a.text, b.text)
        for a, b in itertools.permutations(rows, 2)
        if a.star is not None and b.star is not None and a.star - b.star >= least
    }
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_pairs_stay_within_a_prompt():
    rows = [*answers([1, 2]), *answers([3, 9], "Who?")]
    assert all(pair.chosen.question == pair.rejected.question for pair in ranking_pairs(rows))
    assert len(list(ranking_pairs(rows))) == 2


def test_at_most_so_many_pairs_of_a_prompt():
    rows = [*answers(range(10)), *answers(range(3), "Who?")]
    some = list(ranking_pairs(rows, per_prompt=5))
    assert len(some) == 5 + 3
    assert some == list(ranking_pairs(rows, per_prompt=5))
    assert some != list(ranking_pairs(rows, per_prompt=5, seed=1))
    assert {(pair.chosen.text, pair.rejected.text) for pair in some} <= {
        (pair.chosen.text, pair.rejected.text) for pair in ranking_pairs(rows)
    }


def test_only_ratings_that_are_apart_count(sail_data):
    rows = list(read_jsonl(sail_data("humor/nycc_en.jsonl")))
    chosen = rows[:60]
    found = list(ranking_pairs(chosen, by="rating"))
    for pair in found:
        (m1, s1), (m2, s2) = (
            (one.extra["rating_mean"], one.extra["rating_se"]) for one in (pair.chosen, pair.rejected)
        )
        assert pair.margin == pytest.approx((m1 - m2) / math.sqrt(s1**2 + s2**2))
        assert pair.margin >= 2
    every = sum(len(group) * (len(group) - 1) // 2 for group in groups(rows).values())
    apart = sum(1 for _ in ranking_pairs(rows, by="rating"))
    assert 0.3 < apart / every < 0.5  # 40 % of the pairs differ by two standard errors
    assert not list(ranking_pairs(answers([1, 2]), by="rating"))


@pytest.mark.parametrize("options", [{"by": "likes"}, {"least": 0}, {"per_prompt": 0}])
def test_bad_arguments_of_pairs(options):
    with pytest.raises(ValueError):
        next(ranking_pairs(answers([1, 2]), **options))


@pytest.mark.parametrize(("options", "right"), [(2, 1), (3, 1), (4, 1), (5, 2)])
def test_choice_questions(built, options, right):
    rows = list(OogiriDataset(built))
    by_prompt = groups(rows)
    found = list(choice_questions(rows, options=options, answers=right))
    assert found
    places = []
    for one in found:
        key = group_key(one.prompt)
        same = [row for row in by_prompt[key] if (row.lang, row.type) == (one.prompt.lang, one.prompt.type)]
        mine = {fold(row.text) for row in same}
        assert len(one.options) == options == len({fold(text) for text in one.options})
        assert [at for at, text in enumerate(one.options) if fold(text) in mine] == list(one.answers)
        best = sorted((-1 if row.star is None else row.star for row in same), reverse=True)[:right]
        texts = {row.text: -1 if row.star is None else row.star for row in same}
        assert sorted((texts[one.options[at]] for at in one.answers), reverse=True) == best
        elsewhere = {row.text for row in rows if (row.lang, row.type) == (one.prompt.lang, one.prompt.type)}
        assert set(one.options) <= elsewhere
        places += one.answers
    assert set(places) == set(range(options))  # no position is the right one more often by rule
    assert found == list(choice_questions(rows, options=options, answers=right))


def test_given_distractors_come_first():
    rows = [*answers([5, 1]), *answers([3], "Who?"), *answers([2], "When?")]
    rows = [Record("", one.type, one.question, None, f"{one.question} {one.text}", one.star, "en") for one in rows]
    (first, *_) = choice_questions(
        rows, options=3, distractors=lambda record: ["A caption.", record.text, "A rewrite."]
    )
    assert set(first.options) == {"Why? answer 0", "A caption.", "A rewrite."}
    assert not list(choice_questions(answers([1, 2])))  # there is no other prompt


@pytest.mark.parametrize("options", [{"options": 1}, {"options": 3, "answers": 3}, {"answers": 0}])
def test_bad_arguments_of_choices(options):
    with pytest.raises(ValueError, match="expected 1 <= answers < options"):
        next(choice_questions([], **options))


@pytest.mark.parametrize("lang", ["en", "zh", "ja"])
@pytest.mark.parametrize("game", ["T2T", "I2T", "IT2T"])
def test_messages(lang, game):
    record = Record("", game, "Q" if game != "I2T" else None, None if game == "T2T" else "7", "A", 1, lang)
    user, assistant = to_messages(record)
    kinds = [part["type"] for part in user["content"]]
    assert kinds == (["text"] if game == "T2T" else ["image", "text"])
    assert user["content"][-1]["text"].endswith("\nQ") == (game != "I2T")
    assert assistant == {"role": "assistant", "content": [{"type": "text", "text": "A"}]}
    assert to_messages(record, instruction="Go.")[0]["content"][-1]["text"].startswith("Go.")
    row = dpo_row(next(ranking_pairs([record, Record("", game, record.question, record.image, "B", 3, lang)])))
    assert row["images"] == ([] if game == "T2T" else ["7"])
    assert row["prompt"][0] == user
    assert [row[name][0]["content"][0]["text"] for name in ("chosen", "rejected")] == ["B", "A"]
    json.dumps(row)


def test_a_dataset_is_a_sequence(built):
    data = OogiriDataset(built)
    every = list(data)
    rng = random.Random(0)
    for at in rng.sample(range(len(data)), 20):
        assert data[at] == every[at] == data[at - len(data)]
    assert data[3:9] == every[3:9]
    assert data[::-7] == every[::-7]
    assert data[5:2] == []
    assert data.groups[:5] != data.groups[5:10]
    for at in (len(data), -len(data) - 1):
        with pytest.raises(IndexError, match="there is no record"):
            data[at]
    with pytest.raises(TypeError):
        data["0"]


def test_a_dataset_is_filtered(built):
    every = list(OogiriDataset(built))
    assert list(OogiriDataset(built, lang="jp")) == [one for one in every if one.lang == "ja"]
    some = OogiriDataset(built, lang=["en", "cn"], game=["I2T"])
    assert list(some) == [one for one in every if one.lang in ("en", "zh") and one.type == "I2T"]
    assert list(OogiriDataset(built, split="test")) != every
    at = len(some) - 1
    whole = OogiriDataset(built)
    assert some.image_bytes(at) == whole.image_bytes(list(whole).index(some[at])) is not None


def test_pictures_of_a_dataset(built):
    data = OogiriDataset(built)
    for at, record in enumerate(data):
        image = data.image(at)
        assert (image is None) == (record.image is None)
        assert image is None or image.mode == "RGB"
    copy = pickle.loads(pickle.dumps(data))
    assert list(copy) == list(data)
    at = next(at for at, record in enumerate(data) if record.image)
    assert copy.image_bytes(at) == data.image_bytes(at)


@pytest.mark.parametrize("options", [{"lang": "de"}, {"game": "T2I"}, {"split": "dev"}])
def test_bad_arguments_of_a_dataset(built, options):
    with pytest.raises(ValueError, match="expected"):
        OogiriDataset(built, **options)


def test_what_is_no_build(tmp_path):
    with pytest.raises(FileNotFoundError, match="oogiri-go build"):
        OogiriDataset(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json"):
            OogiriDataset(tmp_path)


def test_statistics(built):
    rows = list(OogiriDataset(built))
    found = statistics(rows)
    assert found.records == len(rows) == sum(found.by_kind.values())
    assert sum(found.prompts.values()) >= len(groups(rows))
    known = sorted(one.star for one in rows if one.star is not None)
    assert found.with_star == len(known) / len(rows)
    assert (found.star[0.0], found.star[1.0]) == (known[0], known[-1])
    assert found.star[0.5] == known[math.ceil(len(known) / 2) - 1]
    assert found.answers[1.0] == max(map(len, groups(rows).values()))
    assert found.rankable == sum(len({one.star for one in group} - {None}) >= 5 for group in groups(rows).values())
    empty = statistics([])
    assert (empty.records, empty.star, empty.with_star) == (0, {}, 0.0)
