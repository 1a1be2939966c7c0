"""The command: help, usage, and what refine, train, generate and ui do with their options."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clot import NounSet
from clot.cli import main
from oogiri_go import write_jsonl

sys.path.insert(0, str(Path(__file__).parent))
from joker import NOUNS, Joker, records

COMMANDS = ("prepare", "nouns", "train", "refine", "evaluate", "generate", "dat", "export", "report", "ui", "demo")


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clot", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def data(tmp_path):
    write_jsonl(records(12), tmp_path / "en.jsonl")
    write_jsonl(records(12, first=100), tmp_path / "held_en.jsonl")
    NounSet.from_words(NOUNS, "en").save(tmp_path / "nouns.json")
    return tmp_path


@pytest.fixture
def joker(monkeypatch):
    backend = Joker()
    monkeypatch.setattr("clot._command_model.open_backend", lambda *_, **__: backend)
    return backend


def options(data, **more):
    given = {"model": "echo", "sources": data / "en.jsonl", "nouns": data / "nouns.json"} | more
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def test_help(run):
    code, listed, _ = run("--help")
    assert code == 0
    for name in COMMANDS:
        assert name in listed
        code, out, err = run(name, "--help")
        assert (code, err) == (0, "")
        assert f"clot {name}" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("joke",), ("refine",), ("refine", "--model", "echo", "--sources", "no/such", "--rho", "1"),
        ("refine", "--model", "echo", "--sources", "no/such", "--rounds", "x"), ("generate", "--model", "echo"),
        ("generate", "--model", "echo", "--question", "Why?"), ("ui", "--model", "echo"),
        ("generate", "--model", "echo", "--question", "Why?", "--sources", "x"), ("report", "--runs", "no/such"),
        ("train", "--model", "x", "--instructions", "no/such.jsonl"), ("evaluate", "--model", "echo"),
        ("generate", "--model", "echo", "--question", "Why?", "--rho", "1", "--scorer", "dice"),
        ("refine", "--model", "echo", "--server", "http://127.0.0.1:9/v1", "--adapter", "x", "--sources", "y"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_code_2(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("clot: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_refine(run, data, joker):
    arguments = options(data, held_out=data / "held_en.jsonl", out=data / "out", n=4)
    code, out, err = run("refine", *arguments, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["round"] == 1
    assert said["discrimination"] == 1.0
    assert said["steps"]["planned"] == 48
    before = (data / "out" / "ledger.jsonl").read_bytes()
    asked = len(joker.asked)
    assert run("refine", *arguments, "--json")[1] == out
    assert len(joker.asked) == asked
    code, _, err = run("refine", *arguments, "--seed", 1)
    assert code == 2
    assert "--force-new" in err
    code, _, err = run("refine", *arguments, "--no-resume")
    assert code == 2
    assert run("refine", *arguments, "--seed", 1, "--force-new")[0] == 0
    assert (data / "out" / "old-1" / "ledger.jsonl").read_bytes() == before
    code, out, _ = run("refine", *options(data, out=data / "none"), "--dry-run", "--json")
    assert json.loads(out) == {"records": 48, "prompts": 12, "candidates": 60}
    assert not (data / "none").exists()


def test_refine_gates(run, data, joker):
    (data / "words.txt").write_text("juggles\n\nmarries\n", encoding="utf-8")
    more = {"held_out": data / "held_en.jsonl", "out": data / "out", "block": data / "words.txt"}
    code, out, _ = run("refine", *options(data, **more), "--json")
    assert code == 0
    dropped = json.loads(out)["dropped"]
    assert dropped["it fails block-list"] > 0
    kept = (data / "out" / "round-1" / "kept.jsonl").read_text("utf-8")
    assert "juggles" not in kept


def test_a_model_at_chance_is_a_failure(run, data, joker):
    joker._logprob = lambda prompt, letter: -1.0
    code, out, err = run("refine", *options(data, held_out=data / "held_en.jsonl", out=data / "out"))
    assert (code, out) == (1, "")
    assert "not above 33.3%" in err


def test_generate_one(run, data, joker):
    arguments = ("generate", "--model", "echo", "--nouns", data / "nouns.json", "--question", "Why is thing3 late?")
    code, out, _ = run(*arguments, "--n", 4)
    assert code == 0
    first, *rows = out.splitlines()
    assert len(rows) == 4
    assert first in rows[0]
    assert rows[0].startswith("* 1")
    leap = json.loads(run(*arguments, "--n", 4, "--json")[1])
    assert leap["text"] == first
    assert len(leap["proposals"]) == 4
    assert run(*arguments, "--dry-run")[1] == "1 prompt\n"


def test_generate_many_goes_on_after_a_torn_line(run, data, joker):
    out = data / "answers.jsonl"
    arguments = options(data, out=out, batch=5, n=3)
    code, said, _ = run("generate", *arguments, "--json")
    assert (code, json.loads(said)["asked"]) == (0, 12)
    whole = out.read_bytes()
    assert len(whole.splitlines()) == 12
    assert json.loads(run("generate", *arguments, "--json")[1])["asked"] == 0
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:7]) + lines[7][:40])
    code, said, _ = run("generate", *arguments, "--json")
    assert json.loads(said)["asked"] == 5
    assert out.read_bytes() == whole
    assert run("generate", *arguments, "--no-resume")[0] == 2
    out.write_bytes(b"something else\n" + whole)
    code, _, err = run("generate", *arguments)
    assert code == 2
    assert "line 1" in err
    assert json.loads(run("generate", *options(data, out=data / "a.jsonl", limit=4), "--json")[1])["prompts"] == 4


def test_train_counts(run, data):
    code, _, err = run(
        "prepare", "--sources", data / "en.jsonl", "--out", data / "made", "--nouns", "heuristic", "--json"
    )
    assert code == 0, err
    arguments = ("train", "--model", "no/such", "--instructions", data / "made", "--dry-run", "--json", "--batch", "10")
    code, out, err = run(*arguments)
    assert code == 0, err
    said = json.loads(out)
    assert said["steps"] == -(-said["instructions"] // 10)
    assert sum(said["kinds"].values()) == said["instructions"]


def test_without_an_extra(tmp_path):
    code = """
import sys
sys.modules[sys.argv[1]] = None
from clot.cli import main
sys.argv = ["clot", *sys.argv[2:]]
sys.exit(main())
"""
    for host, extra, *words in (
        ("matplotlib", "demo", "demo", "--out", str(tmp_path / "x")),
        ("gradio", "ui", "ui", "--model", "echo", "--rho", "1"),
        ("httpx", "openai", "generate", "--model", "m", "--server", "http://127.0.0.1:9/v1", "--question", "Why?",
         "--rho", "1"),
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, host, *words], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert f"pip install 'sail-clot[{extra}]'" in done.stderr
    assert not (tmp_path / "x").exists()
