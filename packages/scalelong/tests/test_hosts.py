"""Every supported class: numbering against what torch.cat really gets, each site alone, κ = 1, and back."""

from contextlib import contextmanager

import pytest
import torch
from scalelong import UnsupportedModelError, attach, detach, find_skips
from scalelong._sites import call
from scalelong_zoo import ZOO, tensor

QUICK = [name for name, case in ZOO.items() if not case.slow]
EVERY = [pytest.param(name, marks=pytest.mark.slow) if case.slow else name for name, case in ZOO.items()]
EXACT = {"unet1d", "cascade", "smp", "smp-mit", "monai-unet", "monai-unet-res", "monai-basic", "monai-dynamic", "uvit"}
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")


@pytest.fixture
def case(zoo, request):
    name = request.param
    if name.startswith("monai-diffusion"):
        pytest.importorskip("einops", reason="MONAI's attention needs einops")
    model, inputs, case = zoo(name)
    yield model, inputs, case
    if "scalelong" in model._modules:
        detach(model)


every = pytest.mark.parametrize("case", EVERY, indirect=True)


def output(model, inputs):
    with torch.no_grad():
        out = call(model, inputs)
    out = getattr(out, "sample", out)
    return (out[0] if isinstance(out, tuple | list) else out).clone()


@contextmanager
def joined(model, case, monkeypatch):
    """Record the skips that the decoder concatenates, independently of scalelong's own idea of where they are."""
    found, depth = [], [0]
    handles = []
    decoder = [module for name, module in model.named_modules() if inside(name, case)]
    if case.at_model:
        decoder = [
            model.get_submodule(name) for name in case.joins
        ]  # the concatenation as the first layer of the block sees it
        for module, width in zip(decoder, case.widths, strict=True):
            leaf = next(one for one in module.modules() if not list(one.children()))
            first = case.inside == "model"

            def look(_, args, width=width, first=first):
                found.append((args[0][:, :width] if first else args[0][:, -width:]).clone())

            handles.append(leaf.register_forward_pre_hook(look))
    else:
        for module in decoder:
            handles.append(module.register_forward_pre_hook(lambda *_: depth.__setitem__(0, depth[0] + 1)))
            handles.append(module.register_forward_hook(lambda *_: depth.__setitem__(0, depth[0] - 1)))
        original = torch.cat

        def cat(tensors, dim=0, **rest):
            if depth[0] and len(tensors) == 2 and dim in (1, -1) and len(found) < len(case.widths):
                skip = tensors[case.skip_operand]
                channel = skip.shape[dim]
                if channel == case.widths[len(found)]:
                    found.append(skip.clone())
            return original(tensors, dim=dim, **rest)

        monkeypatch.setattr(torch, "cat", cat)
    try:
        yield found
    finally:
        monkeypatch.undo()
        for handle in handles:
            handle.remove()


def inside(name, case):
    if case.inside == "upcat":
        return name.startswith("upcat_") and "." not in name
    if case.at_model:
        return name in case.joins
    return name.rpartition(".")[0] in case.inside.split("|")


@every
def test_the_numbering_is_that_of_what_arrives(case, monkeypatch):
    model, inputs, case = case
    count = len(case.widths)
    if case.inside == "out_blocks":
        pytest.skip("U-ViT does not concatenate; test_uvit.py has its oracle")
    with joined(model, case, monkeypatch) as plain, torch.no_grad():
        call(model, inputs)
    assert [skip.shape[-1 if case.inside == "blocks" else 1] for skip in plain] == list(case.widths)
    attach(model, "cs", kappa=0.5)
    with joined(model, case, monkeypatch) as scaled, torch.no_grad():
        call(model, inputs)
    for turn, (before, after) in enumerate(zip(plain, scaled, strict=True)):  # turn 0 is the deepest, i = N
        assert torch.equal(after, before * 0.5 ** (count - 1 - turn)), turn


@every
def test_rule_and_probe_agree(case):
    model, inputs, case = case
    rule, probe = find_skips(model), find_skips(model, inputs)
    assert [(s.index, s.module, s.slot) for s in rule] == [(s.index, s.module, s.slot) for s in probe]
    assert [s.channels for s in probe] == list(case.widths[::-1])
    assert all(s.channels in (None, p.channels) for s, p in zip(rule, probe, strict=True))


@every
def test_kappa_one_is_bit_equal_and_detach_restores(case):
    model, inputs, _ = case
    keys, hooks = list(model.state_dict()), sum(len(m._forward_pre_hooks) for m in model.modules())
    plain = output(model, inputs)
    for mutable in (False, True):
        handle = attach(model, "cs", kappa=1.0, mutable=mutable)
        assert torch.equal(output(model, inputs), plain)
        handle.set_kappa(0.5)
        assert not torch.equal(output(model, inputs), plain)
        handle.detach()
        assert torch.equal(output(model, inputs), plain)
    assert list(model.state_dict()) == keys
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks


@every
def test_each_site_alone_moves_the_output(case):
    model, inputs, case = case
    plain = output(model, inputs)
    seen = []
    for index in range(1, len(case.widths) + 1):
        handle = attach(model, lambda i, n: 0.5, sites=[index])
        assert handle.kappas == tuple(0.5 if i == index else 1.0 for i in range(1, len(case.widths) + 1))
        seen.append(output(model, inputs))
        handle.detach()
    for turn, out in enumerate(seen):
        assert not torch.equal(out, plain), turn + 1
        assert all(not torch.equal(out, other) for other in seen[:turn])


@every
def test_gates_of_feature_maps_run_and_learn(case):
    model, inputs, case = case
    sequences = find_skips(model)[0].sequence
    handle = attach(model, "ls" if sequences else "ls_scalar", reduction=4, example_inputs=inputs)
    out = call(model, inputs)
    out = getattr(out, "sample", out)
    (out[0] if isinstance(out, tuple | list) else out).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in handle.scaling.parameters() if p.dim() == 2)
    model.zero_grad()
    with handle.monitor() as seen, torch.no_grad():
        call(model, inputs)
    assert sorted(seen) == list(range(1, len(case.widths) + 1))
    assert all(0 < row["gate"] < 1 and row["scaled"] < row["norm"] for row in seen.values())


REFUSED = ["unetpp", "linknet", "manet", "fpn", "vae", "uvit2d", "attention-unet", "segresnet", "sequential"]


def refused(name):
    if name == "sequential":
        return torch.nn.Sequential(torch.nn.Linear(2, 2)), "Sequential"
    if name in ("unetpp", "linknet", "manet", "fpn"):
        import segmentation_models_pytorch as smp

        cls = {"unetpp": smp.UnetPlusPlus, "linknet": smp.Linknet, "manet": smp.MAnet, "fpn": smp.FPN}[name]
        return cls("resnet18", encoder_weights=None), cls.__name__
    if name == "attention-unet":
        from monai.networks.nets import AttentionUnet

        return AttentionUnet(2, 1, 1, channels=(4, 8), strides=(2,)), "AttentionUnet"
    if name == "segresnet":
        from monai.networks.nets import SegResNet

        return SegResNet(2, init_filters=8), "SegResNet"
    import diffusers

    if name == "vae":
        return diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=4), "AutoencoderKL"
    model = diffusers.UVit2DModel(
        hidden_size=8, cond_embed_dim=8, micro_cond_encode_dim=4, micro_cond_embed_dim=20, encoder_hidden_size=8,
        vocab_size=9, codebook_size=8, in_channels=8, block_out_channels=8, num_res_blocks=1, num_hidden_layers=1,
        num_attention_heads=2, block_num_heads=2, intermediate_size=8,
    )  # fmt: skip
    return model, "UVit2DModel"


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_refused_by_name(name):
    model, cls = refused(name)
    with pytest.raises(UnsupportedModelError, match=rf"{cls}.*register_adapter"):
        attach(model)


def test_a_block_without_a_skip_does_not_shift_the_powers(zoo):
    model, _, _ = zoo("smp")
    sites = find_skips(model)
    assert len(model.decoder.blocks) == 5
    assert [site.module for site in sites] == [f"decoder.blocks.{i}" for i in (3, 2, 1, 0)]
    k, _, _ = zoo("k-upscaler")
    assert [site.module for site in find_skips(k)] == ["up_blocks.3", "up_blocks.2", "up_blocks.1"]


def test_a_skip_that_does_not_arrive_is_an_error_not_a_shift(zoo):
    model, _, _ = zoo("k-upscaler")
    block = model.up_blocks[1]
    attach(model, "cs")
    try:
        with pytest.raises(UnsupportedModelError, match=r"did not arrive at up_blocks\.1"):
            block(tensor(2, 64, 4, 4), (None,))
    finally:
        detach(model)


def test_which_classes_fold_exactly(zoo):
    for name in QUICK:
        if name != "monai-diffusion":
            model, _, _ = zoo(name)
            kinds = {site.fold for site in find_skips(model)}
            assert (kinds == {"exact"}) == (name in EXACT), name
