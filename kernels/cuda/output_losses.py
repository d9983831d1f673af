"""Losses as functions of the output A, whatever its activation: their gradient is with respect to A.

The two here are cross-entropy and Poisson for outputs without the activation that these bring. Logarithms are of p
clipped from below, and the derivative of what is clipped is 0: ln p takes p from the square root of the smallest normal
number on, so that 1 / p leaves room for a factor, and 1 - p is taken from eps on. Arguments as in ``losses.py``.
"""

import math

import numpy as np

from fastbp.kernels.cuda._target import WIDTH, device, group_sum, like, log
from fastbp.kernels.cuda.losses import squared_error
from fastbp.kernels.cuda.robust_losses import robust_loss
from fastbp.kernels.layout import LOG_COSH, MEAN_ABSOLUTE_ERROR, OUTPUT_CROSS_ENTROPY, OUTPUT_POISSON

LEAST_FLOAT32, LEAST_FLOAT64 = (math.sqrt(np.finfo(real).tiny) for real in (np.float32, np.float64))


@device
def positive(x, D):
    """x, or the square root of the smallest normal number of D's dtype where x is less."""
    least = like(x, LEAST_FLOAT32 if np.finfo(D.dtype).bits == 32 else LEAST_FLOAT64)
    return least if x < least else x


@device
def not_one(x, D):
    """1 - x, or eps of D's dtype where that is less."""
    least, x = like(x, np.finfo(D.dtype).eps), like(x, 1.0) - x
    return least if x < least else x


@device
def output_cross_entropy(lane, D, d, A, a, values, at, coefficients, n, factor):
    """Loss, summed over outputs, -u ln p - v ln(1 - p) and dA = (v / (1 - p) - u / p) factor, for probabilities p.

    u = w_1 t and v = w_0 (1 - t) with t smoothed to (1 - s) t + s / 2. ``coefficients``: s, w_0 and w_1, (1 + 2 n,).
    """
    one, zero = like(factor, 1.0), like(factor, 0.0)
    kept, half, loss = one - coefficients[0], like(factor, 0.5) * coefficients[0], zero
    for j in range(lane, n, WIDTH):
        x, t = A[a + j], kept * values[at + j] + half
        u, v = coefficients[1 + n + j] * t, coefficients[1 + j] * (one - t)
        p, rest = positive(x, D), not_one(x, D)
        loss -= u * log(p) + v * log(rest)
        up = zero if x < p else u / p
        down = zero if one - x < rest else v / rest
        D[d + j] = (down - up) * factor
    return group_sum(loss)


@device
def output_poisson(lane, D, d, A, a, values, at, n, factor):
    """Loss, summed over outputs, t ln t - t ln p + p - t and dA = (1 - t / p) factor, for rates p and targets t >= 0.

    Half the Poisson deviance; t ln t is 0 for t = 0.
    """
    one, zero = like(factor, 1.0), like(factor, 0.0)
    loss = zero
    for j in range(lane, n, WIDTH):
        x, t = A[a + j], values[at + j]
        p = positive(x, D)
        # p - t last: the rest is nearly its negative where p is near t
        loss += (t * (log(t) - log(p)) if t > 0 else zero) + (x - t)
        D[d + j] = factor * (one - (zero if x < p else t / p))
    return group_sum(loss)


@device
def output_loss(lane, D, d, A, a, values, at, coefficients, n, factor, code, convention):
    """The loss that ``code`` names: where it is a constant, the compiler keeps that one alone."""
    if code >= MEAN_ABSOLUTE_ERROR and code <= LOG_COSH:
        return robust_loss(lane, D, d, A, a, values, at, coefficients, n, factor, code)
    if code == OUTPUT_POISSON:
        return output_poisson(lane, D, d, A, a, values, at, n, factor)
    if code == OUTPUT_CROSS_ENTROPY:
        return output_cross_entropy(lane, D, d, A, a, values, at, coefficients, n, factor)
    return squared_error(lane, D, d, A, a, values, at, n, factor, code, convention)
