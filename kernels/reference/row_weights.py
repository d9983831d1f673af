"""What the rows of a batch weigh in the statistics of a batch norm: block by block, and all together."""

import numpy as np

from fastbp.kernels.layout import GROUP


def weight_of_rows(weights, index, m):
    """Sum of the weights of m rows, how many have one above 0, and the first of these; (m, m, 0) without weights."""
    if not weights.size:
        return float(m), m, 0
    of_rows = weights[index[:m]]
    return float(of_rows.sum(dtype=float)), int((of_rows > 0).sum()), int((of_rows > 0).argmax())


def weight_of_blocks(sizes, count):
    """Sum of the weights of ``count`` blocks, the rows that they are worth, and the first block that has a weight.

    The rows are the sum of the weights, as of rows that were repeated, or the number of rows with a weight where that
    is more: weights may be given in any unit.
    """
    totals, rows = sizes.reshape(-1, GROUP)[:count, :2].T.astype(float)
    return float(totals.sum()), float(max(totals.sum(), rows.sum())), int(np.argmax(totals > 0))
