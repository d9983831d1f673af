"""Smooth and leaky kin of relu: leaky relu, elu, selu, softplus, gelu (two forms), silu, mish; with their derivatives.

They are compiled for networks that have one of them, and for no other. Where the derivative does not follow from the
output, the forward of training computes both in one pass, which share an exponential and a division, and keeps f'(Z):
the backward is one multiplication then. The forward of a prediction is the same code without what it does not use, so
the bits of A are the same.

Largest errors in units in the last place (``tests/test_rectifiers.py`` measures them): elu 1.2, softplus 1.6, silu 3,
mish 4.3, gelu 5.4; their derivatives 5 (silu), 7.6 (mish) and 6.3 (gelu), near the zero of a derivative in units of
f / z. This holds far below zero too, where 1 + tanh or 1 + erf would be 0, down to where e^-|z| (or the tail of the
normal distribution) is no normal number any more. The tanh form of gelu rounds the argument w of its exponential: 2.6
(1 + |w|) where z is negative, 3 (1 + |w|) for its derivative.
"""

import math

import numpy as np
from numba import types

from fastbp.kernels.cpu._jit import by_dtype, by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import activation_backward, activation_forward, exp, output_forward
from fastbp.kernels.cpu.simd import fma, window
from fastbp.kernels.cpu.special import expm1, log1p, logistic_pair, normal_cdf
from fastbp.kernels.layout import (
    ACTIVATION,
    ELU,
    FAN_OUT,
    GELU,
    GELU_TANH,
    LEAKY_RELU,
    MISH,
    OUT_LD,
    SELU,
    SILU,
    SLOPE,
    SOFTMAX,
    SOFTPLUS,
)

LEAK = 0.01  # of leaky relu: Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013
# Klambauer et al., "Self-normalizing neural networks", 2017: mean 0 and variance 1 are a fixed point
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848
CUBIC = 0.044715  # Hendrycks & Gimpel, "Gaussian error linear units", 2016


def _clamped(bound):
    """Function of x: x, but within -bound and bound. NaN stays NaN."""

    @kernel
    def body(x):
        x = -bound if x < -bound else x
        return bound if x > bound else x

    return body


# ---------------------------------------------------------------------------------------------------------------------
# Functions of one number


@by_dtype
def elu(real):
    """x where it is positive, e^x - 1 elsewhere.

    Clevert et al., "Fast and accurate deep network learning by exponential linear units", 2016.
    """
    zero = real(0)

    def body(x):
        below = expm1(zero if x > zero else x)
        return x if x > zero else below

    return body


@by_dtype
def softplus(real):
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|): neither overflows nor loses small values."""
    zero = real(0)

    def body(x):
        return (x if x > zero else zero) + log1p(exp(-x if x > zero else x))

    return body


@by_dtype
def gelu(real):
    """x P(Z <= x) of a standard normal Z, and its derivative P(Z <= x) + x e^(-x^2/2) / sqrt(2 pi).

    Hendrycks & Gimpel, "Gaussian error linear units", 2016.
    """
    most, density = real(15) if real is np.float32 else real(40), real(1 / math.sqrt(2 * math.pi))
    clamped, least = _clamped(most), -most

    def body(x):
        cdf, e = normal_cdf(x)
        # at -inf the distribution is 0, and 0 inf is NaN
        return (least if x < least else x) * cdf, fma(clamped(x), density * e, cdf)

    return body


@by_dtype
def gelu_tanh(real):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = x / (1 + e^-w), and its derivative.

    w = 2 sqrt(2 / pi) (x + 0.044715 x^3): as a logistic function it does not cancel where x is negative.
    """
    most = real(15) if real is np.float32 else real(25)
    clamped, least = _clamped(most), -most
    linear, one = real(2 * math.sqrt(2 / math.pi)), real(1)
    cubic, slope = real(2 * math.sqrt(2 / math.pi) * CUBIC), real(6 * math.sqrt(2 / math.pi) * CUBIC)

    def body(x):
        near = clamped(x)
        square = near * near
        s, other = logistic_pair(near * fma(cubic, square, linear))
        return (least if x < least else x) * s, s * fma(near * fma(slope, square, linear), other, one)

    return body


@by_dtype
def silu(real):
    """x / (1 + e^-x), and its derivative s (1 + x (1 - s)) with s = 1 / (1 + e^-x).

    Elfwing et al., "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", 2018; also called swish.
    """
    most, one = real(110) if real is np.float32 else real(800), real(1)
    clamped, least = _clamped(most), -most

    def body(x):
        s, other = logistic_pair(x)
        return (least if x < least else x) * s, s * fma(clamped(x), other, one)

    return body


@by_dtype
def mish(real):
    """x tanh(ln(1 + e^x)), and its derivative, as rational functions of t = e^-|x|.

    tanh(ln(1 + e^x)) is (1 + 2 t) / d with d = 1 + 2 t + 2 t^2 for positive x, t (2 + t) / d with d = 2 + 2 t + t^2
    elsewhere; its derivative is 4 (1 + t) / d^2, times t^2 or t. Misra, "Mish: a self regularized non-monotonic
    activation function", 2020.
    """
    most = real(110) if real is np.float32 else real(800)
    clamped, least = _clamped(most), -most
    zero, one, two, four = real(0), real(1), real(2), real(4)

    def body(x):
        positive = x > zero
        t = exp(-x if positive else x)
        above, below = fma(two, t, one), t * (two + t)
        r = one / (fma(two * t, t, above) if positive else two + below)
        f = (above if positive else below) * r
        slope = four * (one + t) * (t * t if positive else t) * (r * r)
        return (least if x < least else x) * f, fma(clamped(x), slope, f)

    return body


# ---------------------------------------------------------------------------------------------------------------------
# Kernels on arrays


@kernel
def rectifier_forward(A, code):
    """A = f(A) in place.

    Parameters
    ----------
    A : 1-D array of real
        Pre-activations; overwritten.
    code : int
        One of ``fastbp.kernels.layout.RECTIFIERS``; anything else leaves A as it is.
    """
    kind = A.dtype.type
    if code == LEAKY_RELU:
        leak, zero = kind(LEAK), kind(0)
        for q in range(A.shape[0]):
            A[q] = leak * A[q] if A[q] < zero else A[q]
    elif code == ELU:
        for q in range(A.shape[0]):
            A[q] = elu(A[q])
    elif code == SELU:
        scale, below, zero = kind(SELU_SCALE), kind(SELU_SCALE * SELU_ALPHA), kind(0)
        for q in range(A.shape[0]):
            A[q] = (scale if A[q] > zero else below) * elu(A[q])
    elif code == SOFTPLUS:
        for q in range(A.shape[0]):
            A[q] = softplus(A[q])
    elif code == GELU:
        for q in range(A.shape[0]):
            A[q] = gelu(A[q])[0]
    elif code == GELU_TANH:
        for q in range(A.shape[0]):
            A[q] = gelu_tanh(A[q])[0]
    elif code == SILU:
        for q in range(A.shape[0]):
            A[q] = silu(A[q])[0]
    elif code == MISH:
        for q in range(A.shape[0]):
            A[q] = mish(A[q])[0]


@kernel
def rectifier_forward_slope(A, S, code):
    """A = f(A) in place and S = f'(Z), for gelu, gelu_tanh, silu and mish.

    Parameters
    ----------
    A : 1-D array of real
        Pre-activations; overwritten.
    S : 1-D array of real
        As long as A; overwritten.
    code : int
        One of ``fastbp.kernels.layout.BY_SLOPE``; anything else leaves both as they are.
    """
    if code == GELU:
        for q in range(A.shape[0]):
            A[q], S[q] = gelu(A[q])
    elif code == GELU_TANH:
        for q in range(A.shape[0]):
            A[q], S[q] = gelu_tanh(A[q])
    elif code == SILU:
        for q in range(A.shape[0]):
            A[q], S[q] = silu(A[q])
    elif code == MISH:
        for q in range(A.shape[0]):
            A[q], S[q] = mish(A[q])


@kernel
def rectifier_backward(dZ, A, S, code):
    """dZ = dZ f'(Z) in place.

    leaky_relu: 0.01 where A <= 0; elu: A + 1 where A <= 0; selu: the same, scaled; softplus: 1 - e^-A; others: S.

    Parameters
    ----------
    dZ : 1-D array of real
        On entry dA, on return dZ.
    A, S : 1-D array of real
        What the forward has left; S is not read for one of ``fastbp.kernels.layout.BY_OUTPUT``.
    code : int
        One of ``fastbp.kernels.layout.RECTIFIERS``; anything else leaves dZ as it is.
    """
    kind = dZ.dtype.type
    zero, one = kind(0), kind(1)
    if code == LEAKY_RELU:
        leak = kind(LEAK)
        for q in range(dZ.shape[0]):
            dZ[q] = leak * dZ[q] if A[q] <= zero else dZ[q]
    elif code == ELU:
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * (one if A[q] > zero else A[q] + one)
    elif code == SELU:
        scale, below = kind(SELU_SCALE), kind(SELU_SCALE * SELU_ALPHA)
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * (scale if A[q] > zero else A[q] + below)
    elif code == SOFTPLUS:
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * -expm1(-A[q])
    elif code == GELU or code == GELU_TANH or code == SILU or code == MISH:
        for q in range(dZ.shape[0]):
            dZ[q] = dZ[q] * S[q]


# ---------------------------------------------------------------------------------------------------------------------
# What a step calls. ``row``: the layer's in the table; ``place``: where A lies from the start of the layer's outputs,
# and f'(Z) from ``SLOPE``


def _plain_forward(A, row, place, plan, buffers, step):
    activation_forward(A, row[ACTIVATION])


def _prediction_forward(A, row, place, plan, buffers, step):
    activation_forward(A, row[ACTIVATION])
    rectifier_forward(A, row[ACTIVATION])


def _training_forward(A, row, place, plan, buffers, step):
    code, start = row[ACTIVATION], row[SLOPE]
    if start > 0:
        rectifier_forward_slope(A, window(buffers.work, start + place, A.shape[0]), code)
    else:
        activation_forward(A, code)
        rectifier_forward(A, code)


@by_type_inlined
def element_forward(A, row, place, plan, buffers, step):
    """A = f(A) in place for activations that act on one element; in training, what the derivative needs is kept.

    ``step`` is None in a prediction.
    """
    if not uses(plan, "rectifiers"):
        return _plain_forward
    return _prediction_forward if isinstance(step, types.NoneType) else _training_forward


def _plain_last(A, m, row, place, plan, buffers, step):
    output_forward(A, row[OUT_LD], m, row[FAN_OUT], row[ACTIVATION])


def _any_last(A, m, row, place, plan, buffers, step):
    if row[ACTIVATION] == SOFTMAX:
        output_forward(A, row[OUT_LD], m, row[FAN_OUT], row[ACTIVATION])
    else:
        element_forward(A, row, place, plan, buffers, step)


@by_type_inlined
def last_forward(A, m, row, place, plan, buffers, step):
    """The activation of the last layer on m rows: softmax by row, everything else by element."""
    return _any_last if uses(plan, "rectifiers") else _plain_last


def _plain_backward(dZ, A, row, place, plan, buffers):
    activation_backward(dZ, A, row[ACTIVATION])


def _any_backward(dZ, A, row, place, plan, buffers):
    code = row[ACTIVATION]
    activation_backward(dZ, A, code)
    rectifier_backward(dZ, A, window(buffers.work, row[SLOPE] + place, A.shape[0]), code)


@by_type_inlined
def element_backward(dZ, A, row, place, plan, buffers):
    """dZ = dZ f'(Z) in place, from A or from what the forward has kept."""
    return _any_backward if uses(plan, "rectifiers") else _plain_backward
