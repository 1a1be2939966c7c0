"""What a solve returns."""

from collections.abc import Callable

import torch

OK, NON_FINITE, BOUND_EXCEEDED, OUT_OF_DOMAIN, STEP_TOO_SMALL = range(5)
MEANING = ("ok", "not finite", "bound exceeded", "out of the corrector's domain", "step too small or too many steps")


class SolverError(RuntimeError):
    """A solve that cannot go on; the message says where and what helps."""


class OutOfDomainWarning(UserWarning):
    """A corrector met states outside the box it was trained on."""


class Solution:
    """States at the kept times.

    Attributes:
        t: Kept times, float64, shape (T,).
        y: States, shape (n, T, d), or (T, d) for one initial state (d,).

    Example:
        >>> from attsolver import solve, systems
        >>> system = systems.get("kepler")
        >>> solution = solve(system, system.sample(3), t=(0.0, 1.0), dt=0.1, backend="eager")
        >>> solution.y.shape, solution.status.tolist(), solution.nfev.tolist()
        (torch.Size([3, 11, 4]), [0, 0, 0], [40, 40, 40])
    """

    __slots__ = ("_f", "_nfev", "_out_of_domain", "_status", "t", "y")

    def __init__(
        self,
        t: torch.Tensor,
        y: torch.Tensor,
        status: torch.Tensor | None,
        nfev: int | torch.Tensor,
        out_of_domain: torch.Tensor | None = None,
        f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.t, self.y = t, y
        self._status, self._nfev, self._out_of_domain, self._f = status, nfev, out_of_domain, f

    def _per_trajectory(self, value: int | torch.Tensor | None) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value.to(torch.int64)
        return torch.full(self.y.shape[:-2], value or 0, dtype=torch.int64, device=self.y.device)

    @property
    def status(self) -> torch.Tensor:
        """Per trajectory: 0 ok, 1 not finite, 2 bound exceeded, 3 left the corrector's domain, 4 step too small.

        The states of a trajectory with status 1, 2 or 4 are NaN from the first kept time after the event.
        """
        return self._per_trajectory(self._status)

    @property
    def nfev(self) -> torch.Tensor:
        """Evaluations of f per trajectory, shape (n,)."""
        return self._per_trajectory(self._nfev)

    @property
    def out_of_domain(self) -> torch.Tensor:
        """Steps per trajectory that began outside the corrector's training box, shape (n,)."""
        return self._per_trajectory(self._out_of_domain)

    def __repr__(self) -> str:
        failed = int((self.status > 0).sum())
        span = f"[{self.t[0]:g}, {self.t[-1]:g}]"
        return f"<solution y {tuple(self.y.shape)} over {span}, {failed} trajectories with a status>"

    def __call__(self, t: float | torch.Tensor) -> torch.Tensor:
        """Dense output: states at any times inside the kept ones, by cubic Hermite interpolation of two neighbours.

        The error is O(gap^4) in the distance of the kept times: lower than the accuracy of a corrected solution, and of
        the methods of order 5 and 8. Keep more times, or give the wanted ones to ``solve``.

        Args:
            t: A time, or times of shape (m,).

        Returns:
            (n, d) for a number, (n, m, d) for times; without n for one trajectory.

        Raises:
            ValueError: Outside the kept times, or when fewer than two were kept.
        """
        if self._f is None or self.t.numel() < 2:
            raise ValueError('dense output needs at least two kept times; solve with save="all"')
        wanted = torch.as_tensor(t, dtype=self.t.dtype, device=self.t.device)
        sign = 1 if self.t[-1] > self.t[0] else -1
        times, at = sign * self.t, (sign * wanted).reshape(-1)
        if bool((at < times[0]).any()) or bool((at > times[-1]).any()):
            raise ValueError(f"dense output is between {self.t[0]:g} and {self.t[-1]:g}; got {t}")
        i = (torch.searchsorted(times, at, right=True) - 1).clamp(0, times.numel() - 2)
        left, right = self.t[i], self.t[i + 1]
        gap = (right - left).to(self.y.dtype)[:, None]
        s = ((sign * at - left) / (right - left)).to(self.y.dtype)[:, None]
        y0, y1 = self.y[..., i, :], self.y[..., i + 1, :]
        f0, f1 = self._f(left, y0), self._f(right, y1)
        result = hermite(s, gap, y0, f0, y1, f1)
        return result if wanted.ndim else result[..., 0, :]


def hermite(
    s: torch.Tensor, h: torch.Tensor | float, y0: torch.Tensor, f0: torch.Tensor, y1: torch.Tensor, f1: torch.Tensor
) -> torch.Tensor:
    """The cubic through y0 and y1 with slopes f0 and f1 at distance h, at the fraction s of it."""
    return (
        (1 + 2 * s) * (1 - s) ** 2 * y0 + s * (1 - s) ** 2 * h * f0 + s**2 * (3 - 2 * s) * y1 + s**2 * (s - 1) * h * f1
    )
