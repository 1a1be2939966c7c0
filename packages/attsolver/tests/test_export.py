"""The diffrax solver of the README on an exported file."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from attsolver import AttSolver, export_npz, fit, generate, systems


def test_the_readme_solver_of_diffrax_gives_our_states(tmp_path, monkeypatch):
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    system = systems.get("lotka_volterra")
    solver = AttSolver("heun", 0.1, hidden=4)
    fit(solver, generate(system, 6, 20, 0.1), iterations=20)
    export_npz(solver, tmp_path / "solver.npz")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    start = system.sample(1)[0]
    parameters = system.params

    def field(t, y, args):
        return jax.numpy.stack(system.rhs.function(t, tuple(y), SimpleNamespace(**parameters), jax.numpy))

    with jax.enable_x64(True):
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            names["Corrected"](),
            0.0,
            1.0,
            0.1,
            jax.numpy.asarray(start.numpy()),
            saveat=diffrax.SaveAt(t1=True),
        ).ys[0]
    own = solver.solve(system, start[None], t=(0.0, 1.0), save="last", backend="eager", out_of_domain="ignore")
    torch.testing.assert_close(torch.tensor(found.tolist()).double(), own.y[0, 0].detach(), rtol=1e-5, atol=1e-6)
