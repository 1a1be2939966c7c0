import pickle

import pytest
import torch
from attsolver import AttSolver, NeurVec, load_neurvec_checkpoint, solve, systems
from torch import nn


class Rational(nn.Module):
    """As in the authors' repository: seven numbers, written again here."""

    def __init__(self):
        super().__init__()
        start = {"a0": 0.0218, "a1": 0.5, "a2": 1.5957, "a3": 1.1915, "b0": 1.0, "b1": 0.0, "b2": 2.383}
        for name, value in start.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))

    def forward(self, x):
        top = self.a3 * x**3 + self.a2 * x**2 + self.a1 * x + self.a0
        return top / (self.b2 * x**2 + self.b1 * x + self.b0)


class Published(nn.Module):
    def __init__(self, d, width=1024):
        super().__init__()
        self.error = nn.Module()
        self.error.nn = nn.Sequential(nn.Linear(d, width), Rational(), nn.Linear(width, d))

    def forward(self, x):
        return self.error.nn(x)


def checkpoint(tmp_path, net, **changes):
    optimizer = torch.optim.Adam(net.parameters())
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": net.state_dict(), "optimizer": optimizer.state_dict()} | changes, path)
    return path


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Published(4, 64)


def test_import_gives_the_published_step(tmp_path, net):
    solver = load_neurvec_checkpoint(checkpoint(tmp_path, net), base="rk4_classic", dt=0.1)
    system = systems.get("elastic_pendulum")
    f = system.rhs
    y = system.sample(5)
    k1 = f(0.0, y)
    k2 = f(0.0, y + 0.05 * k1)
    k3 = f(0.0, y + 0.05 * k2)
    k4 = f(0.0, y + 0.1 * k3)
    expected = y + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4) + net.double()(y)
    torch.testing.assert_close(solver.step(system, 0.0, y), expected)


def test_published_size_and_saving(tmp_path, net):
    solver = NeurVec.published(4)
    assert sum(p.numel() for p in solver.parameters() if p.requires_grad) == 9227
    assert solver.corrector().scaling == "none"
    imported = load_neurvec_checkpoint(checkpoint(tmp_path, net), base="rk4", dt=0.1)
    imported.save(tmp_path / "net.safetensors")
    again = AttSolver.load(tmp_path / "net.safetensors")
    assert isinstance(again, NeurVec)
    y0 = systems.get("elastic_pendulum").sample(2)
    found = [solve(lambda t, y: -y, y0, t=(0.0, 0.3), method=s).y for s in (imported, again)]
    assert torch.equal(*found)


def test_the_chain_models_null_parameter_is_left_out(tmp_path, net):
    state = net.state_dict() | {"null": torch.empty(11, 11)}
    assert load_neurvec_checkpoint(checkpoint(tmp_path, net, state_dict=state), base="euler", dt=0.2).dim == 4


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_everything_else_is_refused(tmp_path, net, capsys):
    def refuse(message, **changes):
        with pytest.raises(ValueError, match=message):
            load_neurvec_checkpoint(checkpoint(tmp_path, net, **changes), base="rk4", dt=0.1)

    state = net.state_dict()
    refuse("holds", epoch=3)
    refuse("differs from NeurVec's", state_dict={k: v for k, v in state.items() if "b2" not in k})
    refuse("differs from NeurVec's", state_dict=state | {"more": torch.ones(1)})
    refuse("differs from NeurVec's", state_dict=[1])
    refuse(r"expected \(64, 4\)|expected \(hidden", state_dict=state | {"error.nn.0.weight": torch.ones(3)})
    refuse("shape", state_dict=state | {"error.nn.2.weight": torch.ones(4, 3)})
    refuse("not finite", state_dict=state | {"error.nn.0.bias": torch.full((64,), torch.nan)})
    refuse("single numbers", state_dict=state | {"error.nn.1.b1": torch.ones(2)})
    refuse("vanishes", state_dict=state | {"error.nn.1.b1": torch.tensor(9.0)})
    refuse("not a checkpoint of tensors", optimizer=Evil())
    path = tmp_path / "text.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_neurvec_checkpoint(path, base="rk4", dt=0.1)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_neurvec_checkpoint(path, base="rk4", dt=0.1)
    with pytest.raises(FileNotFoundError):
        load_neurvec_checkpoint(tmp_path / "none.pth", base="rk4", dt=0.1)
    assert "executed" not in capsys.readouterr().out
