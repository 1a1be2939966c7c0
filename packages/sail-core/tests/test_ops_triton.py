"""The kernels: their operators, their arithmetic under the interpreter, their code for GPUs, and on a GPU."""

import importlib
import re

import pytest
import torch
from sail_core.ops import backend, explain, recalibrate
from sail_core.testing import assert_rel, poison_empty
from torch import nn

SHAPES = [(1, 1, 1), (2, 3, 7), (3, 5, 7, 7), (2, 16, 8, 8), (2, 7, 3, 5, 2), (1, 3, 1500), (2, 70, 5)]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # the interpreter cuts bfloat16 off


def lay_out(x, last):
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def maps(shape, dtype, last, device="cpu"):
    torch.manual_seed(0)
    x, g, r = (lay_out(torch.randn(shape, device=device), last).to(dtype) for _ in range(3))
    return x, g, r, torch.rand(shape[:2], device=device), torch.randn(shape[:2], device=device)


def columns(values, x):
    return values.double().reshape(values.shape + (1,) * (x.dim() - 2))


# -- the operators on a CPU ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["channel_mean", "channel_scale", "channel_dot", "channel_dot_relu", "channel_affine"])
def test_operators_pass_opcheck(name, last):
    importlib.import_module("sail_core.ops._custom")
    x, g, r, a, b = maps((2, 3, 5), torch.float32, last)
    arguments = {
        "channel_mean": (x,),
        "channel_scale": (x, a, r, True),
        "channel_dot": (g, x),
        "channel_dot_relu": (g, x, r),
        "channel_affine": (g, a, b),
    }
    torch.library.opcheck(getattr(torch.ops.sail_core, name).default, arguments[name])


def test_explain_says_where_the_kernels_run():
    x, gate = torch.randn(2, 3, 4, 4), nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())
    with backend("triton"):
        assert explain(x, gate) == "triton: on a CPU its operators are plain formulas"
        with pytest.raises(ValueError, match=r'backend\("triton"\) is set, but the kernels compute in float32'):
            recalibrate(x.double(), gate.double())
        with pytest.raises(ValueError, match="samples of 1 to"):
            recalibrate(x[:0], gate.float())
    with torch.no_grad(), backend("triton"):
        assert_rel("y", x * gate(x.mean((2, 3)))[..., None, None], recalibrate(x, gate), 1e-6)


def test_a_gradient_or_residual_laid_out_otherwise_is_taken_as_it_is():
    gate = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())
    x, r = torch.randn(2, 3, 4, 4, requires_grad=True), lay_out(torch.randn(2, 3, 4, 4), True)
    g = lay_out(torch.randn(2, 3, 4, 4), True)
    expected = torch.autograd.grad(x * gate(x.mean((2, 3)))[..., None, None] + r, x, g)[0]
    with backend("triton"):
        assert_rel("dx", expected, torch.autograd.grad(recalibrate(x, gate, residual=r), x, g)[0], 2e-6)


# -- L1: the launchers under the interpreter -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kernels():
    return importlib.import_module("sail_core.ops._triton")


@pytest.mark.interpret
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_and_affine_against_float64(shape, last, dtype, kernels):
    x, g, r, a, b = maps(shape, dtype, last)
    over, limit = tuple(range(2, len(shape))), TOLERANCE[dtype]
    with poison_empty():
        got = kernels.sums(x, factor=0.5)
        assert_rel("sum", 0.5 * x.double().sum(over), got, 1e-5)
        assert_rel("dot", (g.double() * x.double()).sum(over), kernels.sums(x, g=g), 1e-5)
        masked = torch.empty_like(g)
        found = kernels.sums(x, g=g, y=r, masked=masked)
        assert torch.equal(masked, torch.where(r > 0, g, 0))
        assert_rel("masked dot", (masked.double() * x.double()).sum(over), found, 1e-5)
        for relu in (False, True):
            for other, bias in ((None, 0.0), (r, r.double()), (b, columns(b, x))):
                expected = x.double() * columns(a, x) + bias
                expected = expected.relu() if relu else expected
                got = kernels.affine(x, a, other, relu=relu, dtype=dtype)
                assert got.dtype == dtype
                assert got.stride() == x.stride()
                assert_rel(f"affine, relu {relu}", expected, got, limit)


@pytest.mark.interpret
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, of NaN and infinity
@pytest.mark.parametrize("last", [False, True])
def test_nan_and_infinity_pass_as_in_torch(last, kernels):
    x, g, _, a, _ = maps((2, 4, 9), torch.float32, last)
    x[0, 0, 0], x[1, 1, 2], g[0, 2, 3] = float("nan"), float("-inf"), float("nan")
    y = kernels.affine(x, a, None, relu=True, dtype=x.dtype)
    torch.testing.assert_close(y, torch.relu(x * a[..., None]), equal_nan=True)
    masked = torch.empty_like(g)
    kernels.sums(x, g=g, y=y, masked=masked)
    torch.testing.assert_close(masked, torch.ops.aten.threshold_backward(g, y, 0), equal_nan=True)


@pytest.mark.interpret
def test_channels_last_is_summed_in_parts(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "_PROGRAMS", 6)
    x = lay_out(torch.randn(2, 3, 700), True)
    assert_rel("sum", x.double().sum(2), kernels.sums(x), 1e-5)


# -- L2: compiled for GPUs that need not be here ---------------------------------------------------------------------

TARGETS = [("cuda", 80, 32), ("cuda", 90, 32), ("cuda", 100, 32), ("hip", "gfx942", 64)]
POINTERS = {"x", "g", "y", "masked", "a", "b"}
NUMBERS = {"rows": "i32", "size": "i32", "channels": "i32", "chunk": "i32", "count": "i64", "factor": "fp32"}


def compiled(kernel, target, dtype, constants, aligned=True):
    """A kernel's assembly, with the divisibility hints that the launcher's specialisation would give."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: f"*{dtype}" if name in POINTERS else NUMBERS.get(name, "constexpr") for name in names}
    if "out" in names:
        signature["out"] = f"*{dtype}" if "BLOCK" in constants else "*fp32"
    whole = POINTERS | {"out", "count"}
    hints = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if aligned and name in whole}
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=hints)
    return triton.compile(source, target=GPUTarget(*target), options={"enable_fp_fusion": True}).asm


@pytest.mark.aot
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_kernel_compiles(target, dtype, kernels):
    binary = "cubin" if target[0] == "cuda" else "hsaco"
    for relu in (False, True):
        kind = {"DOT": True, "RELU": relu}
        assert compiled(kernels.over_rows, target, dtype, kind | {"BR": 1, "BK": 1024})[binary]
        assert compiled(kernels.over_rows, target, dtype, kind | {"BR": 16, "BK": 64}, aligned=False)[binary]
        assert compiled(kernels.over_columns, target, dtype, kind | {"BK": 16, "BM": 64})[binary]
        for last in (False, True):
            for more in ({"BIAS": True, "RESIDUAL": False}, {"BIAS": False, "RESIDUAL": True}):
                constants = {"LAST": last, **more, "RELU": relu, "BLOCK": 1024}
                assert compiled(kernels.over_map, target, dtype, constants)[binary]


@pytest.mark.aot
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_element_wise_passes_load_16_bytes_and_divide_once(dtype, last, kernels):
    constants = {"LAST": last, "BIAS": False, "RESIDUAL": True, "RELU": True, "BLOCK": 1024}
    ptx = compiled(kernels.over_map, TARGETS[1], dtype, constants)["ptx"]
    elements = 1024 // 128 * (4 if dtype == "fp32" else 2) // 16  # 16-byte accesses of a map by a thread
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)) == 2 * elements
    assert len(re.findall(r"st\.global\S*\.v4\.b32", ptx)) == elements
    assert len(re.findall(r"\b(?:div|rem)\.[su]64", ptx)) <= 1


# -- L4: on a GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape", [(8, 64, 56, 56), (4, 2048, 7, 7), pytest.param((3, 5, 49), id="small"), (64, 197, 96)], ids=str
)
def test_recalibrate_on_a_gpu_is_right_and_repeats_its_bits(shape, last, dtype):
    x, g, r, _, _ = maps(shape, dtype, last, "cuda")
    gate = nn.Sequential(nn.Linear(shape[1], 4), nn.ReLU(), nn.Linear(4, shape[1]), nn.Sigmoid()).cuda().to(dtype)

    def run(name, *inputs, gate):
        x, r, g = (t.detach().requires_grad_(i < 2) for i, t in enumerate(inputs))
        with backend(name):
            y = recalibrate(x, gate, residual=r, activation="relu")
        return y, *torch.autograd.grad(y, (x, r, *gate.parameters()), g)

    with backend("triton"):
        assert explain(x, gate, residual=r).startswith("triton")
    first = run("triton", x, r, g, gate=gate)
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, run("triton", x, r, g, gate=gate), strict=True))
    plain = run("reference", x, r, g, gate=gate)
    truth = run("reference", x.double(), r.double(), g.double(), gate=gate.double())
    for name, ref, eager, ours in zip(("y", "dx", "dr"), truth, plain, first, strict=False):
        error = ((eager.double() - ref).norm() / ref.norm()).item()
        assert_rel(name, ref, ours, max(1.1 * error, 2e-6))


@pytest.mark.gpu
def test_a_cuda_graph_captures_it():
    gate = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid()).cuda()
    x = torch.randn(32, 64, 56, 56, device="cuda", requires_grad=True)
    graphed = torch.cuda.make_graphed_callables(lambda t: recalibrate(t, gate), (x,))
    torch.testing.assert_close(graphed(x), recalibrate(x, gate))


@pytest.mark.gpu
@pytest.mark.parametrize("last", [False, True])
def test_more_than_2_to_31_elements(last):
    x = torch.ones(2049, 1024, 32, 32, dtype=torch.bfloat16, device="cuda")
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    x[-1] = 3
    with torch.no_grad(), backend("triton"):
        y = recalibrate(x, nn.Identity())
    assert y.numel() > 2**31
    assert torch.all(y[-1] == 9)
    assert torch.all(y[0] == 1)
