"""Losses as functions of the output A, whatever its activation: their gradient is with respect to A.

Logarithms are of p clipped from below, and the derivative of what is clipped is 0.
"""

import numpy as np

from fastbp.kernels.layout import (
    GROUP,
    LOG_COSH,
    MEAN_ABSOLUTE_ERROR,
    OUTPUT_CROSS_ENTROPY,
    OUTPUT_POISSON,
    padded,
)
from fastbp.kernels.reference._views import gathered, rows
from fastbp.kernels.reference.activations import log
from fastbp.kernels.reference.losses import _sample_weights, squared_error
from fastbp.kernels.reference.robust_losses import robust_loss


def positive(x):
    """x, or the square root of the smallest normal number where x is less."""
    return np.maximum(x, np.sqrt(np.finfo(x.dtype).tiny))


def not_one(x):
    """1 - x, or eps where that is less."""
    return np.maximum(1 - x, np.finfo(x.dtype).eps)


def _summed(row_loss, dA, ld, weight, scale, m, n, loss, derivative):
    """The sum over outputs, and its gradient."""
    row_loss[:m] = weight * loss.sum(axis=1)
    rows(dA, ld, m, n)[:] = derivative * (weight * scale)[:, None]
    if n >= GROUP:
        rows(dA, ld, m, padded(int(n)))[:, n:] = 0


@np.errstate(all="ignore")
def output_cross_entropy(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """-u ln p - v ln(1 - p) with u = w_1 t and v = w_0 (1 - t), t smoothed to (1 - s) t + s / 2."""
    weight, n, smoothing, p = _sample_weights(weights, index, m), int(n), coefficients[0], rows(A, ld, m, n)
    t = (1 - smoothing) * gathered(values, n, index[:m], n) + smoothing / 2
    u, v = coefficients[1 + n : 1 + 2 * n] * t, coefficients[1 : 1 + n] * (1 - t)
    loss = -u * log(positive(p)) - v * log(not_one(p))
    up = np.where(p < positive(p), 0, u / positive(p))
    down = np.where(1 - p < not_one(p), 0, v / not_one(p))
    _summed(row_loss, dA, ld, weight, scale, m, n, loss, down - up)


@np.errstate(all="ignore")
def output_poisson(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """Half the deviance, t ln t - t ln p + p - t, and 1 - t / p."""
    weight, t, p = _sample_weights(weights, index, m), gathered(values, n, index[:m], n), rows(A, ld, m, n)
    loss = np.where(t > 0, t * (log(t) - log(positive(p))), 0) + (p - t)
    _summed(row_loss, dA, ld, weight, scale, m, n, loss, 1 - np.where(p < positive(p), 0, t / positive(p)))


def output_loss(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention, plan, targets):
    """The loss that ``code`` names."""
    out, rest = (row_loss, dA, A, ld, values), (index, weights, scale, m, n)
    if MEAN_ABSOLUTE_ERROR <= code <= LOG_COSH:
        robust_loss(*out, targets.coefficients, *rest, code)
    elif code == OUTPUT_POISSON:
        output_poisson(*out, *rest)
    elif code == OUTPUT_CROSS_ENTROPY:
        output_cross_entropy(*out, targets.coefficients, *rest)
    else:
        squared_error(*out, *rest, code, convention)
