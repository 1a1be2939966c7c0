"""One attention for all blocks of a stage, and RAS folded: parameters, norms of each block, classes of the user's."""

import copy

import pytest
import torch
from dia_attention import FoldError, attach, cifar_resnet, detach, fold, share
from timm.layers import SqueezeExcite
from timm.layers.create_attn import get_attn
from torch import nn


def test_parameters_do_not_grow_with_the_depth():
    def added(depth, name, **options):
        net = cifar_resnet(depth)
        before = sum(p.numel() for p in net.parameters())
        report = share(net, name, **options)
        assert sum(p.numel() for p in net.parameters()) == before + report.parameters
        return report.parameters

    for name in ("se", "eca", "lsas", "step"):
        assert added(11, name) == added(29, name)
        assert added(29, name, per="block") == 3 * added(11, name, per="block")
    assert added(29, "ras", share_norm=True) == added(11, "ras")
    assert added(29, "ras") == added(11, "ras") + 2 * 2 * (64 + 128 + 256)
    assert added(29, "cbam") == added(11, "cbam") + 2 * 2 * 3


def test_the_same_gate_serves_every_block_and_collects_every_gradient():
    net = cifar_resnet(29)
    share(net, "se")
    calls = []
    net.layer1.se.register_forward_hook(lambda *_: calls.append(None))
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    assert len(calls) == 3
    assert net.layer1.se.fc1.weight.grad.abs().max() > 0
    assert sum(".se." in key for key in net.state_dict()) == 3 * 4


def test_norms_of_each_block_track_that_block():
    net = cifar_resnet(20)
    share(net, "ras")
    x = torch.randn(8, 3, 8, 8)
    net(x)
    first, second = net.layer1.ras.bn, net.layer1.ras_norms["1"]["bn"]
    assert first.num_batches_tracked == second.num_batches_tracked == 1
    assert not torch.equal(first.running_var, second.running_var)
    twin = copy.deepcopy(net)
    twin.layer1.ras_norms["1"]["bn"].weight.data.mul_(3)
    assert not torch.equal(twin.eval()(x), net.eval()(x))
    twin.layer1.ras_norms["1"]["bn"].weight.data.div_(3)
    torch.testing.assert_close(twin(x), net(x))
    mixed = cifar_resnet(20)
    share(mixed, "ras", share_norm=True)
    mixed(x)
    assert mixed.layer1.ras.bn.num_batches_tracked == 2
    assert not [key for key in mixed.state_dict() if "_norms" in key]


def test_views_follow_the_mode_the_device_and_replaced_norms():
    net = cifar_resnet(20)
    share(net, "cbam")
    for mode in (False, True, False):
        net.train(mode)
        assert all(module.training is mode for a in net.layer2.attentions for module in a.modules())
    net.train()
    frozen = net.layer2.cbam_norms["1"]["spatial_1"].eval()  # a norm alone, as for finetuning
    net(torch.randn(2, 3, 8, 8))
    assert not frozen.training
    assert frozen.num_batches_tracked == 0
    assert net.layer2.attentions[1].training
    net.eval().double()
    assert net(torch.randn(2, 3, 8, 8).double()).dtype == torch.float64
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    net.eval()(torch.randn(2, 3, 8, 8).double())
    for attention in net.layer3.attentions:
        assert isinstance(attention.spatial[1], nn.SyncBatchNorm)
    assert net.layer3.attentions[1].spatial[1] is net.layer3.cbam_norms["1"]["spatial_1"]


@pytest.mark.parametrize("share_norm", [False, True])
def test_a_class_of_timm(share_norm):
    net = cifar_resnet(20)
    report = share(net, get_attn("coord"), share_norm=share_norm)
    assert report.rows[0].path == "layer1.shared"
    x = torch.randn(4, 3, 16, 16)
    net(x).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    by_hand = copy.deepcopy(net.layer1.shared)
    plain = detach(copy.deepcopy(net))
    stem = torch.relu(plain.bn1(plain.conv1(x)))
    block = plain.layer1[0]
    z = block.bn3(block.conv3(block.bn2(block.conv2(block.bn1(block.conv1(stem)).relu())).relu()))
    expected = (by_hand(z) + block.downsample(stem)).relu()
    got = []
    net.layer1[1].conv1.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    net(x)
    torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=1e-5)
    assert bool([key for key in net.state_dict() if "shared_norms" in key]) is not share_norm


def test_a_class_of_timm_for_every_block():
    net = cifar_resnet(20)
    share(net, SqueezeExcite, per="block", stages=(-1,))
    assert isinstance(net.layer3.shared["1"], SqueezeExcite)
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("init", ["small", "paper", "identity"])
def test_ras_folds_into_two_numbers_a_channel(shared, init):
    net = cifar_resnet(20)
    share(net, "ras", init=init) if shared else attach(net, "ras", init=init)
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for _ in range(3):
        net(torch.randn(8, 3, 8, 8))
    x = torch.randn(4, 3, 8, 8)
    expected = net.eval()(x)
    folded = fold(net)
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in folded.layer1.ras.parameters()) == 2 * 2 * 64
    assert not [key for key in folded.state_dict() if "ras" in key and "running" in key]
    assert folded(x[:1]).shape == folded.train()(x[:1]).shape  # no batch statistics any more
    with pytest.raises(FoldError, match="layer1: folded already"):
        fold(folded)
    assert list(detach(folded).state_dict()) == list(cifar_resnet(20).state_dict())


@pytest.mark.parametrize("name", ["dia", "se", "eca", "cbam", "lsas", "step"])
def test_what_depends_on_the_input_cannot_be_folded(name):
    net = cifar_resnet(11, attention=name)
    with pytest.raises(FoldError, match=rf"layer[13]: '{name}' depends on the input and cannot be folded"):
        fold(net)
    with pytest.raises(FoldError, match="nothing to fold"):
        fold(cifar_resnet(11))


def refused(error, message, *arguments, **options):
    net = cifar_resnet(11)
    with pytest.raises(error, match=message):
        share(net, *arguments, **options)
    assert type(net.layer1) is nn.Sequential


def test_refusals_leave_the_model_alone():
    refused(ValueError, r"cannot share 'dia'; give one of \['cbam'", "dia")
    refused(ValueError, "cannot share 'asr'", "asr")
    refused(ValueError, "per='net' must be 'stage' or 'block'", "se", per="net")
    refused(ValueError, r"layer1: reduction=65 must lie in 1\.\.64", "se", reduction=65)
    refused(ValueError, r"layer1\.0: reduction=65 must lie in 1\.\.64", "se", reduction=65, per="block")
    refused(TypeError, "unknown option 'order' for attention 'se'", "se", order=1)
    refused(TypeError, "got a SEModule module; give its class", SqueezeExcite(64))
    refused(TypeError, r"options \['order'\] are for attentions given by name", SqueezeExcite, order=1)
    refused(TypeError, "returned int, expected a module", lambda width: width)
    net = cifar_resnet(11, attention="se")
    with pytest.raises(ValueError, match=r"attached already at \['layer1', 'layer2', 'layer3'\]"):
        share(net, "se")


def test_a_class_that_changes_the_shape_names_the_block():
    net = cifar_resnet(11)
    share(net, lambda width: nn.AvgPool2d(2))
    with pytest.raises(ValueError, match=r"layer1\.0: the attention made \(2, 64, 4, 4\) of a branch \(2, 64, 8, 8\)"):
        net(torch.randn(2, 3, 8, 8))


def test_stepnet_needs_the_skip():
    net = cifar_resnet(11, attention="step", skip="none")
    with pytest.raises(ValueError, match=r"layer1\.0: step needs the skip, and this block has none"):
        net(torch.randn(2, 3, 8, 8))
    assert cifar_resnet(11, attention="se", skip="none")(torch.randn(2, 3, 8, 8)).shape == (2, 10)
