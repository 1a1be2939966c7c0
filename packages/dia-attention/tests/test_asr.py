"""ASR in every kind of layer: what it computes, what folding leaves, and what is refused."""

import copy

import pytest
import timm
import torch
from dia_attention import ASR, ECA, RAS, FoldError, attach, cifar_resnet, detach, fold
from dia_attention._host import evict, host
from timm.layers import BatchNormAct2d, LayerNorm2d, LayerScale
from timm.layers.std_conv import StdConv2d
from timm.utils.model import reparameterize_model
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

LAYERS = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(8), (6, 8)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(8), (6, 8, 3, 2)),
    "BatchNorm2d, cumulative": (lambda: nn.BatchNorm2d(8, momentum=None), (6, 8, 3, 2)),
    "BatchNorm2d, untracked": (lambda: nn.BatchNorm2d(8, track_running_stats=False), (6, 8, 3, 2)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(8), (6, 8, 3, 2, 2)),
    "BatchNormAct2d": (lambda: BatchNormAct2d(8), (6, 8, 3, 2)),
    "Conv2d": (lambda: nn.Conv2d(3, 8, 3), (6, 3, 5, 4)),
    "Conv2d, no bias": (lambda: nn.Conv2d(3, 8, 1, bias=False), (6, 3, 5, 4)),
    "FrozenBatchNorm2d": (lambda: FrozenBatchNorm2d(8), (6, 8, 3, 2)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 8), (6, 8, 3, 2)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(8, affine=True), (6, 8, 3, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(8), (6, 5, 8)),
    "LayerNorm2d": (lambda: LayerNorm2d(8), (6, 8, 3, 2)),
    "LayerScale": (lambda: LayerScale(8, init_values=0.5), (6, 5, 8)),
    "Linear": (lambda: nn.Linear(5, 8), (6, 5)),
    "RMSNorm": (lambda: nn.RMSNorm(8), (6, 5, 8)),
}


def shaken(layer):
    for value in layer.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return layer


def scaled(v, y):
    """v along the axis of length 8."""
    return y * (v if y.shape[-1] == 8 else v.reshape(8, *[1] * (y.ndim - 2)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_host_is_its_layer_times_v_and_folds_into_it(name):
    build, shape = LAYERS[name]
    plain = shaken(build())
    layer, guest = copy.deepcopy(plain), ASR(8, reduction=2, stack=2)
    kind, keys = type(layer), list(layer.state_dict())
    host(layer, guest)
    assert isinstance(layer, kind)
    assert list(layer.state_dict())[: len(keys)] == keys
    for _ in range(3):  # running statistics move alike
        x = torch.randn(shape, requires_grad=True)
        got, expected = layer(x), scaled(guest(), plain(x))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    leaves = [x, *[value for key, value in layer.named_parameters() if not key.startswith("asr")]]
    others = [x, *plain.parameters()]
    ours = torch.autograd.grad(got.square().sum(), [*leaves, *guest.parameters()])
    theirs = torch.autograd.grad(expected.square().sum(), [*others, *guest.parameters()])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    layer.eval()
    expected = layer(x)
    folded = copy.deepcopy(layer).fuse()
    assert type(folded) is kind
    assert list(folded.state_dict()) == keys
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-6)
    assert type(evict(layer)) is kind
    torch.testing.assert_close(layer(x), plain.eval()(x), rtol=0, atol=0)


def test_every_host_folds_verified_by_running_it():
    for build, _ in LAYERS.values():
        layer = shaken(build())
        if not isinstance(layer, nn.BatchNorm2d) or layer.track_running_stats:
            model = nn.ModuleDict({"layer": layer})
            attach(model, "asr", layers=["layer"], reduction=2)
            assert type(fold(model)["layer"]) is type(build())


def test_training_reads_and_writes_no_more_maps_than_the_plain_net():
    """The saved tensors of a step, beyond those of the plain net, are vectors and the guests' own matrices."""

    def saved(net):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: (t.ndim == 4 and sizes.append(t.numel())) or t, lambda t: t
        ):
            net(torch.randn(4, 3, 16, 16))
        return sorted(sizes)

    plain, net = cifar_resnet(11), cifar_resnet(11, attention="asr")
    assert saved(net) == saved(plain)


def operators(net):
    """The operators of a network's forward, in order."""
    program = torch.export.export(net.eval(), (torch.randn(2, 3, 16, 16),))
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def test_a_folded_network_has_the_keys_and_the_operators_of_the_plain_one():
    plain = cifar_resnet(11)
    net = copy.deepcopy(plain)
    attach(net, "asr", stack=2)
    for _ in range(2):
        net(torch.randn(4, 3, 16, 16))
    folded = fold(net)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in folded.modules()] == [type(module) for module in plain.modules()]
    assert operators(folded) == operators(plain)
    assert len(operators(net)) > len(operators(plain))
    x = torch.randn(3, 3, 9, 9)
    torch.testing.assert_close(folded.eval()(x), net.eval()(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(FoldError, match="nothing to fold in this CifarResNet: no attention is attached, or it was"):
        fold(folded)


def test_asr_beside_another_attention():
    net = cifar_resnet(20)
    attach(net, "se")
    attach(net, "asr", base="eca")
    net(torch.randn(4, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    expected = net.eval()(x)
    other = cifar_resnet(20)
    attach(other, "asr", base="eca")
    attach(other, "se")
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other.eval()(x), expected)
    folded = fold(net)
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    assert not [key for key in folded.state_dict() if ".asr." in key]
    assert [key for key in folded.state_dict() if ".se." in key]
    with pytest.raises(FoldError, match=r"layer1: 'se' depends on the input and cannot be folded; 'asr' and 'ras' can"):
        fold(folded)
    detach(net)
    assert list(net.state_dict()) == list(cifar_resnet(20).state_dict())


def test_asr_without_norms_scales_the_last_convolution():
    net = cifar_resnet(11, norm=None)
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    report = attach(net, "asr", init="identity")
    assert report.rows[0].path == "layer1.0.conv3.asr"
    torch.testing.assert_close(net(x), expected)
    torch.nn.init.constant_(net.layer1[0].conv3.asr.attention[0].fc2.bias, -1)
    torch.testing.assert_close(fold(net)(x), net(x))


@pytest.mark.parametrize("scale", [None, 1e-2])
def test_vit(scale):
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5, init_values=scale).eval()
    keys, x = list(net.state_dict()), torch.randn(2, 3, 32, 32)
    report = attach(net, "asr")
    ends = ["ls1", "ls2"] if scale else ["attn.proj", "mlp.fc2"]
    assert [row.shared_with[0] for row in report.rows] == [f"blocks.{i}.{end}" for i in (0, 1) for end in ends]
    expected = net(x)
    folded = reparameterize_model(net)
    assert list(folded.state_dict()) == keys
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fold(net)(x), expected, rtol=1e-4, atol=1e-5)
    norms = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    assert len(attach(norms, "asr", layers=["blocks.*.norm?", "norm"]).rows) == 5
    norms.train()(x).sum().backward()
    assert norms.blocks[1].norm2.asr.psi.grad.abs().max() > 0
    with pytest.raises(ValueError, match=r"blocks: a Block takes only attention that folds into it, 'asr'"):
        attach(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2), "se")


def test_convnext():
    net = timm.create_model("convnext_atto", num_classes=5).eval()
    x = torch.randn(2, 3, 32, 32)
    keys = list(net.state_dict())
    assert attach(net, "asr", base="eca").rows[0].path == "stages.0.blocks.0.mlp.fc2.asr"
    expected = net(x)
    folded = reparameterize_model(net)
    assert list(folded.state_dict()) == keys
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-5)


def test_repvgg_becomes_one_convolution_a_block_in_one_call():
    net = timm.create_model("repvgg_a0", num_classes=5)
    attach(net, "asr")
    x = torch.randn(2, 3, 32, 32)
    net(x)
    expected = net.eval()(x)
    deployed = reparameterize_model(net)
    assert not [key for key in deployed.state_dict() if ".asr." in key or ".conv_kxk." in key]
    assert [key for key in deployed.state_dict() if "reparam_conv" in key]
    torch.testing.assert_close(deployed(x), expected, rtol=1e-3, atol=1e-4)


class Random(nn.Module):
    """An attention that is never the same."""

    def __init__(self, channels):
        super().__init__()
        self.w = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return torch.rand_like(x) * self.w


def test_a_fold_that_changes_the_outputs_is_refused_with_the_difference():
    net = cifar_resnet(11)
    attach(net, "asr", base=Random, stages=(1,))
    keys = list(net.state_dict())
    with pytest.raises(FoldError, match=r"layer2\.0\.bn3: the folded BatchNorm2d differs .* by [0-9.]+ of its largest"):
        fold(net, inplace=True)
    assert list(net.state_dict()) == keys
    assert ".asr." not in "".join(fold(net, verify=False).state_dict())
    attach(other := cifar_resnet(11), "asr")
    with torch.no_grad():
        other.layer1[0].bn3.asr.psi.fill_(float("nan"))
    with pytest.raises(FoldError, match=r"layer1\.0\.bn3: .* differs from the original by nan"):
        fold(other)


def test_fold_leaves_the_random_state_alone():
    net = cifar_resnet(11, attention="asr")
    attach(net, "ras")
    before = torch.get_rng_state()
    fold(net)
    assert torch.equal(torch.get_rng_state(), before)


def test_fold_in_place_and_in_every_mode_and_dtype():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        net = cifar_resnet(11, attention="asr").to(dtype)
        assert fold(net).training
        assert not fold(net.eval()).training
        x = torch.randn(2, 3, 8, 8, dtype=dtype)
        expected = net(x)
        assert fold(net, inplace=True) is net
        torch.testing.assert_close(net(x), expected, rtol=0.05 if dtype == torch.bfloat16 else 1e-4, atol=0.02)


# What is refused


def refused(message, model=None, error=ValueError, **options):
    model = cifar_resnet(11) if model is None else model
    keys, kinds = list(model.state_dict()), [type(module) for module in model.modules()]
    with pytest.raises(error, match=message):
        attach(model, "asr", **options)
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == kinds


def test_refusals_name_the_layer_and_leave_the_model_alone():
    refused(r"layer1\.0\.bn3: ASR over RAS: its BatchNorm1d would normalise over a batch", base=RAS)
    refused(r"layer1\.0\.bn3: reduction=65 must lie in 1\.\.64", reduction=65)
    refused(r"layer1\.0\.bn3: stack=0 must be at least 1", stack=0)
    refused(r"layer1\.0\.bn3: unknown base 'ras'", base="ras")
    refused(r"layer1\.0\.bn3: init='small' must be", init="small")
    refused(r"layers=\['x'\] names no layer of this CifarResNet", layers=["x"])
    refused(r"relu: ASR goes into norms, .* not into a ReLU", nn.ModuleDict({"relu": nn.ReLU()}), layers=["relu"])
    refused("check_finite reads the residual branch", check_finite=True)
    refused(r"unknown option 'order' for attention 'asr'", error=TypeError, order=1)
    refused(r"give a class or function", error=TypeError, base=ECA(64))
    sync = nn.SyncBatchNorm.convert_sync_batchnorm(cifar_resnet(11))
    refused(r"layer1\.0\.bn3: ASR does not go into a SyncBatchNorm", sync)
    bare = cifar_resnet(11)
    bare.layer3[0].bn3 = nn.BatchNorm2d(256, affine=False)
    refused(r"layer3\.0\.bn3: this BatchNorm2d has no affine to scale", bare)
    refused(r"c: a StdConv2d standardises its weight", nn.ModuleDict({"c": StdConv2d(3, 8, 1)}), layers=["c"])
    refused(r"c: ASR goes into", nn.ModuleDict({"c": nn.ConvTranspose2d(3, 8, 1)}), layers=["c"])
    refused(r"c: this LayerNorm normalises \(8, 2\)", nn.ModuleDict({"c": nn.LayerNorm((8, 2))}), layers=["c"])
    refused(r"ASR is attached already at \['layer1.0.bn3'", cifar_resnet(11, attention="asr"))


class Wrong(nn.Module):
    """A gate of a wrong shape."""

    def __init__(self, channels):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.w[None]


def test_a_gate_of_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"ASR over Wrong: expected a gate \(1, 8\) for \(1, 8\)"):
        ASR(8, base=Wrong)()


def test_conversion_to_sync_batch_norm_after_attach_is_noticed():
    with pytest.raises(TypeError, match="cannot assign"):  # torch's own refusal
        nn.SyncBatchNorm.convert_sync_batchnorm(cifar_resnet(11, attention="asr"))
    net = cifar_resnet(11, attention="asr")
    cut = nn.SyncBatchNorm(64)
    cut.asr = net.layer1[0].bn3.asr
    net.layer1[0].bn3 = cut
    with pytest.raises(ValueError, match=r"layer1\.0\.bn3: its ASR was cut off when the layer became a SyncBatchNorm"):
        fold(net)
