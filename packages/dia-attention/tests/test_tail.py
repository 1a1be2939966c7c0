"""Attention before the last 1x1 convolution: the same outputs as the form of training, and only where it applies."""

import copy

import pytest
import timm
import torch
import torchvision
from dia_attention import _stage, attach, cifar_resnet
from dia_attention._stage import Stage
from torch import nn

GATES = ("dia", "eca", "lsas", "ras", "se", "step")


@pytest.fixture
def taken(monkeypatch):
    """Count of the blocks that took the early form."""
    calls = []
    plain = _stage.finish_early
    monkeypatch.setattr(_stage, "finish_early", lambda *arguments: calls.append(None) or plain(*arguments))
    return calls


def shaken(net):
    for module in net.modules():
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, name, None)
            if value is not None and not isinstance(module, nn.Conv2d | nn.Linear):
                value.data.uniform_(0.5, 1.5)
    return net.eval()


def check(net, x, taken, blocks):
    expected = net(x)
    assert not taken
    for context in (torch.no_grad, torch.inference_mode):
        taken.clear()
        with context():
            got = net(x)
        assert len(taken) == blocks
        assert (got - expected).abs().max() <= 2e-5 * expected.abs().max()
    for module in net.modules():
        if isinstance(module, Stage):
            module.pool_early = False
    taken.clear()
    with torch.no_grad():
        assert torch.equal(net(x), expected)
    assert not taken


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (40, 33), (1, 1)])
def test_cifar(name, memory_format, size, taken):
    net = shaken(cifar_resnet(20, attention=name, **({"stages": (0, 1, 2)} if name == "lsas" else {})))
    net.to(memory_format=memory_format)
    check(net, torch.randn(3, 3, *size).contiguous(memory_format=memory_format), taken, 6)


@pytest.mark.parametrize("options", [{"norm": None}, {"skip": "none"}])
def test_cifar_without_norm_or_skip(options, taken):
    check(shaken(cifar_resnet(20, attention="dia", **options)), torch.randn(3, 3, 8, 8), taken, 6)


def test_hosts(taken):
    x = torch.randn(2, 3, 32, 32)
    bottleneck = torchvision.models.resnet.Bottleneck
    for net, blocks in (
        (torchvision.models.ResNet(bottleneck, [2, 1, 1, 1], norm_layer=torchvision.ops.FrozenBatchNorm2d), 5),
        (timm.create_model("resnet26", num_classes=5, act_layer=nn.SiLU), 8),
        (timm.create_model("resnetv2_50", num_classes=5), 16),
        (timm.create_model("resnet26", num_classes=5, norm_layer="groupnorm"), 0),  # its statistics need the map
        (timm.create_model("resnet18", num_classes=5), 0),  # its last convolution is 3x3
    ):
        attach(net, "se")
        taken.clear()
        check(shaken(net), x, taken, blocks)


def test_asr_beside_the_gate(taken):
    net = cifar_resnet(20, attention="se")
    attach(net, "asr", stack=2)
    check(shaken(net), torch.randn(3, 3, 8, 8), taken, 6)


def test_hooks_on_the_last_layers_and_maps_for_cbam_take_the_plain_form(taken):
    net = shaken(cifar_resnet(11, attention="se"))
    seen = []
    net.layer1[0].bn3.register_forward_hook(lambda *_: seen.append(None))
    with torch.no_grad():
        net(torch.randn(2, 3, 8, 8))
        cifar_resnet(11, attention="cbam").eval()(torch.randn(2, 3, 8, 8))
        cifar_resnet(11, attention="se").train()(torch.randn(2, 3, 8, 8))
    assert len(seen) == 1
    assert len(taken) == 2


def test_half_precision(taken):
    net = shaken(cifar_resnet(20, attention="dia"))
    x = torch.randn(3, 3, 8, 8)
    expected = net(x)
    with torch.no_grad():
        low = copy.deepcopy(net).bfloat16()(x.bfloat16())
    assert len(taken) == 6
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0.1, atol=0.1)


def test_the_hook_on_a_shared_gate_still_sees_every_block(taken):
    net = shaken(cifar_resnet(20, attention="dia"))
    gates = []
    net.layer2.dia.register_forward_hook(lambda _, inputs, outputs: gates.append(outputs[0]))
    x = torch.randn(2, 3, 8, 8)
    net(x)
    with torch.no_grad():
        net(x)
    torch.testing.assert_close(gates[2:], [gate.detach() for gate in gates[:2]], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
def test_compiled_inference(name):
    stage = shaken(cifar_resnet(20, attention=name)).layer3
    x = torch.randn(3, 128, 4, 4)
    with torch.no_grad():
        got = torch.compile(stage, fullgraph=True, backend="aot_eager")(x)
        torch.testing.assert_close(got, stage(x), rtol=1e-5, atol=1e-5)


def test_exported_inference(taken):
    stage = shaken(cifar_resnet(11, attention="se")).layer3
    x = torch.randn(3, 128, 4, 4)
    with torch.no_grad():
        expected = stage(x)
        program = torch.export.export(stage, (x,), dynamic_shapes=({0: torch.export.Dim("batch", max=4096)},)).module()
        assert len(taken) == 2
        torch.testing.assert_close(program(torch.cat([x, x])), torch.cat([expected, expected]), rtol=1e-5, atol=1e-5)


def test_refusals_name_the_block_in_this_form_too():
    net = cifar_resnet(20, attention="se").eval()
    net.layer2[1].conv3, net.layer2[1].bn3 = nn.Conv2d(32, 96, 1), nn.BatchNorm2d(96).eval()
    with pytest.raises(ValueError, match=r"layer2\.1: se expects a branch \(B, 128, H, W\)"), torch.no_grad():
        net(torch.randn(2, 3, 8, 8))
