"""Elementary functions of the native engine, as straight-line code that a compiler can vectorise.

A call of libm is scalar and would cost an order of magnitude; these are polynomials, inlined where they are used, with
every constant in the working type. Fused multiply-adds are written out, so that results do not depend on what a
compiler contracts.

Importing this module imports numba.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-not-found,import-untyped,unused-ignore]
from numba import types
from numba.extending import intrinsic

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640629")
_LN2 = Decimal("0.69314718055994530941723212145817656807550013436025525412068000949339362196969")
# Cephes (Moshier): sin and cos on [-pi/4, pi/4], tanh on [-0.625, 0.625].
_SIN = {
    32: (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
    64: (
        1.58962301576546568060e-10, -2.50507477628578072866e-8, 2.75573136213857245213e-6,
        -1.98412698295895385996e-4, 8.33333333332211858878e-3, -1.66666666666666307295e-1,
    ),
}  # fmt: skip
_COS = {
    32: (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    64: (
        -1.13585365213876817300e-11, 2.08757008419747316778e-9, -2.75573141792967388112e-7,
        2.48015872888517045348e-5, -1.38888888888730564116e-3, 4.16666666666665929218e-2,
    ),
}  # fmt: skip
_TANH_32 = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_TANH_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
_TANH_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


class _Code:
    """Emits operations of one floating type."""

    def __init__(self, builder: ir.IRBuilder, kind: types.Float) -> None:
        self.builder, self.bits = builder, kind.bitwidth
        self.type = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.int = ir.IntType(self.bits)
        self.mantissa = 23 if self.bits == 32 else 52
        self.bias = 127 if self.bits == 32 else 1023
        self.magic = 1.5 * 2.0**self.mantissa  # adding it rounds to an integer, which its lowest bits then hold

    def const(self, value: float | Decimal) -> ir.Constant:
        return ir.Constant(self.type, float(np.float32(value)) if self.bits == 32 else float(value))

    def whole(self, value: int) -> ir.Constant:
        return ir.Constant(self.int, value)

    def parts(self, value: Decimal) -> list[float]:
        """Three numbers of the working type that sum to the value."""
        found: list[float] = []
        with localcontext() as context:
            context.prec = 70
            for _ in range(3):
                found.append(float(np.float32(float(value))) if self.bits == 32 else float(value))
                value -= Decimal(found[-1])
        return found

    def horner(self, x: Any, coefficients: Sequence[float]) -> Any:
        total = self.const(coefficients[0])
        for c in coefficients[1:]:
            total = self.builder.fma(total, x, self.const(c))
        return total

    def to_bits(self, x: Any) -> Any:
        return self.builder.bitcast(x, self.int)

    def from_bits(self, x: Any) -> Any:
        return self.builder.bitcast(x, self.type)

    def rounded(self, x: Any, factor: float) -> tuple[Any, Any]:
        """The integer nearest to ``factor x``, as a number and as an integer with its lowest bits right."""
        shifted = self.builder.fma(x, self.const(factor), self.const(self.magic))
        return self.builder.fsub(shifted, self.const(self.magic)), self.to_bits(shifted)

    def minus_multiple(self, x: Any, n: Any, of: Decimal) -> Any:
        negative = self.builder.fneg(n)
        for part in self.parts(of):
            x = self.builder.fma(negative, self.const(part), x)
        return x

    def call(self, name: str, *arguments: Any) -> Any:
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [self.type])
        return self.builder.call(function, arguments)

    def sincos(self, x: Any) -> tuple[Any, Any]:
        b = self.builder
        n, q = self.rounded(x, float(2 / _PI))
        r = self.minus_multiple(x, n, _PI / 2)
        z = b.fmul(r, r)
        sine = b.fma(b.fmul(self.horner(z, _SIN[self.bits]), z), r, r)
        cosine = b.fma(self.horner(z, _COS[self.bits]), b.fmul(z, z), b.fma(self.const(-0.5), z, self.const(1.0)))
        swap = b.icmp_unsigned("!=", b.and_(q, self.whole(1)), self.whole(0))

        def signed(value: Any, quadrant: Any) -> Any:
            sign = b.shl(b.and_(quadrant, self.whole(2)), self.whole(self.bits - 2))
            return self.from_bits(b.xor(self.to_bits(value), sign))

        return (
            signed(b.select(swap, cosine, sine), q),
            signed(b.select(swap, sine, cosine), b.add(q, self.whole(1))),
        )

    def exp(self, x: Any) -> Any:
        b = self.builder
        low, high = (-104.0, 89.0) if self.bits == 32 else (-746.0, 710.0)
        x = b.select(b.fcmp_ordered("<", x, self.const(low)), self.const(low), x)
        x = b.select(b.fcmp_ordered(">", x, self.const(high)), self.const(high), x)
        n, bits = self.rounded(x, 1 / math.log(2))
        r = self.minus_multiple(x, n, _LN2)
        degree = 7 if self.bits == 32 else 13
        p = self.horner(r, [1 / math.factorial(k) for k in range(degree, -1, -1)])
        count = b.sub(bits, self.to_bits(self.const(self.magic)))
        half = b.ashr(count, self.whole(1))  # two factors, since 2^n itself may overflow
        for power in (half, b.sub(count, half)):
            p = b.fmul(p, self.from_bits(b.shl(b.add(power, self.whole(self.bias)), self.whole(self.mantissa))))
        return p

    def log(self, x: Any) -> Any:
        b = self.builder
        tiny = float(np.finfo(np.float32 if self.bits == 32 else np.float64).tiny)
        lift = 2.0**self.mantissa
        small = b.fcmp_ordered("<", x, self.const(tiny))
        bits = self.to_bits(b.select(small, b.fmul(x, self.const(lift)), x))
        root = (
            int(np.float32(math.sqrt(0.5)).view(np.int32))
            if self.bits == 32
            else int(np.float64(math.sqrt(0.5)).view(np.int64))
        )
        exponent = b.ashr(b.sub(bits, self.whole(root)), self.whole(self.mantissa))
        m = self.from_bits(b.sub(bits, b.shl(exponent, self.whole(self.mantissa))))
        exponent = b.select(small, b.sub(exponent, self.whole(self.mantissa)), exponent)
        # An integer below 2^mantissa added to the bits of the magic number is that number plus the integer.
        e = b.fsub(self.from_bits(b.add(exponent, self.to_bits(self.const(self.magic)))), self.const(self.magic))
        s = b.fdiv(b.fsub(m, self.const(1.0)), b.fadd(m, self.const(1.0)))
        terms = 5 if self.bits == 32 else 11
        series = self.horner(b.fmul(s, s), [2 / (2 * k + 1) for k in range(terms - 1, -1, -1)])
        high, low, _ = self.parts(_LN2)
        result = b.fma(e, self.const(high), b.fma(s, series, b.fmul(e, self.const(low))))
        infinity = self.const(math.inf)
        result = b.select(b.fcmp_unordered("<", x, self.const(0.0)), self.const(math.nan), result)
        result = b.select(b.fcmp_ordered("==", x, self.const(0.0)), self.const(-math.inf), result)
        return b.select(b.fcmp_ordered("==", x, infinity), infinity, result)

    def tanh(self, x: Any) -> Any:
        b = self.builder
        z = b.fmul(x, x)
        if self.bits == 32:
            ratio = self.horner(z, _TANH_32)
        else:
            ratio = b.fdiv(self.horner(z, _TANH_P), self.horner(z, _TANH_Q))
        near = b.fma(b.fmul(z, ratio), x, x)
        e = self.exp(b.fmul(self.const(2.0), self.call("fabs", x)))
        one = self.const(1.0)
        far = b.fsub(one, b.fdiv(self.const(2.0), b.fadd(e, one)))
        sign = b.and_(self.to_bits(x), self.whole(-(2 ** (self.bits - 1))))
        far = self.from_bits(b.or_(self.to_bits(far), sign))
        return b.select(b.fcmp_ordered("<", self.call("fabs", x), self.const(0.625)), near, far)

    def extremum(self, comparison: str, x: Any, y: Any) -> Any:
        b = self.builder
        chosen = b.select(b.fcmp_unordered(comparison, x, y), x, y)
        return b.select(b.fcmp_unordered("uno", y, y), y, chosen)


def _unary(emit: Callable[[_Code, Any], Any]) -> Any:
    def typed(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(_Code(builder, x), args[0])

        return x(x), codegen

    return intrinsic(typed)


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """``x y + z`` with one rounding."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return x(x, y, z), codegen


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def sincos(typingctx: Any, x: Any) -> Any:
    """Sine and cosine; 2 to 4 ulp up to |x| = 1e4 in float32, 1e8 in float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, _Code(builder, x).sincos(args[0]))

    pair: Any = types.UniTuple
    return pair(x, 2)(x), codegen


def _extremum(comparison: str) -> Any:
    def typed(typingctx: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _Code(builder, x).extremum(comparison, *args)

        return x(x, y), codegen

    return intrinsic(typed)


exp = _unary(_Code.exp)
log = _unary(_Code.log)
tanh = _unary(_Code.tanh)
sqrt = _unary(lambda code, x: code.call("sqrt", x))
fabs = _unary(lambda code, x: code.call("fabs", x))
minimum = _extremum("<")
maximum = _extremum(">")


@intrinsic  # type: ignore[untyped-decorator,unused-ignore]
def widest(typingctx: Any) -> Any:
    """Let the function that calls this use the widest vectors of the processor (LLVM's default stops at 256 bits)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # llvmlite knows no such attribute by name, but writes out whatever the set holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen
