import numpy as np
import pytest
import torch
from attsolver import Corrector


@pytest.fixture(scope="session", autouse=True)
def native_cache(tmp_path_factory):
    """Compiled programs of this session, away from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("native")
        patch.setenv("ATTSOLVER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def random_corrector():
    """Makes a corrected method with random weights, written apart from the package."""
    return build_random


@pytest.fixture(scope="session")
def zero_corrector():
    """Makes one whose correction is zero."""
    return build_zero


class StandIn:
    """Q computed by hand in torch from the arrays of a corrector."""

    def __init__(self, arrays):
        self.arrays, self.base, self.dt = arrays, arrays.base, arrays.dt

    def corrector(self):
        return self.arrays

    def correction(self, t, u, s, params):
        c = self.arrays
        z = {"state": [u], "increment": [s], "both": [u, s]}[c.features]
        if c.conditioning:
            z = [*z, params.expand(*u.shape[:-1], params.shape[-1])]
        z = torch.cat(z, -1)
        z = (z - torch.as_tensor(c.mu).to(z)) / torch.as_tensor(c.sigma).to(z)
        hidden = z @ torch.as_tensor(c.w1).to(z).T + torch.as_tensor(c.b1).to(z)
        match c.activation:
            case "relu":
                hidden = hidden.relu()
            case "silu":
                hidden = hidden * hidden.sigmoid()
            case "tanh":
                hidden = hidden.tanh()
            case name:
                a0, a1, a2, a3, b0, b1, b2 = c.coefficients
                top = a0 + a1 * hidden + a2 * hidden**2 + a3 * hidden**3
                bottom = b1 * hidden + b2 * hidden**2
                hidden = top / (1 + bottom.abs() if name == "rational" else b0 + bottom)
        inner = (
            z @ torch.as_tensor(c.w_lin).to(z).T + hidden @ torch.as_tensor(c.w2).to(z).T + torch.as_tensor(c.b2).to(z)
        )
        return torch.as_tensor(c.out_scale).to(z) * inner - torch.as_tensor(c.q0).to(z)


def build_random(d, *, base="rk4", order=4, dt=0.1, features="both", hidden=8, scale=1e-3, seed=0, **more):
    rng = np.random.default_rng(seed)
    conditioning = more.get("conditioning", 0)
    d_in = {"state": d, "increment": d, "both": 2 * d}[features] + conditioning
    more.setdefault("coefficients", (0.0218, 0.5, 1.5957, 1.1915, 1.0, 0.3, 2.383))
    return StandIn(
        Corrector(
            base=base,
            order=order,
            dt=dt,
            features=features,
            mu=rng.normal(size=d_in),
            sigma=rng.uniform(1, 2, d_in),
            w_lin=rng.normal(size=(d, d_in)),
            w1=rng.normal(size=(hidden, d_in)) / d_in,
            b1=rng.normal(size=hidden),
            w2=rng.normal(size=(d, hidden)),
            b2=rng.normal(size=d),
            out_scale=scale * rng.uniform(1, 2, d),
            q0=1e-4 * rng.normal(size=d),
            **more,
        )
    )


def build_zero(d, **more):
    c = build_random(d, **more).arrays
    zeros = {name: np.zeros_like(getattr(c, name)) for name in ("w_lin", "w2", "b2", "q0")}
    fields = {name: getattr(c, name) for name in c.__dataclass_fields__}
    return StandIn(Corrector(**(fields | zeros)))
