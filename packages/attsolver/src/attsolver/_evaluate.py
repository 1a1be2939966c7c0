"""A solver on unseen trajectories: what evaluate, the demo and the claims report."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ._corrector import Corrected
from ._generate import TrajectoryData
from ._solve import solve
from .systems import System


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Errors of one method on reference trajectories.

    Attributes:
        mse: Mean square error over trajectories, all times and components, in the system's units.
        y: States (n, T, d).
        nfev: Evaluations of f for a trajectory.
        left_domain: Trajectories that left the corrector's training box.
    """

    mse: float
    y: Tensor
    nfev: int
    left_domain: int

    def distance(self, data: TrajectoryData) -> Tensor:
        """Euclidean distance from the reference, (n, T)."""
        return (self.y - data.clean).square().sum(-1).sqrt()


def evaluate(
    system: System,
    data: TrajectoryData,
    method: str | Corrected,
    *,
    dt: float | None = None,
    device: object = "cpu",
    backend: str = "auto",
) -> Evaluation:
    """Solve from the first states of the data to all their times and compare with the noiseless states.

    Args:
        system: The system of the data.
        data: Reference trajectories that the method has not seen.
        method: As in ``solve``; with ``dt`` left out a classical method takes one step from time to time.
        dt: Step of a classical method.
        device: Where to solve.
        backend: As in ``solve``.
    """
    if isinstance(method, str) and method != "expm" and dt is None:
        dt = data.dt
    own = {
        n: data.params[n] for n, v in system.params.items() if data.params.get(n, v) is not v and _differs(data, n, v)
    }
    with torch.no_grad():
        solution = solve(
            system,
            data.clean[:, 0].to(str(device)),
            t=data.t,
            method=method,
            dt=dt,
            params=own or None,
            out_of_domain="ignore",
            check="mask",
            backend=backend,  # type: ignore[arg-type]
        )
    y = solution.y.cpu()
    mse = float((y - data.clean).square().mean())
    left = int((solution.out_of_domain > 0).sum())
    return Evaluation(mse if mse == mse else float("inf"), y, int(solution.nfev[0]), left)


def _differs(data: TrajectoryData, name: str, own: float | tuple[float, ...]) -> bool:
    value = torch.as_tensor(data.params[name], dtype=torch.float64)
    mine = torch.as_tensor(own, dtype=torch.float64)
    return value.shape != mine.shape or not torch.equal(value, mine)


def energy_error(system: System, y: Tensor) -> Tensor:
    """Relative error of the energy along trajectories (n, T, d), (n, T)."""
    energy = system.energy(y)
    return ((energy - energy[:, :1]) / energy[:, :1]).abs()
