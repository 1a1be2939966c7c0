"""The paper's inference: what is chosen, and what happens where there is little to choose from."""

import io
import sys
from pathlib import Path

import pytest
from clot import CLoTPipeline, NounSet
from clot._draw import draw
from oogiri_go import Record
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from joker import NOUNS, Joker, write

SET = NounSet.from_words(NOUNS, "en")


def test_the_best_of_the_first_two_is_chosen():
    leap = CLoTPipeline(Joker(), SET, n=6)(question="Why is thing4 late?")
    ranked = sorted((one for one in leap.proposals if one.rank), key=lambda one: one.rank)
    assert [one.rank for one in ranked] == list(range(1, len(ranked) + 1))
    scores = [draw("joke", one.text) for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert leap.text == ranked[0].text
    assert [one.text for one in leap.proposals if one.chosen] == [leap.text]
    assert {one.condition is None for one in leap.proposals} == {True, False}
    assert all(one.condition in one.text for one in leap.proposals if one.condition)


def test_many_at_once_are_as_one_by_one():
    rows = [Record(f"r{at}", "T2T", f"Why is thing{at} late?", None, "", None, "en") for at in range(5)]
    pipeline = CLoTPipeline(Joker(), SET)
    together = pipeline.answer(rows)
    assert [one.text for one in together] == [pipeline(question=row.question).text for row in rows]
    assert pipeline.answer([]) == []


def test_another_seed_another_leap():
    one, other = (CLoTPipeline(Joker(), SET, seed=seed)(question="Why is thing4 late?") for seed in (0, 1))
    assert [each.condition for each in one.proposals] != [each.condition for each in other.proposals]


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [(["same", "Same", "SAME", "", "same"], "same"), ([""] * 5, ""), (["", "a b", "", "a c", "a B"], None)],
)
def test_little_to_choose_from(texts, chosen):
    backend = Joker(answer=lambda request, _: texts[int(request.id.split()[-1])], logprob=lambda prompt, letter: -1.0)
    leap = CLoTPipeline(backend, SET)(question="Why is thing4 late?")
    assert leap.text == chosen if chosen is not None else leap.text in ("a b", "a c")
    assert len(leap.proposals) == 5
    assert sum(one.chosen for one in leap.proposals) == (leap.text != "")
    assert all(one.rank is None for one in leap.proposals if one.text in ("", "Same", "SAME", "a B"))
    assert leap.read


def test_what_cannot_be_read_is_said():
    def answer(request, at):
        return "I like them all." if "Options:" in request.prompt.text else write(request, at)

    leap = CLoTPipeline(Joker(answer=answer), SET, scorer="generate")(question="Why is thing4 late?")
    assert not leap.read
    assert leap.text == leap.proposals[0].text
    assert all(one.rank is None for one in leap.proposals)


def test_pictures(tmp_path):
    seen = []

    def answer(request, at):
        seen.append(request.prompt)
        return f"joke {request.seed}"

    file = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(file, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(file.getvalue())
    pipeline = CLoTPipeline(Joker(answer=answer, logprob=lambda prompt, letter: -1.0), SET, n=2)
    assert pipeline(image=path).text == pipeline(image=file.getvalue()).text
    assert {one.image for one in seen} == {file.getvalue()}
    both = pipeline(image=path, question="The [MASK] is late")
    assert "The [MASK] is late" in seen[-1].text
    assert both.text
    with pytest.raises(ValueError, match="does not load"):
        pipeline(image=file.getvalue()[:40])
    with pytest.raises(FileNotFoundError):
        pipeline(image=tmp_path / "no.png")


def test_ranking_others_answers():
    pipeline = CLoTPipeline(Joker(), SET)
    answers = [f"thing4 tells joke {at}" for at in range(4)]
    scores = pipeline.rank([*answers, "It says nothing"], question="Why is thing4 late?")
    best = max(range(4), key=lambda at: draw("joke", answers[at]))
    assert scores.index(max(scores)) == best
    assert scores.index(min(scores)) == 4
    with pytest.raises(ValueError, match="alike"):
        pipeline.rank(["a", "A"], question="Why?")


@pytest.mark.parametrize(
    ("options", "asked", "what"),
    [
        ({"n": 0}, {"question": "Why?"}, "n is 0"), ({"n": 27}, {"question": "Why?"}, "n is 27"),
        ({"rho": 2}, {"question": "Why?"}, "rho"), ({}, {}, "nothing to answer"), ({}, {"question": "  "}, "nothing"),
        ({}, {"question": "Why?", "lang": "xx"}, "xx"), ({}, {"question": "为什么？", "lang": "zh"}, "no noun in 'zh'"),
        ({"scorer": "dice"}, {"question": "Why?"}, "dice"),
    ],
)  # fmt: skip
def test_bad_arguments(options, asked, what):
    with pytest.raises(ValueError, match=what):
        CLoTPipeline(Joker(), SET, **options)(**asked)
