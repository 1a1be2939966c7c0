"""Folding: exact where the consumer is linear, refused with site and reason elsewhere, and what it is in training."""

import pytest
import torch
from scalelong import FoldError, attach, attached, fold
from scalelong._sites import call
from scalelong.nn import UViT
from scalelong_zoo import ZOO, build

EXACT = ["unet1d", "cascade", "smp", "monai-unet", "monai-basic", "monai-dynamic", "uvit"]
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")


def double(name):
    model, inputs = build(name)
    model.double()
    values = inputs.values() if isinstance(inputs, dict) else inputs
    wide = [v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in values]
    return model, dict(zip(inputs, wide, strict=True)) if isinstance(inputs, dict) else tuple(wide)


def output(model, inputs):
    with torch.no_grad():
        out = call(model, inputs)
    return getattr(out, "sample", out)


def operators(model, inputs):
    from torch.fx.experimental.proxy_tensor import make_fx

    values = list(inputs.values()) if isinstance(inputs, dict) else list(inputs)
    names = list(inputs) if isinstance(inputs, dict) else None

    def function(*args):
        return output(model, dict(zip(names, args, strict=True)) if names else args)

    return [str(n.target) for n in make_fx(function)(*values).graph.nodes if n.op == "call_function"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, "cs") for name in EXACT if name != "unet1d"]
    + [("uvit", "ls_static")]
    + [pytest.param("unet1d", "cs", marks=pytest.mark.slow)]
    + [pytest.param(name, "ls_static", marks=pytest.mark.slow) for name in EXACT],
)
def test_exact_fold_is_structurally_the_plain_net(name, mode):
    model, inputs = double(name)
    plain, keys, graph = output(model, inputs), list(model.state_dict()), operators(model, inputs)
    attach(model, mode, kappa=0.5)
    scaled = output(model, inputs)
    report = fold(model, example_inputs=inputs)
    assert report.exact == tuple(range(1, len(ZOO[name].widths) + 1))
    assert report.error < 1e-9 < 1e-4 < report.effect  # unet1d and the like compute parts in float32
    torch.testing.assert_close(output(model, inputs), scaled, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(plain, scaled)
    assert attached(model) is None
    assert list(model.state_dict()) == keys
    assert operators(model, inputs) == graph


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unet2d", "skip 6 at up_blocks.0: a GroupNorm stands before the weights"),
        ("sd", "spans backbone and skip channels"),
        ("hunyuan", "skip 3 at blocks.5: a LayerNorm over the concatenation"),
        ("k-upscaler", "a norm stands between"),
        ("guided", "GroupNorm"),
        ("kandinsky3", "conditional GroupNorm"),
    ],
)
def test_a_norm_in_between_is_refused_and_nothing_changes(name, reason):
    model, _ = build(name)
    handle = attach(model, "cs", kappa=0.5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(FoldError, match=reason):
        fold(model)
    assert attached(model).kappas == handle.kappas
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_gates_are_refused():
    model = UViT(8, 2, 1, 32, 4, 2)
    attach(model, "ls")
    with pytest.raises(FoldError, match="'ls' has gates that depend on the input"):
        fold(model)
    with pytest.raises(FoldError, match="depend on the input"):
        fold(UViT(8, 2, 1, 32, 4, 2, scaling="ls"))
    with pytest.raises(ValueError, match="nothing to fold"):
        fold(UViT(8, 2, 1, 32, 4, 2))


def aligned():
    """A UNet whose group borders lie on the borders of the skips."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return model.eval(), {"sample": torch.randn(2, 1, 8, 8), "timestep": torch.tensor([1, 2])}


def test_approximate_fold_measures_its_error(capsys):
    model, inputs = aligned()
    attach(model, "cs", kappa=0.5)
    with pytest.raises(FoldError, match="approx=True folds up to eps"):
        fold(model)
    with pytest.raises(ValueError, match="needs example_inputs"):
        fold(model, approx=True)
    scaled = output(model, inputs)
    report = fold(model, approx=True, example_inputs=inputs)
    assert report.approximate == (1, 2, 3, 4)
    assert 0 < report.error < 1e-2 * report.effect
    measured = ((output(model, inputs) - scaled).norm() / scaled.norm()).item()
    assert report.error == pytest.approx(measured, rel=1e-2)
    assert "relative error" in capsys.readouterr().out


def test_a_skip_of_tiny_variance_makes_the_approximation_large():
    model, inputs = aligned()
    attach(model, "cs", kappa=0.1)
    with torch.no_grad():
        for block in model.down_blocks:
            for parameter in block.parameters():
                parameter.mul_(1e-3)
    report = fold(model, approx=True, example_inputs=inputs | {"sample": 1e-3 * inputs["sample"]})
    assert report.error > 1e-3


def test_layers_wrapped_by_lora_are_refused():
    peft = pytest.importorskip("peft")
    model = UViT(8, 2, 1, 32, 4, 2)
    attach(model, "cs")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["skip_linear"]))
    with pytest.raises(FoldError, match="merge LoRA first"):
        fold(wrapped.base_model.model)


def test_sites_left_alone_stay_as_they_are():
    model = UViT(8, 2, 1, 32, 6, 2)
    before = [block.skip_linear.weight.clone() for block in model.out_blocks]
    attach(model, lambda i, n: 0.5, sites=[2])
    assert fold(model).exact == (2,)
    changed = [
        not torch.equal(block.skip_linear.weight, old) for block, old in zip(model.out_blocks, before, strict=True)
    ]
    assert changed == [False, True, False]


def test_cs_before_a_linear_layer_is_a_reparameterisation_of_sgd():
    """CS(κ) under SGD equals the folded net with κ² of the learning rate on the skip half, step for step."""

    def problem():
        torch.manual_seed(3)
        return UViT(8, 2, 1, 16, 4, 2, dtype=torch.float64)

    scaled, folded = problem(), problem()
    kappa = 0.5
    attach(scaled, "cs", kappa=kappa)
    attach(folded, "cs", kappa=kappa)
    fold(folded)
    x, t = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    for _ in range(20):
        for model in (scaled, folded):
            model.zero_grad()
            (model(x, t) - x).square().mean().backward()
            with torch.no_grad():
                for name, p in model.named_parameters():
                    rate = torch.ones_like(p)
                    if model is folded and name == "out_blocks.0.skip_linear.weight":
                        rate[:, 16:] = kappa**2
                    p -= 0.05 * rate * p.grad
    torch.testing.assert_close(scaled(x, t), folded(x, t), rtol=1e-10, atol=1e-12)
    attached(scaled).detach()
    assert not torch.allclose(scaled(x, t), folded(x, t))
