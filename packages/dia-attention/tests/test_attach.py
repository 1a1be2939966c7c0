"""attach and detach on the CIFAR network: against a network by hand, and everything that may be done to a model."""

import copy

import pytest
import torch
from dia_attention import attach, cifar_resnet, detach, list_attentions, register_block_adapter
from hypothesis import given
from hypothesis import strategies as st
from sail_core.ops import backend
from torch import nn
from torch.nn import functional as F


def dia_net_by_hand(w, x, blocks):
    """CIFAR ResNet with DIA from a state dict, in training mode, with nothing but torch.nn.functional."""

    def conv_norm(x, conv, bn, stride=1):
        weight = w[f"{conv}.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        return F.batch_norm(x, None, None, w[f"{bn}.weight"], w[f"{bn}.bias"], training=True)

    def mlp(v, cell, path):
        hidden = F.linear(v, w[f"{cell}.w_{path}1"], w[f"{cell}.b_{path}1"]).relu()
        return F.linear(hidden, w[f"{cell}.w_{path}2"], w[f"{cell}.b_{path}2"])

    x = conv_norm(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        width = 32 * 2**stage
        h = c = x.new_zeros(len(x), width)
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            z = conv_norm(x, f"{at}.conv1", f"{at}.bn1").relu()
            z = conv_norm(z, f"{at}.conv2", f"{at}.bn2", stride).relu()
            z = conv_norm(z, f"{at}.conv3", f"{at}.bn3")
            skip = conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride) if block == 0 else x
            logits = mlp(z.mean((2, 3)), f"layer{stage}.dia", "ih") + mlp(h, f"layer{stage}.dia", "hh")
            i, f, g, o = (logits[:, part * width : (part + 1) * width] for part in range(4))
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.sigmoid()
            x = (z * h[:, :, None, None] + skip).relu()
    return F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


def close(got, expected, tolerance):
    """Largest difference relative to the largest value."""
    for a, b in zip(got, expected, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("blocks", [1, 3])
def test_forward_and_backward_equal_the_network_by_hand(blocks):
    net = cifar_resnet(9 * blocks + 2, attention="dia").double()
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    weights = dict(net.named_parameters())
    expected, got = dia_net_by_hand(weights, x, blocks), net(x)
    close([got], [expected], 1e-11)
    leaves = [x, *weights.values()]
    probe = torch.randn_like(got)
    ours = torch.autograd.grad((got * probe).sum(), leaves)
    theirs = torch.autograd.grad((expected * probe).sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", ["reference", "joint"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_stage_in_float32_equals_float64_by_hand(form, memory_format):
    """One stage, because through a whole network float32 itself loses the sixth digit."""
    stage = cifar_resnet(29, attention="dia", norm=None).layer1
    exact = copy.deepcopy(stage).double()
    x = torch.rand(3, 16, 10, 6, requires_grad=True)
    x64 = x.detach().double().requires_grad_()

    def by_hand(x):
        h = c = x.new_zeros(len(x), 64)
        cell = dict(exact.dia.named_parameters())
        for block in exact.block_names:
            b = exact.get_submodule(block)
            z = b.conv3(b.conv2(b.conv1(x).relu()).relu())
            p = z.sum((2, 3)) / 60
            logits = F.linear(F.linear(p, cell["w_ih1"], cell["b_ih1"]).relu(), cell["w_ih2"], cell["b_ih2"])
            logits = logits + F.linear(F.linear(h, cell["w_hh1"], cell["b_hh1"]).relu(), cell["w_hh2"], cell["b_hh2"])
            i, f, g, o = logits.split(64, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.sigmoid()
            x = (torch.einsum("bchw,bc->bchw", z, h) + b.downsample(x)).relu()
        return x

    expected = by_hand(x64)
    with backend(form):
        got = stage.to(memory_format=memory_format)(x.contiguous(memory_format=memory_format))
        close([got], [expected], 1e-6)
        probe = torch.randn_like(got)
        ours = torch.autograd.grad((got * probe).sum(), [x, *stage.parameters()])
    theirs = torch.autograd.grad((expected * probe.double()).sum(), [x64, *exact.parameters()])
    close(ours, theirs, 1e-6)


def test_the_joint_form_gives_the_reference_training_step():
    net = cifar_resnet(20, attention="dia")
    x = torch.randn(4, 3, 16, 16)
    results = {}
    for form in ("reference", "joint"):
        twin = copy.deepcopy(net)
        with backend(form):
            twin(x).square().sum().backward()
        results[form] = [p.grad for p in twin.parameters()] + [b.double() for b in twin.buffers()]
    close(results["joint"], results["reference"], 2e-4)  # sixty float32 layers with BatchNorm over few values


def test_report():
    net = cifar_resnet(29)
    keys = list(net.state_dict())
    report = attach(net, "dia", stages=(-1, 0))
    assert [(row.path, row.channels, row.parameters) for row in report.rows] == [
        ("layer1.dia", 64, 10_784),
        ("layer3.dia", 256, 166_016),
    ]
    assert report.rows[1].shared_with == ("layer3.0", "layer3.1", "layer3.2")
    assert report.parameters == 176_800
    lines = str(report).splitlines()
    assert lines[0].split() == ["path", "channels", "parameters", "shared", "with"]
    assert len({line.index("l") for line in lines[1:3]}) == 1
    assert lines[1].index("10,784") + 6 == lines[2].index("166,016") + 7 == lines[0].index("parameters") + 10
    assert set(keys) <= set(net.state_dict())
    assert not hasattr(net.layer2, "dia")


def test_names():
    assert list_attentions() == ["asr", "cbam", "dia", "eca", "lsas", "ras", "se", "step"]


def test_detach_restores_modules_keys_and_outputs():
    net = cifar_resnet(20).eval()
    stages, keys = [net.layer1, net.layer2, net.layer3], list(net.state_dict())
    blocks = [list(stage) for stage in stages]
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    attach(net, "dia")
    assert not torch.equal(net(x), expected)
    net.train()
    assert detach(net) is net
    assert [net.layer1, net.layer2, net.layer3] == stages
    assert [list(stage) for stage in stages] == blocks
    assert list(net.state_dict()) == keys
    assert net.layer2.training
    assert torch.equal(net.eval()(x), expected)
    attach(net, "dia")


def test_detach_keeps_a_block_that_was_replaced_meanwhile_and_finds_a_moved_model():
    net = cifar_resnet(11, attention="dia")
    replacement = cifar_resnet(11).layer1[0]
    net.layer1.add_module("0", replacement)
    parent = nn.ModuleDict({"backbone": net})
    detach(parent)
    assert net.layer1[0] is replacement
    assert type(net.layer1) is nn.Sequential


def test_identity_init_leaves_the_outputs_and_trains():
    net = cifar_resnet(29)
    for _ in range(3):
        net(torch.randn(8, 3, 8, 8) + 1)
    net.eval()
    x = torch.randn(4, 3, 8, 8)
    expected = net(x)
    attach(net, "dia", init="identity")
    assert (net(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    net(x).square().sum().backward()
    for stage in (net.layer1, net.layer2, net.layer3):
        assert all(p.grad.abs().max() > 0 for p in (stage.dia.w_ih2, stage.dia.b_ih2, stage.dia.w_hh2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer.step()
    assert not torch.allclose(net(x), expected)


def test_state_dict_and_deepcopy():
    net = cifar_resnet(20, attention="dia").eval()
    x = torch.randn(2, 3, 8, 8)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), net(x))
    with torch.no_grad():
        twin.layer1.dia.b_ih2.add_(1)
    assert not torch.equal(twin(x), net(x))
    other = cifar_resnet(20, attention="dia").eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    storages = [value.data_ptr() for value in net.state_dict().values() if value.numel()]
    assert len(set(storages)) == len(storages)
    plain = detach(copy.deepcopy(net))
    assert plain.layer1[0] is not net.layer1[0]


def test_the_state_starts_anew_in_every_forward():
    net = cifar_resnet(20, attention="dia").eval()
    x = torch.randn(2, 3, 8, 8)
    first = net(x)
    net(torch.randn(5, 3, 8, 8))
    assert torch.equal(net(x), first)
    assert torch.allclose(net(x[:1]), first[:1], atol=1e-5)


def test_a_hook_on_the_cell_sees_every_block_in_order():
    net = cifar_resnet(29, attention="dia").eval()
    seen = []
    net.layer2.dia.register_forward_hook(lambda module, inputs, outputs: seen.append((inputs[1], outputs[1])))
    net(torch.randn(2, 3, 8, 8))
    assert len(seen) == 3
    assert torch.equal(seen[0][0], torch.zeros(2, 128))
    assert all(torch.equal(seen[t + 1][0], seen[t][1]) for t in range(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["reference", "joint"])
def test_autocast_trains(dtype, form):
    net = cifar_resnet(20, attention="dia").to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 16, 16)
    expected = copy.deepcopy(net)(x)
    with backend(form), torch.autocast("cpu", dtype=dtype):
        logits = net(x)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)
    logits.float().square().sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters()
    )


def test_a_bfloat16_model():
    net = cifar_resnet(11, attention="dia").bfloat16().eval()
    assert net(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_the_cell_takes_device_dtype_and_mode_of_its_stage():
    net = cifar_resnet(11).to(torch.float64).eval()
    attach(net, "dia", init="identity")
    assert {tensor.dtype for tensor in net.layer1.dia.state_dict().values()} == {torch.float64}
    assert not net.layer1.dia.training


def test_meta_device():
    with torch.device("meta"):
        net = cifar_resnet(11)
    attach(net, "dia", init="identity")
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"meta"}
    assert net(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 10)
    source = cifar_resnet(11)
    attach(source, "dia", init="identity")
    net = net.to_empty(device="cpu").eval()
    net.load_state_dict(source.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(net(x), source.eval()(x))
    assert torch.equal(detach(net)(x), detach(source)(x))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_one_compiled_graph(compiler):
    stage = cifar_resnet(20, attention="dia").layer1
    twin = copy.deepcopy(stage)
    compiled = torch.compile(twin, fullgraph=True, backend=compiler)
    x = torch.randn(3, 16, 8, 8)
    expected, got = stage(x), compiled(x)
    close([got], [expected], 1e-5)
    expected.square().sum().backward()
    got.square().sum().backward()
    close([p.grad for p in twin.parameters()], [p.grad for p in stage.parameters()], 1e-3)


@pytest.mark.slow
def test_one_compiled_graph_under_autocast():
    net = cifar_resnet(20, attention="dia").eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), net(x), rtol=0.05, atol=0.05)


def test_export_with_dynamic_batch():
    net = cifar_resnet(11, attention="dia").eval()
    shapes = ({0: torch.export.Dim("batch", max=4096)},)
    program = torch.export.export(net, (torch.randn(3, 3, 8, 8),), dynamic_shapes=shapes)
    for batch in (2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=0)


def test_torch_func_gradient_is_that_of_autograd():
    net = cifar_resnet(11, attention="dia", norm=None)
    x = torch.randn(2, 3, 8, 8)
    parameters = dict(net.named_parameters())
    got = torch.func.grad(lambda w: torch.func.functional_call(net, w, (x,)).square().sum())(parameters)
    expected = torch.autograd.grad(net(x).square().sum(), list(parameters.values()))
    close(got.values(), expected, 1e-5)


# What is refused


def test_unknown_name_suggests_the_closest():
    net = cifar_resnet(11)
    for name, meant in (("dai", "dia"), ("sse", "se"), ("lsa", "lsas")):
        with pytest.raises(ValueError, match=f"unknown attention '{name}'; did you mean '{meant}'"):
            attach(net, name)


def test_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(TypeError, match=r"unknown option 'order'.*\['check_finite', 'init', 'reduction', 'stages'\]"):
        attach(cifar_resnet(11), "dia", order=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": 65}, r"layer1: reduction=65 must lie in 1\.\.64"),
        ({"init": "ones"}, "init='ones'"),
        ({"stages": (3,)}, r"stages=\(3,\) must name some of the model's 3 stages, -3\.\.2"),
        ({"stages": ()}, r"stages=\(\) must name"),
    ],
)
def test_options_out_of_range_leave_the_model_alone(options, message):
    net = cifar_resnet(11)
    keys = list(net.state_dict())
    with pytest.raises(ValueError, match=message):
        attach(net, "dia", **options)
    assert list(net.state_dict()) == keys
    assert type(net.layer1) is nn.Sequential


def test_attaching_twice_and_detaching_nothing():
    net = cifar_resnet(11, attention="dia")
    with pytest.raises(ValueError, match=r"attached already at \['layer1', 'layer2', 'layer3'\]"):
        attach(net, "dia")
    with pytest.raises(ValueError, match="no attention is attached to this CifarResNet"):
        detach(cifar_resnet(11))


def test_a_model_without_residual_blocks():
    with pytest.raises(ValueError, match="Sequential has no stage"):
        attach(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "dia")
    with pytest.raises(ValueError, match="put it into a parent module"):
        attach(cifar_resnet(11).layer1, "dia")


def test_a_tensor_that_is_not_a_batch_names_the_block():
    net = cifar_resnet(11, attention="dia", norm=None)
    with pytest.raises(ValueError, match=r"layer1\.0: expected features \(B, C, H, W\), got \(16, 8, 8\)"):
        net(torch.randn(3, 8, 8))
    with pytest.raises(ValueError, match=r"layer2\.0: expected features \(B, C, H, W\), got \(2, 64\)"):
        net.layer2(torch.randn(2, 64))


def test_a_branch_of_another_width_names_the_block():
    net = cifar_resnet(20, attention="dia")
    net.layer2[1].conv3, net.layer2[1].bn3 = nn.Conv2d(32, 96, 1), nn.BatchNorm2d(96)
    with pytest.raises(ValueError, match=r"layer2\.1: dia expects a branch \(B, 128, H, W\), got \(2, 96, 4, 4\)"):
        net(torch.randn(2, 3, 8, 8))


def test_check_finite_names_the_block():
    net = cifar_resnet(20)
    attach(net, "dia", check_finite=True)
    net(torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        net.layer2[1].bn3.bias[7] = float("inf")
    with pytest.raises(ValueError, match=r"layer2\.1: the residual branch holds NaN or infinity"):
        net(torch.randn(2, 3, 8, 8))


# Block adapters


class Plain(nn.Module):
    """The smallest residual block."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


@given(
    batch=st.integers(0, 3),
    width=st.integers(1, 9),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
)
def test_any_shape_keeps_the_outputs_and_both_forms_agree(batch, width, size, data):
    register_block_adapter(Plain, lambda block, x: (block.conv(x), x, "relu"))
    net = nn.ModuleDict({"stage": nn.Sequential(*(Plain(width) for _ in range(3)))})
    x = torch.randn(batch, width, *size, requires_grad=True)
    expected = net["stage"](x)
    attach(net, "dia", reduction=data.draw(st.integers(1, width)), init="identity")
    for form in ("reference", "joint"):
        with backend(form):
            torch.testing.assert_close(net["stage"](x), expected)


class Scaled(nn.Module):
    """A block with its own tail, and a width that only it knows."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x):
        return torch.tanh(self.body(x) + 2 * x)


def test_an_adapter_needs_a_class():
    with pytest.raises(TypeError, match="takes a class of modules"):
        register_block_adapter(Plain(2), lambda block, x: (block.conv(x), x, "relu"))


def test_an_adapter_for_a_foreign_block(monkeypatch):
    monkeypatch.setattr("dia_attention._blocks._ADAPTERS", {})
    net = nn.ModuleDict({"stage": nn.Sequential(Scaled(6), Scaled(6))})
    with pytest.raises(ValueError, match="has no stage"):
        attach(net, "dia")
    register_block_adapter(Scaled, lambda b, x: (b.body(x), x, lambda z, s: torch.tanh(z + 2 * s)))
    with pytest.raises(ValueError, match=r"stage: Scaled has no convolution among its direct children"):
        attach(net, "dia")
    register_block_adapter(
        Scaled, lambda b, x: (b.body(x), x, lambda z, s: torch.tanh(z + 2 * s)), channels=lambda b: b.width
    )
    x = torch.randn(2, 6, 5, 5)
    expected = net["stage"](x)
    attach(net, "dia", reduction=2, init="identity")
    torch.testing.assert_close(net["stage"](x), expected)

    class Other(Scaled):
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match=r"Other overrides the forward of .*Scaled; .*register_block_adapter\(Other"):
        attach(nn.ModuleDict({"stage": nn.Sequential(Other(6))}), "dia")
    with pytest.raises(ValueError, match=r"stage: the blocks have different widths \[6, 8\]"):
        attach(nn.ModuleDict({"stage": nn.Sequential(Scaled(6), Scaled(8))}), "dia")


def test_a_block_that_occurs_twice_stays_twice():
    net = cifar_resnet(20)
    net.layer3 = nn.Sequential(net.layer3[0], net.layer3[1], net.layer3[1])
    net.eval()
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    report = attach(net, "dia", init="identity")
    assert len(report.rows[2].shared_with) == 3
    torch.testing.assert_close(net(x), expected)
