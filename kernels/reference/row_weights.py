"""Batch norm of rows with weights w: its means are sum w x / sum w over the batch.

``weights`` has one a sample, and ``index`` that of each row. Rows without weights have the functions of
``normalization.py``, and so has what does not depend on weights.
"""

import numpy as np

from fastbp.kernels.layout import GROUP
from fastbp.kernels.reference._views import rows


def weight_of_rows(weights, index, m):
    """Sum of the weights of m rows, how many have one above 0, and the first of these."""
    of_rows = weights[index[:m]]
    return float(of_rows.sum(dtype=float)), int((of_rows > 0).sum()), int((of_rows > 0).argmax())


def weight_of_blocks(sizes, count):
    """Sum of the weights of ``count`` blocks, the rows that they are worth, and the first block that has a weight.

    The rows are the sum of the weights, as of rows that were repeated, or the number of rows with a weight where that
    is more: weights may be given in any unit.
    """
    totals, rows = sizes.reshape(-1, GROUP)[:count, :2].T.astype(float)
    return float(totals.sum()), float(max(totals.sum(), rows.sum())), int(np.argmax(totals > 0))


@np.errstate(all="ignore")
def weighted_block_statistics(start, offset, squares, X, ldx, weights, index, m, n):
    """By column an element, the weighted mean less that, and sum w (x - mean)^2.

    The element is that of the first row that counts. A block without weight has the mean 0 from there.
    """
    X, w, (total, _, first) = rows(X, ldx, m, n), weights[index[:m], np.newaxis], weight_of_rows(weights, index, m)
    start[:n] = X[first]
    offset[:n] = (w * (X - X[first])).sum(axis=0) / (total if total > 0 else 1.0)
    squares[:n] = (w * ((X - X[first]) - offset[:n]) ** 2).sum(axis=0)


@np.errstate(all="ignore")
def weighted_batch_statistics(
    mean, inverse_deviation, running_mean, running_variance, starts, offsets, squares, ldb, sizes, n_blocks, n, epsilon,
    momentum,
):  # fmt: skip
    """Mean and 1 / sqrt(variance + epsilon) from the blocks'; running += momentum (new - running), variance unbiased.

    Unbiased is N / (N - 1) of the variance, of N rows; of fewer than 2 x^ is to be 0.
    """
    total, N, first = weight_of_blocks(sizes, n_blocks)
    if N < 2:
        mean[:n] = inverse_deviation[:n] = 0
        return
    w, base = sizes.reshape(-1, GROUP)[:n_blocks, :1], starts[first * ldb :][:n]
    means = (rows(starts, ldb, n_blocks, n) - base) + rows(offsets, ldb, n_blocks, n)
    average = (w * means).sum(axis=0) / total
    variance = (rows(squares, ldb, n_blocks, n) + w * (means - average) ** 2).sum(axis=0) / total
    mean[:n] = base + average
    if momentum > 0:
        running_mean[:n] += momentum * (mean[:n] - running_mean[:n])
        running_variance[:n] += momentum * (N / (N - 1) * variance - running_variance[:n])
    inverse_deviation[:n] = 1 / np.sqrt(variance + epsilon)


@np.errstate(all="ignore")
def weighted_batch_norm_backward(
    dX, lddx, D, ldd, X, ldx, mean, inverse_deviation, gamma, mean_d_beta, mean_d_gamma, weights, index, m, n, adds
):
    """dX = gamma / deviation (dY - w mean of dY - w x^ mean of dY x^): the statistics, too, depend on X.

    The means are sums over the batch, over the sum of its weights; dY has the row's weight in the loss in it.
    """
    dX, D, X, w = rows(dX, lddx, m, n), rows(D, ldd, m, n), rows(X, ldx, m, n), weights[index[:m], np.newaxis]
    normal = (X - mean[:n]) * inverse_deviation[:n]
    new = gamma[:n] * inverse_deviation[:n] * (D - w * mean_d_beta[:n] - w * normal * mean_d_gamma[:n])
    dX[:] = dX + new if adds else new
