"""Batch norm of rows with weights w: its means are sum w x / sum w over the batch.

``weights`` has one a sample, and ``index`` that of each row. What does not depend on weights is in
``normalization.py``, as all without weights is.
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
