"""The scorer of a running dialogue: equal to the batch, resumable, and deciding by its rules."""

import json

import numpy as np
import pytest
import torch
from cem_mhch import CEM, CEMConfig, HandoffModel, Rules, Sessions, StreamingScorer, Vocab, predict, simulate
from cem_mhch.streaming import TooLong
from torch import nn

DIALOGUES = simulate(25, seed=2).dialogues
VOCAB = Vocab.build(DIALOGUES, min_count=1)
HOSTS = {
    "hgru": {"embedding_size": 8, "size": 8},
    "hgru-bigru": {"encoder": "bigru", "embedding_size": 8, "size": 8},
    "dami_lite": {"embedding_size": 8, "size": 8},
    "rssn": {"embedding_size": 8, "size": 8},
}


def build(name="hgru", **config):
    torch.manual_seed(3)
    host = HandoffModel.build(name.split("-")[0], vocab_size=len(VOCAB), **HOSTS[name])
    model = CEM(host, CEMConfig(**config)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.mark.parametrize("name", HOSTS)
def test_a_stream_is_the_batch(name):
    model = build(name)
    scorer = StreamingScorer(model, vocab=VOCAB)
    found = predict(model, DIALOGUES, vocab=VOCAB, batch_size=9)
    for number, one in enumerate(DIALOGUES):
        scorer.reset()
        pushed = [scorer.push(turn.role, turn.text) for turn in one.turns]
        np.testing.assert_allclose([p.prob for p in pushed], found.scores[number], atol=1e-5)
        prob = found.scores[number]
        expected = (np.stack([1 - prob, prob], 1) * found.cost[number]).sum(1)
        np.testing.assert_allclose([p.expected_cost for p in pushed], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose([p.user_state for p in pushed], found.sentiment[number], atol=1e-5)
        ids = [VOCAB.encode(turn.text) for turn in one.turns]
        scorer.reset()
        again = [scorer.push(turn.role, tokens) for turn, tokens in zip(one.turns, ids, strict=True)]
        assert [p.prob for p in again] == [p.prob for p in pushed]


@pytest.mark.parametrize("name", HOSTS)
def test_a_state_survives_json(name):
    model, turns = build(name), DIALOGUES[3].turns
    options = {"vocab": VOCAB, "threshold": 0.2, "patience": 2, "cooldown": 2, "rules": Rules()}
    whole, first = StreamingScorer(model, **options), StreamingScorer(model, **options)
    expected = [whole.push(turn.role, turn.text)[:5] for turn in turns]
    found = []
    for turn in turns:  # another process for every turn
        found.append(first.push(turn.role, turn.text)[:5])
        text = json.dumps(first.state_dict(), allow_nan=False)
        first = StreamingScorer(model, **options)
        first.load_state_dict(json.loads(text))
    assert found == expected
    assert first.turns == len(turns)


def test_states_that_are_not_the_models(model):
    scorer = StreamingScorer(model, vocab=VOCAB)
    scorer.push("user", "hello")
    good = scorer.state_dict()
    before = scorer.push("user", "again").prob
    scorer.load_state_dict(good)
    name = next(iter(good["model"]))
    entry = good["model"][name]
    other = StreamingScorer(build("rssn"), vocab=VOCAB).state_dict()
    for bad in [
        None,
        {},
        good | {"format": 2},
        good | {"counts": {"turns": -1}},
        good | {"counts": good["counts"] | {"alarms": "many"}},
        good | {"model": {}},
        good | {"model": 5},
        other,
        good | {"model": good["model"] | {name: entry | {"values": entry["values"][:-1]}}},
        good | {"model": good["model"] | {name: entry | {"values": ["x"] * len(entry["values"])}}},
        good | {"model": good["model"] | {name: entry | {"dtype": "object"}}},
        good | {"model": good["model"] | {name: entry | {"values": [float("nan")] * len(entry["values"])}}},
        good | {"model": good["model"] | {name: {"dtype": "float32", "shape": [1, 2], "values": [1.0, 2.0]}}},
    ]:
        with pytest.raises(ValueError, match=r"saved state|not a state"):
            scorer.load_state_dict(bad)
    assert scorer.push("user", "again").prob == before  # nothing had changed


class Fixed(nn.Module):
    """A host whose probability of a handoff is the first id over 100."""

    hidden_size = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        from cem_mhch import HostOutput

        prob = batch.tokens[..., 0] / 100
        return HostOutput(torch.stack([1 - prob, prob], -1).clamp(min=1e-9).log(), prob.unsqueeze(-1))

    def initial_state(self, batch_size=1):
        return {"nothing": torch.zeros(batch_size, 1)}

    def step(self, turn, state):
        return self(turn), state


def fixed(**options):
    return StreamingScorer(CEM(Fixed(), CEMConfig(beta=0)), **options)


def decide(scorer, probabilities):
    return [int(scorer.push("user", [int(100 * one)]).handoff) for one in probabilities]


def test_patience_and_cooldown():
    assert decide(fixed(threshold=0.5), [0.4, 0.5, 0.6, 0.2, 0.9]) == [0, 1, 1, 0, 1]
    assert decide(fixed(threshold=0.5, patience=2), [0.6, 0.4, 0.6, 0.6, 0.6, 0.6]) == [0, 0, 0, 1, 0, 1]
    assert decide(fixed(threshold=0.5, cooldown=2), [0.6, 0.6, 0.6, 0.6, 0.4, 0.6]) == [1, 0, 0, 1, 0, 0]
    scorer = fixed(threshold=0.5, patience=2)
    assert decide(scorer, [0.6]) == [0]
    scorer.reset()
    assert decide(scorer, [0.6, 0.6]) == [0, 1]


def test_rules_hand_over_whatever_the_score(model):
    words = Vocab(["a"])
    torch.manual_seed(0)
    quiet = CEM(HandoffModel.build("hgru", vocab_size=len(words), size=4, embedding_size=4))
    scorer = StreamingScorer(quiet, vocab=words, threshold=1.0, rules=Rules(), cooldown=0)
    said = [
        ("user", "where is my parcel?"),
        ("bot", "Sorry, I did not understand that."),
        ("user", "my parcel"),
        ("bot", "I am not sure what you mean. Please rephrase."),
        ("user", "Can I please talk to a real person?"),
        ("bot", "I talk to a human every day"),
        ("bot", "I did not get that"),
        ("bot", "ok"),
        ("bot", "I did not get that"),
    ]
    reasons = [scorer.push(*turn).reason for turn in said]
    assert reasons == [None, None, None, "repeated_fallback", "explicit_request", None, None, None, None]
    off = StreamingScorer(quiet, vocab=words, threshold=1.0, rules=Rules(explicit_request=(), max_fallbacks=0))
    assert [off.push(*turn).reason for turn in said] == [None] * len(said)


@pytest.mark.parametrize(
    "text",
    [
        "agent",
        "Human, please!",
        "let me speak with someone",
        "transfer me to a representative now",
        "get me an operator",
    ],
)
def test_requests_for_a_person(text):
    assert Rules().asks(text)


@pytest.mark.parametrize("text", ["my travel agent booked it", "is it human readable", "I spoke about the order", "ok"])
def test_what_is_no_request(text):
    assert not Rules().asks(text)


def test_the_reason_of_a_score(model):
    scorer = StreamingScorer(model, vocab=VOCAB, threshold=0.0)
    for one in DIALOGUES:
        for turn in one.turns:
            found = scorer.push(turn.role, turn.text)
            assert found.reason == ("negative_state" if found.user_state[0] >= 0.5 else "score")
            assert found.latency_ms > 0
            assert sum(found.user_state) == pytest.approx(1, abs=1e-5)


def test_turns_that_are_refused_change_nothing(model):
    scorer = StreamingScorer(model, vocab=VOCAB, max_chars=20, max_turns=3)
    scorer.push("user", "hello")
    before = scorer.state_dict()
    size = len(VOCAB)
    for role, turn, words in [
        ("robot", "x", "turn 1: role is 'robot'; expected user or bot"),
        ("human", "x", "a human has taken over"),
        ("user", "x" * 21, "turn 1: 21 characters, at most 20"),
        ("user", [2] * 21, "turn 1: 21 tokens, at most 20"),
        ("user", [size], f"turn 1: token id {size} is outside the vocabulary, 1 to {size - 1}"),
        ("user", [0], "token id 0"),
        ("user", [-1], "token id -1"),
        ("user", [1.5], "token id 1.5"),
        ("user", [True], "token id True"),
    ]:
        with pytest.raises(ValueError, match=words):
            scorer.push(role, turn)
    assert scorer.state_dict() == before
    scorer.push("assistant", "")
    scorer.push("user", [])
    with pytest.raises(TooLong, match="limit of 3 turns"):
        scorer.push("user", "x")
    with pytest.raises(ValueError, match="there is no vocabulary"):
        StreamingScorer(model).push("user", "hello")


def test_options_out_of_range(model):
    for options, words in [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"patience": 0}, "patience is 0"),
        ({"cooldown": -1}, "cooldown is -1"),
        ({"max_chars": 0}, "max_chars is 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            StreamingScorer(model, **options)
    with pytest.raises(ValueError, match="max_fallbacks is -1"):
        Rules(max_fallbacks=-1)
    with pytest.raises(ValueError, match="no regular expression"):
        Rules(explicit_request=("(",))
    with pytest.raises(ValueError, match="cannot stream"):
        StreamingScorer(build(mode="paper_code"))


def test_the_least_recently_used_session_goes_first(model):
    sessions = Sessions(lambda: StreamingScorer(model, vocab=VOCAB), max_sessions=2)
    first = sessions.get("a")
    first.push("user", "hello")
    sessions.get("b")
    assert sessions.get("a") is first
    sessions.get("c")
    assert ("a" in sessions, "b" in sessions, len(sessions), sessions.evicted) == (True, False, 2, 1)
    assert sessions.get("b").turns == 0
    assert sessions.drop("b")
    assert not sessions.drop("b")
    with pytest.raises(ValueError, match="max_sessions is 0"):
        Sessions(lambda: first, max_sessions=0)


def test_a_refused_first_turn_opens_no_session_and_drops_none(model):
    sessions = Sessions(lambda: StreamingScorer(model, vocab=VOCAB), max_sessions=1)
    first = sessions.push("a", "user", "hello")
    with pytest.raises(ValueError, match="role is 'boss'"):
        sessions.push("b", "boss", "hello")
    assert "a" in sessions
    assert "b" not in sessions
    assert sessions.push("a", "user", "again").prob != first.prob
    assert sessions.get("a").turns == 2
    sessions.push("b", "user", "hello")
    assert ("a" in sessions, sessions.evicted) == (False, 1)


def test_memory_is_bounded_by_the_sessions_held(model):
    import gc

    sessions = Sessions(lambda: StreamingScorer(model, vocab=VOCAB), max_sessions=20)

    def scorers():
        gc.collect()
        return sum(type(one) is StreamingScorer for one in gc.get_objects())

    before = scorers()
    for number in range(400):
        sessions.get(f"s{number}").push("user", "hello")
    assert len(sessions) == 20
    assert scorers() - before == 20
