"""A component-wise right-hand side as a graph of scalar operations, found by calling it with symbols."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Key = tuple[Any, ...]
FUNCTIONS = ("sin", "cos", "exp", "log", "tanh", "sqrt", "abs", "minimum", "maximum")


@dataclass
class Graph:
    """Nodes in the order of evaluation: (operation, operand, ...), operands by number; equal nodes are one."""

    nodes: list[Key] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    _index: dict[Key, int] = field(default_factory=dict)

    def add(self, *key: Any) -> int:
        """The number of a node, made when it is new."""
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.nodes)
            self.nodes.append(key)
        return found

    def operands(self, number: int) -> tuple[int, ...]:
        """The nodes that a node reads."""
        operation, *arguments = self.nodes[number]
        return () if operation in ("x", "p", "t", "const") else tuple(arguments)

    def reachable(self, outputs: Sequence[int]) -> list[int]:
        """Numbers of the nodes that the outputs need, in the order of evaluation."""
        needed, stack = set[int](), list(outputs)
        while stack:
            number = stack.pop()
            if number not in needed:
                needed.add(number)
                stack.extend(self.operands(number))
        return sorted(needed)

    def depends(self, output: int) -> set[Key]:
        """The leaves ("x", i), ("p", j) and ("t",) that an output depends on."""
        return {self.nodes[i] for i in self.reachable([output]) if self.nodes[i][0] in ("x", "p", "t")}

    def affine_in_x(self) -> bool:
        """Whether every output is a_0 + sum_i a_i x_i with coefficients free of x and t."""
        degree: list[int] = []
        for operation, *arguments in self.nodes:
            below = [degree[i] for i in arguments] if operation not in ("x", "p", "t", "const") else []
            match operation:
                case "x":
                    degree.append(1)
                case "t":
                    degree.append(2)
                case "p" | "const":
                    degree.append(0)
                case "add" | "sub" | "neg":
                    degree.append(max(below))
                case "mul":
                    degree.append(min(2, sum(below)))
                case "div":
                    degree.append(below[0] if below[1] == 0 else 2)
                case _:
                    degree.append(2 if any(below) else 0)
        return all(degree[i] <= 1 for i in self.outputs)


class Symbol:
    """A number that records what is done with it."""

    __slots__ = ("graph", "number")
    __array_ufunc__ = None

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph, self.number = graph, number

    def _operand(self, other: Any) -> int:
        if isinstance(other, Symbol):
            return other.number
        if isinstance(other, bool) or not hasattr(other, "__float__"):
            raise TypeError(f"a right-hand side combines states with numbers; got {type(other).__name__}")
        return self.graph.add("const", float(other))

    def _binary(self, operation: str, left: Any, right: Any) -> "Symbol":
        return Symbol(self.graph, self.graph.add(operation, self._operand(left), self._operand(right)))

    def __add__(self, other: Any) -> "Symbol":
        return self._binary("add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self if isinstance(other, int) and other == 0 else self._binary("add", other, self)  # sum() starts at 0

    def __sub__(self, other: Any) -> "Symbol":
        return self._binary("sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return self._binary("sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return self._binary("mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return self._binary("mul", other, self)

    def __truediv__(self, other: Any) -> "Symbol":
        return self._binary("div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self._binary("div", other, self)

    def __neg__(self) -> "Symbol":
        return Symbol(self.graph, self.graph.add("neg", self.number))

    def __pos__(self) -> "Symbol":
        return self

    def __abs__(self) -> "Symbol":
        return Symbol(self.graph, self.graph.add("abs", self.number))

    def __pow__(self, power: Any) -> Any:
        if not isinstance(power, int | float) or 2 * power != int(2 * power) or abs(power) > 16:
            raise TypeError(f"powers are multiples of 1/2 up to 16; got {power!r} (write m.exp(a * m.log(x)))")
        if power < 0:
            return 1.0 / self**-power
        whole, result, square = int(power), None, self
        if power != whole:
            result = Symbol(self.graph, self.graph.add("sqrt", self.number))
        while whole:
            if whole & 1:
                result = square if result is None else result * square
            whole >>= 1
            square = square * square if whole else square
        return 1.0 if result is None else result

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(
            "a right-hand side may not branch on a state, a parameter or the time; use m.minimum, m.maximum or m.abs"
        )

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __float__ = __int__ = __index__ = _refuse


class SymbolMath:
    """The namespace m of a right-hand side while it is traced."""

    pi = math.pi

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in FUNCTIONS:
            raise AttributeError(f"m has {', '.join(FUNCTIONS)} and pi; a right-hand side asked for m.{name}")

        def apply(*arguments: Any) -> Any:
            symbols = [a for a in arguments if isinstance(a, Symbol)]
            if not symbols:
                plain: Any = {"minimum": min, "maximum": max, "abs": abs}.get(name) or getattr(math, name)
                return plain(*arguments)
            graph = symbols[0].graph
            return Symbol(graph, graph.add(name, *(symbols[0]._operand(a) for a in arguments)))

        return apply


def trace(function: Callable[..., Any], dim: int, namespace: Callable[[Callable[[int], Symbol]], Any]) -> Graph:
    """The graph of ``function(t, x, p, m)`` for a state of ``dim`` components."""
    graph = Graph()
    x = tuple(Symbol(graph, graph.add("x", i)) for i in range(dim))
    p = namespace(lambda j: Symbol(graph, graph.add("p", j)))
    result = function(Symbol(graph, graph.add("t")), x, p, SymbolMath())
    if not isinstance(result, tuple | list) or len(result) != dim:
        got = f"{len(result)} of them" if isinstance(result, tuple | list) else type(result).__name__
        raise ValueError(f"the right-hand side must return a tuple of {dim} components; it returned {got}")
    graph.outputs = tuple(x[0]._operand(value) for value in result)
    return graph
