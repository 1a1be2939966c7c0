import json
import sys

import pytest
import torch
from dia_attention import _digits, cifar_resnet, cli
from safetensors.torch import load_file


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dia-attention", *map(str, arguments)])
    return cli.main()


def test_help_names_the_commands(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("demo", "train", "evaluate", "fold", "bench", "list"))


def test_list(monkeypatch, capsys):
    assert run(monkeypatch, "list") == 0
    assert "dia" in capsys.readouterr().out.split()


def test_train_again_reads_the_finished_run_and_another_config_is_refused(monkeypatch, capsys, tmp_path):
    pytest.importorskip("sklearn", reason="training on the digits needs the extra demo")
    command = ["train", "--depth", 11, "--per-class", 1, "--epochs", 1, "--out", tmp_path / "run", "--device", "cpu"]
    assert run(monkeypatch, *command) == 0
    first = capsys.readouterr().out
    assert run(monkeypatch, *command) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("1 steps, validation accuracy 0.")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (saved["depth"], saved["attention"], saved["per_class"]) == (11, "dia", 1)
    assert run(monkeypatch, *command, "--attention", "None") == 2
    assert "attention" in capsys.readouterr().err


def test_a_run_is_evaluated_and_folded(monkeypatch, capsys, tmp_path):
    pytest.importorskip("sklearn", reason="training on the digits needs the extra demo")
    out = tmp_path / "run"
    command = ["train", "--depth", 11, "--per-class", 2, "--epochs", 2, "--attention", "asr", "--keep-best"]
    assert run(monkeypatch, *command, "--out", out, "--device", "cpu") == 0
    trained = capsys.readouterr().out
    said = []
    for options in ([], ["--folded"], ["--weights", "best"]):
        assert run(monkeypatch, "evaluate", "--run", out, *options) == 0
        said.append(capsys.readouterr().out)
    last, folded, best = (line.split()[2] for line in said)
    assert f"validation accuracy {last} (best epoch {best})" in trained
    assert folded == last
    assert run(monkeypatch, "evaluate", "--run", out, "--split", "test") == 0
    assert "on 500 images of digits" in capsys.readouterr().out
    assert run(monkeypatch, "fold", "--run", out, "--out", tmp_path / "plain.safetensors") == 0
    capsys.readouterr()
    tensors = load_file(tmp_path / "plain.safetensors")
    assert tensors.keys() == cifar_resnet(11, in_channels=1).state_dict().keys()


def test_bench_appends_rows_and_fails_on_a_wrong_result(monkeypatch, capsys, tmp_path):
    command = ["bench", "--attention", "dia", "asr", "--depth", 11, "--batch-size", 4, "--size", 8, "--seconds", 0.01]
    assert run(monkeypatch, *command, "--out", tmp_path / "rows.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["op"] for row in rows][:3] == ["resnet11+dia", "resnet11+asr", "resnet11"]
    assert [row["impl"] for row in rows][:3] == ["dia_attention", "dia_attention", "plain"]
    assert "dia" not in rows[1]["peer_ratio"]
    assert rows[1]["peer_ratio"]["plain"] == pytest.approx(rows[2]["median_us"] / rows[1]["median_us"])
    assert all(row["correct"] and row["device"] == "cpu" for row in rows)
    assert "over plain" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", lambda logits, labels: (logits * torch.rand(())).sum())
        assert run(monkeypatch, *command) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--depth", 12], "9n + 2"),
        (["train", "--attention", "dai"], "did you mean 'dia'"),
        (["train", "--per-class", 1000], "1 to 94"),
        (["train", "--epochs", 0], "epochs is 0"),
        (["demo", "--protocol", "absent.json"], "absent.json"),
        (["demo", "--device", "tpu"], "tpu"),
        (["train", "--data", "cifar"], "torchvision:NAME"),
        (["train", "--data", "folder"], "--root"),
        (["train", "--size", 16], "8 x 8"),
        (["fold", "--run", "absent"], "there is no run in absent"),
    ],
)
def test_bad_input_is_exit_2_with_one_line(monkeypatch, capsys, tmp_path, arguments, said):
    pytest.importorskip("sklearn", reason="training on the digits needs the extra demo")
    out = tmp_path / "run"
    assert run(monkeypatch, *arguments, "--out", out) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0


@pytest.mark.parametrize("missing", ["matplotlib", "sklearn", "PIL"])
def test_demo_without_its_extra_is_exit_2_and_names_it(monkeypatch, capsys, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(monkeypatch, "demo", "--out", tmp_path) == 2
    assert "pip install 'dia-attention[demo]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_train_without_scikit_learn_is_exit_2_and_names_the_extra(monkeypatch, capsys, tmp_path):
    _digits._load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert run(monkeypatch, "train", "--out", tmp_path / "run") == 2
    assert "dia-attention[demo]" in capsys.readouterr().err
