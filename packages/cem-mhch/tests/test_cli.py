"""The command line from logs to a served model: exit codes, outputs, one line for an error."""

import io
import json
import sys

import pytest
from cem_mhch import load_jsonl, simulate
from cem_mhch.cli import main
from cem_mhch.data import save_jsonl


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    made = simulate(120, seed=1).dialogues
    save_jsonl(made[:90], path / "train.jsonl")
    save_jsonl(made[90:], path / "test.jsonl")
    assert main(["train", "--data", str(path / "train.jsonl"), "--out", str(path / "run"), "--epochs", "3"]) == 0
    return path


def test_a_trained_model_is_evaluated_beside_the_baselines(folder, capsys):
    out = folder / "evaluation"
    code = main(
        [
            "evaluate",
            "--model",
            str(folder / "run/model"),
            "--data",
            str(folder / "test.jsonl"),
            "--train",
            str(folder / "train.jsonl"),
            "--out",
            str(out),
            "--max-handoffs-per-100",
            "40",
            "--rate-data",
            str(folder / "train.jsonl"),
        ]
    )
    assert code == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[1:6]] == ["never", "always", "keyword", "tfidf", "cem-mhch"]
    report = json.loads((out / "report.json").read_text())
    assert report["metrics"]["models"]["cem-mhch"]["auc"] > 0.8
    assert 0 < report["metrics"]["threshold"] < 1


def test_scores_from_a_file_and_from_standard_input(folder, capsys, monkeypatch):
    one = load_jsonl(folder / "test.jsonl")[0]
    lines = [json.dumps({"session_id": "s", "role": turn.role, "text": turn.text}) for turn in one.turns]
    (folder / "turns.jsonl").write_text("\n".join(lines))
    model = str(folder / "run/model")
    assert main(["score", "--model", model, "--data", str(folder / "turns.jsonl")]) == 0
    from_file = [json.loads(line)["prob"] for line in capsys.readouterr().out.splitlines()]
    assert len(from_file) == len(one.turns)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n\n".join(lines).encode())))
    assert main(["score", "--model", model]) == 0
    assert [json.loads(line)["prob"] for line in capsys.readouterr().out.splitlines()] == from_file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\n", "standard input, line 1: not JSON in UTF-8"),
        (b"[]\n", "standard input, line 1: expected an object"),
        (b'{"session_id": "a", "role": "user"}\n', "expected session_id, role, and text or tokens"),
        (b'{"session_id": "a", "role": "boss", "text": "x"}\n', "line 1: turn 0: role is 'boss'"),
    ],
)
def test_lines_that_cannot_be_scored(folder, content, words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["score", "--model", str(folder / "run/model")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_figures_and_the_page(folder, capsys):
    pytest.importorskip("matplotlib")
    out = folder / "plot"
    assert (
        main(["plot", "--model", str(folder / "run/model"), "--data", str(folder / "test.jsonl"), "--out", str(out)])
        == 0
    )
    names = {path.name for path in out.iterdir()}
    assert names == {"report.json", "timeline.html"} | {
        f"{name}.{form}" for name in ("timeline", "reliability", "cost_recall") for form in ("svg", "png")
    }
    wrong = ["plot", "--model", str(folder / "run/model"), "--data", str(folder / "test.jsonl"), "--dialogue", "nobody"]
    assert main(wrong) == 2
    assert "no dialogue 'nobody'" in capsys.readouterr().err


def test_data_commands(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("chat,who,body\na,customer,hi\na,robot,what?\na,staff,hello\nb,customer,hi\n")
    out = tmp_path / "out.jsonl"
    command = ["data", "import", "--source", str(log), "--out", str(out), "--format", "csv"]
    command += ["--map", "id=chat,role=who,text=body", "--roles", "customer=user,robot=bot,staff=human"]
    assert main(command) == 0
    assert "2 dialogues, 1 of them censored" in capsys.readouterr().out
    assert [turn.handoff for turn in load_jsonl(out)[0].turns] == [0, 1]
    assert main(["data", "validate", "--data", str(out)]) == 0
    assert main(["data", "stats", "--data", str(out)]) == 0
    assert "with handoff   1 dialogues" in capsys.readouterr().out
    assert main(["data", "simulate", "--out", str(tmp_path / "sim.jsonl"), "--dialogues", "3", "--seed", "4"]) == 0
    assert load_jsonl(tmp_path / "sim.jsonl") == simulate(3, seed=4).dialogues
    capsys.readouterr()
    for wrong, words in [
        ([*command[:-2], "--roles", "customer"], "expected pairs such as"),
        ([*command[:6], "--format", "ssa", "--map", "a=b"], "map and roles belong to logs"),
        (["data", "validate", "--data", str(out), "--max-turns", "1"], "dialogue 'a': 2 turns"),
        (["data", "validate", "--data", str(tmp_path / "none.jsonl")], "none.jsonl"),
        (["data"], "followed by import"),
        (["data", "dance"], "usage"),
    ]:
        assert main(wrong) == 2, wrong
        assert words in capsys.readouterr().err


def test_errors_are_one_line_and_code_2(folder, tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "a", "turns": [{"role": "user", "text": "x"}]}')
    model = str(folder / "run/model")
    for wrong, words in [
        (["train", "--data", str(tmp_path / "none.jsonl")], "none.jsonl"),
        (["train", "--data", str(tmp_path / "empty.jsonl")], "dialogue"),
        (["train", "--data", str(bad), "--host", "gpt"], "there is no host 'gpt'"),
        (["train", "--data", str(bad), "--epochs", "0"], "epochs is 0"),
        (["evaluate", "--model", str(tmp_path), "--data", str(bad)], "config.json"),
        (["evaluate", "--model", model, "--data", str(bad)], "dialogue 'a', turn 0: it has no handoff label"),
        (
            ["evaluate", "--model", model, "--data", str(folder / "test.jsonl"), "--max-handoffs-per-100", "5"],
            "rate-data",
        ),
        (["fly"], "usage"),
    ]:
        assert main([*wrong, "--out", str(tmp_path / "out")] if wrong[0] == "train" else wrong) == 2, wrong
        error = capsys.readouterr().err
        assert words in error, error
        assert error.count("\n") == 1


def test_a_model_of_another_vocabulary_is_refused(folder, tmp_path, capsys):
    import shutil

    from cem_mhch import Vocab

    shutil.copytree(folder / "run/model", tmp_path / "model")
    Vocab(["only", "these"]).save(tmp_path / "model/vocab.json")
    assert main(["score", "--model", str(tmp_path / "model"), "--data", str(folder / "train.jsonl")]) == 2
    assert "the vocabulary has 4 ids and the model" in capsys.readouterr().err


def test_a_training_on_ids_and_the_bench(tmp_path, capsys):
    from dataclasses import replace

    from cem_mhch import Vocab

    made = simulate(20, seed=1).dialogues
    vocab = Vocab.build(made)
    ids = [
        replace(one, turns=tuple(replace(turn, text=None, tokens=tuple(vocab.encode(turn.text))) for turn in one.turns))
        for one in made
    ]
    save_jsonl(ids, tmp_path / "ids.jsonl")
    command = ["train", "--data", str(tmp_path / "ids.jsonl"), "--val", str(tmp_path / "ids.jsonl")]
    assert main([*command, "--out", str(tmp_path / "run"), "--epochs", "1"]) == 0
    assert "validation macro-F1" in capsys.readouterr().out
    assert not (tmp_path / "run/model/vocab.json").exists()
    assert main(["bench", "--dialogues", "10"]) == 0
    assert "utterances/s" in capsys.readouterr().out
    assert main(["bench", "--model", str(tmp_path / "run/model"), "--dialogues", "5"]) == 2


def test_help(capsys):
    for arguments in (["--help"], ["data", "--help"], ["serve", "--help"]):
        assert main(arguments) == 0
        assert "help" in capsys.readouterr().out
