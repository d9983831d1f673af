"""Functions of one number that activations need beside exp, tanh and log, as polynomials that vectorise.

Largest errors in units in the last place (``tests/test_rectifiers.py`` measures them): expm1 1.2, log1p 1.4,
logistic_pair 2.7, normal_cdf 6.1, and its e^(-x^2/2) 1.5.
"""

import math

import numpy as np

from fastbp.kernels.cpu._jit import by_dtype
from fastbp.kernels.cpu.activations import _constants, _exp_minus_one, _exp_parts, exp
from fastbp.kernels.cpu.simd import float_bits, float_from_bits, fma

# Q(u) = (a + 4) e^(a^2/2) P(Z > a) of a standard normal Z with u = (a - 4) / (a + 4), for a of 0 to 15 (float32) and to
# 40 (float64): interpolated at the nodes of Chebyshev in 50 digits, to 4e-8 and 6e-17 of Q. From u^0 on.
TAIL_POLE = 4.0
TAIL = {
    np.float32: (
        0.755285139176, -0.607896605632, 0.387136638978, -0.1865230688, 0.0604067954175, -0.00752651339689,
        -0.00352389120542, 0.00156763295549, 0.00019348220442, -0.000123290628042,
    ),
    np.float64: (
        0.75528513041575147911, -0.60789664197189177561, 0.3871374007422191405, -0.18652185795969243105,
        0.060396574890685522521, -0.0075401889656480781415, -0.003479692361962685638, 0.0016308184427207910796,
        0.0001333442512398438637, -0.00023109482540061887539, -1.9078511505373101825e-6, 0.000035144218144089209749,
        7.1495605340996244058e-7, -5.919015209412097986e-6, -6.2504163854276607465e-7, 1.0200624522721699999e-6,
        2.636049859619469216e-7, -1.5459605612679509356e-7, -7.6387800710992565992e-8, 1.4819187205366758304e-8,
        1.3986583157423724149e-8, -1.6904895997737817886e-12, -9.980506307421181153e-10,
    ),
}  # fmt: skip


@by_dtype
def expm1(real):
    """e^x - 1 without cancelling, for x <= 0 only: 2^n (e^r - 1) + (2^n - 1) with x = n ln 2 + r."""
    _, shift, per_ln2, minus_high, minus_low, nmant, bias = _exp_parts(real)
    exp_minus_one, one = _exp_minus_one(real), real(1)
    least = real(-20) if real is np.float32 else real(-40)
    integer = type(bias)
    shift_bits = np.array(shift).view(bias.dtype)[()]

    def body(x):
        x = least if x < least else x
        shifted = fma(x, per_ln2, shift)
        n = shifted - shift
        p = exp_minus_one(fma(n, minus_low, fma(n, minus_high, x)))
        scale = float_from_bits(integer((float_bits(shifted) - shift_bits + bias) << nmant))
        return fma(scale, p, scale - one)

    return body


@by_dtype
def log1p(real):
    """ln(1 + x) without losing a small x, for 0 <= x <= 1 only.

    2 artanh(s) with s = f / (2 + f), as in log; f = x up to sqrt(2) - 1, and from there f = (x - 1) / 2 and + ln 2.
    """
    _nmant, _bias, _integer, high, low = _constants(real)
    terms = 5 if real is np.float32 else 11
    coefficients = tuple(real(2 / (2 * k + 1)) for k in range(terms, 0, -1))
    zero, half, one, two, root = real(0), real(0.5), real(1), real(2), real(math.sqrt(2) - 1)

    def body(x):
        large = x > root
        f = half * (x - one) if large else x
        s = f / (two + f)
        z = s * s
        p = coefficients[0]
        for c in coefficients[1:]:
            p = fma(p, z, c)
        square = half * f * f
        first, second = (high if large else zero), (low if large else zero)
        return first - ((square - fma(s, fma(z, p, square), second)) - f)

    return body


@by_dtype
def logistic_pair(real):
    """1 / (1 + e^-x) and 1 / (1 + e^x), each without cancelling."""
    zero, one = real(0), real(1)

    def body(x):
        t = exp(-x if x > zero else x)
        more = one / (one + t)
        less = t * more
        return (more if x > zero else less), (less if x > zero else more)

    return body


@by_dtype
def normal_cdf(real):
    """The standard normal distribution: P(Z <= x), which is erfc(-x / sqrt 2) / 2, and e^(-x^2/2).

    P(Z > a) = e^(-a^2/2) Q(u) / (a + 4): one polynomial and one division for both small and large a, after Shepherd &
    Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981, whose relative error stays small in the
    tail.
    """
    # odd and even powers apart, as in exp: a chain of half the length
    odd, even = TAIL[real][1::2], TAIL[real][::2]
    rounds = max(len(odd), len(even))
    pairs = tuple(
        (real(odd[k]) if k < len(odd) else real(0), real(even[k]) if k < len(even) else real(0))
        for k in range(rounds - 1, -1, -1)
    )
    zero, half, one, pole = real(0), real(0.5), real(1), real(TAIL_POLE)
    most = real(15) if real is np.float32 else real(40)  # the exponential has underflown long before

    def body(x):
        a = -x if x < zero else x
        a = most if a > most else a
        square = a * a
        e = exp(-half * square)
        e = fma(e, -half * fma(a, a, -square), e)  # what the square has lost to rounding; up to 360 ulp without
        r = one / (a + pole)
        u = (a - pole) * r
        v = u * u
        p = fma(pairs[0][0], u, pairs[0][1])
        for c, d in pairs[1:]:
            p = fma(p, v, fma(c, u, d))
        tail = e * (p * r)
        return (one - tail if x > zero else tail), e

    return body
