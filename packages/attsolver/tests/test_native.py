import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")
from attsolver import OutOfDomainWarning, rhs, solve, systems
from attsolver._tableaus import TABLEAUS


@rhs(params={"a": 1.0, "b": 0.5})
def every_function(t, x, p, m):
    """Exercises each function and operator that a right-hand side may use."""
    u, v = x
    one = m.sin(u) * m.cos(v) + m.tanh(u * v) - m.exp(-u * u) / (p.a + m.sqrt(m.abs(v) + 1.0))
    two = m.log(2.0 + u**2) - m.minimum(u, v) + 0.5 * m.maximum(u, 0.1) - p.b * v**3 + v**-2 * 0.01 + m.cos(3 * t)
    return 0.3 * one - abs(u) * 0.1, 0.3 * two - (+v) ** 0.5 * 0.01 - 2 * (t - v) / 7


def states(n, dtype=torch.float64):
    return 1.0 + torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def both(func, y0, **arguments):
    return (solve(func, y0, backend=backend, **arguments) for backend in ("eager", "native"))


@pytest.mark.parametrize("method", ["rk4", pytest.param("dop853", marks=pytest.mark.slow)])
def test_native_equals_eager_for_every_function(method):
    eager, native = both(every_function, states(5), t=(0.0, 1.05), dt=0.1, method=method)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-13, atol=1e-13)
    assert torch.equal(native.t, eager.t)
    assert torch.equal(native.nfev, eager.nfev)
    single, _ = both(every_function, states(5, torch.float32), t=(0.0, 1.05), dt=0.1, method=method)
    torch.testing.assert_close(single.y, eager.y.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", systems.names())
def test_native_equals_eager_on_every_system_and_method(name, dtype):
    system = systems.get(name)
    y0 = system.sample(7, dtype=dtype)
    methods = [*TABLEAUS, *(["leapfrog", "pefrl"] if system.rhs.positions else [])]
    for method in methods:
        eager, native = both(system, y0, t=(0.0, 3.5 * system.dt), dt=system.dt, method=method)
        if method == "euler" and not torch.isfinite(eager.y).all():
            continue
        tolerance = 1e-11 if dtype == torch.float64 else 2e-4
        torch.testing.assert_close(native.y, eager.y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["leapfrog", "pefrl"])
def test_native_splittings_equal_eager(method):
    system = systems.get("henon_heiles")
    eager, native = both(system, system.sample(3), t=(0.0, 2.05), dt=0.1, method=method)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-13, atol=1e-13)


def test_a_large_right_hand_side_runs_as_a_loop_over_stages():
    system = systems.get("klink_pendulum")  # 188 operations: too many for one loop over lanes
    eager, native = both(system, system.sample(3), t=(0.0, 0.2), dt=0.05)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["dopri5", "dop853"])
def test_native_adaptive_steps_equal_eager_ones(method):
    system = systems.get("duffing")  # depends on the time
    y0 = system.sample(5)
    times = torch.linspace(0.0, 3.0, 4, dtype=torch.float64)
    eager, native = both(system, y0, t=times, method=method, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-9, atol=1e-10)
    assert torch.equal(native.nfev, eager.nfev)
    assert len(set(native.nfev.tolist())) > 1  # every trajectory has steps of its own
    back, _ = both(system, native.y[:, -1].contiguous(), t=times.flip(0), method=method, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(back.y[:, -1], y0, rtol=1e-6, atol=1e-6)


def test_results_do_not_depend_on_the_size_of_the_batch():
    system = systems.get("elastic_pendulum")
    y0 = system.sample(301, dtype=torch.float32)
    arguments = {"t": (0.0, 2.0), "dt": 0.1, "save": 5, "backend": "native"}
    whole = solve(system, y0, **arguments).y
    for part in (slice(0, 1), slice(5, 22), slice(100, 229), slice(300, 301)):
        assert torch.equal(solve(system, y0[part], **arguments).y, whole[part])
    assert torch.equal(solve(system, y0[7], **arguments).y, whole[7])
    adaptive = {"t": (0.0, 2.0), "method": "dop853", "rtol": 1e-5, "backend": "native"}
    whole = solve(system, y0, **adaptive).y
    assert torch.equal(solve(system, y0[200:203], **adaptive).y, whole[200:203])


def test_threads_share_the_trajectories_without_changing_a_bit(monkeypatch):
    system = systems.get("elastic_pendulum")
    y0 = system.sample(4500, dtype=torch.float32)
    arguments = {"t": (0.0, 2.0), "dt": 0.1, "save": 5, "backend": "native"}
    alone = solve(system, y0, **arguments).y
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch.equal(solve(system, y0, **arguments).y, alone)


def test_one_bad_trajectory_does_not_touch_the_others():
    system = systems.get("elastic_pendulum")
    y0 = system.sample(40)
    bad = y0.clone()
    bad[17] = torch.tensor([1.0, 1e-300, 1e200, 1.0], dtype=torch.float64)
    for method, extra in (("rk4", {"dt": 0.1}), ("dop853", {"rtol": 1e-5})):
        clean = solve(system, y0, t=(0.0, 2.0), method=method, backend="native", **extra)
        mixed = solve(system, bad, t=(0.0, 2.0), method=method, backend="native", max_steps=50, **extra)
        others = torch.arange(40) != 17
        assert torch.equal(mixed.y[others], clean.y[others])
        assert mixed.status[17] in (1, 4)
        assert not mixed.status[others].any()
        assert torch.isnan(mixed.y[17, -1]).all()


def test_a_bound_stops_a_trajectory():
    system = systems.get("double_well")
    y0 = torch.tensor([[0.5, 0.0], [0.5, 40.0]], dtype=torch.float64)
    eager, native = both(system, y0, t=(0.0, 4.0), dt=0.05, max_norm=20.0)
    for solution in (eager, native):
        assert solution.status.tolist() == [0, 2]
        assert torch.isnan(solution.y[1, -1]).all()
        assert torch.isfinite(solution.y[0]).all()
    assert torch.equal(torch.isnan(eager.y), torch.isnan(native.y))


def test_parameters_of_every_trajectory():
    system = systems.get("van_der_pol")
    y0 = system.sample(20)
    mu = torch.linspace(0.1, 2.0, 20, dtype=torch.float64)
    eager, native = both(system, y0, t=(0.0, 1.0), dt=0.05, params={"mu": mu})
    torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-13)
    alone = solve(system, y0[3], t=(0.0, 1.0), dt=0.05, params={"mu": float(mu[3])}, backend="native")
    torch.testing.assert_close(native.y[3], alone.y, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("features", "activation", "hidden"),
    [
        ("both", "rational", 16),
        ("state", "silu", 8),
        pytest.param("increment", "tanh", 11, marks=pytest.mark.slow),
        pytest.param("both", "published", 3, marks=pytest.mark.slow),
    ],
)
def test_a_corrector_in_the_kernel_equals_the_one_in_torch(features, activation, hidden, random_corrector):
    extra = {} if activation in ("rational", "published") else {"coefficients": ()}
    method = random_corrector(4, features=features, activation=activation, hidden=hidden, **extra)
    system = systems.get("elastic_pendulum")
    y0 = system.sample(9)
    eager, native = both(system, y0, t=(0.0, 1.05), method=method)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-12)
    base = solve(system, y0, t=(0.0, 1.05), dt=0.1, backend="native")
    assert float((base.y - native.y).abs().max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("base", list(TABLEAUS))
@pytest.mark.parametrize("hidden", [0, 8, 64, 128])
def test_correctors_of_every_base_and_width(base, hidden, random_corrector):
    method = random_corrector(
        2, base=base, order=TABLEAUS[base].order, hidden=hidden, activation="relu", coefficients=()
    )
    eager, native = both(every_function, states(40), t=(0.0, 0.55), method=method)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_corrector_of_zeros_is_bit_equal_to_its_base(backend, zero_corrector):
    system = systems.get("elastic_pendulum")
    y0 = system.sample(9)
    corrected = solve(system, y0, t=(0.0, 1.05), method=zero_corrector(4, hidden=16), backend=backend)
    assert torch.equal(corrected.y, solve(system, y0, t=(0.0, 1.05), dt=0.1, backend=backend).y)


def test_leaving_the_training_box_is_counted_warned_about_or_answered_by_base_steps(random_corrector):
    system = systems.get("elastic_pendulum")
    y0 = system.sample(30)
    method = random_corrector(4, hidden=16, low=np.array([-0.5, 9.8, -9.0, -9.0]), high=np.array([0.5, 11.0, 9.0, 9.0]))
    for policy in ("ignore", "fallback"):
        eager, native = both(system, y0, t=(0.0, 1.05), method=method, out_of_domain=policy)
        torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-12)
        assert torch.equal(native.out_of_domain, eager.out_of_domain)
        counts = set(native.out_of_domain.tolist())
        assert 0 in counts
        assert len(counts) > 4
        expected = (native.out_of_domain > 0) * 3 if policy == "fallback" else torch.zeros(30)
        assert native.status.tolist() == expected.tolist()
    with pytest.warns(OutOfDomainWarning, match="left the states"):
        solve(system, y0, t=(0.0, 1.05), method=method, backend="native")


@pytest.mark.parametrize(
    "params", [{"g": torch.linspace(8.0, 11.0, 6)}, pytest.param(None, marks=pytest.mark.slow)], ids=["own", "default"]
)
def test_a_conditioned_corrector_reads_the_parameters(random_corrector, params):
    system = systems.get("elastic_pendulum")
    method = random_corrector(4, conditioning=4)
    eager, native = both(system, system.sample(6), t=(0.0, 0.5), method=method, params=params)
    torch.testing.assert_close(native.y, eager.y, rtol=1e-12, atol=1e-12)


def assembly(system, method, dtype):
    """The machine code of a program, compiled without the cache, which keeps no listing."""
    import numba
    from attsolver._codegen import Program
    from attsolver._program import program_text

    program = Program(
        system.rhs.graph(system.dim), system.dim, len(system.rhs.flat_defaults), False, dtype, tableau=TABLEAUS[method]
    )
    names = {}
    exec(compile(program_text(program).replace("cache=True, ", ""), "program", "exec"), names)
    assert isinstance(names["kernel"], numba.core.dispatcher.Dispatcher)
    return "\n".join(names["kernel"].inspect_asm().values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_machine_code_is_made_of_vectors_and_calls_no_scalar_function(dtype):
    code = assembly(systems.get("elastic_pendulum"), "rk4", dtype)
    assert not re.search(r"\b(sin|cos|sincos|exp|log|tanh|sqrt|fma|rint|floor)f?\b", code)
    letter = (dtype[5] == "3" and "s") or "d"
    if re.search(r"%[xyz]mm", code):  # x86: the divisions of the four stages are of whole vectors
        vectors = re.findall(rf"vdivp{letter}\s.*%[yz]mm|divp{letter}\s", code)
        assert len(vectors) >= 4


SCRIPT = """
import sys, time
import torch
from attsolver import solve, systems
system = systems.get("elastic_pendulum")
begin = time.perf_counter()
print(solve(system, system.sample(3), t=(0.0, 1.0), dt=0.1, backend="native").y.sum().item())
import numba
kernels = [m.kernel for name, m in sys.modules.items() if name.startswith("_attsolver_")]
print([dict(k.stats.cache_hits) != {} for k in kernels], [dict(k.stats.cache_misses) != {} for k in kernels])
"""


def test_a_second_process_loads_what_the_first_compiled(native_cache):
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=os.environ
        ).stdout
        for _ in range(2)
    ]
    assert outputs[0].splitlines()[0] == outputs[1].splitlines()[0]
    assert outputs[1].splitlines()[1] == "[True] [False]"
    assert list(Path(native_cache).glob("_attsolver_*.py"))


def test_memory_does_not_grow_with_the_number_of_steps():
    import tracemalloc

    system = systems.get("lotka_volterra")
    y0 = system.sample(200)
    peaks = []
    for steps in (100, 10_000):
        arguments = {"t": (0.0, 0.01 * steps), "dt": 0.01, "save": "last", "backend": "native"}
        solve(system, y0, **arguments)
        tracemalloc.start()
        solve(system, y0, **arguments)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 4096
    assert peaks[1] < 100_000


def test_what_the_native_engine_cannot_run_is_said():
    system = systems.get("kepler")
    y0 = system.sample(2)
    with pytest.raises(ValueError, match="component-wise"):
        solve(lambda t, y: -y, y0, t=(0.0, 1.0), dt=0.1, backend="native")
    with pytest.raises(ValueError, match="no gradient"):
        solve(system, y0.requires_grad_(), t=(0.0, 1.0), dt=0.1, backend="native")
    with pytest.raises(ValueError, match="no expm"):
        solve(systems.get("spring_chain"), torch.ones(1, 40), t=(0.0, 1.0), method="expm", backend="native")
    assert solve(system, y0, t=(0.0, 1.0), dt=0.1).y.requires_grad  # auto falls back to eager


def test_an_unwritable_cache_only_costs_time(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ATTSOLVER_CACHE", str(blocked / "below"))

    @rhs
    def decay(t, x, p, m):
        return (-x[0],)

    y = solve(decay, torch.ones(1), t=(0.0, 1.0), dt=0.1, save="last", backend="native").y
    assert float(y) == pytest.approx(0.36788, abs=1e-5)
