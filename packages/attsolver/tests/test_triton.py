"""The whole-trajectory kernel: what it refuses, its arithmetic, its code for GPUs, and what it does on a GPU."""

import inspect
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from attsolver import AttSolver, _triton, rhs, solve, systems
from attsolver._codegen import Program
from attsolver._codegen_triton import triton_text
from attsolver._grid import make_grid
from attsolver._method import find_method
from attsolver._tableaus import TABLEAUS
from sail_core.testing import assert_rel, poison_empty


@rhs(params={"a": 1.0, "b": 0.5})
def every_function(t, x, p, m):
    """Exercises each function and operator that a right-hand side may use."""
    u, v = x
    one = m.sin(u) * m.cos(v) + m.tanh(u * v) - m.exp(-u * u) / (p.a + m.sqrt(m.abs(v) + 1.0))
    two = m.log(2.0 + u**2) - m.minimum(u, v) + 0.5 * m.maximum(u, 0.1) - p.b * v**3 + v**-2 * 0.01 + m.cos(3 * t)
    return 0.3 * one - abs(u) * 0.1, 0.3 * two - (+v) ** 0.5 * 0.01 - 2 * (t - v) / 7


def states(n, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return (1.0 + torch.rand(n, 2, generator=generator, dtype=torch.float64)).to(device, dtype)


def program(rhs, dim, method, dtype, own=False):
    tableau = TABLEAUS[method]
    return Program(graph=rhs.graph(dim), dim=dim, n_params=len(rhs.flat_defaults), own_params=own, dtype=dtype,
                   tableau=tableau)  # fmt: skip


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "dt", "said"),
    [
        ("dopri5", None, "fixed steps; got adaptive"),
        ("expm", 0.1, "fixed steps; got expm"),
        ("leapfrog", 0.1, "fixed steps; got splitting"),
        (AttSolver("rk4", 0.1, dim=4), None, "fixed steps; got corrected"),
    ],
)
def test_other_methods_are_refused(method, dt, said):
    system = systems.get("henon_heiles")
    with pytest.raises(ValueError, match=f"the triton backend runs Runge-Kutta methods with {said}"):
        solve(system, system.sample(2), t=(0.0, 1.0), dt=dt, method=method, backend="triton")


def test_tensor_functions_and_cpu_tensors_are_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="the triton backend compiles component-wise right-hand sides only"):
        solve(lambda t, y: -y, states(2), t=(0.0, 1.0), dt=0.1, backend="triton")
    monkeypatch.setattr(_triton, "installed", lambda: True)
    with pytest.raises(ValueError, match="the triton backend runs on a GPU, or with TRITON_INTERPRET=1 on the CPU; y0"):
        solve(every_function, states(2), t=(0.0, 1.0), dt=0.1, backend="triton")
    monkeypatch.setattr(_triton, "installed", lambda: False)
    with pytest.raises(ValueError, match="the triton backend needs Triton"):
        solve(every_function, states(2), t=(0.0, 1.0), dt=0.1, backend="triton")


def test_a_step_too_large_and_a_gradient_are_refused(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_triton, "installed", lambda: True)
    system = systems.get("neural", size=64)
    with pytest.raises(ValueError, match="the triton backend unrolls a step, at most 4000 operations; rk4 of"):
        solve(system, system.sample(2), t=(0.0, 1.0), dt=0.1, backend="triton")
    with pytest.raises(ValueError, match="the triton backend has no gradient; use backend='eager'"):
        solve(every_function, states(2).requires_grad_(), t=(0.0, 1.0), dt=0.1, backend="triton")


def test_auto_never_chooses_it(monkeypatch):
    monkeypatch.setattr(_triton, "run_fixed", None)
    solve(every_function, states(2), t=(0.0, 1.0), dt=0.5)


def test_only_the_parameters_that_are_read_are_loaded():
    @rhs(params={"unused": 3.0, "rate": [2.0, 0.1]})
    def decay(t, x, p, m):
        return (-p.rate[1] * x[0],)

    own = triton_text(program(decay, 1, "rk4", "float64", own=True), None, bounded=False)
    assert re.findall(r"tl\.load\(p .*\)", own) == ["tl.load(p + 2 * stride + at)"]
    baked = triton_text(program(decay, 1, "rk4", "float64"), decay.flat_defaults, bounded=False)
    assert "p2 = tl.full((), 0.1, tl.float64)" in baked
    assert "tl.load(p" not in baked


# -- L1: under the interpreter ---------------------------------------------------------------------------------------

quiet = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def both(func, y0, **arguments):
    eager = solve(func, y0.double(), backend="eager", **arguments)
    with poison_empty():
        return eager, solve(func, y0, backend="triton", **arguments)


@pytest.mark.interpret
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("n", [1, 5, 65])
def test_every_function_against_float64(dtype, n):
    eager, got = both(every_function, states(n, dtype), t=(0.0, 0.25), dt=0.1)
    assert got.y.dtype == dtype
    assert_rel("y", eager.y, got.y, TOLERANCE[dtype])
    assert torch.equal(got.t, eager.t)
    assert torch.equal(got.nfev, eager.nfev)
    assert not got.status.any()


@pytest.mark.interpret
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ["elastic_pendulum", "henon_heiles", "duffing", "kepler", "lorenz63", "spring_chain"])
def test_systems_against_float64(name, dtype):
    system = systems.get(name)
    eager, got = both(system, system.sample(3, dtype=dtype), t=(0.0, 2 * system.dt), dt=system.dt)
    assert_rel("y", eager.y, got.y, TOLERANCE[dtype])


@pytest.mark.interpret
@pytest.mark.parametrize("method", TABLEAUS)
def test_every_tableau(method):
    eager, got = both(systems.get("duffing"), states(3), t=(0.0, 0.1), dt=0.05, method=method)
    assert_rel("y", eager.y, got.y, 1e-13)


@pytest.mark.interpret
def test_parameters_of_all_and_of_each_trajectory():
    y0 = states(5)
    for b in (0.25, torch.linspace(0.0, 2.0, 5, dtype=torch.float64)):
        eager, got = both(every_function, y0, t=(0.0, 0.1), dt=0.1, params={"b": b})
        assert_rel("y", eager.y, got.y, 1e-13)


@pytest.mark.interpret
def test_backward_time_irregular_times_and_what_is_kept():
    y0 = states(3)
    for arguments in (
        {"t": (1.0, 0.75), "dt": 0.1},
        {"t": (0.0, 0.55), "dt": 0.1, "save": 2},
        {"t": (0.0, 0.25), "dt": 0.1, "save": "last"},
        {"t": torch.tensor([0.0, 0.25, 0.3, 0.5], dtype=torch.float64), "dt": 0.1},
        {"t": torch.tensor([0.5, 0.3, 0.0], dtype=torch.float64), "save": "last"},
    ):
        eager, got = both(every_function, y0, **arguments)
        assert_rel(str(arguments), eager.y, got.y, 1e-12)
        assert torch.equal(got.t, eager.t)
    one = solve(every_function, y0[1], t=(0.0, 0.1), dt=0.1, backend="triton")
    assert one.y.shape == (2, 2)
    assert one.status.shape == ()
    assert torch.equal(one.y, solve(every_function, y0, t=(0.0, 0.1), dt=0.1, backend="triton").y[1])


@pytest.mark.interpret
def test_results_do_not_depend_on_the_size_of_the_batch():
    y0 = states(70, torch.float32)
    arguments = {"t": (0.0, 0.1), "dt": 0.05, "backend": "triton"}
    whole = solve(every_function, y0, **arguments).y
    for part in (slice(0, 1), slice(60, 70), slice(69, 70)):
        assert torch.equal(solve(every_function, y0[part], **arguments).y, whole[part])


@pytest.mark.interpret
@quiet
def test_one_bad_trajectory_does_not_touch_the_others():
    system = systems.get("elastic_pendulum")
    y0 = system.sample(5)
    bad = y0.clone()
    bad[2] = torch.tensor([1.0, 1e-300, 1e200, 1.0], dtype=torch.float64)
    arguments = {"t": (0.0, 0.2), "dt": 0.1, "backend": "triton"}
    clean, mixed = solve(system, y0, **arguments), solve(system, bad, **arguments)
    others = torch.arange(5) != 2
    assert torch.equal(mixed.y[others], clean.y[others])
    assert mixed.status.tolist() == [0, 0, 1, 0, 0]
    assert torch.isnan(mixed.y[2, 1:]).all()
    assert torch.equal(mixed.y[2, 0], bad[2])


@pytest.mark.interpret
@quiet
def test_a_bound_stops_a_trajectory_as_in_eager():
    @rhs
    def growth(t, x, p, m):
        return x[0], 0.0 * x[1]

    y0 = torch.tensor([[1.0, 0.0], [1e-3, 0.0], [5.0, 0.0]], dtype=torch.float64)
    eager, got = both(growth, y0, t=(0.0, 3.5), dt=0.1, max_norm=20.0, method="euler")
    assert got.status.tolist() == eager.status.tolist() == [2, 0, 2]
    assert torch.equal(torch.isnan(got.y), torch.isnan(eager.y))


@pytest.mark.interpret
def test_the_source_is_kept_once_and_visible():
    text = triton_text(program(every_function, 2, "rk4", "float64"), [1.0, 0.5], bounded=False)
    kernel = _triton.kernel_for(text)
    assert _triton.kernel_for(text) is kernel
    assert "sincos(x0)" in inspect.getsource(kernel.fn)


@pytest.mark.interpret
@quiet
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_functions_are_right_to_a_few_units_in_the_last_place(dtype):
    kernel = _triton.kernel_for(
        "import triton\nimport triton.language as tl\n"
        "from attsolver.integrations._triton import exp, log, maximum, minimum, sincos, tanh\n\n\n"
        "@triton.jit\ndef kernel(x, out, n: tl.constexpr):\n"
        "    at = tl.arange(0, n)\n    v = tl.load(x + at)\n    s, c = sincos(v)\n    e = exp(v)\n"
        "    tl.store(out + at, s)\n    tl.store(out + n + at, c)\n    tl.store(out + 2 * n + at, e)\n"
        "    tl.store(out + 3 * n + at, log(v))\n    tl.store(out + 4 * n + at, tanh(v))\n"
        "    tl.store(out + 5 * n + at, minimum(v, e))\n    tl.store(out + 6 * n + at, maximum(v, e))\n"
    )
    special = [0.0, -0.0, 1e-40, 1e-310, np.inf, -np.inf, np.nan, -1.0, 88.5, -100.0, 709.5, -744.0, 1e-5]
    x = np.concatenate([np.linspace(-10, 10, 4096 - len(special)), special]).astype(dtype)
    out = torch.full((7, x.size), float("nan"), dtype=getattr(torch, x.dtype.name))
    kernel[(1,)](torch.from_numpy(x), out, x.size)
    wide, eps = x.astype(np.longdouble), np.finfo(dtype).eps
    truth = [f(wide) for f in (np.sin, np.cos, np.exp, np.log, np.tanh)]
    truth += [np.minimum(x, out[2].numpy()), np.maximum(x, out[2].numpy())]
    for row, exact in enumerate(truth):
        rounded, got = exact.astype(dtype), out[row].numpy()
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(got[~finite], rounded[~finite])
        error = np.abs(got[finite] - exact[finite]).astype(float)
        # Without a fused multiply-add, taking multiples of pi / 2 or log 2 off x costs as many units as x is large.
        scale = np.ones(x.size) if row < 2 else np.maximum(np.abs(rounded), np.finfo(dtype).tiny)
        allowed = (4 + (np.abs(x) if row < 3 else 0)) * eps * scale
        assert np.all(error <= allowed[finite]), row


# -- L2: compiled for GPUs that need not be here ---------------------------------------------------------------------

TARGETS = [("cuda", 80, 32), ("cuda", 90, 32), ("cuda", 100, 32), ("hip", "gfx942", 64)]


def compiled(text, target, dtype, initial=True):
    """A kernel's assembly, with the divisibility hints that the launcher's specialisation would give."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = _triton.kernel_for(text)
    real = {"float32": "*fp32", "float64": "*fp64"}[dtype]
    signature = dict.fromkeys(("y0", "p", "bound", "out"), real) | dict.fromkeys(("n", "runs"), "i32")
    signature |= {"starts": "*fp64", "steps": "*fp64", "counts": "*i64", "everys": "*i64", "status": "*i64"}
    signature = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    hints = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    constants = {"INITIAL": initial, "BLOCK": _triton.BLOCK}
    constants = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=hints)
    options = {"enable_fp_fusion": True, "num_warps": _triton.BLOCK // target[2]}
    return triton.compile(source, target=GPUTarget(*target), options=options).asm


@pytest.mark.aot
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_kind_of_kernel_compiles(target, dtype):
    binary = "cubin" if target[0] == "cuda" else "hsaco"
    for own in (False, True):
        text = triton_text(program(every_function, 2, "midpoint", dtype, own), None, bounded=own)
        assert compiled(text, target, dtype, initial=own)[binary]


@pytest.mark.aot
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_state_stays_in_registers_and_the_loop_touches_memory_only_to_keep(dtype, tmp_path):
    import triton

    system = systems.get("elastic_pendulum")
    text = triton_text(program(system.rhs, 4, "rk4", dtype), system.rhs.flat_defaults, bounded=False)
    assembly = compiled(text, TARGETS[1], dtype)
    ptx, width = assembly["ptx"], {"float32": "b32", "float64": "b64"}[dtype]
    loads, stores = (re.findall(rf"{kind}\.global\S*", ptx) for kind in ("ld", "st"))
    # One 4- or 8-byte access a thread and component: 32 neighbouring numbers a warp, from memory (d, n).
    run = 3  # step, count and every: the right-hand side does not read the time, so start is not loaded
    assert len(loads) == 4 + run
    assert len(stores) == 4 + 4 + 1  # the initial states, a kept step, the status
    assert all(one.endswith(width) for one in stores[:-1])
    step = ptx[ptx.rindex("ld.global") :]
    assert "fma.rn" in step
    assert not re.search(r"\b(?:div|rem)\.[su]64", ptx)
    assert not re.search(r"\.local\b|\bcall\b", ptx)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(assembly["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    use = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", use)[1]) for name in ("REG", "STACK", "LOCAL"))
    assert (stack, local) == (0, 0)
    assert registers <= (40 if dtype == "float32" else 80)


# -- L4: on a GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["elastic_pendulum", "henon_heiles", "duffing", "spring_chain"])
def test_on_a_gpu_it_is_right_and_repeats_its_bits(name, dtype):
    system = systems.get(name)
    y0 = system.sample(1003, dtype=torch.float64).cuda().to(dtype)
    arguments = {"t": (0.0, 20.5 * system.dt), "dt": system.dt, "save": 5}
    truth = solve(system, y0.double(), backend="eager", **arguments)
    first = solve(system, y0, backend="triton", **arguments)
    assert_rel("y", truth.y, first.y, 1e-11 if dtype == torch.float64 else 1e-4)
    for _ in range(20):
        assert torch.equal(solve(system, y0, backend="triton", **arguments).y, first.y)
    assert torch.equal(solve(system, y0[500:700], backend="triton", **arguments).y, first.y[500:700])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_function_and_own_parameters_on_a_gpu(dtype):
    y0 = states(129, dtype, "cuda")
    own = torch.linspace(0.0, 2.0, 129, dtype=dtype, device="cuda")
    for params in (None, {"b": 0.25}, {"b": own}):
        truth = solve(every_function, y0, t=(0.0, 1.05), dt=0.1, params=params, backend="eager")
        got = solve(every_function, y0, t=(0.0, 1.05), dt=0.1, params=params, backend="triton")
        assert_rel("y", truth.y, got.y, 1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.gpu
def test_a_cuda_graph_captures_it():
    system = systems.get("elastic_pendulum")
    y0 = system.sample(1000, dtype=torch.float32).cuda()
    grid, method = make_grid((0.0, 2.0), 0.1, "last"), find_method("rk4", 0.1)
    expected, _ = _triton.run_fixed(system.rhs, None, method, y0, grid, max_norm=1e3)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, status = _triton.run_fixed(system.rhs, None, method, y0, grid, max_norm=1e3)
    graph.replay()
    assert torch.equal(y, expected)
    assert not status.any()


@pytest.mark.gpu
def test_more_than_2_to_31_kept_numbers():
    system = systems.get("henon_heiles")
    y0 = system.sample(2**10, dtype=torch.float32).cuda().repeat(2**10, 1)
    arguments = {"t": (0.0, 256.5), "dt": 0.5, "backend": "triton"}
    y = solve(system, y0, **arguments).y
    assert y.numel() > 2**31
    assert torch.equal(y[:, -1], solve(system, y0, save="last", **arguments).y[:, 0])
    assert torch.equal(y[-1], y[2**10 - 1])
