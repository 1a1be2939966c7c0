"""Scorers by rules whose answers are known: no place wins, nothing unread counts, lengths and frequency cancel."""

import itertools
import math
import re
from string import ascii_uppercase

import pytest
from clot import (
    ContentScorer,
    EchoBackend,
    GenerateScorer,
    LetterScorer,
    Prompt,
    Question,
    Scorer,
    Templates,
    scorer_of,
)
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = ("one joke", "two jokes", "three jokes", "four jokes", "five jokes")
FUNNY = dict(zip(OPTIONS, (0.5, 2.0, -1.0, 1.0, 0.0), strict=True))


def question(options=OPTIONS, **changes):
    return Question("q", changes.pop("head", Prompt("Why?")), tuple(options), "en", **changes)


def shown(prompt):
    return dict(re.findall(r"^([A-Z])\. (.*)$", prompt.text, re.MULTILINE))


def rule(bias=0.0, taste=FUNNY, seen=None):
    """Letters by the fun of their option, plus a preference for the first places."""

    def logprob(prompt, letter):
        if seen is not None:
            seen.append((prompt, letter))
        return taste.get(shown(prompt)[letter], 0.0) - bias * ascii_uppercase.index(letter)

    return EchoBackend(logprob=logprob)


def softmax(values):
    weights = [math.exp(one) for one in values]
    return [one / sum(weights) for one in weights]


def test_letters_without_bias_are_the_softmax():
    [found] = LetterScorer(rule()).select([question()])
    assert found.scores == pytest.approx(softmax(FUNNY.values()))
    assert (found.choice, found.order(), found.parsed, found.missing) == ((1,), (1, 3, 0, 4, 2), True, 0)


def test_averaging_is_the_mean_of_logarithms_over_the_cyclic_orders():
    """Written again from its definition, for a bias that depends on the place and the option."""

    def logprob(prompt, letter):
        place = ascii_uppercase.index(letter)
        return FUNNY[shown(prompt)[letter]] * (1 + 0.3 * place) - 0.7 * place

    logs = [0.0] * 5
    for shift in range(5):
        order = [(place + shift) % 5 for place in range(5)]
        shares = softmax([FUNNY[OPTIONS[at]] * (1 + 0.3 * place) - 0.7 * place for place, at in enumerate(order)])
        for place, at in enumerate(order):
            logs[at] += math.log(shares[place]) / 5
    [found] = LetterScorer(EchoBackend(logprob=logprob)).select([question()])
    assert found.scores == pytest.approx(softmax(logs))


def test_a_preference_for_places_cancels_exactly():
    [without], [with_bias] = (LetterScorer(rule(bias)).select([question()]) for bias in (0.0, 20.0))
    assert with_bias.scores == pytest.approx(without.scores)


@given(st.permutations(OPTIONS[:4]), st.floats(0, 30))
def test_no_place_has_an_advantage(options, bias):
    """With averaging, scores follow the options wherever they stand, in any rotation."""
    first = LetterScorer(rule(bias)).select([question(options)])[0].scores
    rotated = [*options[1:], options[0]]
    second = LetterScorer(rule(bias)).select([question(rotated)])[0].scores
    for option in options:
        assert second[rotated.index(option)] == pytest.approx(first[options.index(option)])
    level = LetterScorer(rule(bias, taste={})).select([question(options)])[0].scores
    assert level == pytest.approx([0.25] * 4)


def test_one_order_follows_the_bias():
    once = LetterScorer(rule(9.0), permutations="none")
    assert once.select([question()])[0].choice == (0,)
    assert LetterScorer(rule(9.0)).select([question()])[0].choice == (1,)


def test_requests_of_a_question_share_all_but_the_options():
    seen = []
    LetterScorer(rule(seen=seen)).select([question(head=Prompt("Why?", b"picture"))])
    prompts = list(dict.fromkeys(prompt for prompt, _ in seen))
    assert len(prompts) == 5
    assert {prompt.image for prompt in prompts} == {b"picture"}
    assert len({prompt.text[: prompt.text.index("A. ")] for prompt in prompts}) == 1
    places = [list(shown(prompt).values()).index(OPTIONS[0]) for prompt in prompts]
    assert sorted(places) == [0, 1, 2, 3, 4]


def test_several_right_options_and_26_letters():
    [found] = LetterScorer(rule()).select([question(n_right=2)])
    assert found.choice == (1, 3)
    many = [f"joke {at}" for at in range(26)]
    [last] = LetterScorer(rule(taste={"joke 25": 5.0})).select([question(many)])
    assert last.choice == (25,)


def test_letters_without_probability_are_counted():
    class Partial(EchoBackend):
        def option_logprobs(self, requests):
            from clot import OptionLogprobs

            return [OptionLogprobs(one.id, (-1.0, -5.0), (1, 0)) for one in requests]

    [found] = LetterScorer(Partial()).select([question(OPTIONS[:2])])
    assert found.missing == 2


@pytest.mark.parametrize("scorer", ["letter", "content", "pmi"])
def test_a_log_probability_that_is_no_number_names_the_question(scorer):
    broken = EchoBackend(logprob=lambda prompt, option: math.nan)
    with pytest.raises(ValueError, match=r"q(#0)?: a log-probability is nan"):
        scorer_of(scorer, broken).select([question()])


@pytest.mark.parametrize("scorer", ["letter", "content", "pmi", "generate"])
def test_nothing_asked_nothing_answered(scorer):
    judge = scorer_of(scorer, EchoBackend())
    assert isinstance(judge, Scorer)
    assert judge.select([]) == judge.rank([]) == []


def test_contents_by_token_and_in_sum():
    """A word costs one; the sum prefers short options, the mean does not."""
    words = EchoBackend(logprob=lambda prompt, option: -float(len(option.split())))
    asked = [question(("short", "a much longer option"))]
    assert ContentScorer(words, normalise="sum").select(asked)[0].scores == (-1.0, -4.0)
    assert ContentScorer(words).select(asked)[0].scores == (-1.0, -1.0)


def test_pmi_takes_out_what_is_probable_anyway():
    """The frequent option is more probable with and without the prompt; the fitting one only with it."""

    def logprob(prompt, option):
        frequent = 5.0 if option == "frequent" else 0.0
        fits = 3.0 if option == "fits" and ("Why?" in prompt.text or prompt.image) else 0.0
        return frequent + fits - 9.0

    asked = [question(("frequent", "fits")), question(("frequent", "fits"), head=Prompt("", b"picture"), game="I2T")]
    backend = EchoBackend(logprob=logprob)
    assert [one.choice for one in ContentScorer(backend).select(asked)] == [(0,), (0,)]
    found = ContentScorer(backend, normalise="pmi").select(asked)
    assert [one.choice for one in found] == [(1,), (1,)]
    assert found[0].scores == (0.0, 3.0)


def test_contents_continue_the_instruction_to_answer():
    seen = []
    backend = EchoBackend(logprob=lambda prompt, option: seen.append((prompt, option)) or 0.0)
    ContentScorer(backend).select([question(("one\nline", "two"))])
    assert {prompt.text for prompt, _ in seen} == {Templates().render("generate", "en", "T2T", question="Why?")}
    assert [option for _, option in seen] == ["one line", "two"]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B. two jokes", (1,)),
        ("B", (1,)),
        ("The answer is (C).", (2,)),
        ("B. three jokes", None),
        ("perhaps B or C", None),
        ("", None),
    ],
)
def test_generation_is_read_strictly(text, choice):
    [found] = GenerateScorer(EchoBackend(answer=lambda request, at: text)).select([question()])
    assert found.choice == choice
    assert found.parsed is (choice is not None)
    expected = None if choice is None else tuple(float(at in choice) for at in range(5))
    assert found.scores == expected


def test_generated_orders():
    lines = [f"{place}. {ascii_uppercase[at]}. {OPTIONS[at]}" for place, at in enumerate((3, 0, 4, 1, 2), 1)]
    asked = []
    backend = EchoBackend(answer=lambda request, at: asked.append(request) or "\n".join(lines))
    [found] = GenerateScorer(backend, max_new_tokens=10).rank([question()])
    assert found.order() == (3, 0, 4, 1, 2)
    assert found.scores == (3.0, 1.0, 0.0, 4.0, 2.0)
    assert (asked[0].temperature, asked[0].max_new_tokens, asked[0].n) == (0.0, 50, 1)
    [half] = GenerateScorer(EchoBackend(answer=lambda request, at: "\n".join(lines[:3]))).rank([question()])
    assert (half.parsed, half.scores, half.order()) == (False, None, None)


def test_an_option_that_imitates_an_answer():
    tricky = ("B. is the answer", "plain", "C.")
    for right, text in itertools.product(range(3), tricky):
        options = [option for option in tricky if option != text]
        options.insert(right, text)
        line = f"{ascii_uppercase[right]}. {text}"
        [found] = GenerateScorer(EchoBackend(answer=lambda request, at, line=line: line)).select([question(options)])
        assert found.choice == (right,)


def test_unknown_names():
    with pytest.raises(ValueError, match="no scorer 'vote'"):
        scorer_of("vote", EchoBackend())
    with pytest.raises(ValueError, match="expected 'cyclic' or 'none'"):
        LetterScorer(EchoBackend(), permutations="all")
    with pytest.raises(ValueError, match="expected 'token', 'sum' or 'pmi'"):
        ContentScorer(EchoBackend(), normalise="word")


def test_scorers_on_a_real_model(backend, tiny_world):
    """On a tiny Qwen: averaged letters are probabilities, and every scorer answers every question."""
    from clot import ranking_questions

    asked = list(ranking_questions(tiny_world.records, pictures=tiny_world.pictures))[:3]
    for name in ("letter", "content", "pmi", "generate"):
        found = scorer_of(name, backend).rank(asked)
        assert [one.id for one in found] == [one.id for one in asked]
        if name == "letter":
            assert all(sum(one.scores) == pytest.approx(1) for one in found)
        if name != "generate":
            assert all(len(one.scores) == 5 and all(map(math.isfinite, one.scores)) for one in found)
