"""What the rows of a batch weigh in the statistics of a batch norm: block by block, and all together."""

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.layout import GROUP


@kernel
def weight_of_rows(weights, index, m):
    """Sum of the weights of m rows, how many have one above 0, and the first of these; (m, m, 0) without weights.

    Parameters
    ----------
    weights : 1-D array of real
        One a sample, or empty for 1.
    index : 1-D array of intp
        Row of ``weights`` for each row.
    m : int
    """
    if weights.shape[0] == 0:
        return float(m), m, 0
    total, count, first = 0.0, 0, 0
    for i in range(m):
        weight = weights[index[i]]
        total += weight
        if weight > 0:
            first = i if count == 0 else first
            count += 1
    return total, count, first


@kernel
def weight_of_blocks(sizes, count):
    """Sum of the weights of ``count`` blocks, the rows that they are worth, and the first block that has a weight.

    The rows are the sum of the weights, as of rows that were repeated, or the number of rows with a weight where that
    is more: weights may be given in any unit.

    Parameters
    ----------
    sizes : 1-D array of real
        Of block k the sum of its weights at k GROUP, and the number of its rows with a weight behind it.
    count : int
    """
    total, rows, first = 0.0, 0.0, -1
    for k in range(count):
        total += sizes[k * GROUP]
        rows += sizes[k * GROUP + 1]
        first = k if first < 0 and sizes[k * GROUP] > 0 else first
    return total, max(total, rows), max(first, 0)
