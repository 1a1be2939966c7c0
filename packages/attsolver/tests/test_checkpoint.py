import json

import pytest
import safetensors.torch
import torch
from attsolver import AttSolver, solve, systems
from safetensors import safe_open


@pytest.fixture
def solver():
    made = AttSolver("heun", 0.1, dim=4, hidden=3, features="increment", preserve_equilibria=True)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 1e-2)
    made.system, made.params_hash = "elastic_pendulum", "0123456789abcdef"
    made.low.fill_(-1.5)
    return made


def rewrite(path, change):
    """The same file with another header or other tensors."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["attsolver"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    path.write_bytes(safetensors.torch.save(tensors, metadata={"attsolver": json.dumps(header)}))


def test_round_trip(solver, tmp_path):
    path = tmp_path / "solver.safetensors"
    solver.save(path)
    again = AttSolver.load(path)
    assert repr(again) == repr(solver)
    for name, value in solver.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    mine, theirs = solver.corrector(), again.corrector()
    assert (mine.system, mine.params_hash, mine.order) == (theirs.system, theirs.params_hash, theirs.order)
    y0 = systems.get("elastic_pendulum").sample(2)
    found = [solve(lambda t, y: -y, y0, t=(0.0, 1.0), method=s, out_of_domain="ignore").y for s in (solver, again)]
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(tmp_path, dtype):
    AttSolver("rk4", 0.1, dim=2, dtype=dtype).save(tmp_path / "s")
    assert AttSolver.load(tmp_path / "s").w1.dtype == dtype


def damage_digest(header, tensors):
    tensors["w1"][0, 0] += 1e-9


def other_tableau(header, tensors):
    header["tableau"] = "0" * 16


def other_base(header, tensors):
    header["options"]["base"] = "midpoint"


def unknown_format(header, tensors):
    header["format"] = 2


def without_an_option(header, tensors):
    del header["options"]["hidden"]


def foreign_array(header, tensors):
    tensors["more"] = torch.ones(1)


def other_hidden(header, tensors):
    header["options"]["hidden"] = 4


def other_class(header, tensors):
    header["dtype"] = "float16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_digest, "damaged"),
        (other_tableau, "other coefficients"),
        (other_base, "other coefficients"),
        (unknown_format, "format 2"),
        (without_an_option, "header"),
        (foreign_array, "more"),
        (other_hidden, "expected"),
        (other_class, "float16"),
    ],
)
def test_what_does_not_fit_is_refused(solver, tmp_path, change, message):
    path = tmp_path / "solver.safetensors"
    solver.save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message):
        AttSolver.load(path)


def test_damaged_files_are_refused(solver, tmp_path):
    path = tmp_path / "solver.safetensors"
    solver.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1], b"", b"x" * 200, bytes(8) + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a solver saved"):
            AttSolver.load(path)
    for at in range(len(whole) - 200, len(whole), 17):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"damaged|not finite"):
            AttSolver.load(path)
    safetensors.torch.save_file({"w": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not a solver saved"):
        AttSolver.load(path)
    with pytest.raises(FileNotFoundError):
        AttSolver.load(tmp_path / "none")


def test_weights_that_are_not_finite_are_not_saved(solver, tmp_path):
    with torch.no_grad():
        solver.b2[0] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        solver.save(tmp_path / "solver.safetensors")
    assert list(tmp_path.iterdir()) == []
