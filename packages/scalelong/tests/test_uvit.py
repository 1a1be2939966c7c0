"""U-ViT against a derivation of its own, from a flat dict of tensors with the authors' names, in float64."""

import copy
import math
import pickle

import pytest
import torch
from scalelong import ScalingWarning, attach, fold
from scalelong.nn import UViT


def layer_norm(x, w, b):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w + b


def block(p, name, x, heads):
    y = layer_norm(x, p[f"{name}.norm1.weight"], p[f"{name}.norm1.bias"])
    qkv = y @ p[f"{name}.attn.qkv.weight"].T + p.get(f"{name}.attn.qkv.bias", 0)
    width = x.shape[-1]
    parts = []
    for head in range(heads):
        size = width // heads
        q, k, v = (qkv[..., which * width + head * size : which * width + (head + 1) * size] for which in range(3))
        scores = torch.einsum("bid,bjd->bij", q, k) / math.sqrt(size)
        parts.append(torch.einsum("bij,bjd->bid", scores.exp() / scores.exp().sum(-1, keepdim=True), v))
    x = x + torch.cat(parts, -1) @ p[f"{name}.attn.proj.weight"].T + p[f"{name}.attn.proj.bias"]
    y = layer_norm(x, p[f"{name}.norm2.weight"], p[f"{name}.norm2.bias"])
    y = y @ p[f"{name}.mlp.fc1.weight"].T + p[f"{name}.mlp.fc1.bias"]
    y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    return x + y @ p[f"{name}.mlp.fc2.weight"].T + p[f"{name}.mlp.fc2.bias"]


def gate(p, name, s):
    mean = s.sum(-1) / s.shape[-1]
    hidden = (mean @ p[f"{name}.layer1.weight"].T + p[f"{name}.layer1.bias"]).clamp_min(0)
    return 1 / (1 + torch.exp(-(hidden @ p[f"{name}.layer2.weight"].T + p[f"{name}.layer2.bias"])))


def oracle(p, x, t, *, patch, heads, depth, scaling, kappa, y=None, context=None):
    batch, channels, side, _ = x.shape
    grid = side // patch
    patches = x.reshape(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5).reshape(batch, grid**2, -1)
    kernel = p["patch_embed.proj.weight"]
    h = patches @ kernel.reshape(kernel.shape[0], -1).T + p["patch_embed.proj.bias"]
    width = h.shape[-1]
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half).float() / half)
    time = torch.cat([angles.cos(), angles.sin()], 1).to(h.dtype)
    if "time_embed.0.weight" in p:
        time = time @ p["time_embed.0.weight"].T + p["time_embed.0.bias"]
        time = time / (1 + torch.exp(-time)) @ p["time_embed.2.weight"].T + p["time_embed.2.bias"]
    tokens = [time[:, None]]
    if y is not None:
        tokens.insert(0, p["label_emb.weight"][y][:, None])
    if context is not None:
        tokens.append(context @ p["context_embed.weight"].T + p["context_embed.bias"])
    extras = sum(part.shape[1] for part in tokens)
    h = torch.cat([*tokens, h], 1) + p["pos_embed"]
    skips, used = [], []
    for i in range(depth // 2):
        h = block(p, f"in_blocks.{i}", h, heads)
        skips.append(h)
    h = block(p, "mid_block", h, heads)
    count = depth // 2
    for j in range(count):
        i = count - j  # 1 is the shallowest
        s = skips[i - 1]
        factor = {None: 1.0, "sqrt2": 0.5**0.5, "cs": kappa ** (i - 1)}.get(scaling)
        if scaling == "ls":
            factor = gate(p, "se", s)[..., None]
        elif scaling == "ls_nonshared":
            factor = gate(p, f"se.{j}", s)[..., None]
        used.append(s * factor)
        name = f"out_blocks.{j}"
        h = torch.cat([h, used[-1]], -1) @ p[f"{name}.skip_linear.weight"].T + p[f"{name}.skip_linear.bias"]
        h = block(p, name, h, heads)
    h = layer_norm(h, p["norm.weight"], p["norm.bias"]) @ p["decoder_pred.weight"].T + p["decoder_pred.bias"]
    h = h[:, extras:].reshape(batch, grid, grid, patch, patch, channels)
    image = torch.einsum("bhwpqc->bchpwq", h).reshape(batch, channels, side, side)
    if "final_layer.weight" in p:
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1)
        image = (
            torch.einsum("bchwij,ocij->bohw", windows, p["final_layer.weight"]) + p["final_layer.bias"][:, None, None]
        )
    return image, used


CASES = {
    "plain": {"scaling": None},
    "sqrt2, labels": {"scaling": "sqrt2", "num_classes": 5},
    "cs, bias, time MLP": {"scaling": "cs", "kappa": 0.6, "qkv_bias": True, "mlp_time_embed": True},
    "ls, labels, no conv": {"scaling": "ls", "num_classes": 5, "conv": False},
    "ls_nonshared": {"scaling": "ls_nonshared"},
    "ls, context": {"scaling": "ls", "context_dim": 6, "num_context_tokens": 3},
    "cs, context": {"scaling": "cs", "kappa": 0.5, "context_dim": 6, "num_context_tokens": 3},
}


@pytest.mark.parametrize("name", CASES)
def test_output_skips_and_gradients_equal_the_derivation(name):
    options = CASES[name]
    net = UViT(8, 2, 2, embed_dim=16, depth=6, num_heads=2, mlp_ratio=2.0, dtype=torch.float64, **options)
    with torch.no_grad():  # trained weights are nowhere near their start
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x, t = torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True), torch.tensor([7, 900])
    given = {"y": torch.tensor([1, 4])} if "num_classes" in options else {}
    given |= {"context": torch.randn(2, 3, 6, dtype=torch.float64)} if "context_dim" in options else {}
    seen = []
    for turn, one in enumerate(net.out_blocks):
        one.register_forward_pre_hook(lambda _, args, turn=turn: seen.append(args[1] * args[2]))
    weight = torch.randn(2, 2, 8, 8, dtype=torch.float64)

    out = net(x, t, **given)
    grads = torch.autograd.grad((out * weight).sum(), [x, *net.parameters()])
    p = {key: value.detach().clone().requires_grad_() for key, value in net.state_dict().items()}
    kappa = options.get("kappa", 0.7)
    expected, used = oracle(p, x, t, patch=2, heads=2, depth=6, scaling=options["scaling"], kappa=kappa, **given)
    expected_grads = torch.autograd.grad((expected * weight).sum(), [x, *(p[key] for key, _ in net.named_parameters())])

    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-8)
    for got, want in zip(seen, used, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)
    for (key, _), got, want in zip([("x", x), *net.named_parameters()], grads, expected_grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")


def authors_names(depth, classes):
    names = {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    names |= {"decoder_pred.weight", "decoder_pred.bias", "final_layer.weight", "final_layer.bias"}
    names |= {"label_emb.weight"} if classes else set()
    blocks = ["mid_block", *(f"{side}_blocks.{i}" for side in ("in", "out") for i in range(depth // 2))]
    for one in blocks:
        layers = ["norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"] + ["skip_linear"] * one.startswith("out")
        names |= {f"{one}.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")} | {
            f"{one}.attn.qkv.weight"
        }
    return names


def test_state_dict_has_the_authors_names_and_sizes():
    net = UViT(32, 2, 3, 512, 12, 8, scaling="ls")
    assert sum(p.numel() for p in net.parameters()) == 44_263_825
    assert sum(p.numel() for p in net.se.parameters()) == 8_497
    gates = {f"se.layer{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    assert set(net.state_dict()) == authors_names(12, False) | gates
    assert set(UViT(8, 2, 1, 16, 4, 2, num_classes=3, scaling="cs").state_dict()) == authors_names(4, True)
    shared = UViT(8, 2, 1, 16, 4, 2, scaling="ls_nonshared")
    assert {key.split(".layer")[0] for key in shared.state_dict() if key.startswith("se")} == {"se.0", "se.1"}


def test_gates_begin_near_one_half():
    net = UViT(32, 2, 3, 64, 4, 2, scaling="ls")
    assert net.se.gate(torch.randn(4, 257, 64)).mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("scaling", ["cs", "sqrt2"])
def test_fold_gives_the_plain_net(scaling):
    net = UViT(8, 2, 1, 16, 8, 2, scaling=scaling, kappa=0.5, dtype=torch.float64)
    x, t = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 2])
    before = net(x, t)
    fold(net)
    assert net.kappas == (1.0,) * 4
    assert net.scaling is None
    plain = UViT(8, 2, 1, 16, 8, 2, dtype=torch.float64)
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(plain(x, t), before, rtol=1e-12, atol=1e-14)


def test_attached_hooks_equal_the_built_in_scaling():
    own = UViT(8, 2, 1, 16, 6, 2, scaling="cs", kappa=0.6)
    hooked = UViT(8, 2, 1, 16, 6, 2)
    hooked.load_state_dict(dict(own.state_dict()))
    attach(hooked, "cs", kappa=0.6)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    torch.testing.assert_close(hooked(x, t), own(x, t))


def test_gradient_checkpointing_changes_nothing():
    net = UViT(8, 2, 1, 16, 6, 2, scaling="ls")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    grads = []
    for on in (False, True):
        net.gradient_checkpointing = on
        grads.append(torch.autograd.grad(net(x, t).square().sum(), list(net.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_copies_and_precisions():
    net = UViT(8, 2, 1, 16, 6, 2, scaling="ls")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    out = net(x, t)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x, t), out)
    low = net.to(torch.bfloat16)(x.bfloat16(), t)
    assert low.dtype == torch.bfloat16
    assert (low.float() - out).norm() < 0.05 * out.norm()


def test_weights_of_another_scaling_are_not_loaded_in_silence():
    state = UViT(8, 2, 1, 16, 4, 2, scaling="cs", kappa=0.5).state_dict()
    with pytest.warns(ScalingWarning, match=r"kappas \(1, 0.5\), this one has \(1, 1\)"):
        UViT(8, 2, 1, 16, 4, 2).load_state_dict(state)
    UViT(8, 2, 1, 16, 4, 2, scaling="cs", kappa=0.5).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*se\.layer1"):
        UViT(8, 2, 1, 16, 4, 2).load_state_dict(UViT(8, 2, 1, 16, 4, 2, scaling="ls").state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 5}, "must be even"),
        ({"depth": 0}, "at least 2"),
        ({"patch_size": 3}, "does not divide img_size"),
        ({"num_heads": 3}, "does not divide embed_dim"),
        ({"scaling": "csx"}, "one of sqrt2, cs, ls, ls_nonshared"),
        ({"scaling": "cs", "kappa": 0.0}, "kappa is 0.0"),
        ({"scaling": "cs", "kappa": 1.5}, "above 1"),
        ({"scaling": "cs", "skip": False}, "no long skips to scale"),
        ({"scaling": "ls", "patch_size": 4}, "hidden width of 0"),
        ({"context_dim": 4}, "go together"),
        ({"context_dim": 4, "num_context_tokens": 2, "num_classes": 3}, "exclude each other"),
    ],
)
def test_arguments_out_of_range(options, message):
    base = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depth": 4, "num_heads": 2}
    with pytest.raises(ValueError, match=message):
        UViT(**base | options)


def test_inputs_out_of_range():
    t = torch.tensor([1])
    net = UViT(8, 2, 1, 16, 4, 2, num_classes=3)
    with pytest.raises(ValueError, match="one resolution"):
        net(torch.zeros(1, 1, 16, 16), t, torch.tensor([0]))
    with pytest.raises(ValueError, match="y is missing"):
        net(torch.zeros(1, 1, 8, 8), t)
    text = UViT(8, 2, 1, 16, 4, 2, context_dim=4, num_context_tokens=2)
    with pytest.raises(ValueError, match="context is missing"):
        text(torch.zeros(1, 1, 8, 8), t)
    with pytest.raises(ValueError, match=r"\(B, 2, 4\) is expected"):
        text(torch.zeros(1, 1, 8, 8), t, context=torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="y is given"):
        text(torch.zeros(1, 1, 8, 8), t, torch.tensor([0]), torch.zeros(1, 2, 4))
    gate = UViT(8, 2, 1, 16, 4, 2, scaling="ls").se
    with pytest.raises(ValueError, match="bound to one resolution"):
        gate.gate(torch.zeros(1, 65, 16))


def test_no_skips_at_all():
    net = UViT(8, 2, 1, 16, 4, 2, skip=False)
    assert not any("skip_linear" in key for key in net.state_dict())
    assert net(torch.zeros(1, 1, 8, 8), torch.tensor([1])).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="no long skip was found"):
        attach(net)
