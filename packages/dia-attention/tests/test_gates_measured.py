import numpy as np
import pytest
import torch
from dia_attention import cifar_resnet, functional
from dia_attention.metrics import by_stage, collect_gates, gradient_norms, layer_correlation, stripe_score
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def net():
    return cifar_resnet(29, attention="dia", in_channels=1).eval()


def test_gates_are_those_of_the_formula(net):
    """Recomputed from the last norms' outputs with the functional cell, block by block."""
    branches = {}
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    for path in blocks:
        norm = net.get_submodule(f"{path}.bn3")
        norm.register_forward_hook(lambda module, args, out, path=path: branches.update({path: out}))
    x = torch.randn(5, 1, 8, 8)
    gates = collect_gates(net, [x])
    assert list(gates) == blocks
    for stage in (1, 2, 3):
        weights = dict(net.get_submodule(f"layer{stage}.dia").named_parameters())
        h = c = torch.zeros(5, 64 * 2 ** (stage - 1))
        for block in (0, 1, 2):
            path = f"layer{stage}.{block}"
            h, c = functional.dia_cell(branches[path].mean((2, 3)), h, c, **weights)
            torch.testing.assert_close(gates[path], h)


@pytest.mark.parametrize("name", ["se", "ras", "lsas", "step", "asr", "cbam"])
def test_gates_of_every_attention_are_collected_by_stage(name):
    net = cifar_resnet(20, attention=name).eval()
    stages = by_stage(collect_gates(net, [torch.randn(3, 3, 8, 8), torch.randn(1, 3, 8, 8)]))
    assert list(stages) == (["layer3"] if name == "lsas" else ["layer1", "layer2", "layer3"])
    assert all(gate.shape == (4, 256) for gate in stages["layer3"].values())
    assert len(stages["layer3"]) == 2


def test_asr_shows_perfect_stripes_and_se_does_not():
    x = torch.randn(8, 3, 8, 8)
    for name, perfect in (("asr", True), ("se", False)):
        gates = collect_gates(cifar_resnet(11, attention=name).eval(), [x])
        assert all((stripe_score(gate) > 1 - 1e-9) is perfect for gate in gates.values())


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_stripe_score_is_the_share_of_an_analysis_of_variance(images, channels, seed):
    """Between and within add up: eta squared of the one-way layout with channels as groups."""
    v = torch.rand(images, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).numpy()
    between = images * ((v.mean(0) - v.mean()) ** 2).sum()
    within = ((v - v.mean(0)) ** 2).sum()
    assert stripe_score(torch.from_numpy(v)) == pytest.approx(between / (between + within), rel=1e-9)


def test_stripe_score_of_rows_and_of_a_constant():
    rows = torch.rand(5, 1).expand(5, 7)  # a gate that depends on the image alone
    assert stripe_score(rows) == pytest.approx(0, abs=1e-9)
    assert np.isnan(stripe_score(torch.full((4, 3), 0.3)))
    with pytest.raises(ValueError, match="one block"):
        stripe_score(torch.rand(3))


def test_batches_are_joined_in_order(net):
    x = torch.randn(6, 1, 8, 8)
    whole, parts = collect_gates(net, [x]), collect_gates(net, x.split(4))
    for path in whole:
        torch.testing.assert_close(whole[path], parts[path])


def test_hooks_are_put_back_even_after_an_error(net):
    cell = net.get_submodule("layer1.dia")
    with pytest.raises(RuntimeError):
        collect_gates(net, [torch.randn(2, 7, 8, 8)])
    assert not cell._forward_hooks


def test_a_plain_net_and_no_batches_are_refused(net):
    with pytest.raises(ValueError, match="call attach"):
        collect_gates(cifar_resnet(11), [torch.randn(1, 3, 8, 8)])
    with pytest.raises(ValueError, match="no batches"):
        collect_gates(net, [])


def test_correlation_is_numpys_averaged_over_images():
    gates = {str(block): torch.rand(7, 16, dtype=torch.float64) for block in range(3)}
    expected = np.mean([np.corrcoef([gate[n].numpy() for gate in gates.values()]) for n in range(7)], axis=0)
    np.testing.assert_allclose(layer_correlation(gates).numpy(), expected, atol=1e-12)


def test_constant_maps_are_left_out():
    one, two = torch.rand(4, 8), torch.rand(4, 8)
    one[1] = 0.5
    rest = [0, 2, 3]
    expected = layer_correlation({"a": one[rest], "b": two[rest]})[0, 1]
    torch.testing.assert_close(layer_correlation({"a": one, "b": two})[0, 1], expected)
    assert layer_correlation({"a": torch.full((4, 8), 0.3), "b": two})[0, 1].isnan()


@pytest.mark.parametrize("gates", [{}, {"a": torch.rand(2, 3), "b": torch.rand(2, 4)}, {"a": torch.rand(3)}])
def test_gates_of_different_stages_are_refused(gates):
    with pytest.raises(ValueError, match="one stage"):
        layer_correlation(gates)


def test_gradient_norms_are_those_of_backward_and_leave_grad_alone(net):
    x, y = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])

    def loss():
        return torch.nn.functional.cross_entropy(net(x), y)

    norms = gradient_norms(net, loss())
    assert all(p.grad is None for p in net.parameters())
    loss().backward()
    convolutions = {name: module for name, module in net.named_modules() if isinstance(module, torch.nn.Conv2d)}
    expected = {f"{name}.weight": module.weight.grad.norm().item() for name, module in convolutions.items()}
    assert norms == pytest.approx(expected, rel=1e-5)
    assert next(iter(norms)) == "conv1.weight"
    assert len(norms) == 1 + 27 + 3
