"""Seeds, generator states and a resume that is exact to the bit."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from sail_core.runs import latest, load_state, rng_state, save_state, seed_everything, set_rng_state


def draw():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.standard_normal(3).tolist(),  # noqa: NPY002
        torch.rand(3).tolist(),
        torch.randperm(9).tolist(),
    )


def test_the_seed_reaches_every_generator():
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed):
    with pytest.raises(ValueError, match="less than 2"):
        seed_everything(seed)


@pytest.mark.parametrize("seed", [None, 1.0, "1", True])
def test_seeds_of_another_type(seed):
    with pytest.raises(TypeError, match="must be an int"):
        seed_everything(seed)


def test_deterministic_asks_torch_and_cublas(monkeypatch):
    asked = []  # the real call imports torch's compiler, which takes seconds
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "unset below, so that the end of the test unsets it again")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seed_everything(1)
    assert asked == []
    assert torch.backends.cudnn.benchmark
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    seed_everything(1, deterministic=True)
    assert asked == [True]
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    seed_everything(1, deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("half_drawn", [False, True])
def test_states_go_through_a_checkpoint(tmp_path, half_drawn):
    draw()
    if half_drawn:  # both generators keep the second of a pair of normal numbers
        random.gauss(0, 1)
        np.random.standard_normal()  # noqa: NPY002
    path = save_state(tmp_path, rng_state(), step=1)
    first = draw()
    draw()
    set_rng_state(load_state(path))
    assert draw() == first


@pytest.mark.parametrize("state", [{}, None, {"python": 1, "numpy": 2, "torch": 3, "cuda": []}])
def test_another_mapping_is_refused_and_touches_nothing(state):
    before = rng_state()
    with pytest.raises(ValueError, match="not a state made by rng_state"):
        set_rng_state(state)
    first = draw()
    set_rng_state(before)
    assert draw() == first


@pytest.mark.gpu
def test_cuda_states(tmp_path):
    torch.rand(1, device="cuda")
    path = save_state(tmp_path, rng_state(), step=1)
    first = torch.rand(5, device="cuda")
    set_rng_state(load_state(path))
    assert torch.equal(torch.rand(5, device="cuda"), first)


def train(directory, *, until, interrupt=None):
    """Train a small net with every kind of state, resuming what the directory holds."""
    seed_everything(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
        ],
        milestones=[4],
    )
    step = 0
    if found := latest(directory):
        state = load_state(found)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        set_rng_state(state["rng"])
        step = state["step"]
    while step < until:
        scale = random.random() + np.random.random()  # noqa: NPY002
        loss = (net(torch.randn(8, 6)) * scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        step += 1
        if step % 3 == 0:
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "rng": rng_state(),
                "step": step,
            }
            save_state(directory, state, step=step)
        if step == interrupt:
            return None
    return net.state_dict()


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR's own, in torch 2.7
def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole", until=12)
    for interrupt in (2, 7, 10):
        assert train(tmp_path / "parts", until=12, interrupt=interrupt) is None
    parts = train(tmp_path / "parts", until=12)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    other = train(tmp_path / "other", until=11)
    assert not torch.equal(whole["0.weight"], other["0.weight"])
