"""Smooth and leaky kin of relu with their derivatives: see the compiled kernels for their sources."""

import numpy as np

from fastbp.kernels.layout import (
    ACTIVATION,
    BY_SLOPE,
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
from fastbp.kernels.reference.activations import activation_backward, activation_forward, logistic, softmax_forward
from fastbp.kernels.reference.special import expm1, normal_cdf

LEAK, SELU_SCALE, SELU_ALPHA, CUBIC = 0.01, 1.0507009873554804934, 1.6732632423543772848, 0.044715


def _times(x, p):
    """x p, and 0 where p is 0: what has vanished at an infinite x."""
    return np.where(p == 0, p, x * p)


@np.errstate(all="ignore")
def elu(x):
    """x where it is positive, e^x - 1 elsewhere."""
    return np.where(x > 0, x, expm1(np.minimum(x, 0)))


@np.errstate(all="ignore")
def softplus(x):
    """ln(1 + e^x)."""
    return np.logaddexp(x, np.zeros_like(x))


@np.errstate(all="ignore")
def gelu(x):
    """x P(Z <= x) of a standard normal Z, and the derivative P(Z <= x) + x e^(-x^2/2) / sqrt(2 pi)."""
    cdf, e = normal_cdf(x)
    return _times(x, cdf), cdf + _times(x, e / np.sqrt(2 * np.pi).astype(x.dtype))


@np.errstate(all="ignore")
def gelu_tanh(x):
    """x (1 + tanh(v)) / 2 with v = sqrt(2 / pi) (x + 0.044715 x^3), and the derivative."""
    factor = np.sqrt(2 / np.pi).astype(x.dtype)
    t = np.tanh(factor * (x + CUBIC * x * x * x))
    half = (1 + t) / 2
    return _times(x, half), half + _times(x * factor * (1 + 3 * CUBIC * x * x), (1 - t * t) / 2)


@np.errstate(all="ignore")
def silu(x):
    """x s with s = 1 / (1 + e^-x), and the derivative s + x s (1 - s)."""
    s = logistic(x)
    return _times(x, s), s + _times(x, s * logistic(-x))


@np.errstate(all="ignore")
def mish(x):
    """x t with t = tanh(ln(1 + e^x)), and the derivative t + x (1 - t^2) / (1 + e^-x)."""
    t = np.tanh(softplus(x))
    return _times(x, t), t + _times(x, (1 - t * t) * logistic(x))


_BY_SLOPE = {GELU: gelu, GELU_TANH: gelu_tanh, SILU: silu, MISH: mish}


@np.errstate(all="ignore")
def rectifier_forward(A, code):
    """A = f(A) in place."""
    if code == LEAKY_RELU:
        A[:] = np.where(A < 0, LEAK * A, A)
    elif code == ELU:
        A[:] = elu(A)
    elif code == SELU:
        A[:] = np.where(A > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA) * elu(A)
    elif code == SOFTPLUS:
        A[:] = softplus(A)
    elif code in _BY_SLOPE:
        A[:], _ = _BY_SLOPE[code](A)


def rectifier_forward_slope(A, S, code):
    """A = f(A) in place and S = f'(Z), for gelu, gelu_tanh, silu and mish."""
    if code in _BY_SLOPE:
        A[:], S[:] = _BY_SLOPE[code](A)


@np.errstate(all="ignore")
def rectifier_backward(dZ, A, S, code):
    """dZ = dA f'(Z) in place: the slope from the output A, or what the forward has kept of it, S."""
    if code == LEAKY_RELU:
        dZ *= np.where(A <= 0, LEAK, 1)
    elif code == ELU:
        dZ *= np.where(A > 0, 1, A + 1)
    elif code == SELU:
        dZ *= np.where(A > 0, SELU_SCALE, A + SELU_SCALE * SELU_ALPHA)
    elif code == SOFTPLUS:
        dZ *= 1 - np.exp(-A)
    elif code in _BY_SLOPE:
        dZ *= S


# ---------------------------------------------------------------------------------------------------------------------
# What a step calls. ``row``: the layer's in the table; ``place``: where A lies from the start of the layer's outputs,
# and f'(Z) from ``SLOPE``


def _slopes(A, row, place, plan, buffers):
    return buffers.work[row[SLOPE] + place :][: A.size].reshape(A.shape)


def element_forward(A, row, place, plan, buffers, step):
    """A = f(A) in place. In training, f'(Z) is kept where it does not follow from A; for a prediction step is None."""
    code = row[ACTIVATION]
    if step is not None and code in BY_SLOPE.values():
        rectifier_forward_slope(A, _slopes(A, row, place, plan, buffers), code)
    else:
        activation_forward(A, code)
        rectifier_forward(A, code)


def last_forward(A, m, row, place, plan, buffers, step):
    """The activation of the last layer: softmax by row, everything else by element."""
    if row[ACTIVATION] == SOFTMAX:
        softmax_forward(A, row[OUT_LD], m, row[FAN_OUT])
    else:
        element_forward(A, row, place, plan, buffers, step)


def element_backward(dZ, A, row, place, plan, buffers):
    """dZ = dA f'(Z) in place, from A or from what the forward has kept."""
    code = row[ACTIVATION]
    activation_backward(dZ, A, code)
    rectifier_backward(dZ, A, _slopes(A, row, place, plan, buffers), code)
