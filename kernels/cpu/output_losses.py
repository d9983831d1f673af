"""Losses as functions of the output A, whatever its activation: their gradient is with respect to A.

The two here are cross-entropy and Poisson for outputs without the activation that these bring, compiled for networks
with the feature ``"output_losses"``. Near 0 and 1 the logarithms of a probability p and their derivatives are not
finite, so p is clipped there, and the derivative of what is clipped is 0. ln p takes p from the square root of the
smallest normal number on (1.1e-19 in float32, 1.5e-154 in float64), so that 1 / p leaves room for a factor; 1 - p is
taken from eps on, since p has no digits beyond.
"""

import math

import numpy as np

from fastbp.kernels.cpu._jit import by_dtype, by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import log
from fastbp.kernels.cpu.losses import squared_error
from fastbp.kernels.cpu.robust_losses import robust_loss, row_sum
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.layout import LOG_COSH, MEAN_ABSOLUTE_ERROR, OUTPUT_CROSS_ENTROPY, OUTPUT_POISSON


@by_dtype
def positive(real):
    """x, or the square root of the smallest normal number where x is less."""
    least = real(math.sqrt(np.finfo(real).tiny))

    def body(x):
        return least if x < least else x

    return body


@by_dtype
def not_one(real):
    """1 - x, or eps where that is less."""
    one, least = real(1), np.finfo(real).eps

    def body(x):
        x = one - x
        return least if x < least else x

    return body


@kernel
def output_cross_entropy(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """Loss, summed over outputs, -u ln p - v ln(1 - p) and dA = (v / (1 - p) - u / p) scale, for probabilities p.

    u = w_1 t and v = w_0 (1 - t) with t smoothed to (1 - s) t + s / 2.

    Parameters
    ----------
    coefficients : 1-D array of real, 1 + 2 n
        As in :func:`fastbp.kernels.cpu.soft_targets.soft_sigmoid_cross_entropy`.
    row_loss, dA, A, ld, values, index, weights, scale, m, n
        As in :func:`fastbp.kernels.cpu.robust_losses.absolute_error`, with targets in [0, 1].
    """
    real = dA.dtype.type
    one, zero = real(1), real(0)
    kept, half = one - coefficients[0], real(0.5) * coefficients[0]
    w_0, w_1 = window(coefficients, 1, n), window(coefficients, 1 + n, n)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        for q in range(n):
            smooth = kept * t[q] + half
            d[q] = -(w_1[q] * smooth * log(positive(a[q])) + w_0[q] * (one - smooth) * log(not_one(a[q])))
        row_loss[i] = weight * row_sum(window(dA, i * ld, ld), n)
        for q in range(n):
            smooth, p, rest = kept * t[q] + half, positive(a[q]), not_one(a[q])
            up = zero if a[q] < p else w_1[q] * smooth / p
            down = zero if one - a[q] < rest else w_0[q] * (one - smooth) / rest
            d[q] = (down - up) * factor


@kernel
def output_poisson(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """Loss, summed over outputs, t ln t - t ln p + p - t and dA = (1 - t / p) scale, for rates p and targets t >= 0.

    Half the Poisson deviance; t ln t is 0 for t = 0. Arguments as in
    :func:`fastbp.kernels.cpu.robust_losses.absolute_error`.
    """
    real = dA.dtype.type
    one, zero = real(1), real(0)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        for q in range(n):
            # p - t last: the rest is nearly its negative where p is near t
            d[q] = (t[q] * (log(t[q]) - log(positive(a[q]))) if t[q] > zero else zero) + (a[q] - t[q])
        row_loss[i] = weight * row_sum(window(dA, i * ld, ld), n)
        for q in range(n):
            p = positive(a[q])
            d[q] = factor * (one - (zero if a[q] < p else t[q] / p))


def _squared(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    squared_error(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention)


def _unlinked(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    numbers = window(targets.coefficients, 0, targets.coefficients.shape[0])
    if code == OUTPUT_POISSON:
        output_poisson(row_loss, dA, A, ld, values, index, weights, scale, m, n)
    elif code == OUTPUT_CROSS_ENTROPY:
        output_cross_entropy(row_loss, dA, A, ld, values, numbers, index, weights, scale, m, n)
    else:
        squared_error(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention)


@by_type_inlined
def _not_robust(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    """The losses here, where the network needs one, and squared errors."""
    return _unlinked if uses(plan, "output_losses") else _squared


def _robust(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    numbers = window(targets.coefficients, 0, targets.coefficients.shape[0])
    if MEAN_ABSOLUTE_ERROR <= code and code <= LOG_COSH:
        robust_loss(row_loss, dA, A, ld, values, numbers, index, weights, scale, m, n, code)
    else:
        _not_robust(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets)


@by_type_inlined
def output_loss(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    """The loss that ``code`` names, of the kinds that the network needs: squared errors, robust losses, those here."""
    if uses(plan, "robust_losses"):
        return _robust
    return _unlinked if uses(plan, "output_losses") else _squared
