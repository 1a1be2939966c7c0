"""The DIA module: parameters, initialisation, dtypes and refusals."""

import doctest
import importlib

import pytest
import torch
from dia_attention import DIA
from dia_attention.functional import dia_cell
from torch import nn

MODULES = ("functional", "_dia", "_blocks", "_attach", "_cifar", "_save")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"dia_attention.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(("channels", "reduction"), [(64, 4), (10, 3), (8, 8), (5, 1)])
def test_parameter_count(channels, reduction):
    reduced = channels // reduction
    expected = 10 * channels * reduced + 2 * reduced + 8 * channels
    assert sum(p.numel() for p in DIA(channels, reduction=reduction).parameters()) == expected


def test_forward_is_the_functional_cell():
    cell = DIA(12, reduction=3)
    p, h, c = torch.randn(3, 5, 12)
    a, new_h, new_c = cell(p, h, c)
    expected = dia_cell(p, h, c, **dict(cell.named_parameters()))
    assert torch.equal(a, new_h)
    torch.testing.assert_close((new_h, new_c), expected, rtol=0, atol=0)


def test_paper_init_is_that_of_nn_linear():
    cell, linear = DIA(512, reduction=4), nn.Linear(512, 128)
    for ours, torchs in ((cell.w_ih1, linear.weight), (cell.b_hh1, linear.bias)):
        bound = 512**-0.5
        assert ours.abs().max() <= bound
        assert torchs.abs().max() <= bound
        assert ours.std().item() == pytest.approx(torchs.std().item(), rel=0.15)
    assert cell.w_hh2.abs().max().item() == pytest.approx(128**-0.5, rel=1e-3)


def test_identity_init_gives_gate_one_and_state_one_quarter():
    cell = DIA(16, init="identity")
    state = cell.initial_state(torch.randn(3, 16))
    for _ in range(4):
        a, *state = cell(10 * torch.randn(3, 16), *state)
        assert torch.equal(a, torch.ones(3, 16))
        assert torch.equal(state[0], torch.full((3, 16), 0.25))
    a.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in (cell.w_ih2, cell.b_ih2, cell.w_hh2, cell.b_hh2))


def test_identity_init_passes_the_unscaled_state_on_after_training_has_begun():
    cell, plain = DIA(6, reduction=2, init="identity"), DIA(6, reduction=2)
    cell.load_state_dict({**plain.state_dict(), "gate_scale": cell.gate_scale})
    p1, p2 = torch.randn(2, 3, 6)
    a, *state = cell(p1, *cell.initial_state(p1))
    b, *other = plain(p1, *plain.initial_state(p1))
    torch.testing.assert_close(a, 4 * b)
    torch.testing.assert_close(cell(p2, *state)[0], 4 * plain(p2, *other)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_of_another_dtype(dtype):
    cell = DIA(8, dtype=dtype)
    p = torch.randn(2, 8, dtype=dtype)
    outputs = cell(p, *cell.initial_state(p))
    assert {tensor.dtype for tensor in outputs} == {dtype}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_the_dtype_of_the_weights(dtype):
    cell = DIA(32)
    p = torch.randn(4, 32).to(dtype)
    expected = cell(p.float(), *cell.initial_state(p))
    with torch.autocast("cpu", dtype=dtype):
        a, h, c = cell(p, *cell.initial_state(p))
    assert (a.dtype, h.dtype, c.dtype) == (dtype, torch.float32, torch.float32)
    torch.testing.assert_close((h, c), expected[1:], rtol=0, atol=0)


def test_meta_device_then_reset():
    cell = DIA(8, init="identity", device="meta")
    assert {tensor.device.type for tensor in cell(*torch.empty(3, 2, 8, device="meta"))} == {"meta"}
    cell = cell.to_empty(device="cpu")
    cell.reset_parameters()
    assert torch.equal(cell.gate_scale, torch.full((8,), 4.0))
    assert cell.w_ih1.std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 8, "reduction": 9}, r"reduction=9 must lie in 1\.\.8"),
        ({"channels": 8, "reduction": 0}, r"reduction=0 must lie in 1\.\.8"),
        ({"channels": 8, "init": "zero"}, "init='zero' must be 'paper' or 'identity'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        DIA(**arguments)


@pytest.mark.parametrize("shape", [(2, 7), (8,), (2, 8, 1, 1)])
def test_pooled_features_of_a_wrong_shape(shape):
    zeros = torch.zeros(2, 8)
    with pytest.raises(ValueError, match=r"expected pooled features \(B, 8\)"):
        DIA(8)(torch.zeros(shape), zeros, zeros)
