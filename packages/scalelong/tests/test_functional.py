"""κ schedules, the token gate and the two cheaper forms, against formulas and against their references."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sail_core.testing import byte_count
from scalelong import functional as F


@pytest.fixture
def whatever_the_size(monkeypatch):
    """Let small maps take the four-pass form too."""
    monkeypatch.setattr(F, "_SMALL", 0)


@given(st.integers(1, 12), st.floats(0.6, 1.0))
def test_schedules_follow_their_formulas(count, kappa):
    cs, linear = F.cs_kappas(count, kappa), F.linear_kappas(count, kappa)
    assert cs[0] == linear[0] == 1.0
    assert len(cs) == len(linear) == len(F.sqrt2_kappas(count)) == count
    for i in range(2, count + 1):
        assert cs[i - 1] == pytest.approx(kappa ** (i - 1))
        assert linear[i - 1] == pytest.approx(1 - (1 - kappa) * (i - 1) / (count - 1))
    assert all(value == pytest.approx(math.sqrt(0.5)) for value in F.sqrt2_kappas(count))


@pytest.mark.parametrize("rule", [F.cs_kappas, F.linear_kappas])
def test_kappa_out_of_range(rule):
    for bad in (0, -0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number above 0"):
            rule(4, bad)
    with pytest.raises(ValueError, match="allow_gt1"):
        rule(4, 1.1)
    assert rule(4, 1.1, allow_gt1=True)[-1] > 1
    for bad in ("0.7", None, True, torch.tensor(0.7)):
        with pytest.raises(TypeError, match="must be a number"):
            rule(4, bad)
    for bad in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="number of long skips"):
            rule(bad, 0.7)


def test_a_kappa_that_cuts_the_deepest_skip_warns():
    with pytest.warns(UserWarning, match="practically cut"):
        F.cs_kappas(11, 0.5)


def test_token_gate_by_hand():
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    w1, b1, w2, b2 = (torch.randn(*s, dtype=torch.float64) for s in ((2, 6), (2,), (6, 2), (6,)))
    gate = F.ls_token_gate(x, w1, b1, w2, b2)
    for b in range(2):
        p = [sum(x[b, i].tolist()) / 3 for i in range(6)]
        hidden = [max(0.0, sum(w1[r, i].item() * p[i] for i in range(6)) + b1[r].item()) for r in range(2)]
        for i in range(6):
            z = sum(w2[i, r].item() * hidden[r] for r in range(2)) + b2[i].item()
            assert gate[b, i, 0].item() == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-12)
    inputs = [t.requires_grad_() for t in (x, w1, b1, w2, b2)]
    assert torch.autograd.gradcheck(F.ls_token_gate, inputs)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 7), (1, 4, 2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("whatever_the_size")
def test_scaled_concat_is_bit_equal_to_its_reference(shape, dtype):
    h, s = torch.randn(shape).to(dtype), torch.randn(shape[0], 2, *shape[2:]).to(dtype)
    grad = torch.randn(shape[0], shape[1] + 2, *shape[2:]).to(dtype)
    results = []
    for function in (F.scaled_concat, F.scale_then_cat):
        a, b = h.clone().requires_grad_(), s.clone().requires_grad_()
        out = function(a, b, 0.7)
        out.backward(grad)
        results.append((out, a.grad, b.grad))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch.func's own import
@pytest.mark.usefixtures("whatever_the_size")
def test_scaled_concat_takes_odd_inputs():
    h, s = torch.randn(2, 4, 6, 6), torch.randn(2, 8, 6, 6)[:, ::2]
    assert torch.equal(F.scaled_concat(h, s, 0.5), F.scale_then_cat(h, s, 0.5))
    last = h.to(memory_format=torch.channels_last)
    out = F.scaled_concat(last, s, 0.5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, F.scale_then_cat(h, s, 0.5))
    mixed = F.scaled_concat(h.double(), s, 0.5)
    assert torch.equal(mixed, F.scale_then_cat(h.double(), s, 0.5))
    assert torch.autograd.gradcheck(
        lambda a, b: F.scaled_concat(a, b, 0.3),
        [t.double().requires_grad_() for t in (h[:1, :1, :2, :2], s[:1, :1, :2, :2])],
    )
    with pytest.raises(RuntimeError):
        F.scaled_concat(h, s[:, :, :3], 0.5)
    batched = torch.func.vmap(lambda a, b: F.scaled_concat(a, b, 0.5))(h, s)
    assert torch.equal(batched, torch.func.vmap(lambda a, b: F.scale_then_cat(a, b, 0.5))(h, s))
    _, tangent = torch.func.jvp(lambda b: F.scaled_concat(h, b, 0.5), (s,), (torch.ones_like(s),))
    assert torch.equal(tangent[:, 4:], torch.full_like(s, 0.5))


def test_scaled_concat_makes_four_passes_and_the_reference_six():
    h, s = torch.randn(2, 64, 32, 32), torch.randn(2, 64, 32, 32)
    with byte_count() as ours:
        F.scaled_concat(h, s, 0.7)
    with byte_count() as theirs:
        F.scale_then_cat(h, s, 0.7)
    assert ours.passes(h.nbytes) == 4
    assert theirs.passes(h.nbytes) == 6
    with byte_count() as small:
        F.scaled_concat(h[:1], s[:1], 0.7)
    assert [op.name for op in small.ops] == ["mul", "cat"]


@pytest.mark.parametrize("kind", ["number", "gate"])
@pytest.mark.parametrize("bias", [True, False])
def test_skip_linear_equals_the_concatenation(kind, bias):
    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    x, s, weight = leaf(2, 5, 4), leaf(2, 5, 3), leaf(6, 7)
    b = leaf(6) if bias else None
    kappa = 0.3 if kind == "number" else torch.rand(2, 5, 1, dtype=torch.float64).requires_grad_()
    leaves = [t for t in (x, s, weight, b, kappa) if isinstance(t, torch.Tensor)]
    results = []
    for function in (F.skip_linear, F.skip_linear_cat):
        out = function(x, s, weight, b, kappa)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_skip_linear_has_second_derivatives_and_takes_every_call():
    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    leaves = [leaf(2, 3, 2), leaf(2, 3, 2), leaf(3, 4), leaf(3)]
    assert torch.autograd.gradcheck(lambda *a: F.skip_linear(*a, 0.3), leaves)
    assert torch.autograd.gradgradcheck(lambda *a: F.skip_linear(*a, 0.3), leaves)
    x, s, weight, bias = (one.detach() for one in leaves)
    expected = F.skip_linear_cat(x, s, weight, bias, 0.3)
    torch.testing.assert_close(F.skip_linear(x[0], s[0], weight, bias, 0.3), expected[0])
    batched = torch.func.vmap(lambda a, b: F.skip_linear(a, b, weight, bias, 0.3))(x, s)
    torch.testing.assert_close(batched, expected)
    strided = torch.cat([x, s], -1)[..., ::1]
    torch.testing.assert_close(F.skip_linear(strided[..., :2], strided[..., 2:], weight, bias, 0.3), expected)
    with torch.autocast("cpu", torch.bfloat16):
        low = F.skip_linear(x.float(), s.float(), weight.float(), bias.float(), 0.3)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), expected, rtol=0.05, atol=0.05)


def test_skip_linear_keeps_only_its_inputs_for_the_backward_pass():
    x, s = (torch.randn(2, 64, 32, requires_grad=True) for _ in range(2))
    weight = torch.randn(32, 64, requires_grad=True)

    def kept(function):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append((t.data_ptr(), t.numel())) or t, lambda t: t
        ):
            function(x, s, weight, None, 0.5)
        known = {one.data_ptr() for one in (x, s, weight)}
        return sum(size for place, size in sizes if place not in known)

    assert kept(F.skip_linear) == 0
    assert kept(F.skip_linear_cat) == 2 * 64 * 2 * 32  # B L 2D elements


def test_skip_linear_makes_no_concatenation():
    x, s, weight = torch.randn(2, 64, 32), torch.randn(2, 64, 32), torch.randn(32, 64)
    with byte_count() as ours:
        F.skip_linear(x, s, weight, None, 0.5)
    with byte_count() as theirs:
        F.skip_linear_cat(x, s, weight, None, 0.5)
    assert not [op for op in ours.ops if op.name in ("cat", "mul")]
    extra = 2 * 64 * 2 * 32 * 4  # B L 2D elements of the concatenation, float32
    assert max(op.written for op in theirs.ops) == extra
    assert max(op.written for op in ours.ops) <= extra // 2


@pytest.mark.gpu
@pytest.mark.usefixtures("whatever_the_size")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cheaper_forms_on_a_gpu(dtype):
    h, s = (torch.randn(2, 8, 33, 17, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2))
    for function in (F.scaled_concat, F.scale_then_cat):
        out = function(h, s, 0.7)
        grads = torch.autograd.grad(out.square().sum(), [h, s])
        if function is F.scaled_concat:
            first = [out, *grads]
    for a, b in zip(first, [out, *grads], strict=True):
        torch.testing.assert_close(a, b)
    x, k = (torch.randn(2, 65, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2))
    weight = torch.randn(64, 128, device="cuda", dtype=dtype, requires_grad=True)
    results = []
    for function in (F.skip_linear, F.skip_linear_cat):
        out = function(x, k, weight, None, 0.7)
        results.append([out, *torch.autograd.grad(out.sum(), [x, k, weight])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=2e-2, atol=0.5 if dtype != torch.float32 else 1e-3)
