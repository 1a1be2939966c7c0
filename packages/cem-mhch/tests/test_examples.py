"""The adaptors of examples/, run against small fakes of their hosts."""

import importlib.util
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cem_mhch import CEM, HandoffModel, Rules, StreamingScorer, Vocab

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not beside the tests")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make():
    torch.manual_seed(0)
    vocab = Vocab(["hello", "parcel"])
    model = CEM(HandoffModel.build("hgru", vocab_size=len(vocab), size=8, embedding_size=8)).eval()
    return lambda: StreamingScorer(model, vocab=vocab, threshold=1.0, rules=Rules())


def test_chatwoot_opens_the_conversation_once(make):
    calls = []
    handover = load("chatwoot_webhook").Handover(make, toggle=lambda *call: calls.append(call))

    def event(text, kind="incoming", status="pending", number=5, **more):
        conversation = {"id": number, "status": status}
        base = {"event": "message_created", "message_type": kind, "content": text}
        return base | {"conversation": conversation, "account": {"id": 2}} | more

    assert handover.receive(event("hello")) is None
    assert handover.receive(event("Sorry, I did not understand that.", "outgoing")) is None
    assert handover.receive(event("let me talk to a human", private=True)) is None
    assert handover.receive(event("let me talk to a human", status="open")) is None
    assert handover.receive({"event": "conversation_created"}) is None
    assert handover.receive(event("assigned", "activity")) is None
    assert handover.receive(event("I did not understand that.", "outgoing", number=6)) is None  # another conversation
    assert calls == []
    assert handover.receive(event("I did not understand that.", "outgoing")) == "repeated_fallback"
    assert calls == [(2, 5, "open")]
    assert "2/5" not in handover.sessions
    assert "2/6" in handover.sessions


def test_langgraph_interrupts_and_resumes(make):
    asked = []

    def interrupt(value):
        asked.append(value)
        return "a colleague answers"

    node = load("langgraph_node").HandoffNode(make, interrupt)
    state = {
        "messages": [
            SimpleNamespace(type="human", content="hello"),
            SimpleNamespace(type="ai", content="I do not know that"),
        ]
    }
    state |= node(state)
    assert asked == []
    assert state["scored"] == 2
    assert node(state)["scorer"] == state["scorer"]  # nothing new, nothing scored twice
    state["messages"] = [
        *state["messages"],
        {"role": "tool", "content": "x"},
        {"role": "assistant", "content": "I don't understand"},
    ]
    update = node(state)
    assert asked[0]["handoff"] == "repeated_fallback"
    assert update["messages"] == [{"role": "assistant", "content": "a colleague answers"}]
    assert update["scorer"]["counts"]["turns"] == 3


class Tracker:
    sender_id = "rasa-1"

    def __init__(self):
        self.events, self.slots = [], {}

    def get_slot(self, name):
        return self.slots.get(name)


def test_rasa_pauses_the_bot(make, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from cem_mhch.integrations.fastapi import create_app

    scorer = make()
    app = create_app(scorer.model, vocab=scorer.vocab, threshold=1.0, rules=Rules())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("CEM_MHCH_URL", f"http://127.0.0.1:{port}")
    action, tracker, said = load("rasa_action").ActionCheckHandoff(), Tracker(), []
    dispatcher = SimpleNamespace(utter_message=lambda **message: said.append(message))

    def turn(*events):
        tracker.events += events
        found = action.run(dispatcher, tracker, {})
        tracker.slots["handoff_turns_seen"] = found[0]["value"]
        return [event["event"] for event in found]

    try:
        assert turn({"event": "user", "text": "hello"}, {"event": "action"}) == ["slot"]
        assert said == []
        assert turn({"event": "bot", "text": "hi"}, {"event": "user", "text": "get me a human"}) == ["slot", "pause"]
        assert tracker.slots["handoff_turns_seen"] == 3
        assert said[0]["json_message"] == {"handoff": "explicit_request"}
    finally:
        server.should_exit = True
        thread.join()
