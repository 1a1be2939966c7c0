"""The functions behind prepare, nouns, evaluate, export, dat and report, from files to files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clot import EchoBackend, NounSet, choice_questions, export_lm_eval
from clot._command_evaluate import DatConfig, EvaluateConfig, ExportConfig, run_dat, run_evaluate, run_export
from clot._command_prepare import NounsConfig, PrepareConfig, run_nouns, run_prepare
from clot._command_report import ReportConfig, run_report
from clot._instruction_files import read_instructions
from clot.distractors import Distractors, read_texts
from oogiri_go import Record, group_key, write_jsonl

ROWS = [
    Record("", "T2T", f"Who is {p}?", None, f"Ask the lawyer of my cactus, {p}.{a}.", a, "en")
    for p in range(8)
    for a in range(6)
]


@pytest.fixture
def source(tmp_path):
    write_jsonl(ROWS, tmp_path / "data" / "en.jsonl")
    return tmp_path / "data" / "en.jsonl"


@pytest.fixture
def literals(tmp_path):
    path = tmp_path / "literals.jsonl"
    path.write_text(
        "".join(json.dumps({"question": f"Who is {p}?", "text": f"A person, {p}."}) + "\n" for p in range(8)),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "glove.txt"
    names = [f"word{chr(97 + at)}" for at in range(20)]
    path.write_text("".join(f"{name} {at + 1}.0 {at * at}.0 1.0\n" for at, name in enumerate(names)), encoding="utf-8")
    return path


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_prepare(tmp_path, source, literals, capsys):
    out = tmp_path / "out"
    config = PrepareConfig(sources=(source,), out=out, nouns="heuristic", literals=literals, tasks=("3T1",), json=True)
    run_prepare(config)
    said = last_json(capsys)
    made = list(read_instructions(out / "instructions.jsonl"))
    assert said["instructions"] == len(made) == sum(said["kinds"].values())
    assert all(count > 0 for count in said["kinds"].values())
    about = json.loads((out / "prepare.json").read_text(encoding="utf-8"))
    assert about["config"]["literals"] == str(literals)
    assert (about["sha256"], about["templates"]) == (said["sha256"], said["templates"])
    first = (out / "instructions.jsonl").read_bytes()
    run_prepare(config)
    assert (out / "instructions.jsonl").read_bytes() == first


def test_prepare_reports_what_it_lacks_and_a_dry_run_writes_nothing(tmp_path, source, capsys):
    run_prepare(PrepareConfig(sources=(source,), out=tmp_path / "out", nouns="heuristic", dry_run=True, json=True))
    said = last_json(capsys)
    assert said["kinds"].get("select", 0) == 0
    assert any("no plain answer" in reason for reason in said["skipped"])
    assert not (tmp_path / "out").exists()


def test_prepare_lets_a_model_write_what_no_file_gives_once(tmp_path, source, literals, capsys, monkeypatch):
    calls = []

    def answer(request, at):
        calls.append(request.id)
        return f"Plainly {len(calls)}."

    monkeypatch.setattr("clot._command_prepare.open_backend", lambda *_, **__: EchoBackend(answer=answer))
    config = PrepareConfig(
        sources=(source,), out=tmp_path / "out", nouns="heuristic", literals=literals, model="m", json=True
    )
    run_prepare(config)
    assert len(calls) == len(ROWS)  # a rewriting of each answer; the plain ones are in the file
    assert len(read_texts(tmp_path / "out" / "rewrites.jsonl", of="rewrite")) == len(ROWS)
    assert last_json(capsys)["kinds"]["select"] > 0
    run_prepare(config)
    assert len(calls) == len(ROWS)


def test_nouns(tmp_path, source, capsys):
    words = tmp_path / "exclude.txt"
    words.write_text("Cactus\n\n", encoding="utf-8")
    run_nouns(NounsConfig(sources=(source,), out=tmp_path / "nouns.json", method="heuristic", exclude=words, json=True))
    assert last_json(capsys)["nouns"] == {"en": 1}
    assert NounSet.load(tmp_path / "nouns.json").words("en") == ("lawyer",)
    run_nouns(NounsConfig(sources=(source,), out=tmp_path / "no.json", method="heuristic", dry_run=True))
    assert not (tmp_path / "no.json").exists()


def test_evaluate_and_report(tmp_path, source, literals, glove, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "echo"
    config = EvaluateConfig(
        model="echo", sources=(source,), out=out, tasks=("2T1", "3T1", "4T1", "rank"), literals=literals
    )
    run_evaluate(config)
    said = capsys.readouterr().out
    assert "4T1: 8 prompts without question: no rewritten answer" in said
    assert re.search(r"3T1 +8 +accuracy", said)
    run_evaluate(config)
    assert "nothing to do" in capsys.readouterr().out
    run_evaluate(EvaluateConfig(model="echo", sources=(source,), out=out, tasks=("rank",), json=True))
    assert set(last_json(capsys)["tasks"]) == {"rank"}
    run_evaluate(config)
    run_dat(DatConfig(embeddings=glove, model="echo", items=30, out=tmp_path / "dat"))
    run_report(ReportConfig(runs=(out, tmp_path / "dat"), out=tmp_path / "report"))
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert {one["claim"] for one in report["verdicts"]} >= {"echo, 3T1: accuracy above chance"}
    for name in report["figures"]:
        assert (tmp_path / "report" / name).stat().st_size > 2000
    assert {"accuracy.svg", "orders.png", "letters-echo.png", "distances-dat.svg"} <= set(report["figures"])
    assert report["metrics"]["dat"]["items"] == 30
    gain = next(one for one in report["verdicts"] if one["claim"].startswith("dat: chosen words"))
    about = report["metrics"]["dat"]
    assert gain["measured"] == pytest.approx(about["asd"] - about["random"])
    assert gain["interval"][0] <= gain["measured"] <= gain["interval"][1]


def test_evaluate_dry_counts_and_clouds(tmp_path, source, literals, capsys):
    clouds = tmp_path / "clouds"
    for name in ("cat", "human"):
        (clouds / name).mkdir(parents=True)
        (clouds / name / "1.png").write_bytes(b"\x89PNG")
    options = {"model": "echo", "literals": literals, "out": tmp_path / "out", "json": True}
    run_evaluate(EvaluateConfig(**options, sources=(source,), clouds=clouds, limit=5, dry_run=True))
    counts = last_json(capsys)
    assert {name: one["questions"] for name, one in counts.items()} == {
        "2T1": 5,
        "3T1": 5,
        "4T1": 0,
        "5T2": 0,
        "rank": 5,
        "cloud": 6,
    }
    run_evaluate(EvaluateConfig(**options, clouds=clouds))
    assert last_json(capsys)["cloud"]["chance"] == 0.25
    with pytest.raises(ValueError, match="nothing to ask about"):
        run_evaluate(EvaluateConfig(model="echo"))


def test_evaluate_a_server(tmp_path, source, capsys):
    pytest.importorskip("httpx")
    sys.path.insert(0, str(Path(__file__).parent))
    from fake_server import FakeServer, vllm

    with FakeServer(vllm(lambda word: -float(len(word)))) as server:
        run_evaluate(
            EvaluateConfig(
                model="m",
                server=server.url,
                sources=(source,),
                out=tmp_path / "out",
                tasks=("rank",),
                scorer="pmi",
                prompt_logprobs=True,
                price=(1.0, 0.0),
                limit=2,
                json=True,
            )
        )
    assert last_json(capsys)["tasks"]["rank"]["questions"] == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "requests.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 * 2 * (1 + 5)  # with and without the question: its length, and five answers
    assert all(row["cost"] > 0 for row in rows)


def test_reports_of_runs_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no run"):
        run_report(ReportConfig(runs=()))
    with pytest.raises(FileNotFoundError, match=r"no evaluation\.json, no dat\.json and no finished round"):
        run_report(ReportConfig(runs=(tmp_path,)))
    (tmp_path / "evaluation.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        run_report(ReportConfig(runs=(tmp_path,)))


def test_dat(tmp_path, glove, capsys):
    words = tuple(f"word{chr(97 + at)}" for at in range(8))
    run_dat(DatConfig(embeddings=glove, words=words, json=True))
    assert 0 < last_json(capsys)["score"] < 100
    run_dat(DatConfig(embeddings=glove, words=words[:3], json=True))
    assert last_json(capsys)["score"] is None
    options = {"model": "echo", "items": 4, "cache": tmp_path / "cache", "out": tmp_path / "dat", "json": True}
    run_dat(DatConfig(embeddings=glove, **options))
    said = last_json(capsys)
    assert said["worst"] <= said["asd"] <= said["best"]
    data = json.loads((tmp_path / "dat" / "dat.json").read_text(encoding="utf-8"))
    assert sum(data["chosen"]) / 4 == pytest.approx(said["asd"])
    assert len(data["offered"]) == 4
    for options in ({}, {"words": words, "model": "echo"}):
        with pytest.raises(ValueError, match="either --words"):
            run_dat(DatConfig(embeddings=glove, **options))


def test_export_for_the_harness(tmp_path, source, literals, capsys):
    yaml = pytest.importorskip("yaml")
    run_export(ExportConfig(sources=(source,), out=tmp_path / "x", literals=literals, name="mine", json=True))
    assert last_json(capsys)["written"] == 8
    task = yaml.safe_load((tmp_path / "x" / "mine.yaml").read_text(encoding="utf-8"))
    assert (task["task"], task["output_type"], task["test_split"]) == ("mine", "multiple_choice", "test")
    assert task["metadata"]["chance"] == pytest.approx(1 / 3, abs=1e-6)
    rows = [
        json.loads(line)
        for line in (tmp_path / "x" / task["dataset_kwargs"]["data_files"]["test"])
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    for row in rows:
        assert row["letters"] == ["A", "B", "C"]
        assert f"{'ABC'[row['label']]}. Ask the lawyer" in row["prompt"]
        assert (task["doc_to_text"], task["doc_to_choice"], task["doc_to_target"]) == (
            "{{prompt}}",
            "{{letters}}",
            "{{label}}",
        )


def test_the_harness_data_load_as_its_task_file_says(tmp_path, source, literals, capsys):
    datasets = pytest.importorskip("datasets")
    run_export(ExportConfig(sources=(source,), out=tmp_path / "x", literals=literals, name="mine"))
    rows = datasets.load_dataset(
        "json", data_files={"test": str(tmp_path / "x" / "mine.jsonl")}, cache_dir=str(tmp_path / "c")
    )
    assert len(rows["test"]) == 8


def test_exports_that_cannot_be(tmp_path):
    wrong = Distractors(ROWS, literals={group_key(one): f"plain {one.question}" for one in ROWS}, rewrites={})
    asked = list(choice_questions(ROWS, "3T1", wrong))
    with pytest.raises(ValueError, match="may hold only letters"):
        export_lm_eval(asked, tmp_path, name="../x")
    with pytest.raises(ValueError, match="no question can be exported"):
        export_lm_eval([], tmp_path)
    from dataclasses import replace

    from clot import Prompt

    several = [replace(asked[0], answer=(0, 1), n_right=2), replace(asked[1], prompt_head=Prompt("", b"x")), asked[2]]
    assert export_lm_eval(several, tmp_path) == {"written": 1, "picture": 1, "several": 1}


def test_the_bare_package_needs_no_host():
    """Everything here imports without torch, transformers, httpx and matplotlib."""
    code = """
import sys
for name in ("torch", "transformers", "accelerate", "peft", "httpx", "matplotlib", "sklearn", "scipy"):
    sys.modules[name] = None
for name in ("nltk", "jieba", "janome", "sail_core"):
    sys.modules[name] = None
import clot, clot._command_prepare, clot._command_evaluate, clot._command_report
from oogiri_go.runs import MissingExtra
for name in ("HFBackend", "train_ait"):
    try:
        getattr(clot, name)
    except MissingExtra as error:
        assert "sail-clot[" in str(error), error
    else:
        raise SystemExit(f"{name} came from nowhere")
"""
    paths = [path for path in sys.path if path and Path(path).is_dir()]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path[:0] = {paths!r}\n" + code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
