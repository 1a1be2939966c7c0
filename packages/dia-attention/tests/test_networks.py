"""Every attention in a network against the network written down with torch.nn.functional, forward and backward."""

import pytest
import torch
from dia_attention import ASR, CBAM, ECA, LSAS, RAS, SE, StepGate, attach, cifar_resnet, detach, share
from dia_attention._host import host
from sail_core.ops import backend, pool, recalibrate
from torch import nn
from torch.nn import functional as F

NAMES = ("asr", "cbam", "eca", "lsas", "ras", "se", "step")
EVERYWHERE = {"lsas": {"stages": (0, 1, 2), "order": 2}, "asr": {"stack": 2}}


def layer(w, at, x):
    return F.linear(x, w[f"{at}.weight"], w[f"{at}.bias"])


def squeeze(w, at, x):
    return layer(w, f"{at}.fc2", layer(w, f"{at}.fc1", x).relu())


def norm(w, at, x):
    return F.batch_norm(x, None, None, w[f"{at}.weight"], w[f"{at}.bias"], training=True)


def standard(x):
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


def gated(name, w, at, z, skip, before):
    """The branch after one block's attention whose parameters are below ``at``, and (q, p) for the next block."""
    p = z.mean((2, 3))
    if name == "se":
        a = squeeze(w, at, p).sigmoid()
    elif name == "eca":
        kernel = w[f"{at}.conv.weight"]
        a = F.conv1d(p[:, None], kernel, padding=kernel.shape[-1] // 2)[:, 0].sigmoid()
    elif name == "ras":
        a = norm(w, f"{at}.bn", p * w[f"{at}.w"] + w[f"{at}.b"])
        a = (a * w[f"{at}.w"] + w[f"{at}.b"]).sigmoid()
    elif name == "lsas":
        u = squeeze(w, f"{at}.base", p)
        a = u.sigmoid()
        for k in range(2):
            u = u * w[f"{at}.w"][k] + w[f"{at}.b"][k]
            a = a * u.sigmoid()
    elif name == "cbam":
        a = (squeeze(w, f"{at}.channel", p) + squeeze(w, f"{at}.channel", z.flatten(2).max(2)[0])).sigmoid()
        z = torch.einsum("bchw,bc->bchw", z, a)
        seen = torch.stack([z.mean(1), z.max(1)[0]], 1)
        seen = F.conv2d(seen, w[f"{at}.spatial.0.weight"], padding=3)
        return z * norm(w, f"{at}.spatial.1", seen).sigmoid(), None
    else:
        q = skip.mean((2, 3))
        kappa = torch.zeros_like(p)
        if before is not None:
            kappa = ((p - before[1]).abs() / ((q - before[0]).abs() + 1e-6)).detach()
        a = squeeze(w, at, torch.cat([standard(q), standard(p), kappa.log1p()], 1)).sigmoid()
        before = (q, p)
    return torch.einsum("bchw,bc->bchw", z, a), before


def by_hand(name, w, x, *, blocks, path=None):
    """Logits of the CIFAR network in training mode; ``path(stage, block)`` is where the attention's parameters are."""
    path = path or (lambda stage, block: f"layer{stage}.{name}.{block}")

    def conv_norm(x, conv, bn, stride=1, scale=1.0):
        weight = w[f"{conv}.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
        return norm({"n.weight": w[f"{bn}.weight"] * scale, "n.bias": w[f"{bn}.bias"] * scale}, "n", x)

    x = conv_norm(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        before = None
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            z = conv_norm(x, f"{at}.conv1", f"{at}.bn1").relu()
            z = conv_norm(z, f"{at}.conv2", f"{at}.bn2", stride).relu()
            v = 1.0
            if name == "asr":
                for j, psi in enumerate(w[f"{at}.bn3.asr.psi"]):
                    v = v * squeeze(w, f"{at}.bn3.asr.attention.{j}", psi).sigmoid()
            z = conv_norm(z, f"{at}.conv3", f"{at}.bn3", scale=v)
            skip = conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride) if block == 0 else x
            if name != "asr":
                z, before = gated(name, w, path(stage, block), z, skip, before)
            x = (z + skip).relu()
    return F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


def shaken(net):
    """Biases and norms that are not 0 and 1, so that nothing cancels."""
    for name, parameter in net.named_parameters():
        if name.endswith("bias") or "bn" in name:
            parameter.data.add_(torch.rand_like(parameter) * 0.2)
    return net


def check(net, name, **options):
    net = shaken(net.double())
    x = torch.randn(3, 3, 9, 7, dtype=torch.float64, requires_grad=True)
    weights = dict(net.named_parameters())
    leaves = [x, *weights.values()]
    expected = by_hand(name, weights, x, **options)
    probe = torch.randn_like(expected)
    theirs = torch.autograd.grad((expected * probe).sum(), leaves)
    for form in ("reference", "joint"):
        with backend(form):
            got = net(x)
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)
            ours = torch.autograd.grad((got * probe).sum(), leaves)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward_equal_the_network_by_hand(name):
    check(cifar_resnet(20, attention=name, **EVERYWHERE.get(name, {})), name, blocks=2)


@pytest.mark.parametrize("name", ["se", "step", "cbam", "ras"])
def test_one_attention_for_a_stage_equals_the_network_by_hand(name):
    net = cifar_resnet(20)
    share(net, name, share_norm=True)
    check(net, name, blocks=2, path=lambda stage, block: f"layer{stage}.{name}")


@pytest.mark.parametrize("name", ["cbam", "ras"])
def test_shared_attention_with_norms_of_each_block_equals_the_network_by_hand(name):
    net = cifar_resnet(20)
    share(net, name)
    net = shaken(net.double())
    weights = dict(net.named_parameters())
    inner, key = ("spatial.1", "spatial_1") if name == "cbam" else ("bn", "bn")
    for stage in (1, 2, 3):  # the by-hand network reads each block's norm where its attention is
        top = f"layer{stage}.{name}"
        for path, parameter in list(weights.items()):
            if path.startswith(f"{top}."):
                weights[f"second.{path}"] = parameter
        for what in ("weight", "bias"):
            weights[f"second.{top}.{inner}.{what}"] = weights[f"{top}_norms.1.{key}.{what}"]
    x = torch.randn(3, 3, 9, 7, dtype=torch.float64)
    path = lambda stage, block: f"{'second.' * block}layer{stage}.{name}"  # noqa: E731
    torch.testing.assert_close(net(x), by_hand(name, weights, x, blocks=2, path=path), rtol=1e-8, atol=1e-10)


def settle(parameter):
    """Values away from zero that keep a sigmoid out of its flat parts, where gradients cancel."""
    parameter.data.uniform_(0.3, 1).mul_(torch.randint(2, parameter.shape) * 2 - 1)
    if parameter.ndim > 1:
        parameter.data.div_(parameter[0].numel() ** 0.5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "asr"])
def test_two_blocks_in_float32_are_within_a_millionth_of_float64_by_hand(name, memory_format):
    build = {"cbam": CBAM, "eca": ECA, "lsas": LSAS, "ras": RAS, "se": SE, "step": StepGate}[name]
    module = build(
        32, **({"order": 2} if name == "lsas" else {}), **({"reduction": 4} if name in ("se", "step") else {})
    )
    for parameter in module.parameters():
        settle(parameter)
    maps = [torch.randn(4, 32, 2, 3) + torch.randn(4, 32, 1, 1) for _ in range(4)]
    maps = [m.contiguous(memory_format=memory_format).requires_grad_() for m in maps]
    exact = [m.detach().double().requires_grad_() for m in maps]
    weights = {f"a.{key}": value.detach().double().requires_grad_() for key, value in module.named_parameters()}
    before, state, ours, theirs = None, (), [], []
    for z, skip, z64, skip64 in ((maps[0], maps[1], exact[0], exact[1]), (maps[2], maps[3], exact[2], exact[3])):
        if name == "cbam":
            got = module(z)
        elif name == "step":
            got, *state = recalibrate(z, module, state=(pool(skip), *(state or module.initial_state(z))))
        else:
            got = recalibrate(z, module)
        ours.append((got + skip).relu())
        expected, before = gated(name, weights, "a", z64, skip64, before)
        theirs.append((expected + skip64).relu())
    got, expected = torch.cat(ours), torch.cat(theirs)
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()
    probe = torch.randn_like(got)
    ours = torch.autograd.grad((got * probe).sum(), [*maps, *module.parameters()])
    theirs = torch.autograd.grad((expected * probe.double()).sum(), [*exact, *weights.values()])
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max().clamp_min(1)


def test_asr_in_float32_is_within_a_millionth_of_float64_by_hand():
    norm_layer = nn.BatchNorm2d(32)
    guest = ASR(32, stack=2, reduction=4)
    for parameter in (*norm_layer.parameters(), *guest.parameters()):
        settle(parameter)
    raw = {key: value.detach().double().requires_grad_() for key, value in norm_layer.named_parameters()}
    w = {key: value.detach().double().requires_grad_() for key, value in guest.named_parameters()}
    host(norm_layer, guest)
    x = torch.randn(6, 32, 2, 3, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    got = norm_layer(x)
    v = squeeze(w, "attention.0", w["psi"][0]).sigmoid() * squeeze(w, "attention.1", w["psi"][1]).sigmoid()
    expected = torch.einsum("bchw,c->bchw", norm({f"n.{key}": value for key, value in raw.items()}, "n", x64), v)
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()
    probe = torch.randn_like(got)
    ours = torch.autograd.grad((got * probe).sum(), [x, *norm_layer.parameters()])
    theirs = torch.autograd.grad((expected * probe.double()).sum(), [x64, *raw.values(), *w.values()])
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max().clamp_min(1)


def test_parameter_counts_of_the_papers():
    net = cifar_resnet(164, num_classes=100)
    for name, options, expected in (
        ("ras", {}, 1_759_540),
        ("lsas", {}, 1_888_852),
        ("lsas", {"order": 5}, 1_925_716),
        ("se", {}, 1_929_388),
        ("dia", {}, 1_946_132),
        ("asr", {}, 1_929_388 + 18 * (64 + 128 + 256)),
    ):
        report = attach(net, name, **options)
        assert sum(parameter.numel() for parameter in net.parameters()) == expected == 1_727_284 + report.parameters
        detach(net)


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in NAMES] + [("asr", {"base": "eca", "stack": 3})])
def test_identity_start_leaves_the_outputs_and_learns(name, options):
    net = shaken(cifar_resnet(20))
    for _ in range(3):
        net(torch.randn(8, 3, 8, 8) + 1)
    net.eval()
    x = torch.randn(4, 3, 8, 8)
    expected = net(x)
    report = attach(net, name, init="identity", **options)
    assert (net(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    net(x).square().sum().backward()
    rows = [net.get_submodule(row.path) for row in report.rows]
    assert all(max(p.grad.abs().max() for p in row.parameters()) > 0 for row in rows)
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert not torch.allclose(net(x), expected)
