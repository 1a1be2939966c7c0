"""Recalibration as one autograd function, which folds the pool's gradient into the scale's.

The gate runs once, in the forward, on a detached (B, C) mean; its small graph is kept. The backward is

    da = sum_k g x,    (dm, dstate, dparameters) = gate backward of (da, dstates),    dx = g a + dm / K

so that the map is read for ``da``, written once for ``dx``, and never added to a second map of gradients.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ._forms import Form, expand, through
from ._graph import refuse_foreign_leaves, sequence_mark
from ._reference import Activation, Output, split


def recalibrate(
    x: Tensor,
    gate: nn.Module,
    *,
    state: tuple[Tensor, ...],
    residual: Tensor | None,
    activation: Activation,
    form: Form,
) -> Output:
    """Pool, gate and scale in the joint form; the arguments have been checked by the caller."""
    result: Output = _Recalibrate.apply(form, gate, activation, len(state), x, residual, *state, *gate.parameters())
    return result


def infer(
    x: Tensor,
    gate: nn.Module,
    *,
    state: tuple[Tensor, ...],
    residual: Tensor | None,
    activation: Activation,
    form: Form,
) -> Output:
    """The same where nothing needs a gradient."""
    pooled = form.pool(x)
    a, states = split(gate(pooled, *state), pooled)
    y = form.scale(x, a, residual, activation)
    return y if states is None else (y, *states)


def _same(tensor: Tensor) -> Tensor:
    return tensor


class _Recalibrate(Function):
    @staticmethod
    def forward(
        ctx: Any,
        form: Form,
        gate: nn.Module,
        activation: Activation,
        n_state: int,
        x: Tensor,
        residual: Tensor | None,
        *rest: Tensor,
    ) -> Output:
        ctx.set_materialize_grads(False)
        needed = ctx.needs_input_grad[4:]
        pooled = form.pool(x).requires_grad_(needed[0])
        state = [s.detach().requires_grad_(need) for s, need in zip(rest[:n_state], needed[2:], strict=False)]
        parameters = [p for p in rest[n_state:] if p.requires_grad]
        # Identity hooks keep checkpointing from dropping the gate's tensors, which would run the gate a third time.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
            mark = sequence_mark()
            a, states = split(gate(pooled, *state), pooled)
        new = states or ()
        inputs = [t for t in (pooled, *state, *parameters) if t.requires_grad]
        refuse_foreign_leaves((a, *new), inputs, mark)

        factors, returned = a.detach(), [s.detach() for s in new]
        y = form.scale(x, factors, residual, activation)
        ctx.mark_non_differentiable(*(r for r, s in zip(returned, new, strict=True) if not s.requires_grad))
        # The small tensors are saved so that changing one in place before the backward raises, as it does in autograd.
        ctx.save_for_backward(x, y if activation == "relu" else None, factors, *rest, *returned)
        ctx.form, ctx.gate_graph = form, (pooled, state, rest[n_state:], a, new)
        return y if states is None else (y, *returned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            results = _gradients(ctx, *gradients)
        if torch.is_grad_enabled():
            sources = [t for t in (*ctx.saved_tensors, *gradients) if t is not None and t.requires_grad]
            results = [None if r is None else _FirstOrder.apply(r, *sources) for r in results]
        return (None, None, None, None, *results)


def _gradients(ctx: Any, g: Tensor | None, *dstates: Tensor | None) -> list[Tensor | None]:
    """Gradients of x, the residual, each state and each parameter, None where none is needed."""
    x, y, factors, *_ = ctx.saved_tensors
    pooled, state, parameters, a, states = ctx.gate_graph
    needs_x, needs_residual, *_ = ctx.needs_input_grad[4:]
    form = ctx.form

    seeds = [(s, ds) for s, ds in zip(states, dstates, strict=True) if ds is not None and s.requires_grad]
    spare = None
    if g is not None and a.requires_grad:
        g, da, spare = form.dot(g, x, y)
        seeds.append((a, da.to(a.dtype)))
    elif g is not None:
        g = through(g, y)
    leaves = (pooled, *state, *parameters)
    dm, *small = _through_gate(seeds, leaves)

    dx = None
    if needs_x:
        b = None if dm is None else dm / x.shape[2:].numel()
        if g is None:
            dx = None if b is None else expand(b, x).expand_as(x)
        else:
            dx = g * expand(factors, x) if b is None else form.fold(g, factors, b, spare)
    return [dx, g if needs_residual else None, *small]


def _through_gate(seeds: list[tuple[Tensor, Tensor]], leaves: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Backward of the gate's own graph: one gradient for each leaf, None where nothing reaches it."""
    results: list[Tensor | None] = [None] * len(leaves)
    wanted = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]
    if seeds and wanted:
        outputs, gradients = zip(*seeds, strict=True)
        found = torch.autograd.grad(
            outputs,
            [leaves[i] for i in wanted],
            gradients,
            retain_graph=torch._C._autograd._get_current_graph_task_keep_graph(),
            allow_unused=True,
        )
        for i, gradient in zip(wanted, found, strict=True):
            results[i] = gradient
    return results


class _FirstOrder(Function):
    """A gradient that depends on ``sources`` in a way this form cannot differentiate again."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            "the joint form of recalibrate has no second derivative; "
            'run the forward under sail_core.ops.backend("reference")'
        )
