"""Detectors, segmentation networks and medical networks: the host's own forward is the oracle."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from dia_attention import attach, detach, fold
from monai.networks.nets import resnet as monai
from torch import nn
from torchvision.models import detection, segmentation

SLOW = pytest.mark.slow


def shaken(model):
    for module in model.modules():
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, name, None)
            if value is not None and value.ndim == 1 and "Norm" in type(module).__name__:
                value.data.uniform_(0.8, 1.2)
    return model.eval()


def outputs(model, x):
    """All tensors that a model returns, in order."""
    y = model(x)
    if isinstance(y, dict):
        y = list(y.values())
    return list(y) if isinstance(y, list | tuple) else [y]


def check(model, x, names, first, *, tolerance=1e-4):
    """Identity start leaves the outputs; every attention has its gradient; ASR folds; detach restores."""
    model = shaken(model)
    keys, expected = list(model.state_dict()), [y.detach() for y in outputs(model, x)]
    for name in names:
        report = attach(model, name, init="identity")
        assert report.rows[0].shared_with[0].startswith(first), report
        assert [key for key in model.state_dict() if f".{name}." not in key] == keys
        got = outputs(model, x)
        for a, b in zip(got, expected, strict=True):
            assert (a - b).abs().max() <= tolerance * b.abs().max()
        with torch.no_grad():
            for a, b in zip(outputs(model, x), expected, strict=True):
                assert (a - b).abs().max() <= tolerance * b.abs().max()
        sum(y.square().mean() for y in got).backward()
        inserted = [model.get_submodule(row.path) for row in report.rows]
        assert all(max(p.grad.abs().max() for p in module.parameters()) > 0 for module in inserted)
        if name == "asr":
            for module in inserted:
                nn.init.constant_(module.attention[0].fc2.bias, -0.5)
            shrunk = outputs(model, x)
            for a, b in zip(outputs(fold(model), x), shrunk, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
        detach(model)
        assert list(model.state_dict()) == keys
        for a, b in zip(outputs(model, x), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("spatial", [2, 3])
def test_monai(spatial):
    net = monai.resnet18(spatial_dims=spatial, n_input_channels=1, num_classes=3)
    x = torch.randn(2, 1, *[33] * spatial) if spatial == 2 else torch.randn(2, 1, 17, 20, 17)
    names = ["dia", "se", "asr", "step"] + (["cbam"] if spatial == 2 else [])
    check(net, x, names, "layer1.0")


@SLOW
def test_monai_bottleneck():
    net = monai.resnet50(spatial_dims=3, n_input_channels=1, num_classes=3)
    check(net, torch.randn(2, 1, 32, 32, 32), ["dia", "asr", "ras"], "layer1.0")


def test_cbam_in_three_dimensions_names_the_block():
    net = monai.resnet18(spatial_dims=3, n_input_channels=1, num_classes=3)
    attach(net, "cbam")
    with pytest.raises(ValueError, match=r"layer1\.0: cbam has a spatial kernel in two dimensions, got \(2, 64, "):
        net(torch.randn(2, 1, 16, 16, 16))


@pytest.mark.parametrize(
    ("encoder", "first"), [("resnet18", "encoder.layer1.0"), ("tu-resnet18", "encoder.model.layer1.0")]
)
def test_segmentation_models_pytorch(encoder, first):
    net = smp.Unet(encoder, encoder_weights=None, in_channels=3, classes=2)
    check(net, torch.randn(1, 3, 64, 64), ["dia", "asr"], first)


def test_deeplab():
    net = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=3)
    check(net, torch.randn(1, 3, 64, 64), ["dia", "asr"], "backbone.layer1.0")


def test_retinanet_with_frozen_norms():
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d
    )
    check(backbone, torch.randn(1, 3, 64, 64), ["dia", "se", "ras", "asr"], "body.layer1.0")
    net = detection.RetinaNet(backbone, num_classes=3, min_size=64, max_size=64)
    keys, images = list(net.state_dict()), [torch.rand(3, 60, 50)]
    attach(net, "asr")
    target = [{"boxes": torch.tensor([[5.0, 5.0, 30.0, 40.0]]), "labels": torch.tensor([1])}]
    losses = net.train()(images, target)
    sum(losses.values()).backward()
    guest = net.backbone.body.layer4[1].bn2.asr
    assert guest.psi.grad.abs().max() > 0
    folded = fold(net)
    assert list(folded.state_dict()) == keys
    assert isinstance(folded.backbone.body.layer4[1].bn2, torchvision.ops.FrozenBatchNorm2d)
    folded.eval()(images)


@SLOW
@pytest.mark.parametrize("name", ["dia", "lsas", "asr", "ras"])
@pytest.mark.parametrize("build", [detection.fasterrcnn_resnet50_fpn, detection.retinanet_resnet50_fpn])
def test_detectors_train_and_detect(build, name):
    net = build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64)
    attach(net, name, init="identity")
    images = [torch.rand(3, 60, 50), torch.rand(3, 50, 64)]
    target = [{"boxes": torch.tensor([[5.0, 5.0, 30.0, 40.0]]), "labels": torch.tensor([1])} for _ in images]
    losses = net.train()(images, target)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    net.eval()(images)


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", pytest.param("wide_resnet50_2", marks=SLOW), pytest.param("resnet34", marks=SLOW)]
)
def test_torchvision(name):
    net = torchvision.models.get_model(name, num_classes=5)
    check(
        net, torch.randn(2, 3, 33, 40), ["lsas", "asr"] if name == "resnext50_32x4d" else ["se", "ras", "step"], "layer"
    )
