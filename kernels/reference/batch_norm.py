"""Batch norm as a part of a step: statistics and sums of deltas by blocks of rows.

Every function takes ``plan`` and ``buffers`` as ``fastbp.kernels.layout`` defines them; ``n_rows`` is the batch's rows.
``weights`` are those of ``targets``: a row counts in the statistics as it counts in the mean of the loss. ``order`` has
the rows of the data that go through the rows which a function works on.
"""

import numpy as np

from fastbp.kernels.layout import (
    ACTIVATION,
    ADDS,
    ADDS_TO_INPUT,
    BATCH,
    BATCH_NORM,
    BIAS,
    BLOCK_D_BETA,
    BLOCK_D_GAMMA,
    BLOCK_OFFSET,
    BLOCK_SQUARES,
    BLOCK_START,
    COLUMN,
    CONSTANT,
    CONSTANT_2,
    DELTAS,
    FAN_OUT,
    GRADIENT,
    GROUP,
    INPUT,
    INPUT_ASKS,
    INVERSE_DEVIATION,
    KIND,
    LAYER,
    LO,
    MEAN,
    MEAN_D_BETA,
    MEAN_D_GAMMA,
    N_STATS,
    OPTIMIZER,
    OUT,
    OUT_LD,
    RELU,
    STATS,
    WEIGHTS,
    WIDTH,
    block_count,
)
from fastbp.kernels.reference.normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_statistics,
    block_start,
    block_statistics,
    block_sums,
    sum_of_blocks,
)
from fastbp.kernels.reference.operations import output_place, outputs, padded_width, running_statistic
from fastbp.kernels.reference.row_weights import (
    weight_of_rows,
    weighted_batch_norm_backward,
    weighted_batch_statistics,
    weighted_block_statistics,
)


def first_block(t, n_rows, plan):
    """First block of share t, and for the number of shares the number of blocks. Share 0 always has some."""
    return -(-t * block_count(n_rows) // (plan.shares.shape[1] - 1))


def block_rows(t, n_rows, plan):
    """First row of share t, and the one after its last."""
    return block_start(first_block(t, n_rows, plan), n_rows), block_start(first_block(t + 1, n_rows, plan), n_rows)


def statistic(which, place, layer, plan, buffers):
    """One of the arrays of a batch norm that stand at STATS: of a share where ``place`` is its number."""
    width = padded_width(layer, plan)
    return buffers.work[plan.table[layer, STATS] + (place * N_STATS + which) * width :][:width]


def block_values(which, k, layer, plan, buffers):
    """The same of block k, and those of the blocks after it, ``N_STATS`` rows further on each."""
    width, place = padded_width(layer, plan), plan.shares.shape[1] - 1 + k
    return buffers.work[plan.table[layer, STATS] + (place * N_STATS + which) * width :]


def block_sizes(layer, plan, buffers):
    """What each block's rows weigh, ``GROUP`` elements to a block, behind all else at STATS; unused without weights."""
    n_blocks = block_count(plan.header[BATCH])
    start = plan.table[layer, STATS] + (plan.shares.shape[1] - 1 + n_blocks) * N_STATS * padded_width(layer, plan)
    return buffers.work[start:][: n_blocks * GROUP]


# ---------------------------------------------------------------------------------------------------------------------
# Forward


def leave_statistics(layer, slot, block, end, column, count, n_rows, plan, buffers, weights, order):
    """What blocks block .. end add to the statistics of a batch norm's input, in ``count`` columns from ``column``.

    With the first column also what the blocks' rows weigh.
    """
    start, ldx = output_place(plan.table[layer, INPUT], slot, plan)
    sizes = block_sizes(layer, plan, buffers)
    which = BLOCK_START, BLOCK_OFFSET, BLOCK_SQUARES
    for k in range(block, end):
        lo, hi = block_start(k, n_rows), block_start(k + 1, n_rows)
        places = [block_values(one, k, layer, plan, buffers)[column:] for one in which]
        X, index = buffers.work[start + lo * ldx + column :], order[lo - block_start(block, n_rows) :]
        if not weights.size:
            block_statistics(*places, X, ldx, hi - lo, count)
            continue
        weighted_block_statistics(*places, X, ldx, weights, index, hi - lo, count)
        if column == 0:
            sizes[k * GROUP], sizes[k * GROUP + 1], _ = weight_of_rows(weights, index, hi - lo)


def normalize_share(t, layer, slot, lo, hi, n_rows, plan, buffers, weights):
    """A batch norm's output for rows lo .. hi, before its activation but with a relu, from what all blocks have left.

    Share 0 also moves the running statistics.
    """
    row, n = plan.table[layer], plan.table[layer, FAN_OUT]
    places = [statistic(which, t, layer, plan, buffers) for which in (MEAN, INVERSE_DEVIATION)]
    running = [running_statistic(which, layer, plan, buffers) for which in (0, 1)]
    parts = [block_values(which, 0, layer, plan, buffers) for which in (BLOCK_START, BLOCK_OFFSET, BLOCK_SQUARES)]
    epsilon, momentum = row[[CONSTANT, CONSTANT_2]].view(float).tolist()
    if t > 0 or plan.header[OPTIMIZER] == GRADIENT:  # a gradient alone changes nothing
        momentum = 0.0
    given = *places, *running, *parts, N_STATS * padded_width(layer, plan)
    if weights.size:
        sizes = block_sizes(layer, plan, buffers)
        weighted_batch_statistics(*given, sizes, block_count(n_rows), n, epsilon, momentum)
    else:
        batch_statistics(*given, n_rows, n, epsilon, momentum)
    (start, ldx), ldy = output_place(row[INPUT], slot, plan), row[OUT_LD]
    X, Y = buffers.work[start + lo * ldx :], buffers.work[outputs(layer, slot, plan) + lo * ldy :]
    gamma, beta = (buffers.parameters[row[column] :] for column in (WEIGHTS, BIAS))
    floor = 0.0 if row[ACTIVATION] == RELU else -np.inf
    batch_norm_forward(Y, ldy, X, ldx, *places, gamma, beta, floor, hi - lo, n)


# ---------------------------------------------------------------------------------------------------------------------
# Backward


def leave_sums(t, layer, slot, block, end, n_rows, plan, buffers):
    """What blocks block .. end, of share t, add to the sums of a batch norm's deltas."""
    row, work = plan.table[layer], buffers.work
    (start, ldx), ldd = output_place(row[INPUT], slot, plan), row[OUT_LD]
    mean, deviation = (statistic(which, t, layer, plan, buffers) for which in (MEAN, INVERSE_DEVIATION))
    for k in range(block, end):
        lo, hi = block_start(k, n_rows), block_start(k + 1, n_rows)
        beta, gamma = (block_values(which, k, layer, plan, buffers) for which in (BLOCK_D_BETA, BLOCK_D_GAMMA))
        D, X = work[plan.header[DELTAS] + row[OUT] + lo * ldd :], work[start + lo * ldx :]
        block_sums(beta, gamma, D, ldd, X, ldx, mean, deviation, hi - lo, row[FAN_OUT])


def hand_on_share(t, layer, slot, lo, hi, n_rows, scale, plan, buffers, weights, order):
    """Hand on a batch norm's delta for rows lo .. hi to its input's dL / dA, by the sums that all blocks have left.

    ``scale`` is 1 / the sum of the batch's weights.
    """
    row, work, n = plan.table[layer], buffers.work, plan.table[layer, FAN_OUT]
    if not row[ADDS] & INPUT_ASKS:
        return
    ldb, n_blocks = N_STATS * padded_width(layer, plan), block_count(n_rows)
    for mean_of, sums in ((MEAN_D_BETA, BLOCK_D_BETA), (MEAN_D_GAMMA, BLOCK_D_GAMMA)):
        parts = block_values(sums, 0, layer, plan, buffers)
        sum_of_blocks(statistic(mean_of, t, layer, plan, buffers), parts, ldb, n_blocks, n, scale)
    which = MEAN, INVERSE_DEVIATION, MEAN_D_BETA, MEAN_D_GAMMA
    mean, deviation, *means = (statistic(one, t, layer, plan, buffers) for one in which)
    deltas, below, ldd = plan.header[DELTAS], plan.table[row[INPUT]], row[OUT_LD]
    ld = below[OUT_LD]
    dX, D = work[deltas + below[OUT] + lo * ld :], work[deltas + row[OUT] + lo * ldd :]
    X, gamma = work[outputs(row[INPUT], slot, plan) + lo * ld :], buffers.parameters[row[WEIGHTS] :]
    adds = (row[ADDS] & ADDS_TO_INPUT) > 0
    given = dX, ld, D, ldd, X, ld, mean, deviation, gamma, *means
    if weights.size:
        weighted_batch_norm_backward(*given, weights, order, hi - lo, n, adds)
    else:
        batch_norm_backward(*given, hi - lo, n, adds)


def gradient_from_sums(item, G, n_rows, plan, buffers):
    """G = the sum of what all blocks have left of a batch norm's deltas, and True; False for any other item."""
    layer = item[LAYER]
    if plan.table[layer, KIND] != BATCH_NORM:
        return False
    parts = block_values(BLOCK_D_BETA if item[LO] == -1 else BLOCK_D_GAMMA, 0, layer, plan, buffers)
    ldb = N_STATS * padded_width(layer, plan)
    sum_of_blocks(G, parts[item[COLUMN] :], ldb, block_count(n_rows), item[WIDTH], 1.0)
    return True
