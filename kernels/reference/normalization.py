"""Batch norm, by columns of a batch, and layer norm, by rows: x^ = (x - mean) / sqrt(variance + epsilon)."""

import numpy as np

from fastbp.kernels.layout import block_count, padded
from fastbp.kernels.reference._views import rows


def block_start(k, n_rows):
    """First row of block k of a batch, a multiple of 4, and for the number of blocks ``n_rows``."""
    return min(-(-n_rows // 4) * k // block_count(n_rows) * 4, n_rows)


@np.errstate(all="ignore")
def block_statistics(start, offset, squares, X, ldx, m, n):
    """By column the first element, the mean less that, and the sum of the squared differences from the mean."""
    X = rows(X, ldx, m, n)
    start[:n] = X[0]
    offset[:n] = (X - X[0]).mean(axis=0)
    squares[:n] = (((X - X[0]) - offset[:n]) ** 2).sum(axis=0)


@np.errstate(all="ignore")
def batch_statistics(
    mean, inverse_deviation, running_mean, running_variance, starts, offsets, squares, ldb, n_rows, n, epsilon, momentum
):
    """Mean and 1 / sqrt(variance + epsilon) from the blocks'; running += momentum (new - running), variance unbiased.

    The squares of all rows' differences are those within blocks, and those of the blocks' means.
    """
    n_blocks = block_count(n_rows)
    sizes = np.diff([block_start(k, n_rows) for k in range(n_blocks + 1)])[:, np.newaxis].astype(mean.dtype)
    starts, offsets, squares = (rows(parts, ldb, n_blocks, n) for parts in (starts, offsets, squares))
    means = (starts - starts[0]) + offsets  # from the first element on, as their average
    average = (sizes * means).sum(axis=0) / int(n_rows)
    total = (squares + sizes * (means - average) ** 2).sum(axis=0)
    mean[:n] = starts[0] + average
    if momentum > 0 and n_rows > 1:
        running_mean[:n] += momentum * (mean[:n] - running_mean[:n])
        running_variance[:n] += momentum * (total / int(n_rows - 1) - running_variance[:n])
    inverse_deviation[:n] = 1 / np.sqrt(total / int(n_rows) + epsilon)


@np.errstate(all="ignore")
def batch_norm_forward(Y, ldy, X, ldx, mean, inverse_deviation, gamma, beta, floor, m, n):
    """Y = gamma x^ + beta with the batch's statistics, or ``floor`` where that is less."""
    normal = (rows(X, ldx, m, n) - mean[:n]) * inverse_deviation[:n]
    rows(Y, ldy, m, n)[:] = np.maximum(gamma[:n] * normal + beta[:n], floor)


@np.errstate(all="ignore")
def batch_norm_inference(Y, ldy, X, ldx, mean, variance, gamma, beta, m, n, epsilon):
    """Y = gamma x^ + beta with the running statistics."""
    normal = (rows(X, ldx, m, n) - mean[:n]) / np.sqrt(variance[:n] + Y.dtype.type(epsilon))
    rows(Y, ldy, m, n)[:] = gamma[:n] * normal + beta[:n]


@np.errstate(all="ignore")
def block_sums(d_beta, d_gamma, D, ldd, X, ldx, mean, inverse_deviation, m, n):
    """dbeta = sum of dY, dgamma = sum of dY x^."""
    D, X = rows(D, ldd, m, n), rows(X, ldx, m, n)
    d_beta[:n] = D.sum(axis=0)
    d_gamma[:n] = (D * ((X - mean[:n]) * inverse_deviation[:n])).sum(axis=0)


@np.errstate(all="ignore")
def sum_of_blocks(total, parts, ldb, n_blocks, n, factor):
    """Factor times the sum of all blocks' rows."""
    total[:n] = rows(parts, ldb, n_blocks, n).sum(axis=0) * total.dtype.type(factor)


@np.errstate(all="ignore")
def batch_norm_backward(
    dX, lddx, D, ldd, X, ldx, mean, inverse_deviation, gamma, mean_d_beta, mean_d_gamma, m, n, adds
):
    """dX = gamma / deviation (dY - mean of dY - x^ mean of dY x^): the statistics, too, depend on X."""
    dX, D, X = rows(dX, lddx, m, n), rows(D, ldd, m, n), rows(X, ldx, m, n)
    normal = (X - mean[:n]) * inverse_deviation[:n]
    new = gamma[:n] * inverse_deviation[:n] * (D - mean_d_beta[:n] - normal * mean_d_gamma[:n])
    dX[:] = dX + new if adds else new


@np.errstate(all="ignore")
def layer_norm_forward(Y, ldy, X, ldx, stats, gamma, beta, m, n, epsilon):
    """Y = gamma x^ + beta with the statistics of each row."""
    rows(X, ldx, m, padded(n))[:, n:] = 0
    X, stats = rows(X, ldx, m, n), stats[: 2 * m].reshape(m, 2)
    stats[:, 0] = X.mean(axis=1)
    difference = X - stats[:, :1]
    stats[:, 1] = 1 / np.sqrt((difference**2).mean(axis=1) + epsilon)
    rows(Y, ldy, m, n)[:] = gamma[:n] * (difference * stats[:, 1:]) + beta[:n]


@np.errstate(all="ignore")
def layer_norm_backward(dX, lddx, D, ldd, X, ldx, stats, gamma, m, n, adds):
    """dX = (g - mean of g - x^ mean of g x^) / deviation with g = gamma dY."""
    dX, D, X, stats = rows(dX, lddx, m, n), rows(D, ldd, m, n), rows(X, ldx, m, n), stats[: 2 * m].reshape(m, 2)
    normal, g = (X - stats[:, :1]) * stats[:, 1:], gamma[:n] * D
    mean_gx = (g * normal).mean(axis=1, keepdims=True)
    new = stats[:, 1:] * (g - g.mean(axis=1, keepdims=True) - normal * mean_gx)
    dX[:] = dX + new if adds else new


@np.errstate(all="ignore")
def layer_norm_gamma(g, D, ldd, X, ldx, stats, width, K):
    """g = sum over the rows of dY x^."""
    D, X, stats = rows(D, ldd, K, width), rows(X, ldx, K, width), stats[: 2 * K].reshape(K, 2)
    g[:width] = (D * ((X - stats[:, :1]) * stats[:, 1:])).sum(axis=0)
