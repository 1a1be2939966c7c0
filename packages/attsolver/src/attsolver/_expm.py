"""The exact solution of a linear system, ``y' = A y + b``, by the matrix exponential."""

import torch

from ._rhs import ComponentwiseRHS


def check_linear(rhs: ComponentwiseRHS, dim: int) -> None:
    """Raise ValueError unless the right-hand side is affine in the state with constant coefficients."""
    if not rhs.graph(dim).affine_in_x():
        raise ValueError(f"expm solves y' = A y + b with constant A and b; {rhs.name} is not of this form. Take dop853")


def integrate_linear(
    rhs: ComponentwiseRHS, u: torch.Tensor, times: torch.Tensor, params: torch.Tensor | None
) -> torch.Tensor:
    """States at the times after the first, (T - 1, n, d), each by one matrix product from u = y(times[0]).

    ``(y, 1) -> exp((t - t0) [[A, b], [0, 0]]) (y, 1)``

    Args:
        rhs: A right-hand side that ``check_linear`` accepts.
        u: Initial states (n, d).
        times: float64.
        params: Flat parameters, (n_params,) or (n, n_params); None for the defaults.
    """
    d = u.shape[-1]
    exact = u.double()
    flat = None if params is None else params.double()
    probes = torch.cat([torch.zeros(1, d), torch.eye(d)]).to(exact)
    if flat is not None and flat.ndim == 2:
        probes, flat = probes[:, None].expand(-1, u.shape[0], -1), flat[None]
    slopes = rhs.flat(0.0, probes, flat)
    b = slopes[0]
    matrix = slopes.new_zeros(*b.shape[:-1], d + 1, d + 1)
    matrix[..., :d, :d] = (slopes[1:] - b).movedim(0, -1)
    matrix[..., :d, d] = b
    extended = torch.cat([exact, torch.ones_like(exact[:, :1])], dim=-1)
    kept, last = [], None
    for time in times[1:]:
        gap = float(time - times[0])
        if last is None or gap != last[0]:
            last = (gap, torch.linalg.matrix_exp(gap * matrix))
        kept.append((last[1] @ extended[..., None])[..., :d, 0])
    return torch.stack(kept).to(u.dtype)
