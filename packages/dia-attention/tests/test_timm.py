"""timm: attention in its slot, its registry, its other block families, its checkpointing and feature extraction."""

import copy
import pickle

import dia_attention.integrations.timm as ours
import pytest
import timm
import torch
from dia_attention import SE, attach, detach, fold, load, save, timm_layer, watch_gates
from timm.layers.create_attn import create_attn
from timm.utils.model import reparameterize_model

SLOTS = {"se": {}, "eca": {}, "cbam": {}, "ras": {}, "lsas": {"order": 2}}


@pytest.mark.parametrize("name", SLOTS)
def test_a_gate_in_the_slot_equals_the_attached_one(name):
    layer = timm_layer(name, **SLOTS[name])
    slot = timm.create_model("resnet18", num_classes=5, block_args={"attn_layer": layer})
    model = timm.create_model("resnet18", num_classes=5)
    attach(model, name, stages=(0, 1, 2, 3), **SLOTS[name])
    state = {}
    for key, value in slot.state_dict().items():
        stage, _, rest = key.partition(".")
        block, _, inner = rest.partition(".se.gate.")
        state[f"{stage}.{name}.{block}.{inner}" if inner else key] = value
    model.load_state_dict(state)
    x = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(model(x), slot(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval()(x), slot.eval()(x), rtol=1e-4, atol=1e-5)
    seen = {}
    with watch_gates(slot, seen.__setitem__) as paths:
        slot(x)
    assert paths == list(seen) == [f"layer{stage}.{block}.se" for stage in (1, 2, 3, 4) for block in (0, 1)]


def test_hidden_widths_are_timms():
    assert timm_layer("se", rd_ratio=1 / 8)(64).gate.fc1.out_features == 8
    assert timm_layer("se", rd_channels=5)(64).gate.fc1.out_features == 5
    assert timm_layer("cbam", rd_ratio=1 / 4)(64).gate.channel.fc1.out_features == 16
    assert timm_layer("lsas", order=3, rd_ratio=1 / 16)(64).gate.order == 3
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(timm_layer("se", rd_channels=2, init="identity")(8)(x), x)
    layer = pickle.loads(pickle.dumps(timm_layer("eca")))
    assert create_attn(layer, 64, device="meta").gate.conv.weight.device.type == "meta"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: timm_layer("dia"), ValueError, r"timm_layer has \['cbam', .*not 'dia'; the others need attach"),
        (lambda: timm_layer("asr"), ValueError, "not 'asr'; the others need attach"),
        (
            lambda: timm_layer(SE(64)),
            TypeError,
            "got a SE; a class of yours goes into attn_layer as it is, and a module",
        ),
        (lambda: timm_layer("se", order=2), TypeError, "unknown option 'order'"),
        (lambda: timm_layer("eca", rd_ratio=0.5), TypeError, "'eca' has no hidden layer"),
        (lambda: timm_layer("se", rd_ratio=2.0), ValueError, r"rd_ratio=2\.0 must lie in \(0, 1\]"),
        (lambda: timm_layer("se", rd_channels=0), ValueError, "rd_channels=0 must be at least 1"),
        (lambda: timm_layer("ras")(8)(torch.randn(1, 8, 2, 2)), ValueError, "RAS normalises over the batch"),
        (lambda: timm_layer("cbam")(16)(torch.randn(1, 16, 2, 2, 2)), ValueError, "CBAM has a spatial kernel"),
    ],
)
def test_refusals(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_models_in_the_registry():
    x = torch.randn(2, 3, 64, 64)
    expected = {
        "diaresnet50": "layer1.dia.w_ih1",
        "lsasresnet50": "layer4.lsas.0.w",
        "asrresnet50": "layer1.0.bn3.asr.psi",
    }
    plain = set(timm.create_model("resnet50", num_classes=7).state_dict())
    for name, key in expected.items():
        assert timm.is_model(name)
        model = timm.create_model(name, num_classes=7, drop_path_rate=0.1)
        assert plain < set(model.state_dict())
        assert key in model.state_dict()
    folded = reparameterize_model(model.eval())
    assert set(folded.state_dict()) == plain
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in ours.diaresnet50().parameters()) == 28_358_052
    assert sum(p.numel() for p in ours.lsasresnet50().parameters()) == 27_953_960
    features = timm.create_model("diaresnet50", features_only=True)
    assert [tuple(f.shape[1:2]) for f in features(x)] == [(64,), (256,), (512,), (1024,), (2048,)]


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("resnetv2_18", "step"),
        ("resnetv2_50", "dia"),
        pytest.param("resnetv2_50d_gn", "dia", marks=pytest.mark.slow),
        pytest.param("resnetv2_50x1_bit", "step", marks=pytest.mark.slow),
    ],
)
def test_pre_activation_blocks_keep_their_outputs(name, attention):
    model = timm.create_model(name, num_classes=5).eval()
    keys, x = list(model.state_dict()), torch.randn(2, 3, 64, 64)
    expected = model(x)
    report = attach(model, attention, init="identity")
    assert report.rows[0].path.startswith("stages.0.blocks.")
    got = model(x)
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    got.square().mean().backward()
    assert all(max(p.grad.abs().max() for p in model.get_submodule(row.path).parameters()) > 0 for row in report.rows)
    assert [key for key in model.state_dict() if f".{attention}." not in key] == keys
    assert torch.equal(detach(model)(x), expected)


def test_asr_in_pre_activation_blocks_scales_the_last_convolution():
    model = timm.create_model("resnetv2_18", num_classes=5)
    assert attach(model, "asr").rows[0].path == "stages.0.blocks.0.conv2.asr"
    x = torch.randn(2, 3, 64, 64)
    model(x)
    expected = model.eval()(x)
    torch.testing.assert_close(fold(model)(x), expected, rtol=1e-4, atol=1e-5)
    bit = timm.create_model("resnetv2_50x1_bit", num_classes=5)
    with pytest.raises(ValueError, match=r"stages\.0\.blocks\.0\.conv3: a StdConv2d standardises its weight"):
        attach(bit, "asr")


@pytest.mark.parametrize("name", ["se", "ras", "lsas", "step", "cbam", "asr"])
def test_gradient_checkpointing_gives_the_same_step(name):
    model = timm.create_model("resnet18", num_classes=5)
    attach(model, name)
    model.eval()
    x = torch.randn(3, 3, 64, 64)

    def step(net):
        net.zero_grad()
        net(x).square().sum().backward()
        return [p.grad.clone() for p in net.parameters()]

    expected = step(model)
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    for a, b in zip(step(twin), expected, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max().clamp_min(1e-6)


@pytest.mark.parametrize("name", ["se", "asr", "step"])
def test_features_only_and_saving(name, tmp_path):
    model = timm.create_model("resnet18", features_only=True).eval()
    attach(model, name)
    x = torch.randn(1, 3, 32, 32)
    save(model, tmp_path / "net.safetensors")
    other = load(tmp_path / "net.safetensors", timm.create_model("resnet18", features_only=True).eval())
    for ours_, theirs in zip(other(x), model(x), strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=0)
