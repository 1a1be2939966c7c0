"""dia_cell against scalar loops in Python's own arithmetic, and its gradient against finite differences."""

import math

import pytest
import torch
from dia_attention.functional import dia_cell

NAMES = ("w_ih1", "b_ih1", "w_ih2", "b_ih2", "w_hh1", "b_hh1", "w_hh2", "b_hh2")


def weights(channels, reduced, dtype=torch.float64):
    shapes = [(reduced, channels), (reduced,), (4 * channels, reduced), (4 * channels,)] * 2
    return {name: torch.randn(shape, dtype=dtype) for name, shape in zip(NAMES, shapes, strict=True)}


def by_loops(p, h, c, w):
    """One sample's cell with Python floats only; p, h, c are lists of length C, w holds nested lists."""
    channels, reduced = len(p), len(w["b_ih1"])

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    def hidden(x, first):
        weight, bias = w[f"w_{first}1"], w[f"b_{first}1"]
        return [max(0.0, sum(weight[r][k] * x[k] for k in range(channels)) + bias[r]) for r in range(reduced)]

    from_p, from_h = hidden(p, "ih"), hidden(h, "hh")
    logits = [
        sum(w["w_ih2"][n][r] * from_p[r] + w["w_hh2"][n][r] * from_h[r] for r in range(reduced))
        + w["b_ih2"][n]
        + w["b_hh2"][n]
        for n in range(4 * channels)
    ]
    new_h, new_c = [], []
    for k in range(channels):
        i, f, g, o = (logits[part * channels + k] for part in range(4))
        cell = sigmoid(f) * c[k] + sigmoid(i) * math.tanh(g)
        new_c.append(cell)
        new_h.append(sigmoid(o) * sigmoid(cell))
    return new_h, new_c


@pytest.mark.parametrize(("batch", "channels", "reduced"), [(1, 1, 1), (3, 5, 2), (2, 4, 4)])
def test_equals_scalar_loops(batch, channels, reduced):
    w = weights(channels, reduced)
    p, h, c = torch.randn(3, batch, channels, dtype=torch.float64)
    new_h, new_c = dia_cell(p, h, c, **w)
    lists = {name: value.tolist() for name, value in w.items()}
    for sample in range(batch):
        expected_h, expected_c = by_loops(p[sample].tolist(), h[sample].tolist(), c[sample].tolist(), lists)
        assert new_h[sample].tolist() == pytest.approx(expected_h, rel=1e-12)
        assert new_c[sample].tolist() == pytest.approx(expected_c, rel=1e-12)


def test_gradcheck_of_two_chained_steps():
    w = [value.requires_grad_() for value in weights(3, 2).values()]
    states = [tensor.requires_grad_() for tensor in torch.randn(4, 2, 3, dtype=torch.float64).unbind()]

    def two_steps(p1, p2, h, c, *w):
        w = dict(zip(NAMES, w, strict=True))
        return dia_cell(p2, *dia_cell(p1, h, c, **w), **w)

    assert torch.autograd.gradcheck(two_steps, (*states, *w))
    assert torch.autograd.gradgradcheck(two_steps, (*states, *w))


def test_the_attention_stays_between_zero_and_one():
    w = {name: 50 * value for name, value in weights(4, 2).items()}
    h, _ = dia_cell(*torch.randn(3, 64, 4, dtype=torch.float64), **w)
    assert h.min() >= 0
    assert h.max() <= 1


def test_an_empty_batch_passes():
    h, c = dia_cell(*torch.zeros(3, 0, 4, dtype=torch.float64), **weights(4, 2))
    assert h.shape == c.shape == (0, 4)
