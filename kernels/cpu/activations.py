"""Activations and their derivatives, and the exp, tanh and log that they need, as polynomials that vectorise.

Numba has no vector maths library: ``math.exp`` in a loop is a call for each element (2.7 ns; ``math.tanh`` 10.3 ns; in
float32 exp here 0.5 and tanh 0.55). Largest errors, in units in the last place, over the whole range
(``tests/test_activations.py`` measures them): exp 1 (float32) and 1 (float64), tanh 3 and 3, logistic 3 and 3, log 2
and 2. Results below the smallest normal number may be off by more. NaN gives NaN, and infinities give the limits.
"""

import math

import numpy as np

from fastbp.kernels.cpu._jit import by_dtype, kernel
from fastbp.kernels.cpu.groups import fill_group, group_max, group_scale, group_subtract, group_sum
from fastbp.kernels.cpu.simd import float_bits, float_from_bits, fma, window
from fastbp.kernels.layout import EXP, GROUP, LOGISTIC, RELU, SOFTMAX, TANH


def _constants(real):
    """Of the type: mantissa bits, exponent bias, integer type, and ln 2 in a short and a small part."""
    info = np.finfo(real)
    integer = np.int32 if real is np.float32 else np.int64
    # n times the short part is exact for every exponent n
    short_bits = info.nmant - 11
    high = math.floor(math.log(2) * 2**short_bits) / 2**short_bits
    low = {np.float32: 0.6931471805599453 - high, np.float64: _ln2_tail(high)}[real]
    return integer(info.nmant), integer(info.maxexp - 1), integer, real(high), real(low)


def _ln2_tail(high):
    """ln 2 - high to more digits than a float64 of ln 2 holds."""
    # ln 2 = 0.69314718055994530941723212145817656807... (OEIS A002162), as an exact quotient
    return float(69314718055994530941723212145817656807 - int(high * 2**60) * 10**38 // 2**60) / 1e38


def _exp_parts(real):
    """Constants of exp: Taylor's coefficients 1/k! up to the last that matters for |r| <= ln(2) / 2.

    Those of odd and of even powers apart, from the highest on: two by two they make a chain of half the length, and
    tanh takes 0.55 ns an element instead of 0.72 (float32, Zen 3; the processor looks only so many operations ahead).
    """
    degree = 7 if real is np.float32 else 13
    odd = tuple(real(1 / math.factorial(k)) for k in range(degree, 1, -2))
    even = tuple(real(1 / math.factorial(k - 1)) for k in range(degree, 1, -2))
    nmant, bias, _, high, low = _constants(real)
    # adding 1.5 * 2^nmant puts the nearest integer into the low bits
    return (odd, even), real(1.5 * 2.0**nmant), real(1 / math.log(2)), -high, -low, nmant, bias


def _exp_minus_one(real):
    """Function of r, |r| <= ln(2) / 2: e^r - 1."""
    (odd, even), *_ = _exp_parts(real)
    first, then = (odd[0], even[0]), tuple(zip(odd[1:], even[1:], strict=True))

    @kernel
    def body(r):
        square = r * r
        p = fma(first[0], r, first[1])
        for a, b in then:
            p = fma(p, square, fma(a, r, b))
        return fma(p, square, r)

    return body


@by_dtype
def exp(real):
    """e^x = 2^n e^r with r = x - n ln 2, |r| <= ln(2) / 2."""
    _, shift, per_ln2, minus_high, minus_low, nmant, bias = _exp_parts(real)
    exp_minus_one, info = _exp_minus_one(real), np.finfo(real)
    least, most = real(math.log(info.smallest_subnormal) - 1), real(math.log(info.max) + 1)
    one = real(1)
    shift_bits = np.array(shift).view(bias.dtype)[()]
    integer = type(bias)

    def body(x):
        x = least if x < least else x
        x = most if x > most else x
        shifted = fma(x, per_ln2, shift)
        n = shifted - shift
        p = exp_minus_one(fma(n, minus_low, fma(n, minus_high, x))) + one
        # 2^n in two factors: n reaches beyond the exponents of normal numbers at both ends
        power = integer(float_bits(shifted) - shift_bits)
        low = integer(power >> 1)
        first = float_from_bits(integer((low + bias) << nmant))
        second = float_from_bits(integer((power - low + bias) << nmant))
        return p * first * second

    return body


@by_dtype
def tanh(real):
    """tanh |x| = |u| / (2 + u) with u = e^(-2|x|) - 1, computed without cancelling; then the sign of x."""
    _, shift, per_ln2, minus_high, minus_low, nmant, bias = _exp_parts(real)
    exp_minus_one, one, two, minus_two = _exp_minus_one(real), real(1), real(2), real(-2)
    most = real(20) if real is np.float32 else real(40)
    integer = type(bias)
    shift_bits = np.array(shift).view(bias.dtype)[()]
    sign, all_but_sign = integer(np.iinfo(integer).min), integer(np.iinfo(integer).max)

    def body(x):
        bits = float_bits(x)
        a = float_from_bits(integer(bits & all_but_sign))
        a = most if a > most else a
        y = minus_two * a
        shifted = fma(y, per_ln2, shift)
        n = shifted - shift
        p = exp_minus_one(fma(n, minus_low, fma(n, minus_high, y)))
        scale = float_from_bits(integer((float_bits(shifted) - shift_bits + bias) << nmant))
        u = fma(scale, p, scale - one)
        t = float_bits(u / (two + u))
        return float_from_bits(integer((t & all_but_sign) | (bits & sign)))

    return body


@by_dtype
def logistic(real):
    """1 / (1 + e^-x)."""
    one = real(1)

    def body(x):
        return one / (one + exp(-x))

    return body


@by_dtype
def log(real):
    """ln x = n ln 2 + 2 artanh(s), s = (m - 1) / (m + 1), x = 2^n m with m in [sqrt(1/2), sqrt(2))."""
    nmant, _bias, integer, high, low = _constants(real)
    terms = 5 if real is np.float32 else 11
    coefficients = tuple(real(2 / (2 * k + 1)) for k in range(terms, 0, -1))
    info = np.finfo(real)
    tiny, lift, lift_bits = info.tiny, real(2.0 ** (info.nmant + 2)), integer(info.nmant + 2)
    root_bits = np.array(real(math.sqrt(0.5))).view(integer)[()]
    one, zero, infinity, nan, half = real(1), real(0), real(np.inf), real(np.nan), real(0.5)
    nothing = integer(0)

    def body(x):
        small = x < tiny
        bits = float_bits(x * lift if small else x)
        n = integer((bits - root_bits) >> nmant)
        m = float_from_bits(integer(bits - (n << nmant)))
        n = integer(n - (lift_bits if small else nothing))
        f = m - one
        s = f / (m + one)
        z = s * s
        p = coefficients[0]
        for c in coefficients[1:]:
            p = fma(p, z, c)
        # 2 artanh(s) = f - (f^2/2 - s (f^2/2 + z p)), fdlibm's way of keeping f exact
        square = half * f * f
        k = real(n)
        result = k * high - ((square - (s * (square + z * p) + k * low)) - f)
        result = result if x < infinity else x  # +inf and NaN
        result = result if x > zero else (-infinity if x == zero else nan)
        return result

    return body


@kernel
def activation_forward(A, code):
    """A = f(A) in place, for the activations that act on one element; identity and relu are the gemm's own work.

    Parameters
    ----------
    A : 1-D array of real
        Pre-activations; overwritten.
    code : int
        ``LOGISTIC``, ``TANH`` or ``EXP``; anything else leaves A as it is.
    """
    if code == LOGISTIC:
        for q in range(A.shape[0]):
            A[q] = logistic(A[q])
    elif code == TANH:
        for q in range(A.shape[0]):
            A[q] = tanh(A[q])
    elif code == EXP:
        exponentials(A, A.shape[0])


@kernel
def relu_forward(A):
    """A = max(A, 0) in place, and NaN stays: behind what is no gemm, whose own work it is."""
    zero = A.dtype.type(0)
    for q in range(A.shape[0]):
        A[q] = zero if A[q] < zero else A[q]


@kernel
def activation_backward(dZ, A, code):
    """dZ = dZ f'(Z) in place, with the derivative taken from the output A = f(Z).

    relu: 1 where A > 0; logistic: A (1 - A); tanh: 1 - A^2; exp: A.

    Parameters
    ----------
    dZ : 1-D array of real
        On entry dA, on return dZ.
    A : 1-D array of real
        The layer's output.
    code : int
        ``RELU``, ``LOGISTIC``, ``TANH`` or ``EXP``; anything else leaves dZ as it is.
    """
    one, zero = dZ.dtype.type(1), dZ.dtype.type(0)
    if code == RELU:
        for q in range(dZ.shape[0]):
            dZ[q] = zero if A[q] <= zero else dZ[q]
    elif code == LOGISTIC:
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * (A[q] * (one - A[q]))
    elif code == TANH:
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * fma(-A[q], A[q], one)
    elif code == EXP:
        # no gemm writes what lies between the padded rows: e^0, e^1, ... there is soon infinite, and 0 inf is NaN
        for q in range(dZ.shape[0]):
            dZ[q] = zero if dZ[q] == zero else dZ[q] * A[q]


@kernel
def softmax_shift(Z, ld, m, n):
    """z = z - max z by row, so that no exponential overflows; -inf in columns n up to a multiple of 16."""
    groups, nothing = (n + GROUP - 1) // GROUP, Z.dtype.type(-np.inf)
    for i in range(m):
        z = window(Z, i * ld, groups * GROUP)
        fill_group(z, n, nothing)
        group_subtract(z, z, group_max(z, groups), groups)


@kernel
def exponentials(Z, count):
    """Z[:count] = e^Z. All rows in one loop: row by row, 16 elements at a time, it took three times as long."""
    for q in range(count):
        Z[q] = exp(Z[q])


@kernel
def softmax_forward(A, ld, m, n):
    """A = softmax(A) in place by row: e^(z - max z) over its sum.

    Parameters
    ----------
    A : 1-D array of real
        Row i at A + i ld, ld at least n rounded up to 16. Columns from n to there become 0; further ones are
        overwritten.
    ld, m, n : int
        Row stride, rows, columns.
    """
    softmax_shift(A, ld, m, n)
    exponentials(A, m * ld)
    groups = (n + GROUP - 1) // GROUP
    for i in range(m):
        z = window(A, i * ld, groups * GROUP)
        group_scale(z, z, z.dtype.type(1) / group_sum(z, groups), groups)


@kernel
def softmax_backward(dZ, A, ld, m, n):
    """dZ = A (dA - sum of A dA over the row) in place: the softmax's Jacobian applied to dA.

    Parameters
    ----------
    dZ : 1-D array of real
        On entry dA, on return dZ; row i at dZ + i ld.
    A : 1-D array of real
        The softmax's output, with the same stride.
    """
    for i in range(m):
        d, a = window(dZ, i * ld, n), window(A, i * ld, n)
        inner = d.dtype.type(0)
        for q in range(n):
            inner = fma(a[q], d[q], inner)
        for q in range(n):
            d[q] = a[q] * (d[q] - inner)


@kernel
def output_forward(A, ld, m, n, code):
    """The activation of an output layer on m rows: softmax by row, everything else by element."""
    if code == SOFTMAX:
        softmax_forward(A, ld, m, n)
    else:
        activation_forward(window(A, 0, m * ld), code)
