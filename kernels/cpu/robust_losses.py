"""Losses that grow more slowly than the square, and the quantile loss; each the mean over outputs, with its gradient.

Compiled for networks with the feature ``"robust_losses"``. All are functions of e = a - t, and the gradient is with
respect to the output A. In the row of the gradient first stand the terms of the loss, for :func:`row_sum`, so that both
loops over a row vectorise. At a kink, where e = 0, the derivative taken is 0. Where e is NaN, loss and gradient are.
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_dtype, kernel
from fastbp.kernels.cpu.activations import log, tanh
from fastbp.kernels.cpu.groups import fill_group, group_sum
from fastbp.kernels.cpu.simd import fma, window
from fastbp.kernels.layout import GROUP, HUBER, LOG_COSH, QUANTILE


@kernel
def row_sum(z, n):
    """z[0] + ... + z[n - 1], in an order that n alone decides.

    Parameters
    ----------
    z : 1-D array of real, n rounded up to 16
        From 16 on, what lies behind n becomes 0.
    n : int
    """
    total = z.dtype.type(0)
    if n < GROUP:  # of one output a group would be 15 parts padding
        for q in range(n):
            total = total + z[q]
        return total
    fill_group(z, n, total)
    return group_sum(z, (n + GROUP - 1) // GROUP)


@by_dtype
def ln_cosh(real):
    """ln cosh x, without overflow: with t = tanh |x|, artanh(t^2 / (2 - t^2)) for small x, else \\|x\\| - ln(1 + t).

    Both are ln cosh x = -ln(1 - t^2) / 2. The first has no difference of neighbouring numbers, the second none that
    costs more than two bits. Largest error: 10 units in the last place (``tests/test_robust_losses.py`` measures it).
    """
    terms = 5 if real is np.float32 else 11
    coefficients = tuple(real(1 / (2 * k + 1)) for k in range(terms, 0, -1))
    zero, one, two, edge = real(0), real(1), real(2), real(0.6)

    def body(x):
        a = x if x > zero else -x
        t = tanh(a)
        square = t * t
        s = square / (two - square)
        z = s * s
        p = coefficients[0]
        for c in coefficients[1:]:
            p = fma(p, z, c)
        return fma(p * z, s, s) if a < edge else a - log(one + t)

    return body


@kernel
def absolute_error(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """Loss \\|e\\| and dA = sign(e), both over n.

    Parameters
    ----------
    row_loss : 1-D array of float64, at least m
    dA : 1-D array of real
        Row i at dA + i ld. From 16 outputs on, columns from n up to a multiple of 16 become 0.
    A : 1-D array of real
        Outputs, same stride.
    ld : int
        Row stride, at least n rounded up to 16.
    values : 1-D array of real
        Targets, row r at values + r n.
    index : 1-D array of intp
        Row of ``values`` and ``weights`` for each row of A.
    weights : 1-D array of real
        One a sample, or empty for 1.
    scale : real
    m, n : int
        Rows, outputs.
    """
    real = dA.dtype.type
    one, zero, share = real(1), real(0), real(1) / real(n)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = share * (weight * scale)
        for q in range(n):
            e = a[q] - t[q]
            d[q] = e if e > zero else -e
        row_loss[i] = weight * (share * row_sum(window(dA, i * ld, ld), n))
        for q in range(n):
            e = a[q] - t[q]
            # e itself is 0 there, or NaN
            d[q] = factor * (one if e > zero else (-one if e < zero else e))


@kernel
def huber(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """Loss e^2 / 2 where \\|e\\| <= delta, else delta (\\|e\\| - delta / 2), and dA = e clipped to delta; both over n.

    With c = e clipped to [-delta, delta] the loss is c (e - c / 2) everywhere. ``coefficients``: delta. The rest as in
    :func:`absolute_error`.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964; scaled as ``torch.nn.HuberLoss``.
    """
    real = dA.dtype.type
    one, half, share, delta = real(1), real(0.5), real(1) / real(n), coefficients[0]
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = share * (weight * scale)
        for q in range(n):
            e = a[q] - t[q]
            c = delta if e > delta else (-delta if e < -delta else e)
            d[q] = c * (e - half * c)
        row_loss[i] = weight * (share * row_sum(window(dA, i * ld, ld), n))
        for q in range(n):
            e = a[q] - t[q]
            d[q] = factor * (delta if e > delta else (-delta if e < -delta else e))


@kernel
def quantile(row_loss, dA, A, ld, values, coefficients, index, weights, scale, m, n):
    """Loss (1 - level) e where e > 0, else -level e, and its derivative; both over n. Also called pinball loss.

    ``coefficients``: the level of each output, (n,). The rest as in :func:`absolute_error`.

    References
    ----------
    Koenker & Bassett, "Regression quantiles", 1978.
    """
    real = dA.dtype.type
    one, zero, share = real(1), real(0), real(1) / real(n)
    level = window(coefficients, 0, n)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = share * (weight * scale)
        for q in range(n):
            e = a[q] - t[q]
            d[q] = e * (one - level[q] if e > zero else -level[q])
        row_loss[i] = weight * (share * row_sum(window(dA, i * ld, ld), n))
        for q in range(n):
            e = a[q] - t[q]
            d[q] = factor * (one - level[q] if e > zero else (-level[q] if e < zero else e))


@kernel
def log_cosh(row_loss, dA, A, ld, values, index, weights, scale, m, n):
    """Loss ln cosh e and dA = tanh e, both over n; arguments as in :func:`absolute_error`."""
    real = dA.dtype.type
    one, share = real(1), real(1) / real(n)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = share * (weight * scale)
        for q in range(n):
            d[q] = ln_cosh(a[q] - t[q])
        row_loss[i] = weight * (share * row_sum(window(dA, i * ld, ld), n))
        for q in range(n):
            d[q] = factor * tanh(a[q] - t[q])


@kernel
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
