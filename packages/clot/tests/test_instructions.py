"""Instructions: what each kind asks and teaches, what cannot be made, and that nothing but the seed decides."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, replace

import pytest
from clot import InstructionMix, Templates, build_instructions, parse_answer, parse_ranking
from clot._instruction_files import read_instructions, write_instructions
from clot._templates import LANGUAGES, one_line
from clot.distractors import Distractors
from oogiri_go import Record, fold, group_key, record_id

TEXTS = {
    "en": ("Why is the {} late?", "Because of the {} and my cactus, {}."),
    "zh": ("{}为什么迟到？", "因为{}和沙发，{}。"),
    "ja": ("{}はなぜ遅刻？", "{}とロボットのせいだ、{}。"),
}
THINGS = ("moon", "lawyer", "pigeon", "toaster")
GAMES = ("T2T", "I2T", "IT2T")


def world(answers=6, langs=LANGUAGES, games=GAMES, stars=True):
    rows = []
    for lang in langs:
        for game in games:
            for thing in THINGS:
                question, answer = TEXTS[lang]
                asked = None if game == "I2T" else question.format(thing)
                if game == "IT2T":
                    asked = f"{thing} [MASK]"
                image = None if game == "T2T" else f"{lang}-{game}-{thing}"
                for at in range(answers):
                    text = answer.format(thing, at)
                    name = record_id(lang=lang, type=game, question=asked, image=image, text=text)
                    rows.append(Record(name, game, asked, image, text, at if stars else None, lang))
    return rows


ROWS = world()
WRONG = Distractors(
    ROWS,
    literals={group_key(one): f"plain {group_key(one)[:6]}" for one in ROWS},
    rewrites={one.id: f"dull {one.id[:6]}" for one in ROWS},
)
PICTURES = {one.image: one.image.encode() for one in ROWS if one.image}


def build(rows=ROWS, mix=None, **options):
    options = {"nouns": "heuristic", "distractors": WRONG} | options
    return list(build_instructions(rows, mix, **options))


@pytest.fixture(scope="module")
def built():
    return build(mix=InstructionMix(per_record=12), pictures=PICTURES)


def test_four_kinds_and_masks_in_three_games_and_languages(built):
    cells = Counter((one.kind, one.game, one.lang) for one in built)
    for lang in LANGUAGES:
        for game in GAMES:
            for kind in ("generate", "condition", "select", "rank"):
                assert cells[kind, game, lang] > 0, (kind, game, lang)
        assert cells["mask", "T2T", lang] > 0
        assert cells["mask", "I2T", lang] > 0
        assert cells["mask", "IT2T", lang] == 0


def test_what_each_kind_teaches(built):
    records = {one.id: one for one in ROWS}
    for one in built:
        record, text = records[one.record_id], one.prompt.text
        assert one.prompt.image == (None if record.image is None else record.image.encode())
        assert one.image == record.image
        if record.question is not None:
            assert record.question in text
        if one.kind == "generate":
            assert one.target == record.text
            assert not re.search("Condition|条件", text)
        elif one.kind == "condition":
            condition = re.split("[:：]", text.splitlines()[-1])[1].strip()
            assert one.target == record.text
            assert condition.lower() in record.text.lower()
        elif one.kind == "mask":
            assert "[MASK]" in text
            assert any(line.replace("[MASK]", one.target).endswith(record.text) for line in text.splitlines())
        elif one.kind == "select":
            right = [one.options[at] for at in one.answer]
            assert record.text in right
            assert len({fold(option) for option in one.options}) == len(one.options)
            assert parse_answer(one.target, len(one.options), options=one.options) == one.answer
        else:
            stars = {other.text: other.star for other in ROWS if group_key(other) == group_key(record)}
            order = [stars[one.options[at]] for at in one.answer]
            assert record.text in one.options
            assert len(one.options) == 5
            assert order == sorted(order, reverse=True)
            assert parse_ranking(one.target, 5, options=one.options) == one.answer


def test_the_options_of_a_choice_are_what_the_task_says(built):
    groups = {
        group_key(one): {fold(other.text) for other in ROWS if group_key(other) == group_key(one)} for one in ROWS
    }
    records = {one.id: one for one in ROWS}
    shapes = Counter()
    for one in built:
        if one.kind != "select":
            continue
        key = group_key(records[one.record_id])
        wrong = [option for at, option in enumerate(one.options) if at not in one.answer]
        kinds = Counter(
            "literal" if text.startswith("plain") else "rewrite" if text.startswith("dull") else "other"
            for text in wrong
        )
        shapes[len(one.options), len(one.answer), *sorted(kinds.elements())] += 1
        assert not groups[key] & {fold(text) for text in wrong}  # never an answer of the same group
        assert all(fold(one.options[at]) in groups[key] for at in one.answer)
    assert set(shapes) == {
        (2, 1, "literal"),
        (3, 1, "literal", "other"),
        (4, 1, "literal", "other", "rewrite"),
        (5, 2, "literal", "other", "rewrite"),
    }


def test_right_options_stand_at_every_place(built):
    for count in (2, 3, 4):
        places = Counter(one.answer[0] for one in built if one.kind == "select" and len(one.options) == count)
        assert set(places) == set(range(count))
        assert max(places.values()) < 2 * min(places.values())


def test_p_empty_and_shares():
    mix = InstructionMix(answer=0.5, select=0.25, rank=0.15, mask=0.1, p_empty=0.25, per_record=20)
    counts = Counter(one.kind for one in build(world(games=("T2T",)), mix))
    total = sum(counts.values())
    assert counts["generate"] / (counts["generate"] + counts["condition"]) == pytest.approx(0.25, abs=0.05)
    assert (counts["generate"] + counts["condition"]) / total == pytest.approx(0.5, abs=0.03)
    assert counts["select"] / total == pytest.approx(0.25, abs=0.03)
    assert counts["rank"] / total == pytest.approx(0.15, abs=0.03)
    assert total == pytest.approx(20 * 72, rel=0.03)
    assert {one.kind for one in build(mix=InstructionMix(select=0, rank=0, mask=0, p_empty=1))} == {"generate"}
    assert {one.kind for one in build(mix=InstructionMix(select=0, rank=0, mask=0, p_empty=0))} == {"condition"}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = write_instructions(iter(build(seed=5)), tmp_path / "a.jsonl")
    second = write_instructions(iter(build(seed=5)), tmp_path / "b.jsonl")
    assert first == second
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert first[1] == hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    assert write_instructions(iter(build(seed=6)), tmp_path / "c.jsonl")[1] != first[1]


def test_the_bytes_of_all_machines():
    """A change of these digits is a change of every user's data: then raise the templates' version, and say so."""
    rows = world(answers=6, langs=("en",), games=("T2T",))
    made = build_instructions(rows, seed=1, nouns="heuristic", distractors=Distractors(rows))
    text = json.dumps([asdict(one) for one in made], ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "53488d08aedb9c6a"


def test_the_place_of_a_record_does_not_matter():
    forward, backward = build(seed=2), build(ROWS[::-1], seed=2)
    kinds = ("generate", "condition", "mask")
    assert {one.id: one for one in forward if one.kind in kinds} == {
        one.id: one for one in backward if one.kind in kinds
    }
    assert {one.id for one in forward} == {one.id for one in backward}


def test_a_file_gives_the_instructions_back(tmp_path, built):
    counts, _ = write_instructions(built, tmp_path / "i.jsonl")
    assert counts == dict.fromkeys(counts, 0) | Counter(one.kind for one in built)
    assert list(read_instructions(tmp_path / "i.jsonl", pictures=PICTURES)) == built
    bare = [replace(one, prompt=replace(one.prompt, image=None)) for one in built]
    assert list(read_instructions(tmp_path / "i.jsonl")) == bare
    with pytest.raises(ValueError, match=r"its picture .* is missing"):
        list(read_instructions(tmp_path / "i.jsonl", pictures={"other": b""}))


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"kind": "joke"}'])
def test_another_file_is_no_instructions(tmp_path, built, line):
    path = tmp_path / "i.jsonl"
    write_instructions(built[:1], path)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        list(read_instructions(path))
    with pytest.raises(FileNotFoundError):
        next(read_instructions(tmp_path / "nowhere.jsonl"))


def test_what_cannot_be_made_is_counted_and_not_replaced():
    rows = [
        Record("", "T2T", "Why?", None, "No!", 1, "en"),
        Record("", "T2T", "Who?", None, "The lawyer.", None, "en"),
        Record("", "I2T", None, "gone", "The lawyer.", 4, "en"),
    ]
    skipped = Counter()
    mix = InstructionMix(answer=1, select=1, rank=1, mask=1, per_record=40, p_empty=0)
    made = list(build_instructions(rows, mix, nouns="heuristic", pictures={}, skipped=skipped))
    assert {one.kind for one in made} == {"condition", "mask"}
    assert {fold(one.target) for one in made} == {"the lawyer.", "lawyer"}
    reasons = set(skipped)
    assert {
        "no picture",
        "answer: no noun in the answer",
        "mask: no noun in the answer",
        "rank: the likes are not known",
        "rank: fewer than 5 answers with different likes",
        "select: 3T1, no plain answer (caption) to the prompt",
        "select: 5T2, no second answer to the prompt",
    } <= reasons
    assert skipped["no picture"] == 1
    assert sum(skipped.values()) + len(made) == pytest.approx(80 + 1, abs=0)


def test_all_equal_likes_give_no_order():
    rows = [Record("", "T2T", "Why?", None, f"Answer {at}.", 3, "en") for at in range(9)]
    skipped = Counter()
    assert (
        list(build_instructions(rows, InstructionMix(answer=0, select=0, mask=0, per_record=1), skipped=skipped)) == []
    )
    assert dict(skipped) == {"rank: fewer than 5 answers with different likes": 9}


def test_nouns_of_ones_own_and_words_inside_words():
    rows = [Record("", "T2T", "Why?", None, "A category of Cat toys for a cat.", 1, "en")]
    mix = InstructionMix(answer=0, select=0, rank=0, per_record=1)
    [one] = build_instructions(rows, mix, nouns=lambda record: ["cat"])
    assert one.target == "Cat"
    assert "A category of [MASK] toys for a cat." in one.prompt.text


def test_several_paraphrases_and_ones_own_wording(tmp_path, built):
    opening = {
        one.prompt.text.split("\n")[-3] for one in built if (one.kind, one.game, one.lang) == ("condition", "T2T", "en")
    }
    assert len(opening) >= 3
    path = tmp_path / "mine.json"
    path.write_text('{"lang": "en", "generate": {"T2T": ["Joke about {question}"]}}', encoding="utf-8")
    mine = build(mix=InstructionMix(select=0, rank=0, mask=0, p_empty=1), templates=Templates(path))
    texts = {one.prompt.text for one in mine if one.lang == "en" and one.game == "T2T"}
    assert texts == {f"Joke about {TEXTS['en'][0].format(thing)}" for thing in THINGS}


def test_a_japanese_question_inside_its_picture():
    rows = [Record("", "T2T", None, "p1", f"答え{at}", at, "ja") for at in range(3)]
    one = next(build_instructions(rows, InstructionMix(p_empty=1), pictures={"p1": b"x"}))
    assert (one.game, one.prompt.image) == ("T2T", b"x")
    assert "画像" in one.prompt.text


def test_options_are_put_on_one_line():
    rows = [Record("", "T2T", "Why?", None, "One.\nB. Two.", 1, "en"), Record("", "T2T", "Who?", None, "Me.", 1, "en")]
    wrong = Distractors(rows, literals={group_key(rows[0]): "Plain."})
    mix = InstructionMix(answer=0, rank=0, mask=0, tasks=("3T1",), per_record=1)
    one = next(build_instructions(rows, mix, distractors=wrong))
    assert one_line("One.\nB. Two.") in one.prompt.text
    assert len(one.target.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"answer": -1}, "at least 0"),
        ({"answer": 0, "select": 0, "rank": 0, "mask": 0}, "not all of them 0"),
        ({"p_empty": 1.5}, "expected a probability"),
        ({"per_record": 0}, "more than 0"),
        ({"tasks": ()}, "no task to select"),
        ({"tasks": ("6T1",)}, "no task '6T1'"),
    ],
)
def test_mixes_that_cannot_be(options, problem):
    with pytest.raises(ValueError, match=problem):
        InstructionMix(**options)


def test_real_captions(sail_data):
    from oogiri_go import read_jsonl

    rows = list(read_jsonl(sail_data("humor/nycc_en.jsonl")))[:600]
    made = build(rows, distractors=Distractors(rows))
    kinds = Counter(one.kind for one in made)
    assert kinds["rank"] > 100
    assert kinds["condition"] > 300
    for one in made:
        if one.kind == "rank":
            assert parse_ranking(one.target, 5, options=one.options) == one.answer
