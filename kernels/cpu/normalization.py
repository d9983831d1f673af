"""Batch norm, by columns of a batch, and layer norm, by rows: x^ = (x - mean) / sqrt(variance + epsilon).

Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015;
Ba et al., "Layer Normalization", 2016. Variances are sums of squared differences from a mean, in a second pass: a mean
of squares less the square of the mean loses all digits where the mean is large. Those of a batch are put together from
its blocks of rows. x^ is computed anew where it is needed: that takes two operations an element, and a copy of it would
have to be written and read. For rows with weights see ``row_weights.py``.

Matrices have row i at X + i ldx; their padding is left as it is, except where a function says otherwise.
"""

import numpy as np

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.columns import (
    back,
    moments,
    narrow_back,
    narrow_moments,
    narrow_normal,
    narrow_sums,
    normal,
    sums,
)
from fastbp.kernels.cpu.groups import fill_group, group_dot, group_sum, group_triple
from fastbp.kernels.cpu.simd import NV, fma, vector_lanes, window
from fastbp.kernels.layout import GROUP, block_count

blocks_of = kernel(block_count)


@kernel
def block_start(k, n_rows):
    """First row of block k of a batch, and for the number of blocks ``n_rows``: whole micro-kernels of height 4."""
    return min((n_rows + 3) // 4 * k // blocks_of(n_rows) * 4, n_rows)


@kernel
def block_statistics(start, offset, squares, X, ldx, m, n):
    """Of n columns over m rows the first element, the mean less that, and the sum of squared differences from the mean.

    Parameters
    ----------
    start, offset, squares : 1-D array of real, at least n
        Overwritten.
    X : 1-D array of real
        Read up to whole vectors of columns.
    ldx, m, n : int
        m is at least 1.
    """
    lanes, share, j = vector_lanes(X), X.dtype.type(1.0 / m), 0
    while j < n:
        first, mean, rest, x = window(start, j, 0), window(offset, j, 0), window(squares, j, 0), window(X, j, 0)
        if j + 4 * lanes <= n:
            moments(first, mean, rest, x, ldx, share, m, 0)
            j += 4 * lanes
        else:
            narrow_moments(first, mean, rest, x, ldx, share, m, n - j)
            j += lanes


@kernel
def batch_statistics(
    mean, inverse_deviation, running_mean, running_variance, starts, offsets, squares, ldb, n_rows, n, epsilon, momentum
):
    """mean and 1 / sqrt(variance + epsilon) of a batch from its blocks', and the running statistics of a prediction.

    variance = sum over blocks of squares + rows (mean - mean of all)^2, over n_rows (Chan, Golub, LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances", 1979). Blocks' means are taken from the first
    element of the batch, so that a large mean costs no digits.
    running += momentum (new - running); the new variance is the unbiased one, as PyTorch has it.

    Parameters
    ----------
    mean, inverse_deviation : 1-D array of real, at least n
        Overwritten.
    running_mean, running_variance : 1-D array of real, at least n
        Updated; left as they are where ``momentum`` is 0 or there is one row.
    starts, offsets, squares : 1-D array of real
        From :func:`block_statistics`; those of block k at k ldb.
    ldb : int
    n_rows, n : int
        Rows of the batch, and columns.
    epsilon, momentum : float
    """
    real, count = starts.dtype.type, blocks_of(n_rows)
    zero, one, epsilon, share = real(0), real(1), real(epsilon), real(1.0 / n_rows)
    average, variance, base = window(mean, 0, n), window(inverse_deviation, 0, n), window(starts, 0, n)
    for q in range(n):
        average[q] = zero
        variance[q] = zero
    for k in range(count):
        rows = real(block_start(k + 1, n_rows) - block_start(k, n_rows))
        start, offset = window(starts, k * ldb, n), window(offsets, k * ldb, n)
        for q in range(n):
            average[q] = fma(rows, (start[q] - base[q]) + offset[q], average[q])
    for q in range(n):
        average[q] = average[q] * share
    for k in range(count):
        rows, within = real(block_start(k + 1, n_rows) - block_start(k, n_rows)), window(squares, k * ldb, n)
        start, offset = window(starts, k * ldb, n), window(offsets, k * ldb, n)
        for q in range(n):
            difference = (start[q] - base[q]) + offset[q] - average[q]
            variance[q] = fma(rows * difference, difference, variance[q] + within[q])
    for q in range(n):
        average[q] = base[q] + average[q]
    if momentum > 0.0 and n_rows > 1:
        moved, unbiased = real(momentum), real(1.0 / (n_rows - 1))
        first, second = window(running_mean, 0, n), window(running_variance, 0, n)
        for q in range(n):
            first[q] = fma(moved, average[q] - first[q], first[q])
            second[q] = fma(moved, variance[q] * unbiased - second[q], second[q])
    for q in range(n):
        variance[q] = one / np.sqrt(fma(variance[q], share, epsilon))


@kernel
def batch_norm_forward(Y, ldy, X, ldx, mean, inverse_deviation, gamma, beta, floor, m, n):
    """Y = gamma x^ + beta with the batch's statistics, or ``floor`` where that is less. NaN stays NaN.

    Parameters
    ----------
    Y, X : 1-D array of real
    ldy, ldx : int
    mean, inverse_deviation, gamma, beta : 1-D array of real, at least n
        Read, like X, up to whole vectors of columns.
    floor : real
        0 for a relu, -inf for none.
    m, n : int
        m is at least 1.
    """
    lanes, j = vector_lanes(X), 0
    while j < n:
        y, x, middle, inverse = window(Y, j, 0), window(X, j, 0), window(mean, j, 0), window(inverse_deviation, j, 0)
        g, b = window(gamma, j, 0), window(beta, j, 0)
        if j + NV * lanes <= n:
            normal(y, ldy, x, ldx, middle, inverse, g, b, floor, m, 0)
            j += NV * lanes
        else:
            narrow_normal(y, ldy, x, ldx, middle, inverse, g, b, floor, m, n - j)
            j += lanes


@kernel
def batch_norm_inference(Y, ldy, X, ldx, mean, variance, gamma, beta, m, n, epsilon):
    """The same with the running mean and variance.

    1 / sqrt(variance + epsilon) is computed for each element: a place to keep it would be one more for each thread.
    """
    real = Y.dtype.type
    one, epsilon = real(1), real(epsilon)
    mean, variance = window(mean, 0, n), window(variance, 0, n)
    gamma, beta = window(gamma, 0, n), window(beta, 0, n)
    for i in range(m):
        y, x = window(Y, i * ldy, n), window(X, i * ldx, n)
        for q in range(n):
            y[q] = fma((x[q] - mean[q]) * (one / np.sqrt(variance[q] + epsilon)), gamma[q], beta[q])


@kernel
def block_sums(d_beta, d_gamma, D, ldd, X, ldx, mean, inverse_deviation, m, n):
    """dbeta = sum of dY and dgamma = sum of dY x^ over m rows, for n columns.

    Parameters
    ----------
    d_beta, d_gamma : 1-D array of real, at least n
        Overwritten.
    D, X : 1-D array of real
        dY, and the batch norm's input; read up to whole vectors of columns.
    ldd, ldx : int
    mean, inverse_deviation : 1-D array of real, at least n
        Read up to whole vectors.
    m, n : int
        m is at least 1.
    """
    lanes, j = vector_lanes(X), 0
    while j < n:
        beta, gamma, d, x = window(d_beta, j, 0), window(d_gamma, j, 0), window(D, j, 0), window(X, j, 0)
        middle, inverse = window(mean, j, 0), window(inverse_deviation, j, 0)
        if j + NV * lanes <= n:
            sums(beta, gamma, d, ldd, x, ldx, middle, inverse, m, 0)
            j += NV * lanes
        else:
            narrow_sums(beta, gamma, d, ldd, x, ldx, middle, inverse, m, n - j)
            j += lanes


@kernel
def sum_of_blocks(total, parts, ldb, n_blocks, n, factor):
    """total[j] = factor times the sum of parts[k ldb + j] over the blocks, in their order, for n columns.

    Parameters
    ----------
    total : 1-D array of real, at least n
        Overwritten.
    parts : 1-D array of real
    ldb, n_blocks, n : int
    factor : float
    """
    total, factor, first = window(total, 0, n), total.dtype.type(factor), window(parts, 0, n)
    for q in range(n):
        total[q] = first[q]
    for k in range(1, n_blocks):
        part = window(parts, k * ldb, n)
        for q in range(n):
            total[q] = total[q] + part[q]
    for q in range(n):
        total[q] = total[q] * factor


@kernel
def batch_norm_backward(
    dX, lddx, D, ldd, X, ldx, mean, inverse_deviation, gamma, mean_d_beta, mean_d_gamma, m, n, adds
):
    """dX = gamma / deviation (dY - mean of dY - x^ mean of dY x^), or dX += that where ``adds``.

    The means are over the batch, from :func:`block_sums` and :func:`sum_of_blocks`.

    Parameters
    ----------
    dX, D, X : 1-D array of real
    lddx, ldd, ldx : int
    mean, inverse_deviation, gamma, mean_d_beta, mean_d_gamma : 1-D array of real, at least n
        Read, like D and X, up to whole vectors of columns.
    m, n : int
        m is at least 1.
    adds : bool
    """
    lanes, j = vector_lanes(X), 0
    while j < n:
        out, d, x = window(dX, j, 0), window(D, j, 0), window(X, j, 0)
        middle, inverse, g = window(mean, j, 0), window(inverse_deviation, j, 0), window(gamma, j, 0)
        mean_beta, mean_gamma = window(mean_d_beta, j, 0), window(mean_d_gamma, j, 0)
        if j + NV * lanes <= n:
            back(out, lddx, d, ldd, x, ldx, middle, inverse, g, mean_beta, mean_gamma, adds, m, 0)
            j += NV * lanes
        else:
            narrow_back(out, lddx, d, ldd, x, ldx, middle, inverse, g, mean_beta, mean_gamma, adds, m, n - j)
            j += lanes


@kernel
def layer_norm_forward(Y, ldy, X, ldx, stats, gamma, beta, m, n, epsilon):
    """Y = gamma x^ + beta with the statistics of each row.

    Parameters
    ----------
    Y, X : 1-D array of real
        Both with rows at least n rounded up to 16 apart; X's padding up to there becomes 0, Y's is overwritten.
    ldy, ldx : int
    stats : 1-D array of real, at least 2 m
        Mean and 1 / sqrt(variance + epsilon) of row i at stats + 2 i; overwritten.
    gamma, beta : 1-D array of real, at least n
    m, n : int
    epsilon : float
    """
    real = Y.dtype.type
    zero, one, share, epsilon = real(0), real(1), real(1.0 / n), real(epsilon)
    groups = (n + GROUP - 1) // GROUP
    gamma, beta = window(gamma, 0, n), window(beta, 0, n)
    for i in range(m):
        x, y = window(X, i * ldx, groups * GROUP), window(Y, i * ldy, groups * GROUP)
        fill_group(x, n, zero)
        mean = group_sum(x, groups) * share
        for q in range(groups * GROUP):
            y[q] = x[q] - mean
        fill_group(y, n, zero)
        inverse = one / np.sqrt(fma(group_dot(y, y, groups), share, epsilon))
        stats[2 * i] = mean
        stats[2 * i + 1] = inverse
        y = window(Y, i * ldy, n)
        for q in range(n):
            y[q] = fma(y[q] * inverse, gamma[q], beta[q])


@kernel
def layer_norm_backward(dX, lddx, D, ldd, X, ldx, stats, gamma, m, n, adds):
    """dX = (g - mean of g - x^ mean of g x^) / deviation with g = gamma dY, or dX += that where ``adds``.

    The means are over the row.

    Parameters
    ----------
    dX, D, X : 1-D array of real
        The padding of D is 0, that of X finite.
    lddx, ldd, ldx : int
    stats : 1-D array of real
        From :func:`layer_norm_forward`.
    gamma : 1-D array of real, at least n rounded up to 16
    m, n : int
    adds : bool
    """
    real = D.dtype.type
    share, groups = real(1.0 / n), (n + GROUP - 1) // GROUP
    for i in range(m):
        mean, inverse = stats[2 * i], stats[2 * i + 1]
        whole_d, whole_x = window(D, i * ldd, groups * GROUP), window(X, i * ldx, groups * GROUP)
        mean_g = group_dot(whole_d, gamma, groups) * share
        # of g (x - mean): its sum is that of the products with the differences, without cancelling
        mean_gx = group_triple(whole_d, gamma, whole_x, mean, groups) * inverse * share
        out, d, x, factors = window(dX, i * lddx, n), window(D, i * ldd, n), window(X, i * ldx, n), window(gamma, 0, n)
        if adds:
            for q in range(n):
                rest = fma(-(x[q] - mean) * inverse, mean_gx, fma(d[q], factors[q], -mean_g))
                out[q] = fma(inverse, rest, out[q])
        else:
            for q in range(n):
                out[q] = inverse * fma(-(x[q] - mean) * inverse, mean_gx, fma(d[q], factors[q], -mean_g))


@kernel
def layer_norm_gamma(g, D, ldd, X, ldx, stats, width, K):
    """g[j] = sum over k < K of D[k, j] x^[k, j] for j < width: the gradient of gamma.

    Parameters
    ----------
    g : 1-D array of real
        Overwritten.
    D, X : 1-D array of real
    ldd, ldx : int
    stats : 1-D array of real
        From :func:`layer_norm_forward`.
    width, K : int
    """
    g, zero = window(g, 0, width), g.dtype.type(0)
    for j in range(width):
        g[j] = zero
    for k in range(K):
        d, x, mean, inverse = window(D, k * ldd, width), window(X, k * ldx, width), stats[2 * k], stats[2 * k + 1]
        for j in range(width):
            g[j] = fma(d[j], (x[j] - mean) * inverse, g[j])
