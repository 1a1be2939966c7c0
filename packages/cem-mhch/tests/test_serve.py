"""The HTTP service: right answers, typed refusals, no crash on garbage, and no leak between sessions."""

import asyncio
import json
import random

import pytest
import torch
from cem_mhch import CEM, HandoffModel, Rules, StreamingScorer, Vocab, simulate

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
from cem_mhch.integrations.fastapi import create_app  # noqa: E402

DIALOGUES = simulate(40, seed=5).dialogues
VOCAB = Vocab.build(DIALOGUES, min_count=1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CEM(HandoffModel.build("hgru", vocab_size=len(VOCAB), size=8, embedding_size=8)).eval()


def talk(app, conversation):
    """Run a coroutine function with a client of the application; what the server raises is raised here."""

    async def run():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await conversation(client)

    return asyncio.run(run())


def turns_of(dialogue):
    return [{"role": turn.role, "text": turn.text} for turn in dialogue.turns]


def test_scores_are_the_scorers(model):
    app = create_app(model, vocab=VOCAB, threshold=0.3, patience=2, cooldown=1, rules=Rules())
    scorer = StreamingScorer(model, vocab=VOCAB, threshold=0.3, patience=2, cooldown=1, rules=Rules())
    expected = [scorer.push(turn.role, turn.text) for turn in DIALOGUES[0].turns]

    async def conversation(client):
        for number, (turn, decision) in enumerate(zip(turns_of(DIALOGUES[0]), expected, strict=True)):
            answer = await client.post("/v1/score", json={"session_id": "a", **turn})
            assert answer.status_code == 200
            found = answer.json()
            assert (found["session_id"], found["turn"]) == ("a", number)
            assert found["prob"] == decision.prob
            assert found["handoff"] is decision.handoff
            assert found["reason"] == decision.reason
            assert found["user_state"]["negative"] == decision.user_state[0]
            assert found["latency_ms"] > 0
        answer = await client.post("/v1/score_dialogue", json={"turns": turns_of(DIALOGUES[0])})
        whole = answer.json()
        assert [one["prob"] for one in whole["decisions"]] == [one.prob for one in expected]
        handoffs = [number for number, one in enumerate(expected) if one.handoff]
        assert whole["first_handoff"] == (handoffs[0] if handoffs else None)
        ids = [{"role": turn.role, "tokens": VOCAB.encode(turn.text)} for turn in DIALOGUES[0].turns]
        answer = await client.post("/v1/score_dialogue", json={"turns": ids})
        assert [one["prob"] for one in answer.json()["decisions"]] == [one.prob for one in expected]
        assert (await client.get("/healthz")).json() == {"status": "ok", "sessions": 1}

    talk(app, conversation)


def test_sessions_at_the_same_time_do_not_mix(model):
    app = create_app(model, vocab=VOCAB)
    scorer = StreamingScorer(model, vocab=VOCAB)

    async def conversation(client):
        async def one(dialogue):
            found = []
            for turn in turns_of(dialogue):
                answer = await client.post("/v1/score", json={"session_id": dialogue.id, **turn})
                found.append(answer.json()["prob"])
                await asyncio.sleep(0)
            return found

        return await asyncio.gather(*map(one, DIALOGUES[:32]))

    for dialogue, found in zip(DIALOGUES, talk(app, conversation), strict=False):
        scorer.reset()
        assert found == [scorer.push(turn.role, turn.text).prob for turn in dialogue.turns]


REFUSED = [
    ("POST", "/v1/score", {"role": "user", "text": "x"}, 422, "session_id"),
    ("POST", "/v1/score", {"session_id": "", "role": "user", "text": "x"}, 422, "session_id"),
    ("POST", "/v1/score", {"session_id": "s" * 201, "role": "user", "text": "x"}, 422, "session_id"),
    ("POST", "/v1/score", {"session_id": "s", "role": "boss", "text": "x"}, 422, "role"),
    ("POST", "/v1/score", {"session_id": "s", "role": "human", "text": "x"}, 422, "role"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user"}, 422, "either text or tokens"),
    (
        "POST",
        "/v1/score",
        {"session_id": "s", "role": "user", "text": "x", "tokens": [3]},
        422,
        "either text or tokens",
    ),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "text": 5}, 422, "text"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "text": "x", "more": 1}, 422, "more"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "tokens": [0]}, 422, "tokens"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "tokens": [10**6]}, 422, "token id 1000000 is outside"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "tokens": [10**30]}, 422, "tokens"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "tokens": [1.5]}, 422, "tokens"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "text": "x" * 101}, 413, "101 characters, at most 100"),
    ("POST", "/v1/score", {"session_id": "s", "role": "user", "text": "x" * 5000}, 413, "larger than 4000 bytes"),
    ("POST", "/v1/score", [], 422, "body"),
    ("POST", "/v1/score_dialogue", {"turns": []}, 422, "turns"),
    ("POST", "/v1/score_dialogue", {"turns": [{"role": "user", "text": "x"}] * 6}, 413, "6 turns, at most 5"),
    ("POST", "/v1/score_dialogue", {"turns": [{"role": "boss", "text": "x"}]}, 422, "turns.0.role"),
    ("GET", "/v1/score", None, 405, "Method"),
    ("GET", "/nothing", None, 404, "Not Found"),
    ("DELETE", "/v1/sessions/unknown", None, 404, "no session 'unknown'"),
]
KINDS = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "invalid_request"}


def test_refusals_have_a_type_and_say_what_is_wrong(model):
    app = create_app(model, vocab=VOCAB, max_chars=100, max_turns=5, max_bytes=4000)

    async def conversation(client):
        for method, path, body, status, words in REFUSED:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, (path, body, answer.text)
            error = answer.json()["error"]
            assert error["type"] == KINDS[status]
            assert words in error["message"], (words, error)
        for _ in range(5):
            await client.post("/v1/score", json={"session_id": "long", "role": "user", "text": "x"})
        answer = await client.post("/v1/score", json={"session_id": "long", "role": "user", "text": "x"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")
        assert (await client.get("/healthz")).json()["sessions"] == 1  # refused turns opened none

    talk(app, conversation)


def test_a_body_in_pieces_is_cut_off(model):
    app = create_app(model, vocab=VOCAB, max_bytes=1000)
    sent = []

    async def pieces():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100

    async def conversation(client):
        return await client.post("/v1/score", content=pieces())

    assert talk(app, conversation).status_code == 413


def test_sessions_are_forgotten_and_bounded(model):
    app = create_app(model, vocab=VOCAB, max_sessions=3)

    async def conversation(client):
        for name in "abcd":
            await client.post("/v1/score", json={"session_id": name, "role": "user", "text": "hello"})
        assert (await client.get("/healthz")).json()["sessions"] == 3
        assert (await client.delete("/v1/sessions/a")).status_code == 404  # it was the oldest
        assert (await client.delete("/v1/sessions/b")).status_code == 204
        answer = await client.post("/v1/score", json={"session_id": "b", "role": "user", "text": "hello"})
        assert answer.json()["turn"] == 0

    talk(app, conversation)


def test_prometheus_metrics(model):
    app = create_app(model, vocab=VOCAB, threshold=1.0, rules=Rules(), max_sessions=1)

    async def conversation(client):
        for name in "ab":
            await client.post("/v1/score", json={"session_id": name, "role": "user", "text": "talk to a human"})
        await client.post("/v1/score", content=b"{")
        await client.get("/nowhere")
        return await client.get("/metrics")

    answer = talk(app, conversation)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for line in [
        'cem_mhch_requests_total{path="/v1/score",status="200"} 2',
        'cem_mhch_requests_total{path="/v1/score",status="422"} 1',
        'cem_mhch_requests_total{path="other",status="404"} 1',
        'cem_mhch_handoffs_total{reason="explicit_request"} 2',
        'cem_mhch_decision_seconds_bucket{le="+Inf"} 2',
        "cem_mhch_decision_seconds_count 2",
        "cem_mhch_sessions 1",
        "cem_mhch_sessions_evicted_total 1",
    ]:
        assert line in lines
    buckets = [int(line.split()[-1]) for line in lines if "_bucket" in line]
    assert buckets == sorted(buckets)
    for line in lines:
        assert line.startswith("# TYPE ") or len(line.rsplit(" ", 1)) == 2


def garbage(rng):
    """A body, none of which is valid."""
    good = {"session_id": "victim", "role": "user", "text": "hello"}
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 1:
        text = json.dumps(good)
        return text[: rng.randrange(0, len(text) - 1)].encode()
    if kind == 2:
        return json.dumps(good | {rng.choice(list(good)): rng.choice([None, 5, [], {}, True, -1.5])}).encode()
    if kind == 3:
        return b"[" * rng.choice([10, 1000, 100_000])
    if kind == 4:
        return json.dumps(rng.choice([None, 1, "x", [], [good], True, 1e308])).encode()
    if kind == 5:
        return json.dumps(good).encode().replace(b"hello", bytes([rng.randrange(128, 256)]))
    if kind == 6:
        return json.dumps(good | {rng.choice(["text2", "", "__class__", "\ud83d"]): 1}).encode()
    if kind == 7:
        return json.dumps(good | {"role": "".join(rng.choices("abc\x00é\u202e", k=rng.randrange(0, 9)))}).encode()
    if kind == 8:
        token = rng.choice([0, -1, 2**63, 2**70, 10**400 if rng.random() < 0.3 else 10**9, 1.5, "3", None, [1]])
        return json.dumps({"session_id": "victim", "role": "user", "tokens": [2, token]}).encode()
    return json.dumps(good | {"session_id": rng.choice(["", "x" * 300, None, 7, ["a"]])}).encode()


def throw_garbage(model, count):
    app = create_app(model, vocab=VOCAB)
    rng = random.Random(11)
    scorer = StreamingScorer(model, vocab=VOCAB)
    turn = {"role": "user", "text": "hello, my parcel"}

    async def conversation(client):
        for number in range(count):
            if number % 250 == 0:
                answer = await client.post("/v1/score", json={"session_id": "victim", **turn})
                assert answer.json()["prob"] == scorer.push(**{"role": "user", "turn": turn["text"]}).prob
            path = rng.choice(["/v1/score", "/v1/score", "/v1/score_dialogue"])
            body = garbage(rng)
            headers = rng.choice([{"content-type": "application/json"}, {"content-type": "text/html"}, {}])
            answer = await client.post(path, content=body, headers=headers)
            assert 400 <= answer.status_code < 500, (body[:200], answer.status_code, answer.text)
            assert answer.json()["error"]["type"] in {"invalid_request", "bad_request", "too_large"}
        assert (await client.get("/healthz")).json() == {"status": "ok", "sessions": 1}

    talk(app, conversation)


def test_2000_bodies_of_garbage(model):
    throw_garbage(model, 2000)


@pytest.mark.slow
def test_10000_bodies_of_garbage(model):
    throw_garbage(model, 10_000)


def test_options_are_refused_at_once(model):
    for options in ({"threshold": 2.0}, {"max_sessions": 0}, {"max_bytes": 0}, {"max_turns": 0}, {"patience": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            create_app(model, vocab=VOCAB, **options)
