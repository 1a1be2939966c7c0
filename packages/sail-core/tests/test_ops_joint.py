"""The joint form against autograd over the plain formula, in values and in every gradient."""

import itertools

import pytest
import torch
from sail_core.ops import _forms, backend, explain, recalibrate
from sail_core.testing import assert_rel, poison_empty
from torch import nn

SHAPES = [(2, 3, 1), (3, 2, 7), (2, 5, 7, 7), (1, 3, 1, 3), (2, 3, 7, 9), (4, 1, 1, 1), (2, 3, 2, 3, 4), (0, 3, 5, 5)]
LAYOUTS = ["channels second", "channels last"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CASES = [  # the kernels take neither float64 nor empty maps
    pytest.param(form, dtype, shape, id=f"{form}-{dtype}-{shape}")
    for form, dtype, shape in itertools.product(["cpu", "cuda", "triton"], DTYPES, SHAPES)
    if form != "triton" or (dtype != torch.float64 and 0 not in shape)
]


def lay_out(x, layout):
    return x if layout == "channels second" else x.movedim(1, -1).contiguous().movedim(-1, 1)


def squeeze(channels, dtype=torch.float32):
    return nn.Sequential(nn.Linear(channels, 2), nn.Tanh(), nn.Linear(2, channels), nn.Sigmoid()).to(dtype)


def results(name, x, gate, residual, activation, g):
    """Output and gradients, with the formula written out for ``name`` "formula"."""
    inputs = [t for t in (x, residual, *gate.parameters()) if t is not None and t.requires_grad]
    if name == "formula":
        a = gate(x.flatten(2).mean(2)).view(*x.shape[:2], *[1] * (x.dim() - 2))
        y = x * a if residual is None else x * a + residual
        y = y.relu() if activation else y
    else:
        with backend(name):
            assert explain(x, gate, residual=residual).startswith(name)
            y = recalibrate(x, gate, residual=residual, activation=activation)
    return y.detach(), *torch.autograd.grad(y, inputs, g, allow_unused=True)


def case(shape, layout, dtype, with_residual):
    x = lay_out(torch.randn(shape), layout).to(dtype).requires_grad_()
    residual = None
    if with_residual:  # far from zero, so that a rounding cannot move an element across the ReLU's kink
        residual = torch.randn(shape)
        residual = lay_out(residual + 5 * residual.sign(), layout).to(dtype).requires_grad_()
    return x, squeeze(shape[1], dtype), residual, lay_out(torch.randn(shape), layout).to(dtype)


@pytest.mark.parametrize(
    ("with_residual", "activation"), [(False, None), (True, None), (False, "relu"), (True, "relu")]
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("form", "dtype", "shape"), CASES)
def test_values_and_gradients(form, dtype, shape, layout, with_residual, activation, monkeypatch):
    if form != "triton":
        monkeypatch.setitem(_forms.FORMS, "cpu", _forms.FORMS[form])
    x, gate, residual, g = case(shape, layout, dtype, with_residual)
    expected = results("formula", x, gate, residual, activation, g)
    with poison_empty():
        got = results("triton" if form == "triton" else "joint", x, gate, residual, activation, g)
    tolerance = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    for i, (ref, other) in enumerate(zip(expected, got, strict=True)):
        assert other.dtype == ref.dtype
        if x.numel():
            assert_rel(f"result {i}", ref, other, tolerance)
        assert other.shape == ref.shape
    assert got[0].stride() == expected[0].stride()


@pytest.mark.parametrize("form", ["cpu", "cuda"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_no_worse_than_autograd(dtype, layout, form, monkeypatch):
    monkeypatch.setitem(_forms.FORMS, "cpu", _forms.FORMS[form])
    x, gate, residual, g = case((4, 32, 28, 28), layout, dtype, True)
    eager = results("formula", x, gate, residual, "relu", g)
    joint = results("joint", x, gate, residual, "relu", g)
    x64, r64 = (t.detach().double().requires_grad_() for t in (x, residual))
    truth = results("formula", x64, gate.double(), r64, "relu", g.double())
    limit = {torch.float16: 7.5e-4, torch.bfloat16: 6e-3}[dtype]
    for name, ref, plain, other in zip(("y", "dx", "dresidual"), truth, eager, joint, strict=False):
        error = (plain.double() - ref).norm() / ref.norm()
        assert_rel(name, ref, other, 1.1 * error.item())
    assert_rel("y", truth[0], joint[0], limit)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_is_close_to_the_float64_formula(layout):
    x, gate, residual, g = case((3, 16, 28, 28), layout, torch.float32, True)
    joint = results("joint", x, gate, residual, "relu", g)
    x64, r64 = (t.detach().double().requires_grad_() for t in (x, residual))
    truth = results("formula", x64, gate.double(), r64, "relu", g.double())
    for i, (ref, got) in enumerate(zip(truth, joint, strict=True)):
        assert_rel(f"result {i}", ref, got, 2e-6 if i < 3 else 1e-5)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 2, 3, 3), (1, 2, 2, 1, 3)], ids=str)
def test_gradcheck(shape, activation):
    gate = squeeze(shape[1], torch.float64)
    x, r = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def call(x, r, *parameters):  # gradcheck changes the gate's own parameters in place
        return recalibrate(x, gate, residual=r, activation=activation)

    with backend("joint"):
        assert torch.autograd.gradcheck(call, (x, r, *gate.parameters()))


@pytest.mark.parametrize("wanted", ["x", "residual", "gate", "x and residual", "x and gate"])
def test_only_what_needs_a_gradient_gets_one(wanted):
    x, gate, residual, g = case((2, 3, 5, 5), "channels second", torch.float64, True)
    x.requires_grad_("x" in wanted.split())
    residual.requires_grad_("residual" in wanted)
    gate.requires_grad_("gate" in wanted)
    expected = results("formula", x, gate, residual, "relu", g)
    got = results("joint", x, gate, residual, "relu", g)
    for i, (ref, other) in enumerate(zip(expected, got, strict=True)):
        assert_rel(f"result {i}", ref, other, 1e-14)


@pytest.mark.parametrize(
    "make", [lambda s: torch.ones(()).expand(s), lambda s: torch.randn(s[::-1]).permute(3, 2, 1, 0)]
)
def test_any_layout_of_the_incoming_gradient(make):
    x, gate, residual, _ = case((2, 3, 4, 5), "channels last", torch.float32, True)
    g = make((2, 3, 4, 5))
    kept = g.clone()
    for ref, got in zip(*(results(n, x, gate, residual, "relu", g) for n in ("formula", "joint")), strict=True):
        assert_rel("result", ref, got, 2e-6)
    assert torch.equal(g, kept)


def test_mixed_dtypes_promote_as_the_formula_does():
    for x_type, a_type, r_type in [("bfloat16", "float32", "bfloat16"), ("bfloat16", "bfloat16", "float32")]:
        gate = nn.Sequential(Cast(torch.float32), squeeze(3), Cast(getattr(torch, a_type)))
        x = torch.randn(2, 3, 5, 5).to(getattr(torch, x_type)).requires_grad_()
        residual = torch.randn(2, 3, 5, 5).to(getattr(torch, r_type)).requires_grad_()
        g = torch.randn(2, 3, 5, 5)
        for ref, got in zip(*(results(n, x, gate, residual, "relu", g) for n in ("formula", "joint")), strict=True):
            assert got.dtype == ref.dtype
            assert_rel("result", ref, got, 3e-2 if got.dtype == torch.bfloat16 else 1e-2)


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)


def test_not_a_number_passes_through():
    x, gate, residual, g = case((2, 3, 4, 4), "channels second", torch.float32, True)
    x.data[0, 0, 0, 0] = float("nan")
    for ref, got in zip(*(results(n, x, gate, residual, "relu", g) for n in ("formula", "joint")), strict=True):
        assert_rel("result", ref, got, 2e-6)
