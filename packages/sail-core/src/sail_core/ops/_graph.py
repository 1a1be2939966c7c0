"""Finding what a gate's graph depends on besides its inputs and its parameters."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

Edge = tuple[Node, int]


def sequence_mark() -> int:
    """Number below which every autograd node of this thread is older than this call; needs grad mode."""
    node = torch.empty(0, requires_grad=True).view(0).grad_fn
    assert node is not None
    return node._sequence_nr()


def refuse_foreign_leaves(outputs: Iterable[Tensor], inputs: Sequence[Tensor], mark: int) -> None:
    """Raise if a gate's outputs need the gradient of anything but ``inputs``.

    A captured leaf shows as an accumulation node that belongs to none of the inputs. A captured tensor that is itself
    a result shows as a node older than ``mark``, even where all its own leaves are inputs.

    Args:
        outputs: What the gate returned.
        inputs: The tensors whose gradient the caller will ask for: detached mean and state, parameters.
        mark: ``sequence_mark()`` from just before the gate ran.

    Raises:
        ValueError: If such a tensor is found; the joint form would lose its gradient.
    """
    known = {_edge(tensor) for tensor in inputs}
    stack = [_edge(tensor) for tensor in outputs if tensor.requires_grad]
    seen: set[Node] = set()
    while stack:
        node, index = stack.pop()
        if (node, index) in known or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            raise _foreign(f"a leaf tensor of shape {tuple(leaf.shape)}")
        following = [(source, i) for source, i in node.next_functions if source is not None]
        # Under autocast the cast of a parameter is cached, so it may be older than this call.
        cached_cast = node.name() == "ToCopyBackward0" and following[0] in known
        if node._sequence_nr() < mark and not cached_cast:
            raise _foreign(f"the result of an earlier {node.name().removesuffix('0').removesuffix('Backward')}")
        stack.extend(following)


def _edge(tensor: Tensor) -> Edge:
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _foreign(what: str) -> ValueError:
    return ValueError(
        f"the gate uses {what} that needs a gradient but is neither its input, its state nor one of its parameters; "
        "make it a parameter of the gate, pass it as state, detach it, "
        'or call recalibrate under sail_core.ops.backend("reference")'
    )
