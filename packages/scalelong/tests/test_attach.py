"""attach, detach and the handle: bad input, κ, copies, precisions, compilation."""

import copy
import math
import pickle

import pytest
import torch
from scalelong import (
    ScalingWarning,
    SkipSite,
    UnsupportedModelError,
    attach,
    attached,
    detach,
    find_skips,
    register_adapter,
)
from scalelong._sites import call
from scalelong.nn import ConstantScale, LSScalar, LSStatic, LSToken, UViT
from scalelong_zoo import build


@pytest.fixture
def unet():
    return build("unet2d")


def run(model, inputs):
    with torch.no_grad():
        return call(model, inputs).sample


def net(**options):
    return UViT(8, 2, 1, 32, 6, 2, **options)


@pytest.mark.parametrize("bad", [0.0, -1.0, 1.2, math.nan, math.inf])
def test_kappa_out_of_range(bad):
    with pytest.raises(ValueError, match="kappa is"):
        attach(net(), "cs", kappa=bad)
    handle = attach(net(), "cs")
    with pytest.raises(ValueError, match="kappa is"):
        handle.set_kappa(bad)
    assert handle.kappas == (1.0, 0.7, 0.7**2)


def test_other_bad_input():
    with pytest.raises(ValueError, match="one of cs, sqrt2, linear, ls, ls_scalar, ls_static, or a function"):
        attach(net(), "csx")
    model = net()
    attach(model)
    with pytest.raises(ValueError, match="scaled already"):
        attach(model, "sqrt2")
    with pytest.raises(ValueError, match="scales its skips itself"):
        attach(net(scaling="cs"))
    with pytest.raises(TypeError, match="must be a number"):
        attach(net(), kappa="0.7")
    for sites in ([0], [4], []):
        with pytest.raises(ValueError, match="some of the sites 1 to 3"):
            attach(net(), sites=sites)
    with pytest.raises(ValueError, match="nothing is attached"):
        detach(net())
    with pytest.raises(ValueError, match="gate_init belongs"):
        attach(net(), "cs", gate_init=0.9)
    with pytest.raises(ValueError, match="strictly between"):
        attach(net(), "ls", gate_init=1.0)
    with pytest.raises(ValueError, match="hidden width of 0"):
        attach(net(), "ls", reduction=100)
    with pytest.raises(ValueError, match="finite numbers"):
        ConstantScale([1.0, math.nan])
    with pytest.raises(TypeError, match="subclass of torch"):
        register_adapter(dict, lambda model: [])
    assert attached(net()) is None


def test_wrappers_point_to_the_model_inside():
    with pytest.raises(UnsupportedModelError, match=r"OptimizedModule is a wrapper: .* model\._orig_mod"):
        attach(torch.compile(net()))
    with pytest.raises(UnsupportedModelError, match=r"model\.module"):
        attach(torch.nn.DataParallel(net()))


def test_failed_attach_changes_nothing():
    model = net()
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    with pytest.raises(ValueError):
        attach(model, lambda i, n: 2.0)
    assert attached(model) is None
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks


def test_token_gate_needs_sequences_and_their_length(unet, zoo):
    model, _ = unet
    with pytest.raises(ValueError, match="feature maps: use 'ls_scalar'"):
        attach(model, "ls")
    hunyuan, _, _ = zoo("hunyuan")
    with pytest.raises(ValueError, match="must know the number of tokens"):
        attach(hunyuan, "ls")


def test_modes():
    assert attach(net(), "sqrt2").kappas == pytest.approx((0.5**0.5,) * 3)
    assert attach(net(), "linear", kappa=0.5).kappas == (1.0, 0.75, 0.5)
    assert attach(net(), "linear", kappa=1.5, allow_gt1=True).kappas == (1.0, 1.25, 1.5)
    assert attach(net(), lambda i, n: 1 - i / (2 * n)).kappas == pytest.approx((5 / 6, 2 / 3, 1 / 2))
    static = attach(net(), "ls_static", kappa=0.5)
    assert static.kappas == (1.0, 0.5, 0.25)
    assert [name for name, _ in static.scaling.named_parameters()] == ["scale.kappas"]
    gates = attach(net(), "ls", gate_init=0.9, reduction=4)
    with pytest.raises(ValueError, match="depend on the input"):
        _ = gates.kappas
    with pytest.raises(ValueError, match="has no kappa"):
        gates.set_kappa(0.5)
    with gates.monitor() as seen, torch.no_grad():
        gates.model(torch.randn(2, 1, 8, 8), torch.tensor([1, 2]))
    assert all(row["gate"] == pytest.approx(0.9, rel=1e-5) for row in seen.values())


def test_gates_against_their_formulas():
    scalar = LSScalar(4)
    x = torch.randn(2, 3, 5, 5)
    stats = torch.stack([x.mean((1, 2, 3)), x.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.5)], 1)
    expected = torch.sigmoid(scalar.layer2(torch.relu(scalar.layer1(stats))))
    torch.testing.assert_close(scalar(x, 2), x * expected[:, :, None, None])
    assert sum(p.numel() for p in scalar.parameters()) == 81
    static = LSStatic([1.0, 0.25])
    assert torch.equal(static(x, 2), x * 0.25)
    assert static.values == (1.0, 0.25)
    for gate, shape in ((LSToken(32), (2, 32, 8)), (scalar, (2, 3, 4))):
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            assert gate(torch.randn(shape).to(dtype), 1).dtype == dtype  # float32 weights, any skip


def test_an_attached_mapping_names_its_sites(unet):
    model, _ = unet
    handle = attach(model, "cs", kappa=0.5)
    assert [site.index for site in handle.sites] == [1, 2, 3, 4, 5, 6]
    assert [(site.module, site.slot) for site in handle.sites] == [
        ("up_blocks.1", -3), ("up_blocks.1", -2), ("up_blocks.1", -1),
        ("up_blocks.0", -3), ("up_blocks.0", -2), ("up_blocks.0", -1),
    ]  # fmt: skip
    assert isinstance(handle.sites[0], SkipSite)
    assert "scalelong.scale.kappas" in model.state_dict()
    assert model.config["scalelong_config"]["kappa"] == 0.5
    handle.detach()
    assert "scalelong_config" not in model.config


def test_copies_and_pickles_have_their_own_scaling(unet):
    model, inputs = unet
    plain = run(model, inputs)
    handle = attach(model, "cs", kappa=0.5)
    scaled = run(model, inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(other, inputs), scaled)
        again = attached(other)
        again.set_kappa(0.9)
        assert not torch.equal(run(other, inputs), scaled)
        assert torch.equal(run(model, inputs), scaled)
        again.detach()
        assert torch.equal(run(other, inputs), plain)
        assert torch.equal(run(model, inputs), scaled)
    assert handle.kappas[-1] == 0.5**5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("mode", ["cs", "ls_scalar", "ls_static"])
def test_precisions(unet, dtype, mode):
    model, inputs = unet
    handle = attach(model, mode, kappa=0.7)
    out = run(model, inputs)
    model.to(dtype)
    low = run(model, inputs | {"sample": inputs["sample"].to(dtype)})
    assert low.dtype == dtype
    assert (low.double() - out.double()).norm() < 0.05 * out.double().norm()
    if mode == "cs":  # a cast must not round the constants
        assert handle.kappas == tuple(0.7**i for i in range(6))
        assert handle.scaling.scale.kappas.dtype == torch.float64


def test_a_state_dict_never_loses_its_scaling_in_silence(unet):
    model, _ = unet
    plain_state = model.state_dict()
    other, _ = build("unet2d")
    attach(other, "cs", kappa=0.5)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*scalelong\.scale\.kappas"):
        model.load_state_dict(other.state_dict())
    with pytest.warns(ScalingWarning, match="from a model without scaling"):
        other.load_state_dict(plain_state)
    third = attach(build("unet2d")[0], "cs", kappa=0.9)
    with pytest.warns(ScalingWarning, match="which replace"):
        third.model.load_state_dict(other.state_dict())
    assert third.kappas == tuple(0.5**i for i in range(6))
    third.model.load_state_dict(other.state_dict())  # now they agree: no warning
    gates = attach(model, "ls_scalar")
    with pytest.raises(RuntimeError, match="Missing key"):
        gates.model.load_state_dict(plain_state)


def test_find_skips_leaves_the_model_alone(unet):
    model, inputs = unet
    model.train()
    model.up_blocks[0].eval()
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_skips(model, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model.up_blocks[0].training
    assert model.up_blocks[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Everything(torch.nn.Module):
    """A class of its own, whose second stage may have no skip."""

    def __init__(self, arrives=True):
        super().__init__()
        self.arrives = arrives
        self.down, self.up = torch.nn.Linear(4, 4), torch.nn.ModuleList([Join(), Join(), Join()])

    def forward(self, x):
        a = self.down(x)
        b = self.down(a)
        x = self.up[0](b, skip=b)
        x = self.up[1](x, skip=a if self.arrives else None)
        return self.up[2](x, skip=x)


class Join(torch.nn.Module):
    def forward(self, x, skip):
        return x if skip is None else x + 2 * skip


def test_an_adapter_of_ones_own_and_numbering_by_arrival():
    register_adapter(Everything, lambda model: [SkipSite(module=f"up.{i}", arg="skip") for i in range(3)])
    x = torch.randn(2, 4)
    assert [s.module for s in find_skips(Everything())] == ["up.2", "up.1", "up.0"]
    assert [s.module for s in find_skips(Everything(arrives=False), x)] == ["up.2", "up.0"]
    model = Everything(arrives=False)
    attach(model, "cs", kappa=0.5)
    with pytest.raises(UnsupportedModelError, match=r"skip 2 did not arrive at up.1 \(skip\)"):
        model(x)
    detach(model)
    assert attach(model, "cs", kappa=0.5, example_inputs=x).kappas == (1.0, 0.5)
    b = model.down(model.down(x))
    torch.testing.assert_close(model(x), 3 * (b + 2 * 0.5 * b))
    register_adapter(Join, lambda model: [SkipSite(module="", arg="nothing")])
    with pytest.raises(UnsupportedModelError, match="no parameter 'nothing'"):
        attach(Join())


class Count:
    """A backend that counts graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


@pytest.mark.parametrize(
    ("name", "mode"),
    [("unet2d", "cs"), ("guided", "ls_scalar"), ("uvit", "ls"), ("uvit", "cs")]
    + [pytest.param(name, "ls_scalar", marks=pytest.mark.slow) for name in ("unet2d", "sd")],
)
def test_compiles_whole(name, mode):
    torch._dynamo.reset()
    model, inputs = build(name)
    handle = attach(model, mode, kappa=0.5, reduction=4, example_inputs=inputs)
    with torch.no_grad():
        eager = call(model, inputs)
        compiled = call(torch.compile(model, fullgraph=True, backend="aot_eager"), inputs)
    assert torch.equal(getattr(eager, "sample", eager), getattr(compiled, "sample", compiled))
    handle.detach()


def test_a_mutable_kappa_does_not_recompile():
    torch._dynamo.reset()
    model, inputs = build("guided")
    handle = attach(model, "cs", kappa=0.5, mutable=True)
    backend = Count()
    fast = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        for kappa in (0.5, 0.8, 0.9):
            handle.set_kappa(kappa)
            assert torch.equal(fast(*inputs), model(*inputs))
    assert backend.graphs == 1


def test_compiled_backward_equals_eager():
    torch._dynamo.reset()
    model, inputs = build("guided")
    attach(model, "cs", kappa=0.5)
    parameters = list(model.parameters())
    eager = torch.autograd.grad(model(*inputs).square().sum(), parameters)
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled = torch.autograd.grad(fast(*inputs).square().sum(), parameters)
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b)


def operators(model, inputs):
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        graph = make_fx(lambda *args: call(model, args))(*inputs)
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def test_a_constant_adds_one_multiplication_a_site_and_nothing_else():
    model, inputs = build("uvit")
    plain = operators(model, inputs)
    handle = attach(model, "cs", kappa=0.5)
    scaled = operators(model, inputs)
    assert sorted(scaled) == sorted([*plain, "aten.mul.Tensor", "aten.mul.Tensor"])  # the shallowest keeps 1: no work
    handle.detach()
    assert operators(model, inputs) == plain


def test_export():
    model, inputs = build("guided")
    attach(model, "cs", kappa=0.5)
    program = torch.export.export(model, inputs)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*inputs), model(*inputs), rtol=0, atol=0)
