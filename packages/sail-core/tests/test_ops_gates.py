"""What a gate may hold: state, normalisation, dropout, hooks; and what it may not: foreign tensors."""

import copy

import pytest
import torch
from sail_core.ops import backend, explain, recalibrate
from sail_core.testing import assert_rel
from torch import nn

FORMS = ["reference", "joint"]


class Cell(nn.Module):
    """A recurrent gate: the factors are the new hidden state."""

    def __init__(self, channels):
        super().__init__()
        self.cell = nn.LSTMCell(channels, channels, dtype=torch.float64)

    def forward(self, m, h, c):
        h, c = self.cell(m, (h, c))
        return h, h, c


class Chain(nn.Module):
    """Several blocks that share one cell and hand its state on."""

    def __init__(self, channels, blocks):
        super().__init__()
        self.gate = Cell(channels)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1, dtype=torch.float64) for _ in range(blocks))

    def forward(self, x, h, c):
        for conv in self.convs:
            x, h, c = recalibrate(conv(x), self.gate, state=(h, c), residual=x, activation="relu")
        return x, h, c


def run_chain(form, chain, inputs, weights):
    chain.zero_grad()
    with backend(form):
        outputs = chain(*inputs)
        loss = sum((out * w).sum() for out, w in zip(outputs, weights, strict=True))
        return [*outputs, *torch.autograd.grad(loss, [*inputs, *chain.parameters()])]


def test_gradients_flow_through_the_state_of_a_shared_gate():
    chain = Chain(4, 3)
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(2, 4, 3, 3), (2, 4), (2, 4)]]
    weights = [torch.randn_like(t) for t in inputs]
    for ref, got in zip(*(run_chain(form, chain, inputs, weights) for form in FORMS), strict=True):
        assert ref.abs().sum() > 0
        assert_rel("result", ref, got, 1e-12)


def test_gradcheck_through_the_state():
    chain = Chain(2, 2)
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(2, 2, 2, 2), (2, 2), (2, 2)]]
    with backend("joint"):
        assert torch.autograd.gradcheck(lambda *a: chain(*a[:3]), (*inputs, *chain.parameters()))


@pytest.mark.parametrize("used", [0, 1, 2])
def test_one_output_alone(used):
    gate, x = Cell(3), torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    h, c = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = []
    for form in FORMS:
        with backend(form):
            out = recalibrate(x, gate, state=(h, c))[used]
        found.append(torch.autograd.grad(out.square().sum(), [x, h, c, *gate.parameters()]))
    for ref, got in zip(*found, strict=True):
        assert_rel("gradient", ref, got, 1e-12)


class Outputs(nn.Module):
    """Returns whatever the function makes of its mean and state."""

    def __init__(self, make):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.make = make

    def forward(self, m, *state):
        return self.make(m * self.weight, *state)


@pytest.mark.parametrize("form", FORMS)
def test_what_the_gate_returns_decides_what_comes_back(form):
    x, h = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3)
    with backend(form):
        assert isinstance(recalibrate(x, Outputs(lambda m: m)), torch.Tensor)
        assert len(recalibrate(x, Outputs(lambda m: (m,)))) == 1
        y, first, second = recalibrate(x, Outputs(lambda m: (m, m, 2 * m)))
        assert y.shape == x.shape
        assert first.requires_grad
        assert_rel("second", 2 * first, second, 1e-6)
        assert isinstance(recalibrate(x, Outputs(lambda m, h: m + h), state=(h,)), torch.Tensor)
        _, same, count = recalibrate(x, Outputs(lambda m, h, n: (m, h, n + 1)), state=(h, torch.tensor(4)))
        assert torch.equal(same, h)
        assert count.item() == 5
        assert not same.requires_grad
        assert not count.requires_grad


def test_state_handed_on_unchanged_keeps_its_gradient():
    x, h = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    with backend("joint"):
        _, same = recalibrate(x, Outputs(lambda m, h: (m, h)), state=(h,))
        (same * 3).sum().backward()
    assert torch.equal(h.grad, torch.full((2, 3), 3.0))


def test_a_gate_that_ignores_its_input():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = nn.Parameter(torch.rand(2, 3))

        def forward(self, m):
            return self.factors

    gate, x = Constant(), torch.randn(2, 3, 4, requires_grad=True)
    with backend("joint"):
        recalibrate(x, gate).sum().backward()
    assert_rel("dx", gate.factors[..., None].expand_as(x), x.grad, 1e-6)
    assert_rel("da", x.sum(-1), gate.factors.grad, 1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_in_the_gate(training):
    gates = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sigmoid()).train(training)]
    gates.append(copy.deepcopy(gates[0]))
    x, found = torch.randn(4, 3, 5, 5, requires_grad=True), []
    for form, gate in zip(FORMS, gates, strict=True):
        with backend(form):
            y = recalibrate(x, gate)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *gate.parameters()]), *gate.buffers()])
    for ref, got in zip(*found, strict=True):
        torch.testing.assert_close(got, ref, rtol=1e-5, atol=1e-5)
    assert gates[1][1].num_batches_tracked.item() == int(training)


def test_dropout_is_drawn_once():
    gate, x = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 8)), torch.randn(4, 8, 3, 3)
    x.requires_grad_()
    found = []
    for form in FORMS:
        torch.manual_seed(7)
        with backend(form):
            y = recalibrate(x, gate)
            gradients = torch.autograd.grad(y.square().sum(), [x, *gate.parameters()])
        found.append([y, *gradients, torch.rand(3)])
    for ref, got in zip(*found, strict=True):
        assert_rel("result", ref, got, 1e-5)


def test_frozen_parameters_get_none():
    gate, x = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), torch.randn(2, 3, 4, requires_grad=True)
    gate[0].weight.requires_grad_(False)
    with backend("joint"):
        recalibrate(x, gate).sum().backward()
    assert gate[0].weight.grad is None
    assert gate[0].bias.grad is not None
    assert x.grad is not None


def foreign_leaf():
    return torch.ones(3, requires_grad=True)


def foreign_result():
    return torch.ones(3, requires_grad=True) * 2


@pytest.mark.parametrize("make", [foreign_leaf, foreign_result])
def test_a_captured_tensor_that_needs_a_gradient_is_refused(make):
    captured, x = make(), torch.randn(2, 3, 4, requires_grad=True)
    gate = Outputs(lambda m: m * captured)
    with backend("joint"), pytest.raises(ValueError, match=r"the gate uses .* but is neither its input"):
        recalibrate(x, gate)
    with backend("reference"):
        recalibrate(x, gate).sum().backward()


def test_a_captured_result_of_the_gates_own_parameter_is_refused():
    gate = Outputs(lambda m: m * doubled)
    doubled = gate.weight * 2
    with backend("joint"), pytest.raises(ValueError, match="the result of an earlier Mul"):
        recalibrate(torch.randn(2, 3, 4, requires_grad=True), gate)


def test_a_captured_output_is_refused():
    captured = foreign_result().expand(2, 3)
    with backend("joint"), pytest.raises(ValueError, match="the result of an earlier Expand"):
        recalibrate(torch.randn(2, 3, 4), Outputs(lambda m: (m, captured)))


def test_the_map_itself_captured_is_refused():
    x = torch.randn(2, 3, 4, requires_grad=True)
    with backend("joint"), pytest.raises(ValueError, match=r"a leaf tensor of shape \(2, 3, 4\)"):
        recalibrate(x, Outputs(lambda m: m + x.amax(-1)))


def test_the_undetached_state_captured_is_refused():
    h = foreign_leaf()
    with backend("joint"), pytest.raises(ValueError, match="leaf"):
        recalibrate(torch.randn(2, 3, 4), Outputs(lambda m, _: m + h), state=(h,))


def test_captured_tensors_without_gradient_and_buffers_are_fine():
    captured = foreign_result().detach()
    with backend("joint"):
        y = recalibrate(torch.randn(2, 3, 4, requires_grad=True), Outputs(lambda m: m * captured))
    y.sum().backward()


@pytest.mark.parametrize("size", [4, 512])
def test_a_foreign_leaf_is_refused_without_forcing_at_every_size(size):
    captured, x = foreign_leaf(), torch.randn(2, 3, size, size, requires_grad=True)
    gate = Outputs(lambda m: m * captured)
    for _ in range(2):
        with pytest.raises(ValueError, match="neither its input"):
            recalibrate(x, gate)
    with torch.no_grad():
        recalibrate(x, gate)


def test_parameters_that_are_results_get_their_gradient():
    gate, x = nn.Linear(3, 3), torch.randn(2, 3, 4, requires_grad=True)
    source = torch.randn(3, 3, requires_grad=True)
    found = []
    for form in FORMS:
        with backend(form):
            wrapped = Wrap(gate)
            y = torch.func.functional_call(wrapped, {"gate.weight": source * 2}, (x,))
            found.append(torch.autograd.grad(y.square().sum(), [x, source, gate.bias]))
    for ref, got in zip(*found, strict=True):
        assert_rel("gradient", ref, got, 1e-5)


class Wrap(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        return recalibrate(x, self.gate)


def test_a_tensor_hook_on_a_parameter_runs_once():
    gate, x = nn.Linear(3, 3), torch.randn(2, 3, 512, 512, requires_grad=True)
    assert explain(x, gate).startswith("joint")
    handle = gate.weight.register_hook(lambda g: g * 2)
    assert "tensor hook" in explain(x, gate)
    recalibrate(x, gate).sum().backward()
    doubled = gate.weight.grad.clone()
    handle.remove()
    gate.zero_grad()
    recalibrate(x, gate).sum().backward()
    assert_rel("gradient", doubled, 2 * gate.weight.grad, 1e-6)


def test_module_hooks_run_once():
    gate, calls = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), []
    gate[0].register_forward_hook(lambda *_: calls.append("forward"))
    gate[0].register_full_backward_hook(lambda *_: calls.append("backward"))
    with backend("joint"):
        recalibrate(torch.randn(2, 3, 4, requires_grad=True), gate).sum().backward()
    assert calls == ["forward", "backward"]
