import numpy as np
import pytest
import torch
from dia_attention import cifar_resnet, functional
from dia_attention._metrics import collect_gates, gradient_norms, layer_correlation


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
