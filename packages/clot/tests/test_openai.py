"""The backend of servers, against one that answers, fails, stalls and talks nonsense."""

import json
import math
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("httpx")
sys.path.insert(0, str(Path(__file__).parent))
from clot import (
    ContentScorer,
    GenerateScorer,
    LetterScorer,
    OpenAIBackend,
    OptionRequest,
    Prompt,
    Question,
    Request,
    evaluate,
)
from clot._http import RequestRefused, ServerError
from fake_server import FakeServer, chat, letters, vllm
from oogiri_go import Record

PNG = b"\x89PNG\r\n\x1a\n..."
ASK = Request("r1", Prompt("Why?"), n=2, max_new_tokens=7, temperature=0.5, top_p=0.9, seed=11)
LETTERS = OptionRequest("o1", Prompt("A or B?"), ("A", "B"))


def backend(server, **options):
    return OpenAIBackend("m", base_url=server.url, **({"sleep": lambda seconds: None, "timeout": 5.0} | options))


def test_what_is_sent_and_what_comes_back(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with FakeServer(lambda body, number: chat(["one", "two"])) as server, backend(server) as model:
        [found] = model.generate([ASK])
        assert (found.id, found.texts) == ("r1", ("one", "two"))
        [body] = server.bodies
        assert body == {
            "model": "m",
            "messages": [{"role": "user", "content": "Why?"}],
            "n": 2,
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 11,
        }
        assert server.headers[0]["Authorization"] == "Bearer secret"
        assert server.headers[0]["path"] == "/v1/chat/completions"


def test_the_picture_comes_first():
    with FakeServer(lambda body, number: chat(["x"])) as server, backend(server) as model:
        model.generate([Request("r", Prompt("What?", PNG))])
        first, second = server.bodies[0]["messages"][0]["content"]
        assert first["image_url"]["url"].startswith("data:image/png;base64,iVBORw")
        assert second == {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    ("image", "problem"), [(b"BM....", "neither PNG, JPEG, GIF nor WebP"), (PNG + b"." * 100, "max_image is 64")]
)
def test_pictures_that_are_not_sent(image, problem):
    with FakeServer(lambda body, number: chat(["x"])) as server, backend(server, max_image=64) as model:
        with pytest.raises(RequestRefused, match=f"record r: its picture .*{problem}") as caught:
            model.generate([Request("r", Prompt("What?", image))])
        assert caught.value.record_id == "r"
        assert server.bodies == []


def test_a_server_that_ignores_n_is_asked_again():
    with FakeServer(lambda body, number: chat([f"t{body['seed']}"])) as server, backend(server) as model:
        [found] = model.generate([Request("r", Prompt("x"), n=3, seed=5)])
        assert found.texts == ("t5", "t6", "t7")
    with FakeServer(lambda body, number: chat(["a", "b", "c"])) as server, backend(server) as model:
        assert model.generate([Request("r", Prompt("x"), n=1)])[0].texts == ("a",)


@pytest.mark.parametrize(
    "failure",
    [
        429,
        500,
        502,
        503,
        b"<html>busy</html>",
        b"",
        b"[1, 2]",
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"content": 5}}]},
        {"unrelated": True},
        (200, {"Content-Length": "500"}, b'{"choices": ['),
    ],
    ids=str,
)
def test_a_passing_failure_is_tried_again(failure):
    script = lambda body, number: failure if number < 2 else chat(["one", "two"])  # noqa: E731
    with FakeServer(script) as server, backend(server) as model:
        assert model.generate([ASK])[0].texts == ("one", "two")
        assert len(server.bodies) == 3
        assert (model.usage.requests, model.usage.attempts) == (1, 3)


@pytest.mark.parametrize(
    ("failure", "problem"), [(500, "status 500"), (429, "status 429"), (b"no", "no JSON but 'no'")]
)
def test_a_lasting_failure_names_the_request_and_the_last_problem(failure, problem):
    with FakeServer(lambda body, number: failure) as server, backend(server, retries=2) as model:
        with pytest.raises(ServerError, match=f"request r1: no usable answer in 3 attempts, at last .*{problem}"):
            model.generate([ASK])
        assert len(server.bodies) == 3


def test_silence_is_a_failure_too():
    with FakeServer(lambda body, number: 3.0 if number == 0 else chat(["x"])) as server:
        model = backend(server, timeout=0.3)
        started = time.monotonic()
        assert model.generate([Request("r", Prompt("x"))])[0].texts == ("x",)
        assert time.monotonic() - started < 2.5
    with (
        FakeServer(lambda body, number: 3.0) as server,
        pytest.raises(ServerError, match=r"no answer within 0\.2 s"),
    ):
        backend(server, timeout=0.2, retries=1).generate([ASK])


def test_nobody_there():
    with FakeServer(lambda body, number: chat(["x"])) as server:
        url = server.url
    model = OpenAIBackend("m", base_url=url, retries=1, sleep=lambda seconds: None)
    with pytest.raises(ServerError, match="ConnectError"):
        model.generate([ASK])


def test_pauses_double_with_jitter_and_a_server_may_ask_for_its_own():
    pauses = []
    with FakeServer(lambda body, number: 500 if number < 4 else chat(["x"] * 2)) as server:
        backend(server, sleep=pauses.append).generate([ASK])
    assert len(pauses) == 4
    assert all(0 <= pause <= 0.5 * 2**attempt for attempt, pause in enumerate(pauses, 1))
    assert len(set(pauses)) == 4
    pauses.clear()
    script = lambda body, number: (429, {"Retry-After": "7"}, {}) if number < 1 else chat(["x"] * 2)  # noqa: E731
    with FakeServer(script) as server:
        backend(server, sleep=pauses.append).generate([ASK])
    assert pauses == [7.0]


@pytest.mark.parametrize(("status", "error"), [(400, RequestRefused), (413, RequestRefused), (422, RequestRefused)])
def test_a_refused_request_is_not_repeated(status, error):
    script = lambda body, number: (status, {}, {"error": {"message": "maximum context length is 4096"}})  # noqa: E731
    with FakeServer(script) as server, backend(server) as model:
        with pytest.raises(error, match=r"record r1: the server refuses it: .*maximum context length") as caught:
            model.generate([ASK])
        assert caught.value.record_id == "r1"
        assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_address_or_key_says_so_at_once(status):
    with FakeServer(lambda body, number: status) as server, backend(server) as model:
        with pytest.raises(ValueError, match="check base_url, model and api_key"):
            model.generate([ASK])
        assert len(server.bodies) == 1


def test_an_endless_answer_is_cut():
    with (
        FakeServer(lambda body, number: b" " * 100_000) as server,
        backend(server, max_body=5000, retries=1) as model,
        pytest.raises(ServerError, match="more than 5000 bytes"),
    ):
        model.generate([ASK])


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_requests_at_once_than_allowed_and_the_order_is_kept(concurrency):
    def script(body, number):
        time.sleep(0.02)
        return chat([body["messages"][0]["content"]])

    with FakeServer(script) as server, backend(server, concurrency=concurrency) as model:
        found = model.generate([Request(str(at), Prompt(f"p{at}")) for at in range(24)])
        assert [(one.id, one.texts) for one in found] == [(str(at), (f"p{at}",)) for at in range(24)]
        assert server.most <= concurrency
        assert server.most == concurrency
        assert model.generate([]) == []


def test_tokens_and_cost(tmp_path):
    script = lambda body, number: chat(["x"], prompt=1000, completion=50)  # noqa: E731
    log = tmp_path / "logs" / "requests.jsonl"
    with FakeServer(script) as server, backend(server, price=(2.0, 10.0), log=log) as model:
        model.generate([Request(str(at), Prompt("x")) for at in range(3)])
        usage = model.usage
    assert (usage.requests, usage.attempts, usage.prompt_tokens, usage.completion_tokens) == (3, 3, 3000, 150)
    assert usage.cost == pytest.approx((3000 * 2 + 150 * 10) / 1e6)
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["id"] for row in rows) == ["0", "1", "2"]
    assert sum(row["cost"] for row in rows) == pytest.approx(usage.cost)
    assert all(row["attempts"] == 1 and row["seconds"] >= 0 for row in rows)


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": "ten"}])
def test_a_server_that_does_not_count(usage):
    body = chat(["x"]) | {"usage": usage}
    with FakeServer(lambda *_: body) as server, backend(server) as model:
        assert model.generate([Request("r", Prompt("x"))])[0].texts == ("x",)
        assert model.usage.prompt_tokens == 0


def test_letters():
    table = [("A", -0.5), (" A", -2.0), ("The", -3.0), ("B", -4.0), ("b", -5.0)]
    with FakeServer(lambda body, number: letters(table)) as server, backend(server) as model:
        [found] = model.option_logprobs([LETTERS])
        assert found.logprobs == pytest.approx((math.log(math.exp(-0.5) + math.exp(-2.0)), -4.0))
        assert found.tokens == (1, 1)
        body = server.bodies[0]
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"], body["temperature"]) == (1, True, 20, 0.0)


def test_a_letter_that_is_not_among_the_first_gets_the_floor_and_a_flag():
    with FakeServer(lambda body, number: letters([("A", -0.1), ("The", -6.0)])) as server, backend(server) as model:
        [found] = model.option_logprobs([OptionRequest("o", Prompt("x"), ("A", "B", "C"))])
        assert found.logprobs == (-0.1, -6.0, -6.0)
        assert found.tokens == (1, 0, 0)
        [scored] = LetterScorer(model).select([Question("q", Prompt("Why?"), ("x", "y", "z"), "en")])
        assert scored.missing == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["choices"][0].pop("logprobs"),
        lambda body: body["choices"][0].update(logprobs=None),
        lambda body: body["choices"][0].update(logprobs={"content": None}),
        lambda body: body["choices"][0].update(logprobs={"content": []}),
        lambda body: body["choices"][0]["logprobs"]["content"][0].update(top_logprobs=[]),
        lambda body: body["choices"][0]["logprobs"]["content"][0].update(
            top_logprobs=[{"token": "A", "logprob": None}]
        ),
    ],
)
def test_missing_logprobs_say_what_to_do(change):
    body = letters([("A", -0.1)])
    change(body)
    with (
        FakeServer(lambda *_: body) as server,
        backend(server) as model,
        pytest.raises(ValueError, match=r"request o1: the server gives no top_logprobs.*generate scorer"),
    ):
        model.option_logprobs([LETTERS])


def test_whole_answers_need_the_extension():
    with FakeServer(lambda *_: chat(["x"])) as server, backend(server) as model:
        with pytest.raises(ValueError, match="request o: a chat server scores letters"):
            model.option_logprobs([OptionRequest("o", Prompt("x"), ("one", "two"))])
        with pytest.raises(ValueError, match="gives no prompt_logprobs"):
            backend(server, prompt_logprobs=True).option_logprobs([OptionRequest("o", Prompt("x"), ("one", "two"))])


def test_whole_answers_with_the_extension():
    cost = {"one": -1.0, "two": -2.0, "three": -0.25}
    with FakeServer(vllm(lambda word: cost.get(word, -5.0))) as server, backend(server, prompt_logprobs=True) as model:
        [found] = model.option_logprobs([OptionRequest("o", Prompt("say one two"), ("one two", "three", "x one"))])
        assert found.logprobs == (-3.0, -0.25, -6.0)
        assert found.tokens == (2, 1, 2)
        [scored] = ContentScorer(model).select([Question("q", Prompt("Why?"), ("one two", "three"), "en")])
        assert scored.scores == (-1.5, -0.25)


@pytest.mark.parametrize(
    "entries", ["text", [None, {}], [None, {"1": {}}], [None, {"1": {"logprob": "NaN"}}], [None, None]]
)
def test_prompt_logprobs_of_another_form_are_no_answer(entries):
    script = lambda body, number: chat(["x"], prompt=1) | {"prompt_logprobs": entries}  # noqa: E731
    with (
        FakeServer(script) as server,
        backend(server, prompt_logprobs=True, retries=1) as model,
        pytest.raises(ServerError, match="prompt_logprobs of another form"),
    ):
        model.option_logprobs([OptionRequest("o", Prompt("x"), ("one", "two"))])


def test_one_failure_stops_what_has_not_begun():
    def script(body, number):
        if number == 0:
            return 400
        time.sleep(0.05)
        return chat(["x"])

    with FakeServer(script) as server, backend(server, concurrency=2) as model:
        with pytest.raises(RequestRefused):
            model.generate([Request(str(at), Prompt("x")) for at in range(200)])
        assert len(server.bodies) < 50


def test_digests_name_server_and_model():
    def made(model="m", url="http://localhost:8000/v1"):
        return OpenAIBackend(model, base_url=url).digest

    assert made() == made(url="http://localhost:8000/v1/")
    assert len({made(), made("n"), made(url="http://localhost:9000/v1")}) == 3


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"retries": -1}, {"timeout": 0}, {"base_url": "localhost:8000"}]
)
def test_settings_that_cannot_work(options):
    with pytest.raises(ValueError, match="expected"):
        OpenAIBackend("m", **({"base_url": "http://localhost:8000/v1"} | options))


def test_a_missing_httpx_names_the_extra(monkeypatch):
    from oogiri_go.runs import MissingExtra

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"sail-clot\[openai\]"):
        OpenAIBackend("m", base_url="http://localhost:8000/v1")


@pytest.mark.parametrize("scorer", ["letter", "generate"])
def test_a_whole_evaluation_over_the_wire(scorer):
    """The server likes the longest answer; one question is refused and left out by name."""
    rows = [
        Record(f"{p}-{a}", "T2T", f"Why {p}?", None, f"{p} " + "ha" * (a + 1), a, "en")
        for p in range(6)
        for a in range(5)
    ]

    def script(body, number):
        text = body["messages"][0]["content"]
        if "Why 4?" in text:
            return 400, {}, {"error": {"message": "too long"}}
        shown = [line.split(". ", 1) for line in text.splitlines() if line[1:3] == ". "]
        if "top_logprobs" in body:
            return letters([(letter, float(len(told))) for letter, told in shown])
        order = sorted(shown, key=lambda pair: -len(pair[1]))
        return chat(["\n".join(f"{at}. {letter}. {told}" for at, (letter, told) in enumerate(order, 1))])

    with FakeServer(script) as server, backend(server) as model:
        found = evaluate(model, rows, tasks=["rank"], scorer=scorer)
        assert found.tasks["rank"].questions == 5
        assert found.tasks["rank"].ndcg == pytest.approx(1)
        assert next(iter(found.failed.values())).count("too long") == 1
        asked = [Question("q", Prompt("Why?"), ("ha", "haha"), "en")]
        if scorer == "letter":
            assert LetterScorer(model).select(asked)[0].choice == (1,)
        else:
            assert GenerateScorer(model).rank(asked)[0].order() == (1, 0)
