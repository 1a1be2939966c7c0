"""What every attention must survive: compilers, exporters, copies, low precision, layouts, sizes, checkpointing."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from dia_attention import attach, cifar_resnet, detach, list_attentions, share, watch_gates
from torch import nn
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from chain import Chain

EVERY = list_attentions()
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_earlier_graph_counts():
    """Dynamo limits the graphs of one function over the whole process, and every test compiles the same ones."""
    torch._dynamo.reset()


def network(name, depth=11, **options):
    torch.manual_seed(5)
    if name == "shared":
        share(net := cifar_resnet(depth, **options), "cbam")
        return net
    return cifar_resnet(depth, attention=name, **options)


def step(net, x):
    """Output and gradients of one training step."""
    parameters = list(net.parameters())
    y = net(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), parameters)]


def close(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp_min(1e-4)


@pytest.mark.parametrize("name", ["chain", *(pytest.param(name, marks=slow) for name in [*EVERY, "shared"])])
def test_one_compiled_graph_for_training(name):
    net = Chain() if name == "chain" else network(name).layer3
    x = torch.randn(4, 3, 6, 6) if name == "chain" else torch.randn(4, 128, 4, 4)
    compiled = torch.compile(twin := copy.deepcopy(net), fullgraph=True, backend="aot_eager")
    y, expected = compiled(x), net(x)
    close([y], [expected], 1e-5)
    ours = torch.autograd.grad(y.square().sum(), list(twin.parameters()))
    close(ours, torch.autograd.grad(expected.square().sum(), list(net.parameters())), 1e-3)
    for a, b in zip(twin.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@slow
@pytest.mark.parametrize("name", [*EVERY, "shared"])
def test_one_compiled_graph_by_inductor(name):
    net = network(name, 20).double()  # in float32 a value within rounding of zero may pass one ReLU and not the other
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    compiled = torch.compile(twin := copy.deepcopy(net), fullgraph=True)
    close(step_of(compiled, twin, x), step(net, x), 1e-10)
    with torch.no_grad():
        close([torch.compile(net.eval(), fullgraph=True)(x)], [net(x)], 1e-10)


def step_of(compiled, twin, x):
    y = compiled(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(twin.parameters()))]


@pytest.mark.parametrize("name", ["chain", *(pytest.param(name, marks=slow) for name in [*EVERY, "shared"])])
def test_export_with_dynamic_batch(name):
    net = Chain().eval() if name == "chain" else network(name).eval()
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    program = torch.export.export(net, (torch.randn(3, 3, 8, 8),), dynamic_shapes=shapes).module()
    for batch in (2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(program(x), net(x), rtol=0, atol=0)


def onnx_equals(net, x, larger, path):
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, optimize=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (x, larger):
        (got,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        with torch.no_grad():
            expected = net(batch).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)  # the exporter's
@pytest.mark.parametrize("name", ["chain", *(pytest.param(name, marks=slow) for name in [*EVERY, "shared"])])
def test_onnx_runtime_gives_the_same_for_any_batch(name, tmp_path):
    net = Chain().eval() if name == "chain" else network(name).eval()
    onnx_equals(net, torch.randn(3, 3, 8, 8), torch.randn(7, 3, 8, 8), tmp_path / "net.onnx")


@slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", EVERY)
def test_onnx_of_a_whole_resnet(name, tmp_path):
    net = torchvision.models.resnet18(num_classes=5)
    attach(net, name)
    onnx_equals(net.eval(), torch.randn(2, 3, 33, 40), torch.randn(5, 3, 33, 40), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", [*EVERY, "shared"])
def test_copies_state_dicts_and_hooks(name):
    net = network(name, 20)
    x = torch.randn(3, 3, 8, 8)
    twin, other = copy.deepcopy(net), network(name, 20)
    close(step(twin, x), step(net, x), 1e-6)
    torch.optim.SGD(twin.parameters(), 0.1).step()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.01)
    assert not torch.equal(twin.eval()(x), net.eval()(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x), net(x))
    if name != "shared":  # whose norms are bound at run time
        assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
    values = dict(net.named_parameters())
    got = torch.func.grad(lambda w: torch.func.functional_call(net, w, (x,)).square().sum())(values)
    close(got.values(), step(net, x)[1:], 1e-5)
    storages = [value.data_ptr() for value in net.state_dict().values() if value.numel()]
    assert len(set(storages)) == len(storages)
    gates = {}
    with watch_gates(net, lambda path, gate: gates.setdefault(path, gate)) as paths:
        net(x)
    assert list(gates) == paths
    assert all(gate.ndim == 2 and len(gate) == 3 and 0 < gate.min() <= gate.max() < 1 for gate in gates.values())
    assert all(gate.shape[1] == 64 * 2 ** (int(path[5]) - 1) for path, gate in gates.items())
    with pytest.raises(ValueError, match="no attention is attached"), watch_gates(detach(net), print):
        pass


@pytest.mark.parametrize("name", [*EVERY, "shared"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_channels_last_train(name, dtype):
    net = network(name).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 9, 13).contiguous(memory_format=torch.channels_last)
    expected = copy.deepcopy(net)(x)
    with torch.autocast("cpu", dtype=dtype):
        logits = net(x)
        with torch.no_grad():
            inference = copy.deepcopy(net).eval()(x)
    assert logits.dtype == inference.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.15)
    logits.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    plain = net.eval()(x)
    torch.testing.assert_close(inference.float(), plain, rtol=0.1, atol=0.15)


@pytest.mark.parametrize("name", [*EVERY, "shared"])
def test_batch_of_one_odd_sizes_and_empty_batches(name):
    net = network(name).eval()
    for size in ((1, 3, 1, 1), (1, 3, 17, 5), (0, 3, 8, 8)):
        x = torch.randn(size)
        y = net(x)
        assert y.shape == (size[0], 10)
        with torch.no_grad():
            torch.testing.assert_close(net(x), y, rtol=1e-4, atol=1e-5)
    if name != "ras":
        net.train()
        assert all(value.isfinite().all() for value in step(net, torch.randn(1, 3, 16, 12)))
    whole = network(name).bfloat16().eval()
    assert whole(torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_ras_cannot_train_on_one_sample():
    with pytest.raises(ValueError, match=r"layer1\.0: ras normalises over the batch and cannot train on one sample"):
        network("ras")(torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize("name", [*EVERY, "shared"])
def test_meta_device(name):
    with torch.device("meta"):
        net = cifar_resnet(20)
    share(net, "cbam") if name == "shared" else attach(net, name)
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"meta"}
    assert net(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 10)
    net = net.to_empty(device="cpu").eval()
    source = network(name, 20).eval()
    net.load_state_dict(source.state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(net(x), source(x), rtol=0, atol=0)
    torch.testing.assert_close(detach(net)(x), detach(source)(x), rtol=0, atol=0)


class Checkpointed(nn.Module):
    """A stage that computes its forward again for its backward."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return checkpoint(self.stage, x, use_reentrant=False)


@pytest.mark.parametrize("name", [*EVERY, "shared"])
def test_checkpointing_a_stage_gives_the_same_step(name):
    net = network(name, 20).eval()
    x = torch.randn(3, 3, 8, 8)
    expected = step(net, x)
    twin = copy.deepcopy(net)
    for stage in ("layer1", "layer2", "layer3"):
        setattr(twin, stage, Checkpointed(getattr(twin, stage)))
    close(step(twin, x), expected, 1e-6)
