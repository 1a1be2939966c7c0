"""Evaluation of models whose skill is known: an oracle, a guesser, a reader of options only, one never read."""

import json
import math
import re
from collections import Counter

import pytest
from clot import EchoBackend, Evaluation, evaluate, metrics
from clot._evaluation import ChoiceResult, RankResult
from clot.distractors import Distractors
from oogiri_go import Record, group_key

PROMPTS = 40
ROWS = [
    Record(f"r{p}-{a}", "T2T", f"Question {p}?", None, f"joke {p}.{a}", a, ("en", "ja")[p % 2])
    for p in range(PROMPTS)
    for a in range(7)
]
WRONG = Distractors(
    ROWS,
    literals={group_key(one): f"plain {one.question[9:-1]}" for one in ROWS},
    rewrites={one.id: f"dull {one.text[5:]}" for one in ROWS},
)


def shown(prompt):
    return dict(re.findall(r"^([A-Z])\. (.*)$", prompt.text, re.MULTILINE))


def taste(prompt, option):
    """Jokes on this prompt, by their stars; the rest is not funny."""
    asked = re.search(r"Question (\d+)\?", prompt.text)
    told = re.fullmatch(r"joke (\d+)\.(\d+)", option)
    return float(told[2]) if told and asked and told[1] == asked[1] else -9.0


ORACLE = EchoBackend(logprob=lambda prompt, letter: taste(prompt, shown(prompt).get(letter, letter)))
BLIND = EchoBackend(
    logprob=lambda prompt, letter: 0.0 if shown(prompt).get(letter, letter).startswith("joke") else -9.0
)


def test_an_oracle():
    found = evaluate(ORACLE, ROWS, distractors=WRONG, batch=7)
    for task, n_options, n_right in (("2T1", 2, 1), ("3T1", 3, 1), ("4T1", 4, 1), ("5T2", 5, 2)):
        one = found.tasks[task]
        assert isinstance(one, ChoiceResult)
        assert (one.questions, one.accuracy, one.parse_rate, one.accuracy_parsed) == (PROMPTS, 1.0, 1.0, 1.0)
        assert one.chance == pytest.approx(metrics.chance(n_options, n_right))
        assert one.interval == metrics.wilson(PROMPTS, PROMPTS)
    rank = found.tasks["rank"]
    assert isinstance(rank, RankResult)
    assert (rank.ndcg, rank.normalised_ndcg, rank.top1, rank.tau) == pytest.approx((1, 1, 1, 1))
    assert rank.top1_chance == pytest.approx(0.2)
    assert 0.5 < rank.random_ndcg < 0.95
    assert found.average() == pytest.approx(1)
    assert found.control["5T2"].accuracy < 0.3
    assert (found.model, found.scorer, found.seed) == ("echo", "letter", 0)


def test_the_control_exposes_who_does_not_look():
    """Jokes among plain remarks can be told without the question; the exchanged prompts show it, 2T1 most."""
    found = evaluate(BLIND, ROWS, tasks=["2T1"], distractors=WRONG)
    assert found.tasks["2T1"].accuracy == found.control["2T1"].accuracy == 1.0
    oracle = evaluate(ORACLE, ROWS, tasks=["2T1"], distractors=WRONG)
    assert oracle.control["2T1"].accuracy < 0.8
    assert evaluate(ORACLE, ROWS, tasks=["2T1"], distractors=WRONG, control=False).control == {}


def test_a_guesser_is_at_chance():
    many = [
        Record(f"r{p}-{a}", "T2T", f"Question {p}?", None, f"joke {p}.{a}", a, "en")
        for p in range(600)
        for a in range(5)
    ]
    literals = {group_key(one): f"plain {one.question[9:-1]}" for one in many}
    wrong = Distractors(many, literals=literals, rewrites={one.id: f"dull {one.text[5:]}" for one in many})
    found = evaluate(EchoBackend(), many, distractors=wrong, control=False)
    for one in found.tasks.values():
        if isinstance(one, ChoiceResult):
            spread = math.sqrt(one.chance * (1 - one.chance) / one.questions)
            assert abs(one.accuracy - one.chance) < 4 * spread
        else:
            low, high = one.normalised_interval
            assert abs(one.normalised_ndcg) < high - low
            assert one.ndcg == pytest.approx(one.random_ndcg, abs=0.02)


def test_who_cannot_be_read_is_wrong_in_choices_and_random_in_orders():
    found = evaluate(EchoBackend(answer=lambda request, at: "Hm."), ROWS, scorer="generate", distractors=WRONG)
    for task in ("2T1", "3T1", "4T1", "5T2"):
        one = found.tasks[task]
        assert (one.accuracy, one.parse_rate, one.accuracy_parsed) == (0.0, 0.0, None)
    rank = found.tasks["rank"]
    assert (rank.parse_rate, rank.tau) == (0.0, 0.0)
    assert rank.ndcg == pytest.approx(rank.random_ndcg)
    assert rank.top1 == pytest.approx(rank.top1_chance)
    assert rank.normalised_ndcg == pytest.approx(0)


def test_half_read():
    """Every second answer is right, the others cannot be read."""
    count = iter(range(10**6))

    def answer(request, at):
        best = max(shown(request.prompt).items(), key=lambda pair: taste(request.prompt, pair[1]))
        return ". ".join(best) if next(count) % 2 else "either"

    found = evaluate(
        EchoBackend(answer=answer), ROWS, tasks=["3T1"], scorer="generate", distractors=WRONG, control=False
    )
    one = found.tasks["3T1"]
    assert (one.accuracy, one.parse_rate, one.accuracy_parsed) == (0.5, 0.5, 1.0)


def test_contents():
    found = evaluate(ORACLE, ROWS, scorer="content", distractors=WRONG)
    assert found.tasks["3T1"].accuracy == 1.0
    assert found.places == {}


def test_the_preference_for_a_letter_before_and_after():
    lover = EchoBackend(logprob=lambda prompt, letter: taste(prompt, shown(prompt)[letter]) + 30.0 * (letter == "A"))
    found = evaluate(lover, ROWS, tasks=["3T1"], distractors=WRONG)
    assert found.places["given"] == {"A": PROMPTS}
    assert len(found.places["averaged"]) == 3
    assert sum(found.places["averaged"].values()) == PROMPTS
    assert found.tasks["3T1"].accuracy == 1.0
    alone = evaluate(lover, ROWS, tasks=["3T1"], distractors=WRONG, permutations="none")
    assert alone.tasks["3T1"].accuracy < 0.7


def test_cells_and_rows():
    found = evaluate(ORACLE, ROWS, tasks=["3T1", "rank"], distractors=WRONG)
    assert set(found.cells) == {f"{task}/T2T/{lang}" for task in ("3T1", "rank") for lang in ("en", "ja")}
    assert all(one.questions == PROMPTS // 2 for one in found.cells.values())
    assert Counter(one["task"] for one in found.rows) == {"3T1": PROMPTS, "rank": PROMPTS}
    assert all(one["right"] for one in found.rows if one["task"] == "3T1")
    again = math.fsum(metrics.ndcg(one["stars"], one["scores"]) for one in found.rows if one["task"] == "rank")
    assert found.tasks["rank"].ndcg == pytest.approx(again / PROMPTS)


def test_a_missing_source_is_reported():
    found = evaluate(ORACLE, ROWS, distractors=Distractors(ROWS))
    assert list(found.tasks) == ["rank"]
    assert found.skipped["3T1"] == {"no plain answer (caption) to the prompt": PROMPTS}
    equal = [Record(f"e{at}", "T2T", "Equal?", None, f"e{at}", 1, "en") for at in range(8)]
    assert evaluate(ORACLE, [*ROWS, *equal], tasks=["rank"]).skipped["rank"] == {"all stars are equal": 1}
    with pytest.raises(ValueError, match="no task has a question"):
        evaluate(ORACLE, equal)


class Choosy(EchoBackend):
    """Refuses two questions by name."""

    def option_logprobs(self, requests):
        for one in requests:
            if "Question 3?" in one.prompt.text or "Question 8?" in one.prompt.text:
                error = ValueError(f"record {one.id}: the prompt has 900 tokens; the context has 512")
                error.record_id = one.id
                raise error
        return super().option_logprobs(requests)


@pytest.mark.parametrize("scorer", ["letter", "content"])
def test_what_a_model_cannot_take_is_left_out_and_named(scorer):
    found = evaluate(Choosy(), ROWS, tasks=["rank"], scorer=scorer)
    assert found.tasks["rank"].questions == PROMPTS - 2
    assert len(found.failed) == 2
    assert all("the context has 512" in problem for problem in found.failed.values())


def test_an_error_that_names_nobody_is_not_swallowed():
    def fail(prompt, option):
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        evaluate(EchoBackend(logprob=fail), ROWS, tasks=["rank"])


class Mortal(EchoBackend):
    """Dies after so many calls, as a killed process does."""

    def __init__(self, lives):
        super().__init__(logprob=ORACLE._logprob)
        self.calls, self.lives = 0, lives

    def option_logprobs(self, requests):
        if self.calls == self.lives:
            raise KeyboardInterrupt
        self.calls += 1
        return super().option_logprobs(requests)


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_evaluation_goes_on_where_it_was(tmp_path, torn):
    store = tmp_path / "answers.jsonl"
    options = {"tasks": ["3T1", "rank"], "distractors": WRONG, "batch": 7, "store": store}
    whole = Mortal(-1)
    expected = evaluate(whole, ROWS, **options | {"store": None})
    done = 0
    for lives in (0, 1, 5, 3, 9, 10**6):
        mortal = Mortal(lives)
        try:
            found = evaluate(mortal, ROWS, **options)
        except KeyboardInterrupt:
            assert mortal.calls == lives
        done += mortal.calls
        if torn and lives == 5:
            store.write_bytes(store.read_bytes()[:-9])
            done -= 1  # the batch whose line was cut is asked again
    assert done == whole.calls
    assert found == expected
    again = Mortal(0)
    assert evaluate(again, ROWS, **options) == expected
    assert again.calls == 0
    with pytest.raises(KeyboardInterrupt):
        evaluate(Mortal(0), ROWS, **options | {"seed": 1})  # other questions
    with pytest.raises(KeyboardInterrupt):
        evaluate(Mortal(0), ROWS, **options | {"permutations": "none"})  # another way to ask


def test_saved_and_shown(tmp_path):
    found = evaluate(ORACLE, ROWS, distractors=WRONG, limit=10)
    assert {one.questions for one in found.tasks.values()} == {10}
    found.save(tmp_path / "evaluation.json")
    data = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert data["tasks"]["3T1"]["accuracy"] == 1.0
    assert len(data["rows"]) == 50
    assert "rows" not in found.to_dict(rows=False)
    table = found.table()
    for word in ("2T1", "5T2", "swapped prompt", "NDCG", "normalised", "top-1", "Kendall's tau", "chance"):
        assert word in table
    assert isinstance(found, Evaluation)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tasks": ["9T9"]}, "no task '9T9'"),
        ({"scorer": "vote"}, "no scorer 'vote'"),
        ({"batch": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_unknown_values(options, problem):
    with pytest.raises(ValueError, match=problem):
        evaluate(ORACLE, ROWS, **options)


def test_a_tiny_model_with_pictures(backend, tiny_world):
    literals = {group_key(one): tiny_world.captions[one.image] for one in tiny_world.records if one.image}
    found = evaluate(
        backend,
        tiny_world.records,
        tasks=["3T1", "rank"],
        distractors=Distractors(tiny_world.records, literals=literals),
        pictures=tiny_world.pictures | {next(iter(tiny_world.pictures)): b"no picture"},
        limit=6,
    )
    assert len(found.failed) >= 1
    assert any("picture" in problem for problem in found.failed.values())
    assert found.tasks["3T1"].questions >= 4
    assert found.tasks["3T1"].parse_rate == 1.0
