import json
import sys

import pytest
from safetensors.torch import load_file
from scalelong import cli
from scalelong.demo import DemoConfig, demo

TINY = ["--depth", "4", "--embed-dim", "16", "--num-heads", "2", "--steps", "3", "--batch-size", "8", "--device", "cpu"]


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scalelong", *map(str, arguments)])
    code = cli.main()
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["scalelong", "train", *TINY, "--out", str(out)])
        assert cli.main() == 0
    return out


def test_train_and_what_follows(trained, capsys, monkeypatch, tmp_path):
    code, out, _ = run(
        capsys, monkeypatch, "sample", "--run", trained, "--out", tmp_path / "s.png", "--count", 9, "--steps", 2
    )
    assert (code, out.split()[0]) == (0, "9")
    assert load_file(tmp_path / "s.safetensors")["pixels"].shape == (9, 1, 8, 8)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, monkeypatch, "evaluate", "--run", trained, "--count", 16, "--steps", 2)
    assert code == 0
    assert json.loads(out)["frechet"] > json.loads(out)["floor"]
    code, out, _ = run(capsys, monkeypatch, "fold", "--run", trained, "--out", tmp_path / "f.safetensors")
    assert code == 0
    from scalelong.nn import UViT

    plain = UViT(8, 2, 1, embed_dim=16, depth=4, num_heads=2)
    plain.load_state_dict(load_file(tmp_path / "f.safetensors"))


def test_diagnose_prints_json(trained, capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "diagnose", "--run", trained, "--batch-size", 4)
    assert code == 0
    assert json.loads(out)


def test_bench_prints_rows(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "bench", "--size", 8, "--batch-size", 2, "--seconds", 0.05)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["impl"] for row in rows] == ["scalelong", "plain", "plain_copy"]
    assert all(row["correct"] for row in rows)


@pytest.mark.parametrize("name", ["cifar10", "celeba64", "imagenet64", "coco"])
def test_a_recipe_reads_its_folder(name, capsys, monkeypatch, tmp_path):
    """Every recipe's own settings, on a folder of its kind, with the network made small for the test."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    data = tmp_path / "data"
    for index in range(4):
        (data / f"class{index % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (70, 80), (60 * index, 0, 0)).save(data / f"class{index % 2}" / f"{index}.png")
    if name == "coco":
        names = [file.relative_to(data).as_posix() for file in data.rglob("*.png")]
        save_file({one: torch.randn(5, 6) for one in names}, data / "context.safetensors")
    seen = []
    real = cli.fit

    def small(settings, *args, **options):
        import dataclasses

        seen.append(settings)
        return real(dataclasses.replace(settings, embed_dim=16, depth=2, num_heads=2), *args, **options)

    monkeypatch.setattr(cli, "fit", small)
    arguments = ["recipe", "--name", name, "--data", data, "--steps", 1, "--batch-size", 2, "--out", tmp_path / "out"]
    code, out, err = run(capsys, monkeypatch, *arguments, "--device", "cpu")
    assert code == 0, err
    assert out.startswith("1 steps")
    assert (seen[0].scaling, seen[0].embed_dim >= 512, seen[0].class_conditional) == ("cs", True, name == "imagenet64")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--steps", "0"], "steps is 0"),
        (["train", "--kappa", "-1", "--depth", "4", "--device", "cpu"], "kappa is -1"),
        (["sample", "--run", "absent"], "not the directory of a training"),
        (["compare", "--protocol", "absent.json"], "absent.json"),
        (["train", "--data", "absent"], "absent"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(arguments, words, capsys, monkeypatch, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    code, _, err = run(capsys, monkeypatch, *arguments, *out)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_the_default_demo_writes_its_report(tmp_path, capsys, monkeypatch):
    from scalelong import demo as module

    protocol = json.loads((module.PROTOCOLS / "demo-default.json").read_text())
    protocol["training"] |= {"steps": 24, "depth": 4, "embed_dim": 16}
    (tmp_path / "demo-default.json").write_text(json.dumps(protocol))
    monkeypatch.setattr(module, "PROTOCOLS", tmp_path)
    demo(DemoConfig(out=tmp_path / "out", device="cpu", workers=1))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["package"], report["profile"], report["device"]) == ("scalelong", "default", "cpu")
    assert len(report["verdicts"]) == 4
    assert "CS 0.7 lowers the loss oscillation" in capsys.readouterr().out
