"""Smooth and leaky kin of relu with their derivatives, of one number: see the CPU's for their sources.

Where the derivative does not follow from the output (``layout.BY_SLOPE``) the forward gives both, and the backward is
one multiplication.
"""

import functools
import math

from fastbp.kernels.cuda import activations
from fastbp.kernels.cuda._target import cuda, device, exp, inlined, like
from fastbp.kernels.cuda.activations import backward_choice, forward_choice, relu_forward, same_forward
from fastbp.kernels.cuda.special import clamped, expm1, log1p, logistic_pair, normal_cdf
from fastbp.kernels.layout import (
    BY_SLOPE,
    ELU,
    GELU,
    GELU_TANH,
    LEAKY_RELU,
    MISH,
    RELU,
    SELU,
    SILU,
    SOFTPLUS,
)

LEAK, SELU_SCALE, SELU_ALPHA, CUBIC = 0.01, 1.0507009873554804934, 1.6732632423543772848, 0.044715
DENSITY = 1 / math.sqrt(2 * math.pi)  # of a standard normal distribution at 0
SELU_BELOW = SELU_SCALE * SELU_ALPHA
LINEAR = 2 * math.sqrt(2 / math.pi)
# The tanh form of gelu has come to its limits in both types, and the cube is finite
FAR = 25.0
FIRST_BY_SLOPE = min(BY_SLOPE.values())  # they are the last of all codes


@inlined
def _times(x, p):
    """x p, and 0 where p is 0: what has vanished at an infinite x."""
    return p if p == 0 else x * p


# ---------------------------------------------------------------------------------------------------------------------
# Functions of one number


@device
def leaky_relu(x):
    """x where it is positive, 0.01 x elsewhere."""
    return like(x, LEAK) * x if x < 0 else x


@device
def elu(x):
    """x where it is positive, e^x - 1 elsewhere."""
    return x if x > 0 else expm1(x)


@device
def selu(x):
    """1.0507 x where it is positive, 1.0507 * 1.6733 (e^x - 1) elsewhere."""
    return (like(x, SELU_SCALE) if x > 0 else like(x, SELU_BELOW)) * elu(x)


@device
def softplus(x):
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|): neither overflows nor loses small values."""
    return (x if x > 0 else like(x, 0)) + log1p(exp(-x if x > 0 else x))


@device
def gelu(x):
    """x P(Z <= x) of a standard normal Z, and the derivative P(Z <= x) + x e^(-x^2/2) / sqrt(2 pi)."""
    cdf, e = normal_cdf(x)
    return _times(x, cdf), cdf + _times(x, like(x, DENSITY) * e)


@device
def gelu_tanh(x):
    """x / (1 + e^-w) with w = 2 sqrt(2 / pi) (x + 0.044715 x^3), and the derivative: tanh's form without cancelling."""
    near = clamped(x, like(x, FAR))
    linear, square = like(x, LINEAR), near * near
    s, other = logistic_pair(near * cuda.fma(like(x, LINEAR * CUBIC), square, linear))
    slope = near * cuda.fma(like(x, 3 * LINEAR * CUBIC), square, linear)
    return _times(x, s), s * cuda.fma(slope, other, like(x, 1))


@device
def silu(x):
    """x s with s = 1 / (1 + e^-x), and the derivative s + x s (1 - s)."""
    s, other = logistic_pair(x)
    return _times(x, s), s + _times(x, s * other)


@device
def mish(x):
    """x tanh(ln(1 + e^x)), and the derivative, as rational functions of t = e^-|x|.

    tanh(ln(1 + e^x)) is (1 + 2 t) / d with d = 1 + 2 t + 2 t^2 for positive x, t (2 + t) / d with d = 2 + 2 t + t^2
    elsewhere; its derivative is 4 (1 + t) / d^2, times t^2 or t.
    """
    one, two, positive = like(x, 1), like(x, 2), x > 0
    t = exp(-x if positive else x)
    above, below = cuda.fma(two, t, one), t * (two + t)
    r = one / (cuda.fma(two * t, t, above) if positive else two + below)
    f = (above if positive else below) * r
    slope = like(x, 4) * (one + t) * (t * t if positive else t) * (r * r)
    return _times(x, f), f + _times(x, slope)


@device
def leaky_relu_backward(d, a):
    """0.01 d where a <= 0, else d."""
    return like(d, LEAK) * d if a <= 0 else d


@device
def elu_backward(d, a):
    """d where a > 0, else d (a + 1)."""
    return d * (like(a, 1) if a > 0 else a + like(a, 1))


@device
def selu_backward(d, a):
    """The same, scaled."""
    return d * (like(a, SELU_SCALE) if a > 0 else a + like(a, SELU_BELOW))


@device
def softplus_backward(d, a):
    """d (1 - e^-a)."""
    return d * -expm1(-a)


@inlined
def _no_slope(z, code):
    return z, like(z, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Functions of a code

FORWARD = {LEAKY_RELU: leaky_relu, ELU: elu, SELU: selu, SOFTPLUS: softplus}
FORWARD_SLOPE = {GELU: gelu, GELU_TANH: gelu_tanh, SILU: silu, MISH: mish}
BACKWARD = {
    LEAKY_RELU: leaky_relu_backward,
    ELU: elu_backward,
    SELU: selu_backward,
    SOFTPLUS: softplus_backward,
}


def uses_slopes(codes):
    """Whether the forward keeps the slope of one of these activations."""
    return not codes.isdisjoint(BY_SLOPE.values())


def _functions(forward, forward_slope, backward):
    """Forward (z, code) -> (a, slope) and backward (d, a, slope, code) -> dz, from tables of functions by code."""
    plain, plain_backward = forward_choice(forward, same_forward), backward_choice(backward)

    if not forward_slope:

        @inlined
        def element_forward(z, code):
            return plain(z, code), like(z, 0)

        @inlined
        def element_backward(d, a, slope, code):
            return plain_backward(d, a, code)

        return element_forward, element_backward

    with_slope = forward_choice(forward_slope, _no_slope)

    @inlined
    def any_forward(z, code):
        if code >= FIRST_BY_SLOPE:
            return with_slope(z, code)
        return plain(z, code), like(z, 0)

    @inlined
    def any_backward(d, a, slope, code):
        if code >= FIRST_BY_SLOPE:
            return d * slope
        return plain_backward(d, a, code)

    return any_forward, any_backward


_forward, rectifier_backward = _functions(FORWARD, FORWARD_SLOPE, BACKWARD)
# f(z) and f'(z) for gelu, gelu_tanh, silu and mish; z and 0 for any other code
rectifier_forward_slope = forward_choice(FORWARD_SLOPE, _no_slope)


@device
def rectifier_forward(z, code):
    """f(z) for one of ``layout.RECTIFIERS``, and z for any other code."""
    a, _ = _forward(z, code)
    return a


@functools.lru_cache
def element_functions(codes):
    """What a network with these activations calls of its elements; other codes pass through, the softmax's too.

    Parameters
    ----------
    codes : frozenset of int

    Returns
    -------
    element_forward : device function (z, code) -> (a, slope)
        The slope is 0 unless the code is of ``layout.BY_SLOPE``.
    element_backward : device function (d, a, slope, code) -> dz
    """

    def used(*tables):
        return {code: function for table in tables for code, function in table.items() if code in codes}

    return _functions(
        used({RELU: relu_forward}, activations.FORWARD, FORWARD),
        used(FORWARD_SLOPE),
        used(activations.BACKWARD, BACKWARD),
    )
