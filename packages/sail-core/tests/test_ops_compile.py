import pytest
import torch
from sail_core.ops import backend, recalibrate
from sail_core.testing import assert_rel
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())

    def forward(self, x):
        return recalibrate(self.conv(x), self.gate, residual=x, activation="relu")


@pytest.mark.parametrize("side", [7, 192])
def test_one_graph_with_the_same_gradients(side):
    block, x = Block(), torch.randn(2, 8, side, side)
    state = {k: v.clone() for k, v in block.state_dict().items()}
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    found = []
    for call in (compiled, block):
        block.load_state_dict(state)
        y = call(x)
        found.append([y, *torch.autograd.grad(y.square().mean(), list(block.parameters())), *block.buffers()])
    for i, (got, ref) in enumerate(zip(*found, strict=True)):
        torch.testing.assert_close(got, ref, rtol=1e-4, atol=1e-5, msg=lambda text, i=i: f"result {i}: {text}")


@pytest.mark.slow
def test_inductor():
    block, x = Block().eval(), torch.randn(2, 8, 32, 32)
    assert_rel("y", block(x), torch.compile(block, fullgraph=True)(x), 1e-5)


def test_a_compiled_gate_inside_an_eager_call():
    gate = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())
    compiled = torch.compile(gate, backend="aot_eager")
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    found = []
    for form, owner in (("reference", gate), ("joint", compiled)):
        with backend(form):
            y = recalibrate(x, owner)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *gate.parameters()])])
    for ref, got in zip(*found, strict=True):
        assert_rel("result", ref, got, 1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_holds_aten_operators_and_any_batch(strict):
    block = Block().eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(block, (torch.randn(2, 8, 128, 128),), dynamic_shapes=({0: batch},), strict=strict)
    operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert operators
    assert all(getattr(op, "namespace", "aten") == "aten" for op in operators), operators
    x = torch.randn(5, 8, 128, 128)
    assert_rel("y", block(x), program.module()(x), 1e-6)


def test_forcing_the_joint_form_under_compile_is_an_error():
    torch._dynamo.reset()
    ours_or_its_type = r"torch\.export fuse the plain form|<class 'ValueError'>"  # torch 2.7 reports the type only
    with backend("joint"), pytest.raises(Exception, match=ours_or_its_type):
        torch.compile(Block(), fullgraph=True, backend="aot_eager")(torch.randn(2, 8, 7, 7))
