import os
import subprocess
import sys

import pytest
import torch
from sail_core.ops import backend, explain, recalibrate
from torch import nn
from torch.autograd import forward_ad

LARGE = (2, 8, 256, 64)  # exactly 1 MiB in float32


class Sub(torch.Tensor):
    pass


def gate():
    return nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())


def a_map(shape=LARGE, **options):
    return torch.zeros(shape, **{"requires_grad": True, **options})


@pytest.mark.parametrize(
    ("make", "path", "reason"),
    [
        (a_map, "joint", "at least 1 MiB"),
        (lambda: a_map((2, 8, 255, 64)), "reference", "less than 1 MiB"),
        (lambda: a_map(dtype=torch.bfloat16), "reference", "less than 1 MiB"),
        (lambda: a_map((4, 8, 256, 64), dtype=torch.float16), "joint", "at least"),
        (lambda: a_map((2, 256, 512), dtype=torch.float32), "joint", "at least"),
        (lambda: a_map((2, 8, 4, 64, 64)), "joint", "at least"),
        (lambda: a_map(dtype=torch.float64), "reference", "float64"),
        (lambda: a_map(dtype=torch.complex64), "reference", "no joint form for torch.complex64"),
        (lambda: a_map(requires_grad=False), "reference", "no gradient"),
        (lambda: a_map().to(memory_format=torch.channels_last), "joint", "at least"),
        (lambda: a_map((2, 8, 4, 64, 64)).to(memory_format=torch.channels_last_3d), "joint", "at least"),
        (lambda: a_map((2, 512, 256)).transpose(1, 2), "joint", "at least"),
        (lambda: a_map((2, 8, 256, 128))[..., ::2], "reference", "dense"),
        (lambda: a_map().transpose(2, 3), "reference", "dense"),
        (lambda: a_map((2, 8, 64, 1)).expand(2, 8, 64, 256), "reference", "dense"),
        (lambda: a_map().as_subclass(Sub), "reference", "subclass"),
        (lambda: a_map(device="meta"), "reference", "device meta"),
    ],
)
def test_the_choice_and_its_reason(make, path, reason):
    line = explain(make())
    assert line.startswith(path + ": ")
    assert reason in line


def test_a_gradient_may_be_needed_by_the_gate_the_residual_or_the_state():
    x, needs = a_map(requires_grad=False), a_map()
    assert explain(x, gate()).startswith("joint")
    assert explain(x, gate().requires_grad_(False)).startswith("reference")
    assert explain(x, residual=needs).startswith("joint")
    assert explain(x, state=(needs,)).startswith("joint")
    with torch.no_grad():
        assert "no gradient" in explain(needs, gate())


def test_a_subclass_anywhere_takes_the_reference():
    sub = torch.zeros(LARGE).as_subclass(Sub)
    owner = gate()
    owner.weight = nn.Parameter(torch.zeros(2).as_subclass(Sub))
    assert "subclass" in explain(a_map(), residual=sub)
    assert "subclass" in explain(a_map(), state=(sub,))
    assert "subclass" in explain(a_map(), owner)


def test_forcing_the_joint_form():
    with backend("joint"):
        assert explain(a_map((1, 8, 2), dtype=torch.float64)) == 'joint: backend("joint") is set'
        assert explain(a_map(requires_grad=False)).startswith("reference: no gradient")
        for x in (a_map(dtype=torch.complex64), a_map().transpose(2, 3), a_map().as_subclass(Sub)):
            assert explain(x).startswith("refused")
            with pytest.raises(ValueError, match=r'backend\("joint"\) is set, but .*; use backend\("auto"\)'):
                recalibrate(x, gate())


def test_the_choice_ends_with_its_block_even_on_an_error():
    def fail():
        with backend("joint"), backend("reference"):
            assert "reference: backend" in explain(a_map())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert explain(a_map()).endswith("at least 1 MiB")


def test_unknown_backends():
    with pytest.raises(ValueError, match="expected 'auto', 'reference', 'joint' or 'triton'"):
        backend("cuda")


@pytest.mark.parametrize(
    ("value", "printed"),
    [("reference", 'reference: backend("reference") is set'), ("cuda", "SAIL_CORE_BACKEND is 'cuda'")],
)
def test_the_environment_variable(value, printed):
    code = "import torch; from sail_core import ops; print(ops.explain(torch.zeros(2, 8, 256, 64, requires_grad=True)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SAIL_CORE_BACKEND": value}, capture_output=True, text=True
    )
    assert printed in (done.stdout + done.stderr).splitlines()[-1]
    assert (done.returncode == 0) == (value == "reference")


def test_the_reference_is_bit_for_bit_the_formula_below_the_threshold():
    x, owner = torch.randn(2, 8, 7, 7, requires_grad=True), gate()
    expected = x * owner(x.mean((2, 3)))[..., None, None]
    assert torch.equal(recalibrate(x, owner), expected)


def test_nothing_is_copied_to_make_it_dense():
    x = torch.randn(2, 8, 256, 64).transpose(2, 3).requires_grad_()
    y = recalibrate(x, gate())
    assert y.stride() == x.stride()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own call
def test_functorch_transforms_take_the_reference():
    x, owner = torch.randn(LARGE), gate()
    expected = torch.autograd.grad(recalibrate(x.requires_grad_(), owner).sum(), x)[0]
    seen = []

    def loss(x):
        seen.append(explain(x, owner))
        return recalibrate(x, owner).sum()

    torch.testing.assert_close(torch.func.grad(loss)(x.detach()), expected)
    _, along = torch.func.jvp(loss, (x.detach(),), (torch.ones_like(x),))
    torch.testing.assert_close(along, expected.sum(), rtol=1e-3, atol=1e-3)
    batched = torch.func.vmap(lambda one: recalibrate(one, owner))(x.detach()[None])
    torch.testing.assert_close(batched[0], recalibrate(x, owner))
    assert all("torch.func" in line for line in seen)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own call
def test_forward_mode_takes_the_reference():
    x, owner = torch.randn(LARGE, requires_grad=True), gate()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        assert "forward-mode" in explain(dual, owner)
        assert forward_ad.unpack_dual(recalibrate(dual, owner)).tangent is not None


def test_double_backward_says_what_to_do():
    x, owner = torch.randn(2, 8, 3, 3, requires_grad=True), gate()
    with backend("joint"):
        y = recalibrate(x, owner, activation="relu")
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    for target in (x, owner[0].weight):
        with pytest.raises(RuntimeError, match=r'no second derivative; .*backend\("reference"\)'):
            torch.autograd.grad(dx.square().sum(), target, retain_graph=True)
    with backend("reference"):
        y = recalibrate(x, owner, activation="relu")
    (ref,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.testing.assert_close(dx, ref)
    assert torch.autograd.grad(ref.square().sum(), x)[0].isfinite().all()


def test_the_graph_is_freed_or_kept_as_asked():
    x, owner = torch.randn(2, 8, 3, 3, requires_grad=True), gate()
    with backend("joint"):
        loss = recalibrate(x, owner).square().sum()
    first = torch.autograd.grad(loss, [x, *owner.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [x, *owner.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("change", ["map", "parameter", "state in", "state out"])
def test_changing_a_saved_tensor_in_place_is_noticed(change):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, m, h):
            h = torch.tanh(self.linear(m) * h)
            return h, h

    x, h, cell = torch.randn(2, 8, 3, 3), torch.randn(2, 8), Cell()
    with backend("joint"):
        y, new = recalibrate(x, cell, state=(h,))
    with torch.no_grad():
        {"map": x, "parameter": cell.linear.weight, "state in": h, "state out": new}[change].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
