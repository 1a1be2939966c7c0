"""Devices and their dtypes."""

from __future__ import annotations

import pytest
import torch
from sail_core.runs import pick_device, pick_dtype


@pytest.mark.parametrize("cuda", [False, True])
def test_auto_takes_what_there_is(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert pick_device() == torch.device("cuda" if cuda else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_cuda_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA device here; use 'cpu' or 'auto'"):
        pick_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:0", None])
def test_other_names(name):
    with pytest.raises(ValueError, match="must be 'auto', 'cpu' or 'cuda'"):
        pick_device(name)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_dtypes(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert pick_dtype(torch.device("cuda")) is dtype
    assert pick_dtype(torch.device("cpu")) is torch.float32
