"""Elementary functions of the Triton engine: the polynomials of ``_vecmath``, the same ones on every kind of GPU.

They are straight lines, without calls and without the local memory that a library's reduction of large arguments takes,
and so accurate to a few units in the last place, which the approximate instructions behind ``tl.exp`` and ``tl.log`` in
float32 are not. Constants are of the type of x: a bare literal would be float32 wherever it fits there. Under the
interpreter a fused multiply-add rounds twice, which costs large arguments some accuracy. Importing this module imports
Triton.
"""

import triton
import triton.language as tl


@triton.jit
def minimum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """The smaller one; NaN where either is NaN."""
    chosen = tl.where((x < y) | (x != x), x, y)
    return tl.where(y != y, y, chosen)


@triton.jit
def maximum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """The larger one; NaN where either is NaN."""
    chosen = tl.where((x > y) | (x != x), x, y)
    return tl.where(y != y, y, chosen)


@triton.jit
def sincos(x: tl.tensor) -> tl.tuple:
    """Sine and cosine; 2 to 4 ulp up to ``|x| = 1e4`` in float32, 1e8 in float64."""
    f = x.dtype
    if f == tl.float32:
        shifted = tl.fma(x, tl.full((), 0.6366197723675814, f), tl.full((), 12582912.0, f))
        q = shifted.to(tl.int32, bitcast=True)  # its lowest bits count the quarter turns
        turns = tl.full((), 12582912.0, f) - shifted
        r = tl.fma(turns, tl.full((), 1.5707963705062866, f), x)
        r = tl.fma(turns, tl.full((), -4.371138828673793e-08, f), r)
        r = tl.fma(turns, tl.full((), -1.7151245100058819e-15, f), r)
        z = r * r
        s = tl.fma(tl.full((), -1.9515295891e-4, f), z, tl.full((), 8.3321608736e-3, f))
        s = tl.fma(s, z, tl.full((), -1.6666654611e-1, f))
        c = tl.fma(tl.full((), 2.443315711809948e-5, f), z, tl.full((), -1.388731625493765e-3, f))
        c = tl.fma(c, z, tl.full((), 4.166664568298827e-2, f))
    else:
        shifted = tl.fma(x, tl.full((), 0.6366197723675814, f), tl.full((), 6755399441055744.0, f))
        q = shifted.to(tl.int64, bitcast=True)
        turns = tl.full((), 6755399441055744.0, f) - shifted
        r = tl.fma(turns, tl.full((), 1.5707963267948966, f), x)
        r = tl.fma(turns, tl.full((), 6.123233995736766e-17, f), r)
        r = tl.fma(turns, tl.full((), -1.4973849048591698e-33, f), r)
        z = r * r
        s = tl.fma(tl.full((), 1.58962301576546568060e-10, f), z, tl.full((), -2.50507477628578072866e-8, f))
        s = tl.fma(s, z, tl.full((), 2.75573136213857245213e-6, f))
        s = tl.fma(s, z, tl.full((), -1.98412698295895385996e-4, f))
        s = tl.fma(s, z, tl.full((), 8.33333333332211858878e-3, f))
        s = tl.fma(s, z, tl.full((), -1.66666666666666307295e-1, f))
        c = tl.fma(tl.full((), -1.13585365213876817300e-11, f), z, tl.full((), 2.08757008419747316778e-9, f))
        c = tl.fma(c, z, tl.full((), -2.75573141792967388112e-7, f))
        c = tl.fma(c, z, tl.full((), 2.48015872888517045348e-5, f))
        c = tl.fma(c, z, tl.full((), -1.38888888888730564116e-3, f))
        c = tl.fma(c, z, tl.full((), 4.16666666666665929218e-2, f))
    sine = tl.fma(s * z, r, r)
    cosine = tl.fma(c, z * z, tl.fma(tl.full((), -0.5, f), z, tl.full((), 1.0, f)))
    swap = (q & 1) != 0
    one = tl.where(swap, cosine, sine)
    other = tl.where(swap, sine, cosine)
    return tl.where((q & 2) != 0, -one, one), tl.where(((q + 1) & 2) != 0, -other, other)


@triton.jit
def exp(x: tl.tensor) -> tl.tensor:
    """Exponential."""
    f = x.dtype
    if f == tl.float32:
        x = tl.where(x < -104.0, tl.full((), -104.0, f), tl.where(x > 89.0, tl.full((), 89.0, f), x))
        shifted = tl.fma(x, tl.full((), 1.4426950408889634, f), tl.full((), 12582912.0, f))
        n = tl.full((), 12582912.0, f) - shifted
        r = tl.fma(n, tl.full((), 0.6931471824645996, f), x)
        r = tl.fma(n, tl.full((), -1.9046542121259336e-09, f), r)
        r = tl.fma(n, tl.full((), -8.78318373858934e-17, f), r)
        p = tl.fma(tl.full((), 1 / 5040, f), r, tl.full((), 1 / 720, f))
        p = tl.fma(p, r, tl.full((), 1 / 120, f))
        p = tl.fma(p, r, tl.full((), 1 / 24, f))
        count = shifted.to(tl.int32, bitcast=True) - 1262485504
        half = count >> 1  # two factors, since 2^n itself may overflow
        first = ((half + 127) << 23).to(tl.float32, bitcast=True)
        second = ((count - half + 127) << 23).to(tl.float32, bitcast=True)
    else:
        x = tl.where(x < -746.0, tl.full((), -746.0, f), tl.where(x > 710.0, tl.full((), 710.0, f), x))
        shifted = tl.fma(x, tl.full((), 1.4426950408889634, f), tl.full((), 6755399441055744.0, f))
        n = tl.full((), 6755399441055744.0, f) - shifted
        r = tl.fma(n, tl.full((), 0.6931471805599453, f), x)
        r = tl.fma(n, tl.full((), 2.3190468138462996e-17, f), r)
        r = tl.fma(n, tl.full((), 5.707708438416212e-34, f), r)
        p = tl.fma(tl.full((), 1 / 6227020800, f), r, tl.full((), 1 / 479001600, f))
        p = tl.fma(p, r, tl.full((), 1 / 39916800, f))
        p = tl.fma(p, r, tl.full((), 1 / 3628800, f))
        p = tl.fma(p, r, tl.full((), 1 / 362880, f))
        p = tl.fma(p, r, tl.full((), 1 / 40320, f))
        p = tl.fma(p, r, tl.full((), 1 / 5040, f))
        p = tl.fma(p, r, tl.full((), 1 / 720, f))
        p = tl.fma(p, r, tl.full((), 1 / 120, f))
        p = tl.fma(p, r, tl.full((), 1 / 24, f))
        count = shifted.to(tl.int64, bitcast=True) - 4843621399236968448
        half = count >> 1
        first = ((half + 1023) << 52).to(tl.float64, bitcast=True)
        second = ((count - half + 1023) << 52).to(tl.float64, bitcast=True)
    p = tl.fma(p, r, tl.full((), 1 / 6, f))
    p = tl.fma(tl.fma(tl.fma(p, r, tl.full((), 0.5, f)), r, tl.full((), 1.0, f)), r, tl.full((), 1.0, f))
    return p * first * second


@triton.jit
def log(x: tl.tensor) -> tl.tensor:
    """Natural logarithm."""
    f = x.dtype
    if f == tl.float32:
        small = x < 1.1754943508222875e-38
        bits = tl.where(small, x * tl.full((), 8388608.0, f), x).to(tl.int32, bitcast=True)
        e = (bits - 1060439283) >> 23
        m = (bits - (e << 23)).to(tl.float32, bitcast=True)
        e = tl.where(small, e - 23, e).to(tl.float32)
        s = (m - tl.full((), 1.0, f)) / (m + tl.full((), 1.0, f))
        z = s * s
        p = tl.fma(tl.fma(tl.full((), 2 / 9, f), z, tl.full((), 2 / 7, f)), z, tl.full((), 2 / 5, f))
        high = tl.full((), 0.6931471824645996, f)
        low = tl.full((), -1.9046542121259336e-09, f)
    else:
        small = x < tl.full((), 2.2250738585072014e-308, f)
        bits = tl.where(small, x * tl.full((), 4503599627370496.0, f), x).to(tl.int64, bitcast=True)
        e = (bits - 4604544271217802189) >> 52
        m = (bits - (e << 52)).to(tl.float64, bitcast=True)
        e = tl.where(small, e - 52, e).to(tl.float64)
        s = (m - tl.full((), 1.0, f)) / (m + tl.full((), 1.0, f))
        z = s * s
        p = tl.fma(tl.fma(tl.full((), 2 / 21, f), z, tl.full((), 2 / 19, f)), z, tl.full((), 2 / 17, f))
        p = tl.fma(tl.fma(p, z, tl.full((), 2 / 15, f)), z, tl.full((), 2 / 13, f))
        p = tl.fma(tl.fma(p, z, tl.full((), 2 / 11, f)), z, tl.full((), 2 / 9, f))
        p = tl.fma(tl.fma(p, z, tl.full((), 2 / 7, f)), z, tl.full((), 2 / 5, f))
        high = tl.full((), 0.6931471805599453, f)
        low = tl.full((), 2.3190468138462996e-17, f)
    p = tl.fma(tl.fma(p, z, tl.full((), 2 / 3, f)), z, tl.full((), 2.0, f))
    result = tl.fma(e, high, tl.fma(s, p, e * low))
    result = tl.where(x >= 0.0, result, tl.full((), float("nan"), f))
    result = tl.where(x == 0.0, tl.full((), float("-inf"), f), result)
    return tl.where(x == float("inf"), x, result)


@triton.jit
def tanh(x: tl.tensor) -> tl.tensor:
    """Hyperbolic tangent."""
    z = x * x
    f = x.dtype
    if f == tl.float32:
        ratio = tl.fma(tl.full((), -5.70498872745e-3, f), z, tl.full((), 2.06390887954e-2, f))
        ratio = tl.fma(tl.fma(ratio, z, tl.full((), -5.37397155531e-2, f)), z, tl.full((), 1.33314422036e-1, f))
        ratio = tl.fma(ratio, z, tl.full((), -3.33332819422e-1, f))
    else:
        ratio = tl.fma(tl.full((), -9.64399179425052238628e-1, f), z, tl.full((), -9.92877231001918586564e1, f))
        ratio = tl.fma(ratio, z, tl.full((), -1.61468768441708447952e3, f))
        below = tl.fma(tl.full((), 1.0, f), z, tl.full((), 1.12811678491632931402e2, f))
        ratio = ratio / tl.fma(
            tl.fma(below, z, tl.full((), 2.23548839060100448583e3, f)), z, tl.full((), 4.84406305325125486048e3, f)
        )
    one = tl.full((), 1.0, f)
    far = one - tl.full((), 2.0, f) / (exp(tl.full((), 2.0, f) * tl.abs(x)) + one)
    return tl.where(tl.abs(x) < 0.625, tl.fma(z * ratio, x, x), tl.where(x < 0.0, -far, far))
