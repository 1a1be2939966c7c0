"""Dialogues from every source: what is read, and what is refused with the place of the fault."""

import codecs
import json
import pickle

import numpy as np
import pytest
from cem_mhch import Dialogue, Turn, Vocab, collate, from_messages, load_jsonl, validate
from cem_mhch.data import (
    import_betold,
    import_log,
    import_pickle,
    import_ssa,
    label_handoff,
    load_arrays,
    save_jsonl,
    simulate,
)

TURN = {"role": "user", "text": "hello"}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def dialogue(*roles, **fields):
    return Dialogue(id="d", turns=tuple(Turn(role=role, text=f"{role} {n}") for n, role in enumerate(roles)), **fields)


@pytest.mark.parametrize(
    ("alias", "role"), [("assistant", "bot"), ("agent", "bot"), ("bot", "bot"), ("human", "human")]
)
def test_roles_and_their_aliases(alias, role):
    assert Turn(role=alias, text="").role == role


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"role": "robot"}, "turn 1: role is 'robot'"),
        ({"role": None}, "turn 1: role is None"),
        ({"role": ["user"]}, r"turn 1: role is \['user'\]"),
        ({"handoff": 2}, "turn 1: handoff is 2"),
        ({"handoff": 0.5}, "turn 1: handoff is 0.5"),
        ({"handoff": True}, "turn 1: handoff is True"),
        ({"sentiment": 3}, "turn 1: sentiment is 3"),
        ({"tokens": (0,)}, r"turn 1: tokens is \(0,\)"),
        ({"tokens": (1.5,)}, "turn 1: tokens"),
        ({"text": 5}, "turn 1: text is 5"),
        ({"text": None}, "turn 1: it has neither text nor tokens"),
        ({"action": 1, "propensity": 0.0}, "turn 1: propensity is 0.0"),
        ({"action": 1, "propensity": 1.1}, "turn 1: propensity is 1.1"),
        ({"action": 1, "propensity": float("nan")}, "turn 1: propensity is nan"),
        ({"propensity": 0.5}, "turn 1: it has a propensity without the action"),
        ({"cost": float("inf")}, "turn 1: cost is inf"),
    ],
)
def test_a_turn_that_cannot_be(fields, words, tmp_path):
    bad = {"role": "user", "text": "x"} | fields
    with pytest.raises(ValueError, match=f"dialogue 'a7', {words}"):
        Dialogue(id="a7", turns=(Turn(role="bot", text="hi"), Turn(**bad)))
    row = {"id": "a7", "turns": [TURN, bad]}
    with pytest.raises(ValueError, match=r"line 2: dialogue 'a7', turn 1"):
        load_jsonl(write(tmp_path / "bad.jsonl", "\n" + json.dumps(row)))


def test_dialogues_that_cannot_be():
    with pytest.raises(ValueError, match="dialogue 'x' is empty"):
        Dialogue(id="x", turns=())
    with pytest.raises(ValueError, match="satisfaction is 3"):
        dialogue("user", satisfaction=3)
    with pytest.raises(TypeError, match="turn 0: expected a Turn, got dict"):
        Dialogue(id="x", turns=({"role": "user"},))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"id": "a", "turns": [{"role": "user", "text": "\xff"}]}', "line 1: not UTF-8"),
        (b'{"id": "a", "turns"', "line 1: not JSON"),
        (b"[1, 2]", "line 1: expected an object"),
        (b'{"id": "a"}', "'turns' must be a list"),
        (b'{"id": "a", "turns": [1]}', "'turns' must be a list of objects"),
        (b'{"turns": []}', "'id' must be a string"),
        (b'{"id": "a", "turns": []}', "dialogue 'a' is empty"),
        (b'{"id": "a", "turns": [{"text": "x"}]}', "role is 'missing'"),
        (b'{"id": "a", "turns": [{"role": "user", "tokens": "abc"}]}', "tokens is 'abc'"),
        (b'{"id": "a", "turns": [{"role": "user", "tokens": [1, "b"]}]}', "tokens"),
        (b"[" * 100_000, "line 1: not JSON"),
    ],
)
def test_lines_that_cannot_be_read(content, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load_jsonl(write(tmp_path / "bad.jsonl", content))


def test_what_is_saved_is_loaded(tmp_path):
    made = simulate(20, seed=3).dialogues
    made.append(Dialogue(id="é", turns=(Turn(role="bot", tokens=(5, 9)), Turn(role="user", tokens=())), censored=True))
    save_jsonl(made, tmp_path / "some.jsonl")
    assert load_jsonl(tmp_path / "some.jsonl") == made
    assert [len(one.turns) for one in load_jsonl(tmp_path / "some.jsonl", max_turns=2)] == [2] * 21


def test_messages():
    found = from_messages(
        [
            {"role": "system", "content": "be kind"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": [{"type": "text", "text": "my"}, {"type": "image_url"}, {"text": "bill"}]},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "42"},
        ]
    )
    assert [(turn.role, turn.text) for turn in found.turns] == [("bot", "Hi"), ("user", "my bill"), ("bot", "")]
    for messages, words in [
        ([], "is empty"),
        ([{"role": "system", "content": "x"}], "is empty"),
        ([{"role": "wizard", "content": "x"}], "turn 0: role is 'wizard'"),
        ([{"role": "user", "content": 5}], "message 0: its content is int"),
        ([{"role": "user"}], "message 0: expected an object with"),
        (["hello"], "message 0: expected an object with"),
    ]:
        with pytest.raises(ValueError, match=words):
            from_messages(messages)


def test_handoffs_from_what_happened():
    found = label_handoff(dialogue("user", "bot", "user", "human", "user", "human"))
    assert [(turn.role, turn.handoff) for turn in found.turns] == [("user", 0), ("bot", 0), ("user", 1)]
    assert not found.censored
    alone = label_handoff(dialogue("user", "bot"))
    assert alone.censored
    assert [turn.handoff for turn in alone.turns] == [0, 0]
    assert label_handoff(dialogue("human", "user")) is None


def test_a_table_of_messages(tmp_path):
    rows = 'chat,sender,body,at\nb,customer,"hi, there",2024-01-01T10:00:05\nb,robot,hello,2024-01-01T10:00:09+00:00\n'
    rows += "a,customer,help,30\na,staff,here,50\na,robot,sorry,40\nc,staff,hi,1\n"
    columns = {"id": "chat", "role": "sender", "text": "body", "time": "at"}
    roles = {"customer": "user", "robot": "bot", "staff": "human"}
    found = import_log(write(tmp_path / "log.csv", "\ufeff" + rows), format="csv", columns=columns, roles=roles)
    assert [one.id for one in found.dialogues] == ["b", "a"]
    assert [turn.text for turn in found.dialogues[0].turns] == ["hi, there", "hello"]
    assert [(turn.text, turn.handoff) for turn in found.dialogues[1].turns] == [("help", 0), ("sorry", 1)]
    assert found.censored == 1
    assert found.human_first == ["c"]
    lines = [
        {"id": 1, "role": "user", "text": "x"},
        {"id": 1, "role": "agent", "text": "y"},
        {"id": 1, "role": "human", "text": ""},
    ]
    path = write(tmp_path / "log.jsonl", "\n".join(map(json.dumps, lines)))
    assert [turn.handoff for turn in import_log(path, format="jsonl").dialogues[0].turns] == [0, 1]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("id,role,text\na,boss,x\n", {}, "dialogue 'a', turn 0: role is 'boss'"),
        ("id,who,text\na,user,x\n", {}, "line 2: no column 'role' for role; there are id, who, text"),
        ("id,role,text\na,user\n", {}, "line 2: no column 'text'"),
        ("id,role,text,time\na,user,x,noon\n", {}, "line 2: the time 'noon'"),
        ("id,role,text,time\na,user,x,1\na,bot,x,\n", {}, "only some messages of dialogue 'a' have a time"),
        ("id,role,text\n", {}, "no message"),
        ("id,role,text\na,user,x\n", {"columns": {"speaker": "role"}}, r"the map names \['speaker'\]"),
        (b"id,role,text\na,user,\xff\n", {}, "not UTF-8"),
        ('id,role,text\na,user,"x"y\n', {}, "not CSV"),
        ("", {"format": "xml"}, "format is 'xml'"),
    ],
)
def test_tables_that_cannot_be_read(content, options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        import_log(write(tmp_path / "log.csv", content), **({"format": "csv"} | options))


def test_chatwoot(tmp_path):
    messages = [
        {"content": "third", "message_type": 1, "sender_type": "User", "created_at": 3},
        {"content": "hello", "message_type": 0, "created_at": 1},
        {"content": "I am a bot", "message_type": 1, "sender": {"type": "agent_bot"}, "created_at": 2},
        {"content": "assigned to Ann", "message_type": 2, "created_at": 2},
        {"content": "look at this one", "message_type": 1, "private": True, "created_at": 2},
    ]
    conversations = [{"id": 7, "messages": messages}, {"id": 8, "messages": messages[1:3]}]
    for content in (json.dumps(conversations), "\n".join(map(json.dumps, conversations))):
        found = import_log(write(tmp_path / "log.json", content), format="chatwoot")
        assert [(turn.role, turn.handoff) for turn in found.dialogues[0].turns] == [("user", 0), ("bot", 1)]
        assert found.censored == 1
    for content, words in [
        ("[1]", "conversation 0: expected a conversation"),
        ('[{"id": 1, "messages": [{"message_type": 9}]}]', "message_type is 9"),
        ('[{"id": 1, "messages": [5]}]', "message 0: expected an object"),
        ("[", "not JSON"),
    ]:
        with pytest.raises(ValueError, match=words):
            import_log(write(tmp_path / "bad.json", content), format="chatwoot")
    with pytest.raises(ValueError, match="leave the map out"):
        import_log(tmp_path / "log.json", format="chatwoot", columns={"id": "x"})


def write_pickles(path, parts, protocol=2):
    path.write_bytes(b"".join(pickle.dumps(part, protocol=protocol) for part in parts))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_authors_pickles(protocol, tmp_path):
    ids = [np.array([[3, 4, 0], [5, 0, 0]], np.int32), np.array([[9, 0, 0]], np.int32)]
    parts = [ids, [[2, 1], [1]], [2, 1], ["dev_1", "dev_2"], [[1, 0], [1]], [[0, 1], [0]], [[1, 0], [2]], [0, 2]]
    found = import_pickle(write_pickles(tmp_path / "eval.pkl", parts, protocol), source="cem")
    assert found[0] == Dialogue(
        id="eval_dev_1",
        turns=(
            Turn(role="user", tokens=(3, 4), handoff=0, sentiment=1),
            Turn(role="bot", tokens=(5,), handoff=1, sentiment=0),
        ),
        satisfaction=0,
    )
    assert found[1].satisfaction == 2
    dami = [
        ids,
        [[0, 1], [0]],
        np.zeros((2, 3, 5)),
        [[1, 2], [3]],
        np.zeros((2, 3)),
        [[2, 1], [1]],
        [2, 1],
        [[0, 1], [1]],
    ]
    read = import_pickle(write_pickles(tmp_path / "dami.pkl", dami, protocol), source="dami")
    assert [(turn.role, turn.tokens, turn.handoff) for turn in read[0].turns] == [("user", (3, 4), 0), ("bot", (5,), 1)]
    assert read[1].satisfaction is None


class Payload:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    import os
    import subprocess

    mark = tmp_path / "ran"
    for number, payload in enumerate(
        [
            Payload(os.system, f"touch {mark}"),
            Payload(eval, f"open({str(mark)!r}, 'w')"),
            Payload(subprocess.call, ["touch", str(mark)]),
            Payload(codecs.encode, "x", "rot13"),
            Payload(np.load, str(mark)),
            Payload(getattr, "text", "upper"),
            Payload(__import__, "antigravity"),
        ]
    ):
        for protocol in range(2, 6):
            path = write_pickles(tmp_path / f"{number}.pkl", [[1, payload]], protocol)
            with pytest.raises(ValueError, match="refused"):
                load_arrays(path)
    assert not mark.exists()
    for content in (b"\x80\x04garbage", b"no pickle", b"cos\nsystem\n(S'true'\ntR."):
        with pytest.raises(ValueError, match="refused"):
            load_arrays(write(tmp_path / "x.pkl", content))


def test_pickles_of_another_layout(tmp_path):
    with pytest.raises(ValueError, match="holds 1 pickles"):
        import_pickle(write_pickles(tmp_path / "a.pkl", [[1]]), source="cem")
    with pytest.raises(ValueError, match="do not have the layout"):
        import_pickle(write_pickles(tmp_path / "b.pkl", [[1]] * 8), source="cem")
    with pytest.raises(ValueError, match="source is 'other'"):
        import_pickle(tmp_path / "b.pkl", source="other")


def test_arrays_of_this_numpy_survive(tmp_path):
    parts = [np.arange(6.0).reshape(2, 3), np.float32(2.5), ["a", np.array(["x", "y"])]]
    for protocol in (2, 4):
        found = load_arrays(write_pickles(tmp_path / "a.pkl", parts, protocol))
        np.testing.assert_array_equal(found[0], parts[0])
        assert found[1] == 2.5
        assert found[2][1].tolist() == ["x", "y"]


def test_ssa(tmp_path):
    session = [
        {"role": "c", "content": "hi", "senti": 2, "label": "1"},
        {"role": "b", "content": "yes", "senti": 4, "label": 0},
    ]
    row = {"session": session, "score": "3", "sessionID": "s1"}
    (found,) = import_ssa(write(tmp_path / "ssa.json", json.dumps(row)))
    assert [(turn.role, turn.sentiment, turn.handoff) for turn in found.turns] == [("user", 0, 1), ("bot", 2, 0)]
    assert found.satisfaction == 2
    for bad, words in [
        ({"session": session}, "there is no 'sessionID'"),
        (row | {"score": 9}, "satisfaction is 8"),
        (row | {"session": [session[0] | {"senti": 6}]}, "senti is 6"),
    ]:
        with pytest.raises(ValueError, match=words):
            import_ssa(write(tmp_path / "bad.json", json.dumps(bad)))


def test_betold(tmp_path):
    turns = [
        {"caller_name": "nlg", "intent": "intro", "entities": [{"entity": "recording_warning"}]},
        {"caller_name": "nlu", "intent": "transfer_agent", "entities": []},
    ]
    rows = [{"LUHF": "luhf", "utterances_annotations": turns}, {"LUHF": "not_luhf", "utterances_annotations": turns}]
    found = import_betold(write(tmp_path / "valid.json", json.dumps(rows)))
    assert [(turn.role, turn.text, turn.handoff) for turn in found[0].turns] == [
        ("bot", "intro recording_warning", 0),
        ("user", "transfer_agent", 1),
    ]
    assert [turn.handoff for turn in found[1].turns] == [0, 0]
    for bad, words in [
        ([{"LUHF": "maybe", "utterances_annotations": turns}], "dialogue 0: not a dialogue of BETOLD"),
        ({}, "expected a list"),
        ([3], "dialogue 0: not a dialogue"),
    ]:
        with pytest.raises(ValueError, match=words):
            import_betold(write(tmp_path / "bad.json", json.dumps(bad)))


def test_vocabularies(tmp_path):
    texts = ["Hello there, hello!", "I can\u2019t log in", "hello again"]
    some = [Dialogue(id=str(n), turns=(Turn(role="user", text=text),)) for n, text in enumerate(texts)]
    vocab = Vocab.build(some, min_count=1)
    assert vocab.words[0] == "hello"
    assert vocab.encode("HELLO unseen") == [2, 1]
    assert vocab.encode("can't") == [2 + vocab.words.index("can't")]
    assert vocab.encode("") == [1]
    assert len(Vocab.build(some, min_count=1, max_size=4)) == 4
    vocab.save(tmp_path / "vocab.json")
    assert Vocab.load(tmp_path / "vocab.json").words == vocab.words
    with pytest.raises(ValueError, match="more than once"):
        Vocab(["a", "a"])
    with pytest.raises(ValueError, match="no turn has a text"):
        Vocab.build([Dialogue(id="a", turns=(Turn(role="user", tokens=(4,)),))])
    for content in (b"{}", b"[", b'{"format": 1, "words": [3]}', b"\xff", b'{"format": 2, "words": []}'):
        with pytest.raises(ValueError, match="not a saved vocabulary"):
            Vocab.load(write(tmp_path / "bad.json", content))


def test_batches():
    one = Dialogue(
        id="a",
        turns=(
            Turn(role="user", tokens=(5, 6, 7), handoff=1, sentiment=0, action=1, propensity=0.25, cost=2.0),
            Turn(role="bot", text="b c"),
        ),
        satisfaction=1,
    )
    two = Dialogue(id="b", turns=(Turn(role="bot", tokens=()),))
    batch = collate([one, two], Vocab(["b"]))
    assert batch.tokens.tolist() == [[[5, 6, 7], [2, 1, 0]], [[1, 0, 0], [0, 0, 0]]]
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert batch.role.tolist() == [[0, 1], [1, 0]]
    assert batch.handoff.tolist() == [[1, -1], [-1, -1]]
    assert batch.sentiment.tolist() == [[0, -1], [-1, -1]]
    assert batch.satisfaction.tolist() == [1, -1]
    assert batch.action.tolist() == [[1, -1], [-1, -1]]
    assert batch.propensity[0, 0] == 0.25
    assert batch.cost.isnan().tolist() == [[False, True], [True, True]]
    assert collate([two]).action is None
    short = collate([one], Vocab(["b"]), max_turns=1, max_tokens=2)
    assert short.tokens.tolist() == [[[5, 6]]]
    for dialogues, words in [
        ([], "no dialogue"),
        ([one], "dialogue 'a', turn 1: it has text and no ids"),
        ([dialogue("user", "human")], "dialogue 'd', turn 0|turn 1: it is a human's"),
    ]:
        with pytest.raises(ValueError, match=words):
            collate(dialogues, None if words.startswith("dialogue 'a'") else Vocab([]))


def test_corpora_that_do_not_fit():
    ids = Dialogue(id="a", turns=(Turn(role="user", tokens=(3,)), Turn(role="bot", tokens=(9, 2))))
    text = Dialogue(id="b", turns=(Turn(role="user", text="x" * 30),))
    validate([ids, text], vocab_size=10, max_turns=2, max_tokens=2, max_chars=30)
    for options, words in [
        ({"vocab_size": 9}, "dialogue 'a', turn 1: token id 9 is outside the vocabulary of 9 ids"),
        ({"max_turns": 1}, "dialogue 'a': 2 turns"),
        ({"max_tokens": 1}, "dialogue 'a', turn 1: 2 tokens"),
        ({"max_chars": 29}, "dialogue 'b', turn 0: 30 characters"),
    ]:
        with pytest.raises(ValueError, match=words):
            validate([ids, text], **options)
    with pytest.raises(ValueError, match="the id comes twice"):
        validate([ids, ids])
    with pytest.raises(ValueError, match="no dialogue"):
        validate([])


def test_hugging_face_datasets(tmp_path):
    pytest.importorskip("datasets")
    from cem_mhch.integrations.datasets import from_dataset, to_dataset

    made = simulate(5).dialogues
    made.append(Dialogue(id="x", turns=(Turn(role="bot", tokens=(5, 9)), Turn(role="user", tokens=())), censored=True))
    table = to_dataset(made)
    assert table.num_rows == 6
    assert from_dataset(table) == made
    with pytest.raises(ValueError, match="row 0: dialogue 'a' is empty"):
        from_dataset([{"id": "a", "turns": []}])


def test_real_data(sail_data):
    found = load_jsonl(sail_data("mhch/mit/makeup2.train.jsonl"))
    assert len(found) == 295
    assert sum(len(one.turns) for one in found) == 7634
    assert sum(turn.handoff for one in found for turn in one.turns) == 637
    calls = load_jsonl(sail_data("mhch/apache/betold.valid.jsonl"))
    assert sum(one.turns[-1].handoff for one in calls) == 451
    assert calls[0].turns[0].text == "intro_assistant_1 recording_warning"
