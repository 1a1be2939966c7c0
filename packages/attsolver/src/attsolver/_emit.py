"""From a traced right-hand side to lines of Python that numba compiles: the arithmetic of the native engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ._trace import Graph, Key

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_CALLS = {name: name for name in ("exp", "log", "tanh", "sqrt", "minimum", "maximum")} | {"abs": "fabs"}


@dataclass
class Source:
    """A growing program: its lines, and its constants, each typed once."""

    lines: list[str] = field(default_factory=list)
    constants: dict[float, str] = field(default_factory=dict)
    depth: int = 0

    def line(self, text: str) -> None:
        """One line at the current depth."""
        self.lines.append("    " * self.depth + text)

    def const(self, value: float) -> str:
        """The name of a constant of the working type."""
        return self.constants.setdefault(float(value), f"C{len(self.constants)}")

    def block(self, text: str) -> "Indented":
        """A compound statement; its body is what is added within ``with``."""
        self.line(text)
        return Indented(self)

    def sum(self, start: str | None, terms: Sequence[tuple[str, str]]) -> str:
        """``start + sum a b`` as nested fused multiply-adds."""
        text = start
        for a, b in terms:
            text = f"{a} * {b}" if text is None else f"fma({a}, {b}, {text})"
        assert text is not None
        return text


class Indented:
    """The body of a compound statement, one level deeper."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        self.source.depth += 1

    def __exit__(self, *_: object) -> None:
        self.source.depth -= 1


def emit_graph(
    source: Source, graph: Graph, outputs: Sequence[int], leaves: Mapping[Key, str], prefix: str
) -> list[str]:
    """Write the operations of a graph and return the names of its outputs.

    A product that only one sum reads becomes part of a fused multiply-add.

    Args:
        source: Where the lines go.
        graph: The graph.
        outputs: The nodes that are wanted.
        leaves: Names of the variables that hold ("x", i), ("p", j) and ("t",).
        prefix: Start of the names of new variables.
    """
    order = graph.reachable(outputs)
    readers: dict[int, list[int]] = {}
    for number in order:
        for operand in graph.operands(number):
            readers.setdefault(operand, []).append(number)
    fused = {
        number
        for number in order
        if graph.nodes[number][0] == "mul"
        and number not in outputs
        and len(readers[number]) == 1
        and graph.nodes[readers[number][0]][0] in ("add", "sub")
    }
    for number in order:  # of two products in one sum, the first stays a product
        operation, *arguments = graph.nodes[number]
        if operation in ("add", "sub") and arguments[0] in fused and arguments[1] in fused:
            fused.discard(arguments[0])
    trigonometric = {}
    names: dict[int, str] = {}
    for number in order:
        operation, *arguments = graph.nodes[number]
        if operation in ("x", "p", "t"):
            names[number] = leaves[graph.nodes[number]]
            continue
        if operation == "const":
            names[number] = source.const(arguments[0])
            continue
        if number in fused:
            continue
        name = names[number] = f"{prefix}{number}"
        if operation in ("sin", "cos"):
            if arguments[0] not in trigonometric:
                pair = trigonometric[arguments[0]] = (f"{prefix}s{number}", f"{prefix}c{number}")
                source.line(f"{pair[0]}, {pair[1]} = sincos({names[arguments[0]]})")
            names[number] = trigonometric[arguments[0]][operation == "cos"]
        elif operation in ("add", "sub") and any(a in fused for a in arguments):
            left, right = arguments
            product = graph.nodes[right if right in fused else left]
            a, b = names[product[1]], names[product[2]]
            if right in fused:
                source.line(f"{name} = fma({'-' if operation == 'sub' else ''}{a}, {b}, {names[left]})")
            else:
                source.line(f"{name} = fma({a}, {b}, {'-' if operation == 'sub' else ''}{names[right]})")
        elif operation in _INFIX:
            source.line(f"{name} = {names[arguments[0]]} {_INFIX[operation]} {names[arguments[1]]}")
        elif operation == "neg":
            source.line(f"{name} = -{names[arguments[0]]}")
        else:
            source.line(f"{name} = {_CALLS[operation]}({', '.join(names[a] for a in arguments)})")
    return [names[number] for number in outputs]
