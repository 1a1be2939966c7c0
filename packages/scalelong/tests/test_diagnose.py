"""Diagnostics against exact Jacobians and hand-made norms; the logger and the figures."""

import json
import math

import pytest
import torch
from sail_core.runs import Run
from scalelong import StabilityLogger, attach, diagnose, plots
from scalelong._gain import largest_gain
from scalelong._sites import call
from scalelong.nn import UViT
from scalelong_zoo import build


def net(scaling=None, **options):
    torch.manual_seed(0)
    return UViT(4, 2, 1, 16, 4, 2, scaling=scaling, kappa=0.5, dtype=torch.float64, **options)


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 4, 4, generator=generator, dtype=torch.float64), torch.tensor([5, 600])


def exact_gain(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2).item()


def test_power_iteration_finds_the_largest_singular_value():
    model, (x, t) = net("cs"), batch()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    expected = exact_gain(lambda v: model(v, t), x)
    assert largest_gain(lambda v: model(v, t), x, iterations=200) == pytest.approx(expected, rel=1e-3)
    assert largest_gain(lambda v: model(v, t), x, iterations=1) <= expected
    matrix = torch.randn(5, 7, dtype=torch.float64)
    found = largest_gain(lambda v: matrix @ v.tanh(), torch.zeros(7, dtype=torch.float64), iterations=300)
    assert found == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=1e-6)
    with pytest.raises(ValueError, match="at least 1"):
        largest_gain(torch.tanh, torch.zeros(2), iterations=0)


def test_a_diagnosis_by_hand():
    model, (x, t) = net("cs"), batch()
    seen = {}
    for turn, block in enumerate(model.out_blocks):
        block.register_forward_hook(lambda m, args, out, turn=turn: seen.update({2 - turn: (args[1], out)}))
    target = torch.randn_like(x)
    model.train()
    found = diagnose(model, (x, t), target=target, iterations=100)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert found.input == pytest.approx(x.norm().item() / math.sqrt(2))
    for site in found.sites:
        skip, out = seen[site.index]
        assert site.kappa == 0.5 ** (site.index - 1)
        assert site.skip == pytest.approx(skip.norm().item() / math.sqrt(2))
        assert site.feature == pytest.approx(out.norm().item() / math.sqrt(2))
        below = sum(0.25 ** (j - 1) for j in range(site.index, 3))
        assert site.rho == pytest.approx(site.feature**2 / (found.input**2 * below))
    loss = (model(x, t) - target).square().mean()
    grads = torch.autograd.grad(loss, list(model.parameters()))
    total = torch.cat([g.flatten() for g in grads]).norm().item()
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.gradient == pytest.approx(total, rel=1e-5)
    assert set(found.gradients) >= {"in_blocks.0", "mid_block", "out_blocks.1", "norm", "pos_embed"}
    assert found.gain == pytest.approx(exact_gain(lambda v: model(v, t), x), rel=1e-3)
    assert found.bound == pytest.approx(found.block_gain + 0.5 * found.block_gain**2)
    assert found.kappa_squares == 1.25
    assert found.gradient_ratio == pytest.approx(total**2 / (loss.item() * found.input**2 * 1.25), rel=1e-4)
    json.dumps(found.as_dict(), allow_nan=False)
    assert "input gain" in str(found)


def test_block_gain_is_the_largest_exact_one():
    model, (x, t) = net("sqrt2"), batch()
    inputs = {}
    for name, block in model.named_modules():
        if type(block).__name__ == "Block":
            block.register_forward_pre_hook(lambda m, args, name=name: inputs.update({name: (m, args)}))
    found = diagnose(model, (x, t), iterations=200)
    gains = [exact_gain(lambda v, m=m, args=args: m(v, *args[1:]), args[0]) for m, args in list(inputs.values())]
    assert found.block_gain == pytest.approx(max(gains), rel=1e-2)


def test_gates_and_hooks_are_seen():
    x, t = batch()
    gated = net()
    handle = attach(gated, "ls", gate_init=0.25, reduction=2)
    found = diagnose(gated, (x, t), iterations=2)
    assert [site.kappa for site in found.sites] == pytest.approx([0.25, 0.25], rel=1e-5)
    handle.detach()
    attach(gated, "cs", kappa=0.5)
    hooked, own = diagnose(gated, (x, t), iterations=5), diagnose(net("cs"), (x, t), iterations=5)
    assert hooked.gain == pytest.approx(own.gain)
    assert [s.feature for s in hooked.sites] == pytest.approx([s.feature for s in own.sites])
    assert [s.skip for s in hooked.sites] == pytest.approx([s.skip for s in own.sites])


@pytest.mark.parametrize(
    "name",
    ["unet2d", "guided", *(pytest.param(n, marks=pytest.mark.slow) for n in ("sd", "if", "unet3d", "svd", "unet1d"))],
)
def test_hosts(name):
    model, inputs = build(name)
    attach(model, "cs", kappa=0.5)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found = diagnose(model, inputs, iterations=3)
    assert [site.kappa for site in found.sites] == [0.5**i for i in range(len(found.sites))]
    assert all(site.skip > 0 and site.feature > 0 for site in found.sites)
    assert found.gain > 0
    assert found.bound > 0
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


def test_a_batch_without_x_t():
    with pytest.raises(ValueError, match="no x_t"):
        diagnose(net(), (torch.tensor([1]), torch.tensor([2])))


def train(model, steps, **options):
    x, t = batch()
    logger = StabilityLogger(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    norms = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = (model(x, t) - x).square().mean()
        loss.backward()
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
        logger(step, loss)
        optimizer.step()
    return logger, norms


def test_the_logger_sees_what_happened(tmp_path):
    model = net("cs")
    logger, norms = train(model, 6, every=2, run=Run(tmp_path))
    assert [row["step"] for row in logger.rows] == [2, 4, 6]
    assert [row["gradient_norm"] for row in logger.rows] == pytest.approx(norms[1::2], rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == logger.rows
    summary = logger.summary()
    assert summary["gradient_spike"] == pytest.approx(max(norms[1::2]) / sorted(norms[1::2])[1], rel=1e-5)
    features = []
    model.out_blocks[-1].register_forward_hook(lambda m, a, out: features.append(out))
    logger.close()
    call(model, batch())
    assert len(model.out_blocks[-1]._forward_hooks) == 1
    assert logger._feature is not features[0]


def test_logger_bad_input():
    with pytest.raises(ValueError, match="at least 1"):
        StabilityLogger(net(), every=0)
    with pytest.raises(ValueError, match="at least 2 rows"):
        StabilityLogger(net()).summary()


def test_figures(tmp_path):
    pytest.importorskip("matplotlib")
    found = {name: diagnose(net(name), batch(), iterations=2) for name in ("cs", "sqrt2")}
    runs = {name: [train(net(name), 4, every=1)[0].rows] for name in found}
    figures = [plots.plot_skips(found), plots.plot_gain(found), plots.plot_stability(runs)]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 5000
    assert list(figures[0].axes[0].lines[0].get_ydata()) == [1.0, 0.5]
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.plot_skips({})
    with pytest.raises(ValueError, match="no rows"):
        plots.plot_stability({"a": [[]]})
