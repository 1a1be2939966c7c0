"""A run directory remembers its configuration and keeps every row of its metrics."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from sail_core.runs import Run


class Norm(Enum):
    BATCH = 1
    NONE = 2


@dataclass(frozen=True)
class Optimizer:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Config:
    out: Path = Path("runs/a")
    norm: Norm = Norm.BATCH
    optimizer: Optimizer = field(default_factory=Optimizer)
    clip: float = math.inf
    tags: dict[str, int] = field(default_factory=dict)


def strict(line):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def rows(run):
    return [strict(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def test_files(tmp_path):
    run = Run(tmp_path / "a" / "b", config=Config())
    stored = strict((run.directory / "config.json").read_text())
    assert stored == {
        "class": "Config",
        "config": {
            "out": str(Path("runs/a")),
            "norm": "BATCH",
            "optimizer": {"lr": 0.1, "betas": [0.9, 0.999]},
            "clip": "Infinity",
            "tags": {},
        },
    }
    assert strict((run.directory / "env.json").read_text())["torch"] == torch.__version__


def test_the_same_configuration_continues(tmp_path):
    Run(tmp_path, config=Config()).log(1, loss=1)
    run = Run(tmp_path, config=Config())
    run.log(2, loss=2)
    Run(tmp_path).log(3, loss=3)
    assert [row["step"] for row in rows(run)] == [1, 2, 3]


def test_another_configuration_names_its_fields(tmp_path):
    Run(tmp_path, config=Config())
    other = replace(Config(), norm=Norm.NONE, optimizer=Optimizer(lr=0.2), tags={"a": 1})
    with pytest.raises(ValueError) as caught:
        Run(tmp_path, config=other)
    message = str(caught.value)
    assert "norm ('BATCH' there, 'NONE' now)" in message
    assert "optimizer.lr (0.1 there, 0.2 now)" in message
    assert "tags.a ('absent' there, 1 now)" in message
    assert "betas" not in message
    assert "use another directory" in message


def test_another_class_or_a_damaged_file(tmp_path):
    @dataclass(frozen=True)
    class Other:
        a: int = 1

    Run(tmp_path, config={"a": 1})
    with pytest.raises(ValueError, match=r"class \(None there, 'Other' now\)"):
        Run(tmp_path, config=Other())
    for damage in ("{", "[]", '{"class": null}', '{"class": null, "config": 3}'):
        (tmp_path / "config.json").write_text(damage)
        with pytest.raises(ValueError, match=r"config\.json cannot be read"):
            Run(tmp_path, config={"a": 1})


@pytest.mark.parametrize("config", [Config, 3, [1], {"a": object()}, {"a": {1, 2}}])
def test_configurations_that_json_cannot_hold(tmp_path, config):
    with pytest.raises(TypeError):
        Run(tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_rows_are_strict_json_and_lose_nothing(tmp_path):
    run = Run(tmp_path)
    values = {
        "nan": math.nan,
        "inf": math.inf,
        "minus": -math.inf,
        "half": torch.tensor(0.5),
        "tensor_nan": torch.tensor(math.nan),
        "numpy": np.float32(0.1),
        "count": np.int64(3),
        "flag": True,
        "none": None,
        "text": "zeile\nzwei",
        "third": 1 / 3,
    }
    run.log(np.int64(4), **values)
    (row,) = rows(run)
    assert math.isnan(float(row["nan"]))
    assert math.isnan(float(row["tensor_nan"]))
    assert float(row["inf"]) == math.inf
    assert float(row["minus"]) == -math.inf
    assert row["numpy"] == np.float32(0.1).item()
    assert row["third"] == 1 / 3
    assert (row["step"], row["half"], row["count"], row["flag"], row["none"]) == (4, 0.5, 3, True, None)
    assert row["text"] == "zeile\nzwei"
    assert next(iter(row)) == "step"


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), b"x", 1j, np.zeros(2), torch.zeros(2)], ids=str)
def test_metrics_that_are_no_scalars(tmp_path, value):
    run = Run(tmp_path)
    with pytest.raises(TypeError, match="loss is of type"):
        run.log(1, loss=value)
    with pytest.raises(TypeError, match="step is"):
        run.log(1.5, loss=1)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_row_can_be_read_as_soon_as_it_is_logged(tmp_path):
    run = Run(tmp_path)
    for step in range(3):
        run.log(step, loss=step)
        assert len(rows(run)) == step + 1


def test_rewind_drops_later_rows_and_a_torn_line(tmp_path):
    run = Run(tmp_path)
    for step in range(1, 6):
        run.log(step, loss=step)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo')
    run = Run(tmp_path)
    run.rewind(3)
    run.log(4, loss=40)
    assert [(row["step"], row["loss"]) for row in rows(run)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


@pytest.mark.parametrize("torn", [b"", b'{"step": 1}\n', b'{"step": 1}\n{"st', b'{"st'])
def test_a_row_is_never_glued_to_a_torn_line(tmp_path, torn):
    (tmp_path / "metrics.jsonl").write_bytes(torn)
    run = Run(tmp_path)
    run.log(2)
    assert [row["step"] for row in rows(run)] == [1] * torn.count(b"\n") + [2]


def test_rewind_without_metrics(tmp_path):
    run = Run(tmp_path)
    run.rewind(3)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("line", ["not json", '{"loss": 1}', "3", '{"step": "x"}'])
def test_rewind_refuses_a_foreign_line_and_drops_nothing(tmp_path, line):
    content = f'{{"step": 1}}\n{line}\n{{"step": 9}}\n'
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ValueError, match="line 2 of"):
        Run(tmp_path).rewind(1)
    assert (tmp_path / "metrics.jsonl").read_text() == content


def test_rewind_is_atomic(tmp_path, monkeypatch):
    run = Run(tmp_path)
    for step in range(5):
        run.log(step)
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def fail(*args):
        raise OSError("full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        run.rewind(1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
