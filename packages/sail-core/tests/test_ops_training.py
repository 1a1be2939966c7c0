"""The joint form under checkpointing, autocast, copying and data-parallel training."""

import copy
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from sail_core.ops import backend, recalibrate
from sail_core.testing import assert_rel
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    """Three convolutions recalibrated by one shared gate with dropout and batch normalisation."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.gate = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 8), nn.Sigmoid())
        self.calls = 0
        self.gate.register_forward_hook(lambda *_: setattr(self, "calls", self.calls + 1))

    def forward(self, x):
        for conv in self.convs:
            x = recalibrate(conv(x), self.gate, residual=x, activation="relu")
        return x


def train_step(form, net, x, call):
    torch.manual_seed(3)
    with backend(form):
        y = call(net, x)
        gradients = torch.autograd.grad(y.float().square().mean(), list(net.parameters()))
    return [y, *gradients]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    plain, joint = Net(), Net()
    joint.load_state_dict(plain.state_dict())
    x = torch.randn(4, 8, 9, 9, requires_grad=True)
    expected = train_step("joint", plain, x, lambda net, x: net(x))
    torch.manual_seed(3)
    with backend("joint"):
        y = checkpoint(joint, x, use_reentrant=reentrant)
        y.square().mean().backward()
    for ref, got in zip(expected, [y, *(p.grad for p in joint.parameters())], strict=True):
        assert_rel("result", ref, got, 1e-5)
    assert joint.calls == 2 * plain.calls


def test_checkpointing_each_block_with_state():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(8, 8)

        def forward(self, m, h):
            h = self.cell(m, h)
            return torch.sigmoid(h), h

    cell, found = Cell(), []
    x, h0 = torch.randn(2, 8, 5, 5, requires_grad=True), torch.randn(2, 8, requires_grad=True)
    for wrap in (lambda f, *a: f(*a), lambda f, *a: checkpoint(f, *a, use_reentrant=False)):
        with backend("joint"):
            y, h = x, h0
            for _ in range(3):
                y, h = wrap(lambda y, h: recalibrate(y * 2, cell, state=(h,), activation="relu"), y, h)
            found.append(torch.autograd.grad(y.square().sum() + h.sum(), [x, h0, *cell.parameters()]))
    for ref, got in zip(*found, strict=True):
        assert_rel("gradient", ref, got, 1e-5)


@pytest.mark.parametrize("backward_inside", [False, True])
def test_autocast_with_a_shared_gate(backward_inside):
    net, found = Net(), []
    state = copy.deepcopy(net.state_dict())
    x = torch.randn(4, 8, 9, 9)
    for form in ("reference", "joint"):
        net.load_state_dict(state)
        torch.manual_seed(3)
        with backend(form):
            with torch.autocast("cpu", torch.bfloat16):
                y = net(x)
                loss = y.float().square().mean()
                if backward_inside:
                    gradients = torch.autograd.grad(loss, list(net.parameters()))
            if not backward_inside:
                gradients = torch.autograd.grad(loss, list(net.parameters()))
        found.append([y, *gradients])
    for ref, got in zip(*found, strict=True):
        assert got.dtype == ref.dtype
        torch.testing.assert_close(got, ref, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(("x_type", "residual_type"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_autocast_promotes_as_the_reference_does(x_type, residual_type):
    gate = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())
    x = torch.randn(2, 8, 5, 5, dtype=getattr(torch, x_type), requires_grad=True)
    residual = torch.randn(2, 8, 5, 5, dtype=getattr(torch, residual_type))
    found = []
    for form in ("reference", "joint"):
        with backend(form), torch.autocast("cpu", torch.bfloat16):
            y = recalibrate(x, gate, residual=residual)
        found.append([y, *torch.autograd.grad(y.sum(), [x, *gate.parameters()])])
    assert found[0][0].dtype == torch.float32
    for ref, got in zip(*found, strict=True):
        assert got.dtype == ref.dtype
        assert_rel("result", ref, got, 2e-2)


def test_activations_kept_elsewhere():
    net, x = Net(), torch.randn(4, 8, 9, 9)
    expected = train_step("joint", net, x, lambda net, x: net(x))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        got = train_step("joint", net, x, lambda net, x: net(x))
    for ref, other in zip(expected, got, strict=True):
        assert_rel("result", ref, other, 1e-6)


def test_a_copy_is_independent():
    net = Net().eval()
    twin = copy.deepcopy(net)
    x = torch.randn(2, 8, 5, 5)
    with backend("joint"):
        twin(x).sum().backward()
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_optimiser_steps_agree_with_the_reference():
    nets = [Net().eval()]
    nets.append(copy.deepcopy(nets[0]))
    x = torch.randn(4, 8, 9, 9)
    for form, net in zip(("reference", "joint"), nets, strict=True):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(5):
            optimiser.zero_grad()
            with backend(form):
                net(x).square().mean().backward()
            optimiser.step()
    for ref, got in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert_rel("weight", ref, got, 1e-5)


PARALLEL = """
    import copy, os, sys, torch, torch.distributed as dist
    from torch import nn
    from sail_core.ops import backend, recalibrate

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
            self.gate = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())
        def forward(self, x):
            for conv in self.convs:
                x = recalibrate(conv(x), self.gate, residual=x, activation="relu")
            return x

    rank, mode = int(os.environ["RANK"]), sys.argv[1]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    assert dist.get_world_size() == 2
    torch.manual_seed(0)
    net, data = Net(), torch.randn(4, 8, 6, 6)
    alone = copy.deepcopy(net)
    with backend("reference"):
        alone(data).square().mean().backward()
    if mode == "ddp":
        wrapped = nn.parallel.DistributedDataParallel(net)
    else:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.device_mesh import init_device_mesh
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
        wrapped = net
    with backend("joint"):
        wrapped(data[2 * rank : 2 * rank + 2]).square().mean().backward()
    for (key, ref), got in zip(alone.named_parameters(), net.parameters()):
        gradient = got.grad.full_tensor() if hasattr(got.grad, "full_tensor") else got.grad
        torch.testing.assert_close(gradient, ref.grad, rtol=1e-5, atol=1e-7, msg=key)
    dist.destroy_process_group()
    print("agreed", rank)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp2"])
def test_two_processes(mode, tmp_path):
    script = tmp_path / "parallel.py"
    script.write_text(textwrap.dedent(PARALLEL))
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29557"}
    workers = [
        subprocess.Popen(
            [sys.executable, script, mode],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [worker.communicate(timeout=400)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(printed)
    assert all(f"agreed {rank}" in text for rank, text in enumerate(printed))
