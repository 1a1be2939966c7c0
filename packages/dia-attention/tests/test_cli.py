import json
import sys

import pytest
from dia_attention import _data, cli


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dia-attention", *map(str, arguments)])
    return cli.main()


def test_help_names_the_commands(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("demo", "train", "list"))


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--depth", 12], "9n + 2"),
        (["train", "--attention", "dai"], "did you mean 'dia'"),
        (["train", "--per-class", 1000], "1 to 94"),
        (["train", "--epochs", 0], "epochs is 0"),
        (["demo", "--protocol", "absent.json"], "absent.json"),
        (["demo", "--device", "tpu"], "tpu"),
    ],
)
def test_bad_input_is_exit_2_with_one_line(monkeypatch, capsys, tmp_path, arguments, said):
    pytest.importorskip("sklearn", reason="training on the digits needs the extra demo")
    out = tmp_path / "run"
    assert run(monkeypatch, *arguments, "--out", out) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0


@pytest.mark.parametrize("missing", ["matplotlib", "sklearn"])
def test_demo_without_its_extra_is_exit_2_and_names_it(monkeypatch, capsys, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(monkeypatch, "demo", "--out", tmp_path) == 2
    assert "pip install 'dia-attention[demo]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_train_without_scikit_learn_is_exit_2_and_names_the_extra(monkeypatch, capsys, tmp_path):
    _data._load.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert run(monkeypatch, "train", "--out", tmp_path / "run") == 2
    assert "dia-attention[demo]" in capsys.readouterr().err
