import pytest
import torch
from dia_attention import attach, cifar_resnet, register_block_adapter
from dia_attention.metrics import relative_step, secant_index, spectral_norm, stiffness_curve
from torch import nn

H = 0.1


def euler(matrix, start, steps):
    """x_{t+1} = x_t + h A x_t as states (T, N, D) and right-hand sides A x_t."""
    states = [start]
    for _ in range(steps):
        states.append(states[-1] + H * states[-1] @ matrix.T)
    x = torch.stack(states)
    return x, x @ matrix.T


def test_along_an_eigenvector_secant_and_step_are_the_eigenvalue():
    matrix = torch.diag(torch.tensor([-7.0, 2.0, 0.5], dtype=torch.float64))
    for axis, value in enumerate([-7.0, 2.0, 0.5]):
        x, f = euler(matrix, 3 * torch.eye(3, dtype=torch.float64)[axis : axis + 1], 6)
        torch.testing.assert_close(secant_index(x, f), torch.full((6, 1), abs(value), dtype=torch.float64))
        torch.testing.assert_close(relative_step(x), torch.full((6, 1), H * abs(value), dtype=torch.float64))


def test_on_any_linear_ode_the_secant_lies_between_the_singular_values():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    x, f = euler(matrix, torch.randn(20, 5, generator=generator, dtype=torch.float64), 8)
    singular = torch.linalg.svdvals(matrix)
    index = secant_index(x, f)
    assert (index <= singular[0] + 1e-9).all()
    assert (index >= singular[-1] - 1e-9).all()
    expected = (matrix @ x.diff(dim=0).mT).norm(dim=1) / x.diff(dim=0).norm(dim=2)
    torch.testing.assert_close(index, expected)


def test_spectral_norm_is_the_largest_singular_value_at_every_point():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(6, 4, generator=generator, dtype=torch.float64)

    def f(x):
        return torch.sin(x) @ matrix.T

    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    found = spectral_norm(f, x, iterations=200)
    for point, value in zip(x, found, strict=True):
        jacobian = torch.func.jacrev(lambda v: f(v[None])[0])(point)
        torch.testing.assert_close(value, torch.linalg.matrix_norm(jacobian, 2), rtol=1e-6, atol=0)


class Linear(nn.Module):
    """x + h A x as a residual block without activation."""

    def __init__(self, matrix):
        super().__init__()
        self.conv = nn.Conv2d(len(matrix), len(matrix), 1, bias=False, dtype=torch.float64)
        self.conv.weight.data.copy_(H * matrix[:, :, None, None])

    def forward(self, x):
        return x + self.conv(x)


register_block_adapter(Linear, lambda block, x: (block.conv(x), x, None))


def network(matrix, depth=4):
    return nn.ModuleDict({"stage": nn.Sequential(*(Linear(matrix) for _ in range(depth)))})


def test_a_network_that_is_a_linear_ode_has_its_closed_form():
    matrix = torch.diag(torch.tensor([-3.0, 1.0], dtype=torch.float64))
    net = network(matrix).eval()
    net.forward = lambda x: net["stage"](x)
    x = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    x[0, 0], x[1, 1] = torch.rand(3, 3), torch.rand(3, 3)  # one sample along each eigenvector
    secant, step, spectral = (stiffness_curve(net, [x], measure=one) for one in ("secant", "step", "spectral"))
    assert secant.paths == ("stage.0", "stage.1", "stage.2", "stage.3")
    assert secant.mean[0].isnan()
    for curve, values in ((secant, [3.0, 1.0]), (step, [3.0, 1.0]), (spectral, [3.0, 3.0])):
        # the branch is h A x: every measure carries the factor h
        expected = H * torch.tensor(values, dtype=torch.float64)
        torch.testing.assert_close(curve.mean[1:], expected.mean().expand(3))
        torch.testing.assert_close(curve.std[1:], expected.std(correction=0).expand(3))
    assert step.total_variation == pytest.approx(0, abs=1e-9)
    assert spectral.max_over_min == pytest.approx(1)


@pytest.mark.parametrize("name", ["dia", "se", "step", "lsas", "ras", "asr", "cbam"])
def test_recorded_parts_of_an_attached_network_give_its_output(name):
    """relu(skip + branch) is what the block really puts out, for every attention."""
    from dia_attention.metrics._trace import quiet_trace

    torch.manual_seed(0)
    net = cifar_resnet(20, attention=name).eval()
    x = torch.randn(3, 3, 8, 8)
    before = net(x)
    records = quiet_trace(net, x)
    assert [record.path for record in records] == [f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1)]
    for record in records:
        torch.testing.assert_close(torch.relu(record.skip + record.branch), record.output, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(record.function(record.x), record.branch)
    assert torch.equal(net(x), before)  # and everything was put back


def test_the_gate_of_a_linear_network_scales_all_measures():
    matrix = torch.diag(torch.tensor([-3.0, 1.0], dtype=torch.float64))
    net = network(matrix)
    attach(net, "se", reduction=1)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # every gate is one half
    net.eval()
    net.forward = lambda x: net["stage"](x)
    curve = stiffness_curve(net, [torch.randn(2, 2, 2, 2, dtype=torch.float64)], measure="spectral", iterations=60)
    torch.testing.assert_close(curve.mean, torch.full((4,), 0.5 * H * 3.0, dtype=torch.float64))


def test_bad_input_says_what_is_wrong():
    net = cifar_resnet(11).eval()
    with pytest.raises(ValueError, match="'secant', 'step' or 'spectral'"):
        stiffness_curve(net, [], measure="stiff")
    with pytest.raises(ValueError, match="no batches"):
        stiffness_curve(net, [])
    with pytest.raises(ValueError, match="eval"):
        stiffness_curve(net.train(), [torch.randn(1, 3, 8, 8)])
    with pytest.raises(ValueError, match="no residual stage"):
        stiffness_curve(nn.Linear(1, 1).eval(), [torch.randn(1, 1)])
    with pytest.raises(ValueError, match="T >= 2"):
        secant_index(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="T >= 2"):
        relative_step(torch.ones(1, 2))
    with pytest.raises(ValueError, match="at least 1"):
        spectral_norm(lambda x: x, torch.ones(1, 2), iterations=0)
