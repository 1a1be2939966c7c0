"""Baselines: what they score, and a judge that is asked through a real server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from cem_mhch import Dialogue, Turn, metrics, simulate
from cem_mhch._table import baseline_scores, comparison
from cem_mhch.baselines import Always, JudgeError, Keyword, LLMJudge, Never, TfidfLogistic

SIMULATED = simulate(150, seed=1).dialogues


def labels_of(dialogues):
    return [[turn.handoff for turn in one.turns] for one in dialogues]


def test_those_that_learn_nothing():
    some = SIMULATED[:3]
    assert Never().score(some) == [[0.0] * len(one.turns) for one in some]
    assert Always().score(some) == [[1.0] * len(one.turns) for one in some]
    turns = (
        Turn(role="user", text="This is useless"),
        Turn(role="bot", text="Shall I get a human?"),
        Turn(role="user", text="thank you"),
        Turn(role="user", text="let me talk to a person"),
        Turn(role="user", tokens=(4,)),
    )
    assert Keyword().score([Dialogue(id="a", turns=turns)]) == [[1.0, 0.0, 0.0, 1.0, 0.0]]
    assert Keyword(("thank",)).score([Dialogue(id="a", turns=turns)])[0][2] == 1.0
    with pytest.raises(ValueError, match="no regular expression"):
        Keyword(("(",))


def test_tfidf_learns_and_scores_in_order():
    train, test = SIMULATED[:110], SIMULATED[110:]
    model = TfidfLogistic().fit(train)
    scores = model.score(test)
    assert [len(row) for row in scores] == [len(one.turns) for one in test]
    assert metrics.roc_auc(labels_of(test), scores) > 0.85
    np.testing.assert_allclose(model.score(test[7:8])[0], scores[7])
    longer = TfidfLogistic(history=2).fit(train)
    assert metrics.roc_auc(labels_of(test), longer.score(test)) > metrics.roc_auc(labels_of(test), scores)
    shortened = Dialogue(id="x", turns=test[0].turns[:3])
    np.testing.assert_allclose(
        longer.score([shortened])[0], longer.score(test[:1])[0][:3]
    )  # later turns change nothing
    with pytest.raises(ValueError, match="both classes"):
        TfidfLogistic().fit([Dialogue(id="a", turns=(Turn(role="user", text="x", handoff=0),))])


def test_tfidf_reads_ids_and_roles():
    def made(role, token, handoff):
        return Dialogue(id=f"{role}{token}", turns=(Turn(role=role, tokens=(token,), handoff=handoff),))

    train = [made("user", 5, 1), made("bot", 5, 0), made("user", 6, 0), made("bot", 6, 0)] * 10
    found = TfidfLogistic().fit(train).score(train[:4])
    assert found[0][0] > max(row[0] for row in found[1:])


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that says what its test tells it to."""

    daemon_threads = True


@pytest.fixture
def server():
    state = {"answers": lambda chat, count: "0.5", "asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state["asked"].append((self.path, self.headers.get("Authorization"), body))
            chat = body["messages"][1]["content"]
            said = state["answers"](chat, len(state["asked"]))
            if isinstance(said, int):
                self.send_response(said)
                self.end_headers()
                return
            raw = (
                said if isinstance(said, bytes) else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    running = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"http://127.0.0.1:{running.server_port}/v1"
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


CHAT = Dialogue(
    id="a", turns=(Turn(role="user", text="hello"), Turn(role="bot", text="hi"), Turn(role="user", text="help!"))
)


def test_a_language_model_judges_each_prefix(server):
    server["answers"] = lambda chat, _: {1: "0", 2: "0.25", 3: "I would say 0.9."}[len(chat.splitlines())]
    judge = LLMJudge(server["url"] + "/", "judge-1", api_key="secret")
    assert judge.score([CHAT, CHAT]) == [[0.0, 0.25, 0.9]] * 2
    path, key, body = server["asked"][0]
    assert (path, key, body["model"], body["temperature"]) == ("/v1/chat/completions", "Bearer secret", "judge-1", 0)
    assert sorted(one["messages"][1]["content"] for _, _, one in server["asked"][:3])[0] == "user: hello"


@pytest.mark.parametrize("first", [503, 429, "no idea", b"{", b"\xff", "10", "7.5", "1.5"])
def test_a_judge_is_asked_again(server, first):
    server["answers"] = lambda _, count: first if count < 3 else "1"
    assert LLMJudge(server["url"], "m", workers=1).score([Dialogue(id="a", turns=CHAT.turns[:1])]) == [[1.0]]
    assert len(server["asked"]) == 3


def test_a_judge_that_fails(server):
    server["answers"] = lambda *_: "maybe"
    with pytest.raises(JudgeError, match="no number between 0 and 1: 'maybe'"):
        LLMJudge(server["url"], "m", tries=2).score([CHAT])
    server["asked"].clear()
    server["answers"] = lambda *_: 401
    with pytest.raises(JudgeError, match="status 401"):
        LLMJudge(server["url"], "m", workers=1).score([Dialogue(id="a", turns=CHAT.turns[:1])])
    assert len(server["asked"]) == 1  # a refusal is not asked again
    with pytest.raises(JudgeError, match=r"URLError|refused"):
        LLMJudge("http://127.0.0.1:9/v1", "m", timeout=2, tries=1).score([CHAT])
    with pytest.raises(ValueError, match="turn 0: it has ids and no text"):
        LLMJudge(server["url"], "m").score([Dialogue(id="a", turns=(Turn(role="user", tokens=(4,)),))])
    with pytest.raises(ValueError, match="must begin with http"):
        LLMJudge("file:///etc", "m")
    with pytest.raises(ValueError, match="tries 0"):
        LLMJudge(server["url"], "m", tries=0)


def test_the_table_holds_every_baseline(server):
    server["answers"] = lambda *_: "0.7"
    train, test = SIMULATED[:60], SIMULATED[140:]
    scores = baseline_scores(test, train=train, llm=(server["url"], "m"), max_turns=5)
    assert list(scores) == ["never", "always", "keyword", "tfidf", "llm"]
    labels = [row[:5] for row in labels_of(test)]
    rows, table = comparison(labels, scores, thresholds={"llm": 0.8})
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == ["model", *scores]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert rows["llm"]["f1"] == 0.0  # 0.7 is below its threshold
    assert rows["always"]["error_cost"] == sum(row.count(0) for row in labels)
    assert rows["always"]["auc"] == 0.5
    ids = [Dialogue(id="a", turns=(Turn(role="user", tokens=(4,), handoff=1),))]
    assert list(baseline_scores(ids)) == ["never", "always"]
