"""Losses that grow more slowly than the square, and the quantile loss: means over outputs, of e = a - t.

Where e = 0 is a kink, the derivative taken is 0.
"""

import numpy as np

from fastbp.kernels.layout import GROUP, HUBER, LOG_COSH, QUANTILE, padded
from fastbp.kernels.reference._views import gathered, rows
from fastbp.kernels.reference.activations import tanh
from fastbp.kernels.reference.losses import _sample_weights


def row_sum(z, n):
    """z[0] + ... + z[n - 1]; from 16 on, what lies behind n becomes 0."""
    if n >= GROUP:
        z[n : padded(int(n))] = 0
    with np.errstate(all="ignore"):
        return z[:n].sum()


@np.errstate(all="ignore")
def ln_cosh(x):
    """ln((e^x + e^-x) / 2), without overflow and without cancelling."""
    a = np.abs(x)
    near = np.log1p(np.sinh(np.minimum(a, 1)) ** 2) / 2  # cosh^2 - sinh^2 = 1
    return np.where(a < 1, near, a + np.log1p(np.exp(-2 * a)) - x.dtype.type(np.log(2)))


def _mean(row_loss, dA, A, ld, values, index, weights, scale, m, n, loss, derivative):
    """The mean over outputs of a function of e, and of its derivative; both are taken in the dtype."""
    weight, e = _sample_weights(weights, index, m), rows(A, ld, m, n) - gathered(values, n, index[:m], n)
    row_loss[:m] = weight * (loss(e).sum(axis=1) / int(n))
    rows(dA, ld, m, n)[:] = derivative(e) * (weight * scale / int(n))[:, None]
    if n >= GROUP:
        rows(dA, ld, m, padded(int(n)))[:, n:] = 0


@np.errstate(all="ignore")
def absolute_error(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """|e|, whose derivative is sign(e)."""
    _mean(row_loss, dA, A, ld, values, index, weights, scale, m, n, np.abs, np.sign)


@np.errstate(all="ignore")
def huber(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); derivative e, clipped to [-delta, delta]."""
    delta = coefficients[0]
    _mean(
        row_loss, dA, A, ld, values, index, weights, scale, m, n,
        lambda e: np.where(np.abs(e) <= delta, e * e / 2, delta * (np.abs(e) - delta / 2)),
        lambda e: np.clip(e, -delta, delta),
    )  # fmt: skip


@np.errstate(all="ignore")
def quantile(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """max((1 - level) e, -level e), one level an output."""
    level = coefficients[:n]
    _mean(
        row_loss, dA, A, ld, values, index, weights, scale, m, n,
        lambda e: np.maximum((1 - level) * e, -level * e),
        lambda e: np.where(e > 0, 1 - level, np.where(e < 0, -level, e)),
    )  # fmt: skip


@np.errstate(all="ignore")
def log_cosh(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """ln cosh e, whose derivative is tanh e."""
    _mean(row_loss, dA, A, ld, values, index, weights, scale, m, n, ln_cosh, tanh)


def robust_loss(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n, code):
    """The loss of this module that ``code`` names."""
    if code == HUBER:
        huber(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n)
    elif code == QUANTILE:
        quantile(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n)
    elif code == LOG_COSH:
        log_cosh(row_loss, dA, A, ld, values, index, weights, scale, m, n)
    else:
        absolute_error(row_loss, dA, A, ld, values, index, weights, scale, m, n)
