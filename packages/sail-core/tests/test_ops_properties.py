"""Properties of the joint form for any small shape, against the reference form."""

import pytest
import torch
from sail_core.ops import backend, recalibrate
from sail_core.testing import assert_rel
from torch import nn

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

CASES = st.fixed_dictionaries(
    {
        "batch": st.integers(0, 3),
        "channels": st.integers(1, 5),
        "positions": st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=3),
        "channels_last": st.booleans(),
        "residual": st.booleans(),
        "activation": st.sampled_from([None, "relu"]),
        "states": st.integers(0, 2),
        "seed": st.integers(0, 2**31),
    }
)


class Gate(nn.Module):
    """Mixes the mean with any number of states, each of which it also renews."""

    def __init__(self, channels, states):
        super().__init__()
        self.mix = nn.Linear(channels * (1 + states), channels, dtype=torch.float64)

    def forward(self, m, *state):
        h = torch.tanh(self.mix(torch.cat([m, *state], 1)))
        return torch.sigmoid(h), *(h * s for s in state)


class Case:
    """Random tensors of one drawn case, and what a form makes of them."""

    def __init__(self, batch, channels, positions, channels_last, residual, activation, states, seed):
        torch.manual_seed(seed)
        shape = (batch, channels, *positions)
        x, r, self.g = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
        self.x = (x.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else x).requires_grad_()
        self.residual = r.requires_grad_() if residual else None
        self.state = tuple(torch.randn(batch, channels, dtype=torch.float64, requires_grad=True) for _ in range(states))
        self.gate = Gate(channels, states)
        self.activation = activation

    def results(self, form, factor=1.0):
        inputs = [t for t in (self.x, self.residual, *self.state, *self.gate.parameters()) if t is not None]
        with backend(form):
            outputs = recalibrate(
                self.x, self.gate, state=self.state, residual=self.residual, activation=self.activation
            )
        seeds = [factor * g for g in (self.g, *(torch.ones_like(s) for s in self.state))]
        return [*outputs], torch.autograd.grad(outputs, inputs, seeds)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_the_forms_agree(drawn):
    case = Case(**drawn)
    for reference, joint in zip(case.results("reference"), case.results("joint"), strict=True):
        for i, (ref, got) in enumerate(zip(reference, joint, strict=True)):
            assert_rel(f"result {i}", ref, got, 1e-12)


@settings(max_examples=20, deadline=None)
@given(CASES, st.floats(-3, 3))
def test_gradients_are_linear_in_the_incoming_gradient(drawn, factor):
    case = Case(**drawn)
    for once, scaled in zip(case.results("joint")[1], case.results("joint", factor)[1], strict=True):
        torch.testing.assert_close(scaled, factor * once, rtol=1e-10, atol=1e-10)
