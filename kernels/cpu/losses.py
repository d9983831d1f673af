"""Losses with their gradient, row by row.

Each kernel writes the loss of m rows and the gradient with respect to the pre-activation (cross-entropies and Poisson,
fused with their link: dZ = p - t) or to the output (squared error). ``index`` maps a row to its target, ``scale``
times the row's weight is what the gradient is multiplied by: 1 / sum of weights, for a mean.
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_dtype, kernel
from fastbp.kernels.cpu.activations import exp, exponentials, log, logistic, softmax_shift
from fastbp.kernels.cpu.groups import group_scale, group_sum
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.layout import GROUP, MEAN_SQUARED_ERROR, SCIKIT_LEARN


@by_dtype
def _clipped_log(real):
    """-ln of p clipped to [eps, 1 - eps], as scikit-learn reports cross-entropies."""
    eps, most = np.finfo(real).eps, real(1) - np.finfo(real).eps

    def body(x):
        x = eps if x < eps else x
        x = most if x > most else x
        return -log(x)

    return body


@kernel
def softmax_cross_entropy(row_loss, dZ, Z, ld, labels, index, weights, scale, m, n, convention):
    """Loss ln(sum e^z) - z_t and dZ = (softmax(z) - onehot(t)) scale, for integer labels t.

    Parameters
    ----------
    row_loss : 1-D array of float64, at least m
    dZ : 1-D array of real
        Row i at dZ + i ld. Columns from n up to a multiple of 16 become 0.
    Z : 1-D array of real
        Logits, same stride; overwritten, padding too.
    ld : int
        Row stride, at least n rounded up to 16.
    labels : 1-D array of intp
    index : 1-D array of intp
        Row of ``labels`` and ``weights`` for each row of Z.
    weights : 1-D array of real
        One a sample, or empty for 1.
    scale : real
    m, n : int
        Rows, classes.
    convention : int
        ``SCIKIT_LEARN``: the loss is -ln of the probability clipped to [eps, 1 - eps].
    """
    real = dZ.dtype.type
    one = real(1)
    groups = (n + GROUP - 1) // GROUP
    softmax_shift(Z, ld, m, n)
    for i in range(m):
        row_loss[i] = Z[i * ld + labels[index[i]]]
    exponentials(Z, m * ld)
    for i in range(m):
        z, d = window(Z, i * ld, groups * GROUP), window(dZ, i * ld, groups * GROUP)
        label = labels[index[i]]
        weight = weights[index[i]] if weights.shape[0] else one
        factor, total = weight * scale, group_sum(z, groups)
        loss = _clipped_log(z[label] / total) if convention == SCIKIT_LEARN else log(total) - real(row_loss[i])
        group_scale(d, z, factor / total, groups)
        d[label] = d[label] - factor
        row_loss[i] = weight * loss


@kernel
def block_softmax_cross_entropy(row_loss, dZ, Z, ld, labels, blocks, index, weights, scale, m, convention):
    """Several labels a row: the sum over blocks of columns of each block's :func:`softmax_cross_entropy`.

    Blocks start anywhere, so this goes by element, not by groups of 16.

    Parameters
    ----------
    labels : 1-D array of intp
        Row r at labels + r (number of blocks); each counts from 0 within its block.
    blocks : 1-D array of intp
        Block k has the columns blocks[k] .. blocks[k + 1].
    row_loss, dZ, Z, ld, index, weights, scale, m, convention
        As in :func:`softmax_cross_entropy`, but the padding of dZ is not touched.
    """
    real = dZ.dtype.type
    one, zero, nothing = real(1), real(0), real(-np.inf)
    n_blocks = blocks.shape[0] - 1
    for i in range(m):
        chosen = zero
        for k in range(n_blocks):
            width = blocks[k + 1] - blocks[k]
            z = window(Z, i * ld + blocks[k], width)
            largest = nothing
            for q in range(width):
                largest = z[q] if z[q] > largest else largest
            for q in range(width):
                z[q] = z[q] - largest
            chosen = chosen + z[labels[index[i] * n_blocks + k]]
        row_loss[i] = chosen
    exponentials(Z, m * ld)
    for i in range(m):
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        loss = zero if convention == SCIKIT_LEARN else -real(row_loss[i])
        for k in range(n_blocks):
            width, label = blocks[k + 1] - blocks[k], labels[index[i] * n_blocks + k]
            z, d = window(Z, i * ld + blocks[k], width), window(dZ, i * ld + blocks[k], width)
            total = zero
            for q in range(width):
                total = total + z[q]
            loss = loss + (_clipped_log(z[label] / total) if convention == SCIKIT_LEARN else log(total))
            ratio = factor / total
            for q in range(width):
                d[q] = z[q] * ratio
            d[label] = d[label] - factor
        row_loss[i] = weight * loss


@kernel
def sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention):
    """Loss, summed over outputs, ln(1 + e^z) - t z, and dZ = (logistic(z) - t) scale, for targets t in [0, 1].

    ``values`` : 1-D array of real, row r at values + r n. The rest as in :func:`softmax_cross_entropy`; padding is
    not touched.
    """
    one, zero = dZ.dtype.type(1), dZ.dtype.type(0)
    for i in range(m):
        z, d, t = window(Z, i * ld, n), window(dZ, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        loss = zero
        for q in range(n):
            p = logistic(z[q])
            if convention == SCIKIT_LEARN:
                loss = loss + t[q] * _clipped_log(p) + (one - t[q]) * _clipped_log(one - p)
            else:
                positive = z[q] > zero
                loss = loss + ((z[q] if positive else zero) - t[q] * z[q]) + log(one + exp(-z[q] if positive else z[q]))
            d[q] = (p - t[q]) * factor
        row_loss[i] = weight * loss


@kernel
def poisson(row_loss, dZ, Z, ld, values, index, weights, scale, m, n):
    """Loss, summed over outputs, t ln(t / p) - t + p with p = e^z, and dZ = (p - t) scale, for targets t >= 0.

    Half the Poisson deviance; t ln t is 0 for t = 0. ln p is z: no quotient that could overflow. ``values`` as in
    :func:`sigmoid_cross_entropy`, the rest as in :func:`softmax_cross_entropy`; padding is not touched.
    """
    one, zero = dZ.dtype.type(1), dZ.dtype.type(0)
    for i in range(m):
        z, d, t = window(Z, i * ld, n), window(dZ, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        loss = zero
        for q in range(n):
            difference = exp(z[q]) - t[q]
            # p - t last: the rest is nearly its negative where p is near t
            loss = loss + ((t[q] * log(t[q]) - t[q] * z[q] if t[q] > zero else zero) + difference)
            d[q] = difference * factor
        row_loss[i] = weight * loss


@kernel
def squared_error(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention):
    """Squared error and its gradient with respect to the output A.

    ``MEAN_SQUARED_ERROR``: mean over outputs of (a - t)^2, dA = 2 (a - t) / n. ``HALF_SQUARED_ERROR``: half the sum,
    dA = a - t; reported as half the mean under ``SCIKIT_LEARN``.
    """
    real = dA.dtype.type
    one = real(1)
    gradient_factor, loss_factor = real(1), real(0.5)
    if code == MEAN_SQUARED_ERROR:
        gradient_factor, loss_factor = real(2) / real(n), one / real(n)
    elif convention == SCIKIT_LEARN:
        loss_factor = real(0.5) / real(n)
    for i in range(m):
        a, d, t = window(A, i * ld, n), window(dA, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = gradient_factor * (weight * scale)
        loss = real(0)
        for q in range(n):
            difference = a[q] - t[q]
            loss = loss + difference * difference
            d[q] = difference * factor
        row_loss[i] = weight * (loss_factor * loss)
