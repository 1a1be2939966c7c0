"""The command: every subcommand once, exit codes, and JSON."""

import json
import sys

import pytest
from oogiri_go import OogiriDataset, read_jsonl
from oogiri_go._synthetic import write_layout
from oogiri_go.cli import main


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_layout(folder, records=240, pictures=30, bad=6, seed=3)
    return folder


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "oogiri"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oogiri-go", "build", "--sources", str(raw), "--out", str(out)])
        assert main() == 0
    return out


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["oogiri-go", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        return code, *capsys.readouterr()

    return run


def test_verify(run, raw, built):
    code, out, err = run("verify", "--root", raw, "--show", 3)
    assert (code, err) == (1, "")
    assert out.count("\n") > 10
    assert "issues of kind image-truncated" in out
    code, out, _ = run("verify", "--root", raw, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["issues"] == sum(found["codes"].values()) == len(found["found"])
    code, out, _ = run("verify", "--root", built, "--json")
    assert (code, json.loads(out)["issues"]) == (0, 0)


def test_build_again(run, raw, built):
    code, out, err = run("build", "--sources", raw, "--out", built, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["train"] == len(OogiriDataset(built))
    code, out, err = run("build", "--sources", raw, "--out", built, "--seed", 1)
    assert (code, out) == (2, "")
    assert err.startswith("oogiri-go: ")
    assert "holds something else" in err
    code, _, err = run("build", "--sources", raw, "--out", built.parent / "strict", "--strict")
    assert code == 2
    assert "en.jsonl" in err


def test_dedup(run, raw, tmp_path):
    out = tmp_path / "kept.jsonl"
    arguments = (
        "--sources",
        raw / "en.jsonl",
        raw / "cn.jsonl",
        "--out",
        out,
        "--near",
        0.8,
        "--images",
        raw / "images.zip",
    )
    code, said, _ = run("dedup", *arguments, "--json")
    counts = json.loads(said)
    left = [json.loads(line) for line in (tmp_path / "kept.duplicates.jsonl").read_text("utf-8").splitlines()]
    assert code == 0
    assert len(list(read_jsonl(out))) == counts["kept"]
    assert len(left) == counts["exact"] + counts["near"] > 5
    assert counts["kept"] + len(left) + counts["issues"] == 160


def test_split(run, raw, tmp_path):
    code, said, _ = run("split", "--sources", raw, "--out", tmp_path, "--ratios", 0.6, 0.2, 0.2, "--json")
    counts = json.loads(said)
    assert code == 0
    for name in ("train", "validation", "test"):
        assert len(list(read_jsonl(tmp_path / f"{name}.jsonl"))) == counts[name] > 0


def test_stats(run, raw, built, tmp_path):
    pytest.importorskip("matplotlib")
    code, out, _ = run("stats", "--sources", raw, "--plots", tmp_path)
    assert code == 0
    assert "ja T2T" in out
    assert {path.name for path in tmp_path.iterdir()} == {"records.svg", "records.png", "stars.svg", "stars.png"}
    code, out, _ = run("stats", "--sources", built, "--json")
    assert json.loads(out)["records"] == sum(
        len(OogiriDataset(built, split=name)) for name in ("train", "validation", "test")
    )


def test_filter(run, tmp_path):
    source, words = tmp_path / "en.jsonl", tmp_path / "words.txt"
    texts = ["fine", "mail ann@example.org", "such a damn cat", "猫"]
    source.write_text("\n".join(json.dumps({"type": "T2T", "question": "Why?", "text": text}) for text in texts))
    words.write_text("\ufeffen\tdamn\nzh\t猫\n\n")
    code, out, _ = run("filter", "--sources", source, "--out", tmp_path / "kept.jsonl", "--block", words, "--json")
    assert (code, json.loads(out)) == (0, {"kept": 2, "left out": 2, "issues": 0})
    findings = [json.loads(line) for line in (tmp_path / "kept.findings.jsonl").read_text().splitlines()]
    assert [one["findings"][0]["filter"] for one in findings] == ["personal-data", "block-list"]
    code, _, err = run("filter", "--sources", source, "--out", tmp_path / "k.jsonl", "--no-personal-data")
    assert code == 2
    assert "there is no filter" in err


@pytest.mark.parametrize("form", ["webdataset", "messages", "dpo", "choice", "jsonl"])
def test_export(run, built, tmp_path, form):
    code, out, _ = run("export", "--root", built, "--to", form, "--out", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["train"] > 0
    assert list(tmp_path.iterdir())


def test_card_and_review(run, built, raw, tmp_path):
    code, out, _ = run("card", "--root", built)
    assert (code, out) == (0, (built / "README.md").read_text("utf-8"))
    assert run("card", "--root", built, "--out", tmp_path / "card.md")[0] == 0
    assert (tmp_path / "card.md").read_text("utf-8") == out
    assert run("review", "--root", raw, "--out", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").stat().st_size > 20_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",), ("verify", "--root", "no/such"), ("build", "--sources", "no/such", "--out", "x"), ("open",),
        ("export", "--root", "no", "--to", "csv", "--out", "x"), ("card", "--root", "no/such"),
        ("review", "--root", "no/such"), ("stats", "--sources"), ("split", "--sources", "no", "--out", "x"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_code_2(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in ("verify", "build", "dedup", "split", "stats", "filter", "export", "card", "review", "demo"):
        assert name in out
        assert run(name, "--help")[0] == 0
