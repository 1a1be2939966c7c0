"""Trajectories of a system from an accurate reference, as training or test data."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sail_core.runs import write_atomic

from ._rhs import Value
from ._solve import solve, step
from .systems import System


@dataclass(frozen=True, eq=False)
class TrajectoryData:
    """Reference trajectories.

    Args:
        system: Name of the system.
        params: Its parameters; arrays (n,) or (n, length) where each trajectory has its own.
        dt: Distance of the times.
        t: Times, float64, shape (T,).
        y: States with their noise, float64, shape (n, T, d).
        clean: States without it; the same tensor when noise is 0.
        noise: Standard deviation of the noise, in units of the local error of ``base``.
        seed: Seed of initial states and noise.
        reference: Method of the reference.
        base: Method whose local error scales the noise.
    """

    system: str
    params: dict[str, Any]
    dt: float
    t: torch.Tensor
    y: torch.Tensor
    clean: torch.Tensor
    noise: float
    seed: int
    reference: str
    base: str

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, atomically."""
        header = {name: getattr(self, name) for name in ("system", "dt", "noise", "seed", "reference", "base")}
        arrays = {f"param:{name}": np.asarray(value) for name, value in self.params.items()}
        file = io.BytesIO()
        arrays |= {"header": np.asarray(json.dumps(header)), "t": self.t.numpy(), "y": self.y.numpy()}
        np.savez(file, allow_pickle=False, clean=self.clean.numpy(), **arrays)  # type: ignore[arg-type,unused-ignore]
        write_atomic(path, file.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "TrajectoryData":
        """Read what ``save`` wrote.

        Raises:
            ValueError: When the file is not one.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header: dict[str, Any] = json.loads(str(file["header"]))
                params = {name[6:]: torch.as_tensor(file[name]) for name in file.files if name.startswith("param:")}
                tensors: dict[str, Any] = {name: torch.as_tensor(file[name]) for name in ("t", "y", "clean")}
            return cls(**header, **tensors, params={k: _plain(v) for k, v in params.items()})
        except (KeyError, TypeError, OSError, EOFError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path} does not hold trajectories: {error}") from error


def _plain(value: torch.Tensor) -> Any:
    return float(value) if value.ndim == 0 else value


def generate(
    system: System,
    n_traj: int,
    steps: int,
    dt: float,
    *,
    reference: Literal["dop853", "dopri5"] = "dop853",
    rtol: float = 1e-12,
    atol: float = 1e-12,
    noise: float = 0.0,
    seed: int = 0,
    params: Mapping[str, Value] | None = None,
    y0: torch.Tensor | None = None,
) -> TrajectoryData:
    """Trajectories of the system's initial law, solved in float64 to a tight tolerance.

    Args:
        system: The system.
        n_traj: Number of trajectories, at least 1.
        steps: Steps of dt, at least 1; there are ``steps + 1`` times.
        dt: Distance of the times.
        reference: Adaptive method that solves them.
        rtol: Its relative tolerance.
        atol: Its absolute tolerance.
        noise: Standard deviation of the Gaussian noise on every state after the first, per component, in units of the
            standard deviation of the local error of ``system.base`` at this dt.
        seed: Seed of the initial states and of the noise.
        params: Parameters that differ from the system's, (n_traj,) for one value a trajectory.
        y0: Initial states (n_traj, d) in place of the system's law.

    Returns:
        TrajectoryData; the same arguments give the same bits.

    Raises:
        ValueError: For counts below 1, negative noise, or a trajectory that the reference cannot solve.

    Example:
        >>> from attsolver import systems
        >>> generate(systems.get("lotka_volterra"), 3, 5, 0.1).y.shape
        torch.Size([3, 6, 2])
    """
    if n_traj < 1 or steps < 1:
        raise ValueError(f"n_traj and steps are at least 1; got {n_traj} and {steps}")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise is at least 0; got {noise}")
    if y0 is not None and y0.shape != (n_traj, system.dim):
        raise ValueError(f"y0 has shape {tuple(y0.shape)}; expected {(n_traj, system.dim)}")
    generator = torch.Generator().manual_seed(seed)
    start = system.sample(n_traj, generator=generator) if y0 is None else y0.double()
    times = torch.arange(steps + 1, dtype=torch.float64) * dt
    with torch.no_grad():
        solution = solve(system, start, t=times, method=reference, rtol=rtol, atol=atol, params=params)
        failed = (solution.status != 0).nonzero()
        if failed.numel():
            raise ValueError(f"the reference cannot solve trajectory {int(failed[0])}; see its status or relax rtol")
        clean = noisy = solution.y.contiguous()
        if noise:
            local = torch.empty(n_traj, steps, system.dim, dtype=torch.float64)
            for i in range(steps):
                local[:, i] = clean[:, i + 1] - step(
                    system, float(times[i]), clean[:, i], dt, method=system.base, params=params
                )
            drawn = torch.randn(n_traj, steps, system.dim, generator=generator, dtype=torch.float64)
            noisy = clean.clone()
            noisy[:, 1:] += noise * local.std((0, 1)) * drawn
    own = {name: (params or {}).get(name, value) for name, value in system.params.items()}
    return TrajectoryData(
        system=system.name,
        params=own,
        dt=dt,
        t=times,
        y=noisy,
        clean=clean,
        noise=noise,
        seed=seed,
        reference=reference,
        base=system.base,
    )
