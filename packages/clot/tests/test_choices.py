"""Questions for an evaluation: one a prompt, from real sources, and reasons for those that there are none of."""

import json
from collections import Counter

import pytest
from clot import EchoBackend, Prompt, Question, Scored, choice_questions, ranking_questions, swap_heads
from clot.distractors import Distractors, make_literals, make_rewrites, read_texts, write_texts
from hypothesis import given
from hypothesis import strategies as st
from oogiri_go import Record, fold, group_key


def rows(prompts=4, answers=6, game="T2T", lang="en"):
    return [
        Record(
            f"{lang}{game}{p}-{a}",
            game,
            None if game == "I2T" else f"Question {p}?",
            f"{lang}{p}" if game != "T2T" else None,
            f"{lang} {game} joke {p}.{a}",
            a,
            lang,
        )
        for p in range(prompts)
        for a in range(answers)
    ]


ROWS = rows()
FULL = {
    "literals": {group_key(one): f"It is {one.question}" for one in ROWS},
    "rewrites": {one.id: f"Plainly {one.id}" for one in ROWS},
}


@pytest.mark.parametrize(("task", "count", "right"), [("2T1", 2, 1), ("3T1", 3, 1), ("4T1", 4, 1), ("5T2", 5, 2)])
def test_one_question_a_prompt_with_the_best_liked_answers(task, count, right):
    made = list(choice_questions(ROWS, task, Distractors(ROWS, **FULL), seed=1))
    assert [one.prompt_head.text for one in made] == [f"Question {p}?" for p in range(4)]
    for p, one in enumerate(made):
        assert len(one.options) == count
        assert one.n_right == right
        best = {f"en T2T joke {p}.5", f"en T2T joke {p}.4"}
        chosen = {one.options[at] for at in one.answer}
        assert chosen == (best if right == 2 else {f"en T2T joke {p}.5"})
        wrong = set(one.options) - chosen
        assert f"It is Question {p}?" in wrong
        assert not any(text.startswith(f"en T2T joke {p}.") for text in wrong)
    assert made == list(choice_questions(ROWS, task, Distractors(ROWS, **FULL), seed=1))
    assert made != list(choice_questions(ROWS, task, Distractors(ROWS, **FULL), seed=2))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, dict.fromkeys(("2T1", "3T1", "4T1", "5T2"), 0)),
        ({"literals": FULL["literals"]}, {"2T1": 4, "3T1": 4, "4T1": 0, "5T2": 0}),
        (FULL, {"2T1": 4, "3T1": 4, "4T1": 4, "5T2": 4}),
    ],
)
def test_a_missing_source_means_no_question(given, expected):
    for task, count in expected.items():
        skipped = Counter()
        assert len(list(choice_questions(ROWS, task, Distractors(ROWS, **given), skipped=skipped))) == count
        assert sum(skipped.values()) == 4 - count


def test_other_languages_games_and_groups_lend_nothing():
    mixed = [*rows(2), *rows(2, lang="ja"), *rows(2, game="I2T")]
    twins = [Record("t1", "T2T", "QUESTION 0?", None, "a twin", 9, "en")]  # the same prompt in other letters
    wrong = Distractors([*mixed, *twins])
    for one in mixed:
        for at in range(20):
            other = wrong.other(one, key=str(at))
            if other == "a twin":
                assert (one.lang, one.type, one.question) == ("en", "T2T", "Question 1?")
            else:
                assert other.startswith(f"{one.lang} {one.type} joke")
                assert other.split()[-1][0] != one.text.split()[-1][0]
    assert Distractors(rows(1)).other(rows(1)[0]) is None
    assert Distractors([]).other(rows(1)[0]) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "A ", "c", "ｂ"])), min_size=1, max_size=12))
def test_a_wrong_option_is_never_an_answer_to_the_prompt(pairs):
    records = [Record("", "T2T", f"Q{p}", None, text, 1, "en") for p, text in pairs]
    wrong = Distractors(records)
    for one in records:
        mine = {fold(other.text) for other in records if group_key(other) == group_key(one)}
        found = wrong.other(one)
        free = {fold(other.text) for other in records} - mine
        assert (found is None) == (not free)
        assert found is None or fold(found) in free


def test_options_that_are_alike_or_empty_give_no_question():
    same = {group_key(one): one.text.replace("joke", "JOKE") for one in ROWS if one.star == 5}
    skipped = Counter()
    assert list(choice_questions(ROWS, "2T1", Distractors(ROWS, literals=same), skipped=skipped)) == []
    assert skipped == {"two options are alike": 4}
    skipped.clear()
    blank = {group_key(one): "  " for one in ROWS}
    assert list(choice_questions(ROWS, "2T1", Distractors(ROWS, literals=blank), skipped=skipped)) == []
    assert skipped == {"an option is empty": 4}
    with pytest.raises(ValueError, match="no task '9T9'"):
        list(choice_questions(ROWS, "9T9", Distractors(ROWS)))


def test_orders_take_different_stars_and_leave_equal_ones_out():
    equal = [Record("", "T2T", "Equal?", None, f"e{at}", 2, "en") for at in range(9)]
    zero = [Record("", "T2T", "Zero?", None, f"z{at}", 0, "en") for at in range(9)]
    few = [Record("", "T2T", "Few?", None, f"f{at}", at % 3, "en") for at in range(9)]
    none = [Record("", "T2T", "None?", None, f"n{at}", None, "en") for at in range(9)]
    skipped = Counter()
    made = list(ranking_questions([*ROWS, *equal, *zero, *few, *none], skipped=skipped))
    assert len(made) == 4
    assert skipped == {"all stars are equal": 2, "fewer than 5 answers with different stars": 2}
    for one in made:
        stars = {other.text: other.star for other in ROWS}
        assert len(set(one.stars)) == len(one.options) == 5
        assert [stars[text] for text in one.options] == list(one.stars)


def test_orders_by_peoples_ratings(sail_data):
    from oogiri_go import read_jsonl

    records = list(read_jsonl(sail_data("humor/nycc_en.jsonl")))
    made = list(ranking_questions(records, by="rating", count=8))
    assert len(made) == 124
    means = {(one.question, one.text): one.extra["rating_mean"] for one in records}
    assert all(
        means[one.prompt_head.text, text] == star
        for one in made
        for text, star in zip(one.options, one.stars, strict=True)
    )
    skipped = Counter()
    assert list(ranking_questions(ROWS, by="rating", skipped=skipped)) == []
    assert sum(skipped.values()) == 4
    for options in ({"by": "votes"}, {"count": 1}, {"count": 27}):
        with pytest.raises(ValueError, match="expected"):
            list(ranking_questions(ROWS, **options))


def test_pictures_that_are_not_there():
    pictured, skipped = rows(game="I2T"), Counter()
    made = list(ranking_questions(pictured, pictures={"en0": b"zero", "en1": b"one"}, skipped=skipped))
    assert [one.prompt_head for one in made] == [Prompt("", b"zero"), Prompt("", b"one")]
    assert skipped == {"no picture": 2}
    assert [one.prompt_head.image for one in ranking_questions(pictured)] == [None] * 4


def test_plain_and_rewritten_answers_from_a_model_and_a_file(tmp_path):
    asked = []

    def answer(request, at):
        asked.append(request)
        return "  It\nis so. " if len(asked) != 2 else " "

    skipped = Counter()
    pictured = [Record("p", "I2T", None, "gone", "x", 1, "en")]
    made = make_literals(EchoBackend(answer=answer), [*ROWS, *pictured], pictures={}, skipped=skipped)
    assert made == [{"question": f"Question {p}?", "text": "It is so."} for p in (0, 2, 3)]
    assert skipped == {"no picture to describe": 1, "the model wrote nothing": 1}
    assert {one.temperature for one in asked} == {0.0}
    write_texts(made, tmp_path / "literals.jsonl")
    assert read_texts(tmp_path / "literals.jsonl", of="literal") == {
        group_key(ROWS[at]): "It is so." for at in (0, 12, 18)
    }
    lines = make_rewrites(EchoBackend(answer=lambda one, at: one.prompt.text[-1] + "!"), ROWS[:3], skipped=skipped)
    write_texts(lines, tmp_path / "rewrites.jsonl")
    assert read_texts(tmp_path / "rewrites.jsonl", of="rewrite") == {one.id: f"{one.text[-1]}!" for one in ROWS[:3]}
    echoed = make_rewrites(EchoBackend(answer=lambda one, at: ROWS[0].text.upper()), ROWS[:1], skipped=skipped)
    assert echoed == []
    assert skipped["the rewriting repeats the answer"] == 1


@pytest.mark.parametrize(
    ("of", "line"),
    [
        ("literal", "{"),
        ("literal", "[]"),
        ("literal", json.dumps({"text": "x"})),
        ("literal", json.dumps({"image": "1", "text": " "})),
        ("literal", json.dumps({"image": "1"})),
        ("rewrite", json.dumps({"image": "1", "text": "x"})),
        ("rewrite", json.dumps({"id": 5, "text": "x"})),
    ],
)
def test_other_files_are_no_texts(tmp_path, of, line):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"texts.jsonl, line 2"):
        read_texts(path, of=of)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"options": ("only",)}, "at least 2 options"),
        ({"options": tuple(f"o{at}" for at in range(27))}, "letters name at most 26"),
        ({"options": ("One", "oNE ")}, "options 0 and 1 are alike"),
        ({"options": ("One", "Ｏne")}, "are alike"),
        ({"options": ("One", " \n ")}, "option 1 is empty"),
        ({"n_right": 3}, "3 of 3 options to choose"),
        ({"n_right": 0}, "0 of 3 options"),
        ({"answer": (3,)}, "expected positions"),
        ({"answer": (-1,)}, "expected positions"),
        ({"answer": (1, 0), "n_right": 2}, "ascending"),
        ({"answer": (0, 1)}, "2 right options, but n_right is 1"),
        ({"stars": (1, 2)}, "2 stars for 3 options"),
    ],
)
def test_questions_that_cannot_be_asked(changes, problem):
    options = {"options": ("One", "Two", "Three")} | changes
    with pytest.raises(ValueError, match=f"question q7: .*{problem}"):
        Question("q7", Prompt("Why?"), lang="en", **options)


def test_the_order_of_scores():
    assert Scored("q", (0.2, 0.5, 0.5), (1,)).order() == (1, 2, 0)
    assert Scored("q", None, None, parsed=False).order() is None


def test_exchanged_prompts_keep_language_game_and_options():
    asked = [
        Question(
            f"{lang}{game}{at}", Prompt(f"{lang}{game}{at}", b"p" if at else None), ("x", "y"), lang, game, answer=(0,)
        )
        for lang in ("en", "ja")
        for game in ("T2T", "IT2T")
        for at in range(3)
    ]
    lonely = [
        Question("lonely", Prompt("alone"), ("x", "y"), "zh"),
        Question("twin", Prompt("alone"), ("x", "y"), "zh"),
    ]
    swapped = swap_heads([*asked, *lonely])
    assert [one.id for one in swapped] == [one.id for one in asked]
    for before, after in zip(asked, swapped, strict=True):
        assert after.prompt_head != before.prompt_head
        assert after.prompt_head.text[:-1] == before.prompt_head.text[:-1]
        assert (after.options, after.answer) == (before.options, before.answer)
