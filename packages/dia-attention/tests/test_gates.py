"""Every gate as a module: parameters, starts, dtypes, refusals, and against the libraries that have it too."""

import doctest
import importlib
import math

import pytest
import torch
from dia_attention import CBAM, DIA, ECA, LSAS, RAS, SE, StepGate
from dia_attention.functional import lsas_gate, ras_gate
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import EcaModule
from timm.layers.cbam import CbamModule
from torch import nn
from torchvision.ops import SqueezeExcitation

MODULES = (
    "_asr",
    "_cbam",
    "_convert",
    "_eca",
    "_fold",
    "_lsas",
    "_ras",
    "_se",
    "_share",
    "_step",
    "_timm_layer",
    "_watch",
)
GATES = {"dia": DIA, "eca": ECA, "lsas": LSAS, "ras": RAS, "se": SE, "step": StepGate}


def call(gate, p, q=None):
    """The gate of one block, without what a stateful one passes on."""
    state = gate.initial_state(p)
    result = gate(p, *(() if not gate.needs_skip else (torch.zeros_like(p) if q is None else q,)), *state)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"dia_attention.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@given(channels=st.integers(2, 300), reduction=st.integers(1, 40), order=st.integers(0, 5))
def test_parameter_counts_are_those_of_the_formulas(channels, reduction, order):
    reduction = min(reduction, channels)
    hidden = max(1, round(channels / reduction))
    se = 2 * channels * hidden + hidden + channels
    assert count(SE(channels, reduction=reduction)) == se
    assert count(LSAS(channels, reduction=reduction, order=order)) == se + 2 * channels * order
    assert count(StepGate(channels, reduction=reduction)) == 4 * channels * hidden + hidden + channels
    assert count(RAS(channels)) == 4 * channels
    kernel = count(ECA(channels))
    wanted = abs(math.log2(channels) / 2 + 0.5)
    assert kernel % 2 == 1
    assert abs(kernel - wanted) <= 1.0001
    assert count(CBAM(channels, reduction=reduction)) == se + 98 + 2


def test_se_is_torchvisions():
    ours = SE(24, reduction=4)
    theirs = SqueezeExcitation(24, 6)
    for layer, conv in ((ours.fc1, theirs.fc1), (ours.fc2, theirs.fc2)):
        conv.weight.data.copy_(layer.weight[:, :, None, None])
        conv.bias.data.copy_(layer.bias)
    x = torch.randn(3, 24, 5, 4)
    torch.testing.assert_close(x * call(ours, x.mean((2, 3)))[:, :, None, None], theirs(x))


@pytest.mark.parametrize("channels", [16, 64, 256, 512])
def test_eca_is_timms(channels):
    ours, theirs = ECA(channels), EcaModule(channels)
    assert ours.conv.kernel_size == theirs.conv.kernel_size
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, channels, 5, 4)
    torch.testing.assert_close(x * call(ours, x.mean((2, 3)))[:, :, None, None], theirs(x))


def test_cbam_is_timms():
    ours, theirs = CBAM(32, reduction=4), CbamModule(32, rd_channels=8, mlp_bias=True)
    for layer, conv in ((ours.channel.fc1, theirs.channel.fc1), (ours.channel.fc2, theirs.channel.fc2)):
        conv.weight.data.copy_(layer.weight[:, :, None, None])
        conv.bias.data.copy_(layer.bias)
    theirs.spatial.conv.conv.weight.data.copy_(ours.spatial[0].weight)
    x = torch.randn(4, 32, 9, 7, requires_grad=True)
    got, expected = ours(x), theirs(x)
    torch.testing.assert_close(got, expected)
    probe = torch.randn_like(got)
    a, b = (torch.autograd.grad((y * probe).sum(), x)[0] for y in (got, expected))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_ras_and_lsas_modules_are_the_functions():
    ras, lsas, p = RAS(6), LSAS(16, order=3), torch.randn(5, 16)
    torch.testing.assert_close(ras(p[:, :6]), ras_gate(p[:, :6], ras.w, ras.b, nn.BatchNorm1d(6)))
    with torch.no_grad():
        for parameter in (lsas.w, lsas.b):
            parameter.copy_(torch.randn(3, 16))
    expected = lsas_gate(lsas.base.fc2(lsas.base.fc1(p).relu()), list(lsas.w), list(lsas.b))
    torch.testing.assert_close(lsas(p), expected)
    torch.manual_seed(3)
    plain = SE(16)
    torch.manual_seed(3)
    torch.testing.assert_close(LSAS(16, order=0)(p), plain(p), rtol=0, atol=0)


def test_ras_of_the_paper_cannot_move_w_and_ours_can():
    """With w = 0 the norm sees a constant: exactly no gradient for w and the norm, and b alone learns."""
    p, probe = torch.randn(8, 32, dtype=torch.float64), torch.randn(8, 32, dtype=torch.float64)

    def gradients(init):
        gate = RAS(32, init=init, dtype=torch.float64)
        (gate(p) * probe).sum().backward()
        return {name: parameter.grad.abs().max().item() for name, parameter in gate.named_parameters()}

    paper = gradients("paper")
    assert paper["w"] == 0
    assert paper["bn.weight"] == 0
    assert paper["bn.bias"] == 0
    assert paper["b"] > 0.1
    assert all(value > 1e-3 for value in gradients("small").values())
    identity = gradients("identity")
    assert identity["w"] == 0
    assert identity["bn.weight"] > 1e-3  # from which w gets its gradient a step later


@pytest.mark.parametrize("name", GATES)
def test_identity_start_is_exactly_one_and_learns(name):
    gate = GATES[name](16, init="identity")
    p = 10 * torch.randn(6, 16)
    a = call(gate, p, torch.randn(6, 16))
    torch.testing.assert_close(a, torch.ones(6, 16), rtol=1e-6, atol=1e-6)
    (a * torch.randn(6, 16)).sum().backward()
    assert max(parameter.grad.abs().max() for parameter in gate.parameters()) > 1e-3


def test_identity_start_of_cbam():
    attention = CBAM(8, reduction=2, init="identity")
    x = torch.randn(3, 8, 5, 4)
    torch.testing.assert_close(attention(x), x)
    attention(x).square().sum().backward()
    assert attention.channel.fc2.weight.grad.abs().max() > 0
    assert attention.spatial[1].weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", GATES)
def test_dtypes_and_meta_device(name):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        gate = GATES[name](16, dtype=dtype).eval()
        assert call(gate, torch.randn(2, 16, dtype=dtype)).dtype == dtype
    gate = GATES[name](16).eval()
    p = torch.randn(3, 16)
    expected = call(gate, p.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = call(gate, p.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected.bfloat16(), rtol=0, atol=0)
    meta = GATES[name](16, init="identity", device="meta")
    assert call(meta.eval(), torch.empty(2, 16, device="meta")).device.type == "meta"
    whole = meta.to_empty(device="cpu")
    whole.reset_parameters()
    torch.testing.assert_close(call(whole, p), torch.ones(3, 16))


def test_stiffness_without_the_state_is_squeeze_and_excitation_on_standardised_means():
    gate = StepGate(12, reduction=3, inputs="p")
    p = torch.randn(4, 12)
    n = (p - p.mean(1, keepdim=True)) / (p.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(call(gate, p), gate.fc2(gate.fc1(n).relu()).sigmoid())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SE(8, reduction=9), r"reduction=9 must lie in 1\.\.8"),
        (lambda: SE(8, reduction=0.5), r"reduction=0\.5 must lie"),
        (lambda: SE(8, init="zero"), "init='zero' must be 'paper' or 'identity'"),
        (lambda: SE(0), "channels=0 must be at least 1"),
        (lambda: ECA(8, kernel_size=4), "kernel_size=4 must be odd"),
        (lambda: CBAM(8, kernel_size=0, reduction=2), "kernel_size=0 must be odd"),
        (lambda: CBAM(8, reduction=2, init="small"), "init='small' must be"),
        (lambda: RAS(8, init="zero"), "init='zero' must be 'small' or 'paper' or 'identity'"),
        (lambda: LSAS(16, order=-1), "order=-1 must be at least 0"),
        (lambda: LSAS(16, base="cbam"), r"unknown base 'cbam'; give one of \['eca', 'se'\]"),
        (lambda: LSAS(16, base=RAS), "LSAS needs the logits of its base, and RAS has no method logits"),
        (lambda: LSAS(16, base="eca", reduction=4), "the base 'eca' has no reduction"),
        (lambda: LSAS(16, base=SE, reduction=4), "reduction and init='identity' are for bases by name"),
        (lambda: StepGate(16, inputs="pq"), "inputs='pq' must be 'p', 'qp' or 'qpk'"),
        (lambda: CBAM(8, reduction=2)(torch.zeros(1, 4, 2, 2)), r"expected features \(B, 8, H, W\)"),
        (lambda: SE(8, reduction=2)(torch.zeros(2, 4)), r"expected pooled features \(B, 8\), got \(2, 4\)"),
    ],
)
def test_arguments_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_base_is_a_class():
    with pytest.raises(TypeError, match="give a class or function that is called with the width"):
        LSAS(16, base=SE(16))
    with pytest.raises(TypeError, match="returned int, expected a module"):
        LSAS(16, base=lambda channels: channels)
