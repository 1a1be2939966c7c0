import doctest

import numpy as np
import pytest
import torch
from sail_core.ops import _dispatch, _reference, pool, recalibrate, scale
from sail_core.testing import assert_rel
from torch import nn

SHAPES = [(2, 3, 1), (2, 3, 7), (1, 4, 3, 1), (3, 2, 7, 9), (2, 3, 2, 3, 5), (0, 3, 4, 4)]


class Twice(nn.Module):
    def forward(self, m):
        return 2 * m


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, m):
        return self.value


@pytest.mark.parametrize("module", [_reference, _dispatch], ids=lambda m: m.__name__)
def test_doctests(module):
    names = {**vars(_reference), **vars(_dispatch)}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted >= 2
    assert result.failed == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pool_is_the_mean_over_positions(shape):
    x = torch.randn(shape)
    expected = x.double().numpy().mean(tuple(range(2, len(shape))))
    assert pool(x).dtype == x.dtype
    assert_rel("pool", expected, pool(x), 1e-6)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 7), (2, 3, 4, 5)], ids=str)
def test_pool_of_the_last_axis(shape):
    x = torch.randn(shape)
    assert_rel("pool", x.double().numpy().mean(-1), pool(x, dim="last"), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_pool_accumulates_in_float32(dtype):
    x = torch.full((1, 1, 4096), 60.0, dtype=dtype)  # the sum, 245760, is beyond float16
    assert pool(x).item() == 60.0


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scale_is_the_formula(shape, with_residual, activation):
    x, gate = torch.randn(shape), torch.randn(shape[:2])
    residual = torch.randn(shape) if with_residual else None
    expected = x.double().numpy() * gate.double().numpy().reshape(*shape[:2], *[1] * (len(shape) - 2))
    if residual is not None:
        expected = expected + residual.double().numpy()
    if activation:
        expected = np.maximum(expected, 0)
    assert_rel("scale", expected, scale(x, gate, residual=residual, activation=activation), 1e-6)


def test_scale_takes_a_gate_per_token():
    x, gate = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    assert_rel("scale", x.double() * gate.double()[..., None], scale(x, gate), 1e-6)


def test_recalibrate_without_gradients_is_the_formula():
    x = torch.randn(2, 3, 4, 5)
    expected = x.double() * 2 * x.double().mean((2, 3), keepdim=True)
    assert_rel("y", expected, recalibrate(x, Twice()), 1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: pool(x[0, 0]), ValueError, r"x has shape \(4, 4\)"),
        (lambda x: pool(x[0, 0, 0], dim="last"), ValueError, "needs at least"),
        (lambda x: pool(x, dim="width"), ValueError, "dim is 'width'"),
        (lambda x: pool(x.int()), TypeError, "torch.int32"),
        (lambda x: pool(x.numpy()), TypeError, "a ndarray"),
        (lambda x: scale(x.bool(), x), TypeError, "torch.bool"),
        (lambda x: scale(x, torch.ones(2, 2)), ValueError, r"gate has shape \(2, 2\)"),
        (lambda x: scale(x, torch.tensor(1.0)), ValueError, r"gate has shape \(\)"),
        (lambda x: scale(x, torch.ones(2, 3), residual=x[:1]), ValueError, r"residual has shape \(1, 3, 4, 4\)"),
        (lambda x: scale(x, torch.ones(2, 3), activation="gelu"), ValueError, "activation is 'gelu'"),
        (lambda x: recalibrate(x[0, 0], Twice()), ValueError, r"expected \(B, C, \*K\)"),
        (lambda x: recalibrate(x.long(), Twice()), TypeError, "torch.int64"),
        (lambda x: recalibrate(x, torch.sigmoid), TypeError, "expected a module"),
        (lambda x: recalibrate(x, Twice(), state=(1.0,)), TypeError, "state holds"),
        (lambda x: recalibrate(x, Twice(), residual=x[..., :1]), ValueError, "residual has shape"),
        (lambda x: recalibrate(x, Twice(), activation="tanh"), ValueError, "activation is 'tanh'"),
        (lambda x: recalibrate(x, Returns(x)), ValueError, r"factors of shape \(2, 3, 4, 4\)"),
        (lambda x: recalibrate(x, Returns(None)), TypeError, "a NoneType"),
        (lambda x: recalibrate(x, Returns(())), TypeError, "a tuple of"),
        (lambda x: recalibrate(x, Returns((torch.ones(2, 3), None))), TypeError, r"\(Tensor, NoneType\)"),
    ],
)
def test_bad_arguments_say_what_came(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.randn(2, 3, 4, 4))
