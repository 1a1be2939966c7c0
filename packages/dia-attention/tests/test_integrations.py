"""attach on the networks of torchvision and timm: the host's own forward is the oracle."""

import copy
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from dia_attention import attach, cifar_resnet, detach
from timm.layers import set_reentrant_ckpt
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

TORCHVISION = (
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    pytest.param("wide_resnet50_2", marks=pytest.mark.slow),
)
TIMM = (
    ("resnet18", {}),
    ("resnet26d", {"drop_block_rate": 0.2}),
    ("resnetblur18", {}),
    ("resnetblur50", {}),
    ("resnext50_32x4d", {"act_layer": nn.SiLU, "output_stride": 16}),
    ("resnet50_gn", {}),
)


def shaken(model):
    """Give every norm weights, shifts and statistics that are not 0 and 1."""
    for module in model.modules():
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, name, None)
            if value is not None and not isinstance(module, nn.Conv2d | nn.Linear):
                value.data.uniform_(0.5, 1.5)
    return model


def check_identity(model, x, *, reduction=4):
    """The attached network in eval mode equals the host's own forward, keeps its keys, and comes back by detach."""
    model = shaken(model).eval()
    keys, expected = list(model.state_dict()), model(x)
    attach(model, "dia", reduction=reduction, init="identity")
    assert [key for key in model.state_dict() if ".dia." not in key] == keys
    got = model(x)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    got.square().mean().backward()
    assert all(model.get_submodule(f"layer{stage}.dia").w_ih2.grad.abs().max() > 0 for stage in (1, 2, 3, 4))
    assert torch.equal(detach(model)(x), expected)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    check_identity(torchvision.models.get_model(name, num_classes=5), torch.randn(2, 3, 40, 33))


def test_torchvision_with_frozen_norms_and_another_activation():
    model = torchvision.models.resnet18(num_classes=5, norm_layer=torchvision.ops.FrozenBatchNorm2d)
    for block in (*model.layer1, *model.layer3):
        block.relu = nn.SiLU()
    check_identity(model, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(("name", "options"), TIMM)
def test_timm(name, options):
    check_identity(timm.create_model(name, num_classes=5, **options), torch.randn(2, 3, 64, 64))


@pytest.mark.slow
def test_resnet50_of_the_specification():
    model = torchvision.models.resnet50()
    keys = set(model.state_dict())
    attach(model, "dia", reduction=20)
    assert sum(parameter.numel() for parameter in model.parameters()) == 28_358_052
    assert keys < set(model.state_dict())
    model.eval()
    x = torch.randn(2, 3, 32, 32)
    graphs = CompileCounter()
    compiled = torch.compile(model, fullgraph=True, backend=graphs)  # fullgraph raises on a break
    torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=0)
    assert graphs.frame_count == 1
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", max=4096)},))
    larger = torch.randn(3, 3, 32, 32)
    assert torch.equal(program.module()(larger), model(larger))


def test_a_detector_backbone_inside_a_larger_model():
    detector = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    ).eval()
    keys = set(detector.state_dict())
    image = torch.rand(3, 64, 64)
    features = detector.backbone(image[None])
    report = attach(detector, "dia", reduction=16, init="identity")
    assert report.rows[0].path == "backbone.body.layer1.dia"
    assert keys < set(detector.state_dict())
    for key, value in detector.backbone(image[None]).items():
        torch.testing.assert_close(value, features[key], rtol=1e-4, atol=1e-4)
    detector([image])


def test_timm_features_only():
    model = timm.create_model("resnet18", features_only=True).eval()
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    attach(model, "dia", init="identity")
    for ours, theirs in zip(model(x), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_timm_stochastic_depth_drops_the_gated_branch():
    """timm's own attention slot and the adapter draw the same mask, so that a constant gate shows the order."""

    class Quarter(nn.Module):
        def __init__(self, channels, device=None, dtype=None):
            super().__init__()

        def forward(self, x):
            return 0.25 * x

    torch.manual_seed(1)
    host = timm.create_model("resnet26", drop_path_rate=0.5, num_classes=5, block_args={"attn_layer": Quarter})
    model = timm.create_model("resnet26", drop_path_rate=0.5, num_classes=5)
    model.load_state_dict(host.state_dict())
    shaken(model)
    host.load_state_dict(model.state_dict())
    attach(model, "dia", init="identity")
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.dia.gate_scale.fill_(1)  # the gate is now 0.25
    x = torch.randn(6, 3, 32, 32)
    outputs = []
    for net in (host, model):
        torch.manual_seed(2)
        outputs.append(net.train()(x))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)


def test_timm_stochastic_depth_does_not_hide_the_branch_from_the_attention():
    model = timm.create_model("resnet26", drop_path_rate=0.9, num_classes=5)
    attach(model, "dia")
    seen = []
    model.layer4.dia.register_forward_hook(lambda module, inputs, outputs: seen.append(inputs[0]))
    shaken(model).train()(torch.randn(6, 3, 32, 32))
    assert all((pooled.abs().sum(1) > 0).all() for pooled in seen)


def test_a_block_with_attention_of_its_own_is_refused():
    model = timm.create_model("seresnet50", num_classes=5)
    with pytest.raises(ValueError, match="layer1: its Bottleneck has an attention already"):
        attach(model, "dia")
    assert type(model.layer1) is nn.Sequential


def training_step(model, x):
    model.zero_grad()
    logits = model(x)
    logits.square().sum().backward()
    return [logits.detach()] + [parameter.grad.clone() for parameter in model.parameters()]


def assert_same_step(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("train", [False, True])
def test_timm_gradient_checkpointing_keeps_the_state(train):
    model = shaken(timm.create_model("resnet26", num_classes=5)).train(train)
    attach(model, "dia")
    x = torch.randn(4, 3, 64, 64)
    expected = training_step(model, x)
    calls = []
    model.layer3.dia.register_forward_hook(lambda *_: calls.append(None))
    model.set_grad_checkpointing()
    assert_same_step(training_step(model, x), expected)
    assert len(calls) == 2 * len(model.layer3)  # each block once forward and once again for its backward


def test_timm_gradient_checkpointing_of_intermediates():
    model = shaken(timm.create_model("resnet18", num_classes=5)).eval()
    attach(model, "dia")
    x = torch.randn(2, 3, 64, 64)
    expected, _ = model.forward_intermediates(x)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.forward_intermediates(x)[0], expected, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's own, a moment before ours
def test_timm_reentrant_checkpointing_is_refused():
    model = timm.create_model("resnet26", num_classes=5)
    attach(model, "dia")
    model.set_grad_checkpointing()
    x = torch.randn(2, 3, 64, 64)
    set_reentrant_ckpt(True)
    try:
        with pytest.raises(RuntimeError, match="layer1: reentrant checkpointing loses the gradient of the state"):
            training_step(model, x)
        with torch.no_grad():
            assert model(x).shape == (2, 5)
    finally:
        set_reentrant_ckpt(False)


def test_torch_checkpoint_of_a_stage():
    net = cifar_resnet(20, attention="dia", norm=None)
    x = torch.randn(2, 3, 8, 8)
    expected = training_step(net, x)
    twin = copy.deepcopy(net)
    stage = twin.layer2

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = stage

        def forward(self, x):
            return checkpoint(self.stage, x, use_reentrant=False)

    twin.layer2 = Checkpointed()
    assert_same_step(training_step(twin, x), expected)


def test_importing_the_package_imports_no_host():
    program = (
        "import sys, dia_attention as d; net = d.cifar_resnet(11, attention='dia'); d.detach(net);"
        "print([m for m in ('torchvision', 'timm') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
