"""Choosing the form of a recalibration: the joint one where it pays, the reference everywhere else."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Literal
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import _joint, _reference
from ._forms import FORMS, Form
from ._graph import refuse_foreign_leaves, sequence_mark
from ._reference import Activation, Output, check_map, check_tail, split

Backend = Literal["auto", "reference", "joint", "triton"]

_MINIMUM_BYTES = 2**20
_JOINT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_JOINT_DEVICES = ("cpu", "cuda")


def recalibrate(
    x: Tensor,
    gate: nn.Module,
    *,
    state: Sequence[Tensor] = (),
    residual: Tensor | None = None,
    activation: Activation = None,
) -> Output:
    """Scale each channel of a map by a factor that a gate computes from the channels' means.

    ``a, *state = gate(mean_k x, *state)`` and ``y = act(x * a + residual)``

    Which form runs is decided per call, see ``explain``; all forms give the same values and gradients. The joint form
    keeps the gate's small graph and never runs the gate twice, so batch normalisation and dropout inside it are safe.
    The gate must not change its inputs in place. Its forward is the only thing traced: it may hold buffers, hooks and
    frozen parameters, but every tensor that needs a gradient must be its input, its state or one of its parameters.

    Args:
        x: Map of shape ``(B, C, *K)``, floating point or complex, with at least one axis in K.
        gate: Module that maps the means (B, C) and the state to ``a`` of shape (B, C), or to a tuple ``(a, *state)``.
        state: Tensors of any shape that the gate takes after the means, such as a recurrent cell's ``h`` and ``c``.
        residual: Map of the shape of ``x`` that is added after scaling, or None.
        activation: ``"relu"`` or None, applied last.

    Returns:
        ``y`` of the shape of ``x``, or ``(y, *state)`` where the gate returned a tuple. The dtype of ``y`` follows
        torch's type promotion of the formula.

    Raises:
        ValueError: If a shape does not fit, the activation is unknown, the gate uses a foreign tensor that needs a
            gradient, or ``backend("joint")`` is set and this call cannot take it.
        TypeError: If ``x`` holds integers, ``gate`` is not a module, or the gate returns something else than tensors.

    Example:
        >>> gate = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
        >>> _ = [nn.init.zeros_(p) for p in gate.parameters()]
        >>> recalibrate(torch.ones(1, 2, 3), gate)
        tensor([[[0.5000, 0.5000, 0.5000],
                 [0.5000, 0.5000, 0.5000]]], grad_fn=<MulBackward0>)

    References:
        Jie Hu, Li Shen, Gang Sun, "Squeeze-and-Excitation Networks", 2017, arXiv:1709.01507.
    """
    state = _check(x, gate, state, residual, activation)
    path, why = _route(x, gate, state, residual)
    if path == "refused":
        raise ValueError(f'backend("{_choice}") is set, but {why}; use backend("auto") or backend("reference")')
    if path in ("joint", "triton"):
        form = _triton_form() if path == "triton" else FORMS[x.device.type]
        run = _joint.recalibrate if _needs_gradient(x, gate, state, residual) else _joint.infer
        return run(x, gate, state=state, residual=residual, activation=activation, form=form)
    inspect = _choice == "auto" and _uninspected(x, gate, state)
    called = _inspected(gate) if inspect else gate
    return _reference.recalibrate(x, called, state=state, residual=residual, activation=activation)


_inspected_gates: WeakSet[nn.Module] = WeakSet()


def _uninspected(x: Tensor, gate: nn.Module, state: tuple[Tensor, ...]) -> bool:
    """Whether this call should look into the gate's graph, as the joint form does on every call.

    The reference form would get a foreign tensor's gradient right, but a gate that passes with small maps and raises
    with large ones helps nobody. Looking costs as much as the gate itself, so each gate is looked into once.
    """
    if torch.compiler.is_compiling() or gate in _inspected_gates or not torch.is_grad_enabled():
        return False
    return _obstacle(x, (x, *state), tuple(gate.parameters())) is None


def _inspected(gate: nn.Module) -> Callable[..., object]:
    """The gate, refusing foreign tensors."""

    def call(pooled: Tensor, *state: Tensor) -> object:
        mark = sequence_mark()
        output = gate(pooled, *state)
        a, new = split(output, pooled)
        inputs = [tensor for tensor in (pooled, *state, *gate.parameters()) if tensor.requires_grad]
        refuse_foreign_leaves((a, *(new or ())), inputs, mark)
        _inspected_gates.add(gate)
        return output

    return call


def explain(
    x: Tensor,
    gate: nn.Module | None = None,
    *,
    state: Sequence[Tensor] = (),
    residual: Tensor | None = None,
    activation: Activation = None,
) -> str:
    """Say which form ``recalibrate`` would take for these arguments, and why.

    Args:
        x: Map of shape ``(B, C, *K)``.
        gate: The gate, or None to leave its parameters out of the decision.
        state: As for ``recalibrate``.
        residual: As for ``recalibrate``.
        activation: As for ``recalibrate``.

    Returns:
        One line: the form, a colon and the reason.

    Raises:
        ValueError: As ``recalibrate`` does for its arguments.
        TypeError: As ``recalibrate`` does for its arguments.

    Example:
        >>> explain(torch.zeros(8, 64, 56, 56, requires_grad=True))
        'joint: a gradient is needed and the map holds at least 1 MiB'
        >>> explain(torch.zeros(2, 64, 7, 7, requires_grad=True))
        'reference: the map holds less than 1 MiB, where the joint form does not pay'
    """
    gate = nn.Module() if gate is None else gate
    path, why = _route(x, gate, _check(x, gate, state, residual, activation), residual)
    return f"{path}: {why}"


def backend(name: Backend) -> AbstractContextManager[None]:
    """Force one form of ``recalibrate`` inside a ``with`` block.

    The choice holds for the whole process, as torch's own backend flags do, so that a checkpointed backward that runs
    in another thread sees it too. The environment variable SAIL_CORE_BACKEND sets the choice outside all blocks.

    Args:
        name: ``"auto"`` decides per call; ``"reference"`` always takes the plain form; ``"joint"`` takes the joint form
            wherever a gradient is needed, also for small maps and for float64, and raises where it cannot run;
            ``"triton"`` takes the joint form with Triton kernels on a GPU, and with the plain formulas of the same
            operators on a CPU, with or without gradients.

    Returns:
        A context manager.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> with backend("reference"):
        ...     print(explain(torch.zeros(8, 64, 56, 56, requires_grad=True)))
        reference: backend("reference") is set
    """
    return _forced(_known(name, "backend"))


@contextmanager
def _forced(name: Backend) -> Iterator[None]:
    global _choice
    previous, _choice = _choice, name
    try:
        yield
    finally:
        _choice = previous


def _known(name: str, source: str) -> Backend:
    if name not in ("auto", "reference", "joint", "triton"):
        raise ValueError(f"{source} is {name!r}; expected 'auto', 'reference', 'joint' or 'triton'")
    return name  # type: ignore[return-value]


_choice: Backend = _known(os.environ.get("SAIL_CORE_BACKEND", "auto"), "SAIL_CORE_BACKEND")


def _check(
    x: Tensor, gate: nn.Module, state: Sequence[Tensor], residual: Tensor | None, activation: Activation
) -> tuple[Tensor, ...]:
    check_map(x)
    check_tail(x, residual, activation)
    if not isinstance(gate, nn.Module):
        raise TypeError(f"gate is a {type(gate).__name__}; expected a module, because it must own its parameters")
    state = tuple(state)
    if not all(isinstance(s, Tensor) for s in state):
        raise TypeError(f"state holds {[type(s).__name__ for s in state]}; expected tensors only")
    return state


def _needs_gradient(x: Tensor, gate: nn.Module, state: tuple[Tensor, ...], residual: Tensor | None) -> bool:
    inputs = (x, *state) if residual is None else (x, residual, *state)
    return torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *gate.parameters()))


def _route(
    x: Tensor, gate: nn.Module, state: tuple[Tensor, ...], residual: Tensor | None
) -> tuple[Literal["reference", "joint", "triton", "refused"], str]:
    if _choice == "reference":
        return "reference", 'backend("reference") is set'
    forced = _choice in ("joint", "triton")
    if torch.compiler.is_compiling():
        return "refused" if forced else "reference", "torch.compile and torch.export fuse the plain form themselves"
    if not forced:
        if x.numel() * x.element_size() < _MINIMUM_BYTES:
            return "reference", "the map holds less than 1 MiB, where the joint form does not pay"
        if x.dtype == torch.float64:
            return "reference", "float64 is for checking, so it takes the plain form"
    kernels = _choice == "triton" or (_choice == "auto" and x.is_cuda and _without_kernels(x) is None)
    if not kernels and not _needs_gradient(x, gate, state, residual):
        return "reference", "no gradient is needed, and the forms differ in the backward only"
    inputs = (x, *state) if residual is None else (x, residual, *state)
    obstacle = _obstacle(x, inputs, tuple(gate.parameters()))
    if obstacle is None and _choice == "triton":
        obstacle = _without_kernels(x)
    if obstacle is not None:
        return "refused" if forced else "reference", obstacle
    if kernels:
        where = "the map is on a GPU" if x.is_cuda else "on a CPU its operators are plain formulas"
        return "triton", where
    return "joint", 'backend("joint") is set' if forced else "a gradient is needed and the map holds at least 1 MiB"


def _triton_form() -> Form:
    from ._custom import TRITON  # registers operators, which costs milliseconds that only their users pay

    return TRITON


def _without_kernels(x: Tensor) -> str | None:
    """Why the Triton kernels cannot take this map, or None."""
    if x.dtype not in _KERNEL_DTYPES:
        return f"the kernels compute in float32, so they do not take {x.dtype}"
    if x.numel() == 0 or x[:1].numel() >= 2**31 - 2**11:
        return "the kernels take samples of 1 to 2^31 elements"
    if x.is_cuda and find_spec("triton") is None:
        return "Triton is not installed"
    return None


def _obstacle(x: Tensor, inputs: tuple[Tensor, ...], parameters: tuple[Tensor, ...]) -> str | None:
    """Why the joint form cannot run at all, or None."""
    tensors = (*inputs, *parameters)
    if torch._C._are_functorch_transforms_active():
        return "a torch.func transform is active"
    if torch._C._get_tracing_state() is not None:
        return "the call is being traced"
    if any(type(t) not in (Tensor, nn.Parameter) or t.layout != torch.strided for t in tensors):
        return "a tensor or parameter is sparse or of a tensor subclass"
    if x.device.type not in _JOINT_DEVICES:
        return f"there is no joint form for the device {x.device.type}"
    if x.dtype not in _JOINT_DTYPES:
        return f"there is no joint form for {x.dtype}"
    if not (x.is_contiguous() or x.movedim(1, -1).is_contiguous()):
        return "x is dense neither with the channels second nor with the channels last"
    if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):  # type: ignore[no-untyped-call]
        return "forward-mode differentiation is active"
    if any(p._backward_hooks for p in parameters):
        return "a parameter of the gate has a tensor hook, which the joint form would call twice"
    return None
