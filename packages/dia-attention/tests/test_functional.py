"""The functions against scalar loops in Python's own arithmetic, and their gradients against finite differences."""

import math

import pytest
import torch
from dia_attention.functional import asr_attention, dia_cell, lsas_gate, ras_gate, step_size

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


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("order", [0, 1, 5])
def test_lsas_equals_scalar_loops(order):
    logits, weights, biases = torch.randn(3, 4).double(), torch.randn(order, 4).double(), torch.randn(order, 4).double()
    got = lsas_gate(logits, weights.unbind(), biases.unbind())
    for sample in range(3):
        for channel in range(4):
            u = logits[sample, channel].item()
            product = sigmoid(u)
            for k in range(order):
                u = weights[k, channel].item() * u + biases[k, channel].item()
                product *= sigmoid(u)
            assert got[sample, channel].item() == pytest.approx(product, rel=1e-12)
    with pytest.raises(ValueError, match="2 weights and 0 biases"):
        lsas_gate(logits, [logits[0], logits[0]], [])


def test_ras_equals_scalar_loops():
    p, w, b = torch.randn(5, 3).double(), torch.randn(3).double(), torch.randn(3).double()
    gamma, beta, eps = [1.5, 0.3, -2.0], [0.1, -1.0, 0.7], 1e-5

    def norm(u):
        return torch.nn.functional.batch_norm(u, None, None, torch.tensor(gamma), torch.tensor(beta), True, eps=eps)

    got = ras_gate(p, w, b, lambda u: norm(u.float()).double())
    for channel in range(3):
        first = [w[channel].item() * x + b[channel].item() for x in p[:, channel].tolist()]
        mean = sum(first) / 5
        variance = sum((u - mean) ** 2 for u in first) / 5
        for sample, u in enumerate(first):
            n = (u - mean) / math.sqrt(variance + eps) * gamma[channel] + beta[channel]
            expected = sigmoid(w[channel].item() * n + b[channel].item())
            assert got[sample, channel].item() == pytest.approx(expected, rel=1e-5)


def test_asr_hands_one_row_to_the_attention():
    seen = []
    v = asr_attention(torch.tensor([0.1, 0.2]), lambda row: seen.append(row.shape) or 2 * row)
    assert seen == [(1, 2)]
    torch.testing.assert_close(v, torch.tensor([0.2, 0.4]))


@pytest.mark.parametrize("begun", [0.0, 1.0])
@pytest.mark.parametrize("inputs", ["p", "qp", "qpk"])
def test_step_size_equals_scalar_loops(begun, inputs):
    channels, hidden = 3, 2
    q, p, q0, p0 = torch.randn(4, 2, channels).double()
    w1, b1 = torch.randn(hidden, len(inputs) * channels).double(), torch.randn(hidden).double()
    w2, b2 = torch.randn(channels, hidden).double(), torch.randn(channels).double()
    start = torch.full((2, 1), begun).double()
    got = step_size(q, p, q0, p0, start, w1=w1, b1=b1, w2=w2, b2=b2, inputs=inputs)

    def standard(row):
        mean = sum(row) / channels
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / channels + 1e-5)
        return [(x - mean) / deviation for x in row]

    for n in range(2):
        kappa = [abs(p[n, c] - p0[n, c]).item() / (abs(q[n, c] - q0[n, c]).item() + 1e-6) for c in range(channels)]
        z = standard(q[n].tolist()) if "q" in inputs else []
        z += standard(p[n].tolist())
        z += [math.log(1 + begun * k) for k in kappa] if "k" in inputs else []
        inner = [
            max(0.0, sum(w * x for w, x in zip(row, z, strict=True)) + b)
            for row, b in zip(w1.tolist(), b1, strict=True)
        ]
        for c in range(channels):
            expected = sigmoid(sum(w * x for w, x in zip(w2[c].tolist(), inner, strict=True)) + b2[c].item())
            assert got[n, c].item() == pytest.approx(expected, rel=1e-9)


def test_the_stiffness_passes_no_gradient_and_the_rest_passes_the_right_one():
    q, p, q0, p0 = (t.requires_grad_() for t in torch.randn(4, 2, 3, dtype=torch.float64).unbind())
    begun = torch.ones(2, 1, dtype=torch.float64)
    w = [t.requires_grad_() for t in (torch.randn(2, 9).double(), torch.randn(2).double(), torch.randn(3, 2).double())]

    def step(q, p, *w):
        return step_size(q, p, q0, p0, begun, w1=w[0], b1=w[1], w2=w[2], b2=w[2][:, 0])

    grads = torch.autograd.grad(step(q, p, *w).sum(), [q0, p0], allow_unused=True)
    assert grads == (None, None)
    kappa = ((p - p0).abs() / ((q - q0).abs() + 1e-6)).log1p().detach()

    def frozen(q, p, *w):
        z = torch.cat([torch.layer_norm(q, (3,)), torch.layer_norm(p, (3,)), kappa], 1)
        return torch.sigmoid((z @ w[0].T + w[1]).relu() @ w[2].T + w[2][:, 0])

    ours = torch.autograd.grad(step(q, p, *w).square().sum(), [q, p, *w])
    theirs = torch.autograd.grad(frozen(q, p, *w).square().sum(), [q, p, *w])
    torch.testing.assert_close(ours, theirs)


def test_gradients_of_the_gates():
    u, w, b = torch.randn(2, 3).double(), torch.randn(2, 3).double(), torch.randn(2, 3).double()
    leaves = [t.requires_grad_() for t in (u, w, b)]
    assert torch.autograd.gradcheck(lambda u, w, b: lsas_gate(u, w.unbind(), b.unbind()), leaves)
    norm = torch.nn.BatchNorm1d(3).double()
    assert torch.autograd.gradcheck(lambda p, w, b: ras_gate(p, w[0], b[0], norm), leaves)
    assert torch.autograd.gradcheck(
        lambda psi: asr_attention(psi, lambda row: torch.sigmoid(row @ row.T @ row)), (w[0],)
    )
