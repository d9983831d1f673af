"""Batch norm as a part of a step: statistics and sums of deltas by blocks of rows.

A batch norm needs all rows of its input for its statistics, and all deltas for their sums. The thread that has just
computed some rows leaves what they add to these, block by block, while they are in its cache. Nothing else goes from
one core to another: after the next meeting each share adds up the blocks of the whole batch, in their order, in a place
of its own. Blocks follow from the batch alone and a share of the rows is whole blocks: no bit depends on the threads.

Every function takes ``plan`` and ``buffers`` as ``fastbp.kernels.layout`` defines them; ``n_rows`` is the batch's rows.
``weights`` are those of ``targets``: a row counts in the statistics as it counts in the mean of the loss. ``order`` has
the rows of the data that go through the rows which a function works on.
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, uses
from fastbp.kernels.cpu.normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_statistics,
    block_start,
    block_statistics,
    block_sums,
    blocks_of,
    sum_of_blocks,
)
from fastbp.kernels.cpu.operations import output_place, outputs, padded_width, running_statistic
from fastbp.kernels.cpu.row_weights import (
    weight_of_rows,
    weighted_batch_norm_backward,
    weighted_batch_statistics,
    weighted_block_statistics,
)
from fastbp.kernels.cpu.simd import float_from_bits, window
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
)


@kernel
def first_block(t, n_rows, plan):
    """First block of share t, and for the number of shares the number of blocks. Share 0 always has some."""
    n_shares = plan.shares.shape[1] - 1
    return (t * blocks_of(n_rows) + n_shares - 1) // n_shares


@kernel
def block_rows(t, n_rows, plan):
    """First row of share t, and the one after its last."""
    return block_start(first_block(t, n_rows, plan), n_rows), block_start(first_block(t + 1, n_rows, plan), n_rows)


@kernel
def statistic(which, place, layer, plan, buffers):
    """One of the arrays of a batch norm that stand at STATS: of a share where ``place`` is its number."""
    width = padded_width(layer, plan)
    return window(buffers.work, plan.table[layer, STATS] + (place * N_STATS + which) * width, width)


@kernel
def block_values(which, k, layer, plan, buffers):
    """The same of block k; those of the blocks after it are ``N_STATS`` rows further on each."""
    return statistic(which, plan.shares.shape[1] - 1 + k, layer, plan, buffers)


@kernel
def block_sizes(layer, plan, buffers):
    """What each block's rows weigh, ``GROUP`` elements to a block, behind all else at STATS; unused without weights."""
    n_blocks = blocks_of(plan.header[BATCH])
    start = plan.table[layer, STATS] + (plan.shares.shape[1] - 1 + n_blocks) * N_STATS * padded_width(layer, plan)
    return window(buffers.work, start, n_blocks * GROUP)


# ---------------------------------------------------------------------------------------------------------------------
# Forward


@kernel.inlined
def leave_statistics(layer, slot, block, end, column, count, n_rows, plan, buffers, weights, order):
    """What blocks block .. end add to the statistics of a batch norm's input, in ``count`` columns from ``column``.

    Who has the first column also leaves what the blocks' rows weigh.
    """
    start, ldx = output_place(plan.table[layer, INPUT], slot, plan)
    sizes = block_sizes(layer, plan, buffers)
    for k in range(block, end):
        lo, hi = block_start(k, n_rows), block_start(k + 1, n_rows)
        first = window(block_values(BLOCK_START, k, layer, plan, buffers), column, count)
        offset = window(block_values(BLOCK_OFFSET, k, layer, plan, buffers), column, count)
        squares = window(block_values(BLOCK_SQUARES, k, layer, plan, buffers), column, count)
        X, index = window(buffers.work, start + lo * ldx + column, 0), window(order, lo - block_start(block, n_rows), 0)
        if weights.shape[0] == 0:
            block_statistics(first, offset, squares, X, ldx, hi - lo, count)
            continue
        weighted_block_statistics(first, offset, squares, X, ldx, weights, index, hi - lo, count)
        if column == 0:
            total, rows, _ = weight_of_rows(weights, index, hi - lo)
            sizes[k * GROUP] = total
            sizes[k * GROUP + 1] = rows


@kernel.inlined
def normalize_share(t, layer, slot, lo, hi, n_rows, plan, buffers, weights):
    """A batch norm's output for rows lo .. hi, before its activation but with a relu, from what all blocks have left.

    Share 0 also moves the running statistics.
    """
    row, n = plan.table[layer], plan.table[layer, FAN_OUT]
    mean = statistic(MEAN, t, layer, plan, buffers)
    deviation = statistic(INVERSE_DEVIATION, t, layer, plan, buffers)
    # a gradient alone changes nothing
    moves = t == 0 and plan.header[OPTIMIZER] != GRADIENT
    running = running_statistic(0, layer, plan, buffers), running_statistic(1, layer, plan, buffers)
    starts = block_values(BLOCK_START, 0, layer, plan, buffers)
    offsets = block_values(BLOCK_OFFSET, 0, layer, plan, buffers)
    squares, ldb = block_values(BLOCK_SQUARES, 0, layer, plan, buffers), N_STATS * padded_width(layer, plan)
    epsilon, momentum = float_from_bits(row[CONSTANT]), float_from_bits(row[CONSTANT_2]) if moves else 0.0
    if weights.shape[0] == 0:
        batch_statistics(
            mean, deviation, running[0], running[1], starts, offsets, squares, ldb, n_rows, n, epsilon, momentum
        )
    else:
        weighted_batch_statistics(
            mean, deviation, running[0], running[1], starts, offsets, squares, ldb, block_sizes(layer, plan, buffers),
            blocks_of(n_rows), n, epsilon, momentum,
        )  # fmt: skip
    (start, ldx), ldy = output_place(row[INPUT], slot, plan), row[OUT_LD]
    X = window(buffers.work, start + lo * ldx, (hi - lo) * ldx)
    Y = window(buffers.work, outputs(layer, slot, plan) + lo * ldy, (hi - lo) * ldy)
    gamma, beta = window(buffers.parameters, row[WEIGHTS], n), window(buffers.parameters, row[BIAS], n)
    floor = Y.dtype.type(0) if row[ACTIVATION] == RELU else Y.dtype.type(-np.inf)
    batch_norm_forward(Y, ldy, X, ldx, mean, deviation, gamma, beta, floor, hi - lo, n)


# ---------------------------------------------------------------------------------------------------------------------
# Backward


@kernel.inlined
def leave_sums(t, layer, slot, block, end, n_rows, plan, buffers):
    """What blocks block .. end, of share t, add to the sums of a batch norm's deltas."""
    row, work, n = plan.table[layer], buffers.work, plan.table[layer, FAN_OUT]
    (start, ldx), ldd = output_place(row[INPUT], slot, plan), row[OUT_LD]
    mean = statistic(MEAN, t, layer, plan, buffers)
    deviation = statistic(INVERSE_DEVIATION, t, layer, plan, buffers)
    for k in range(block, end):
        lo, hi = block_start(k, n_rows), block_start(k + 1, n_rows)
        beta = block_values(BLOCK_D_BETA, k, layer, plan, buffers)
        gamma = block_values(BLOCK_D_GAMMA, k, layer, plan, buffers)
        D = window(work, plan.header[DELTAS] + row[OUT] + lo * ldd, 0)
        block_sums(beta, gamma, D, ldd, window(work, start + lo * ldx, 0), ldx, mean, deviation, hi - lo, n)


@kernel.inlined
def hand_on_share(t, layer, slot, lo, hi, n_rows, scale, plan, buffers, weights, order):
    """Hand on a batch norm's delta for rows lo .. hi to its input's dL / dA, by the sums that all blocks have left.

    ``scale`` is 1 / the sum of the batch's weights.
    """
    row, work, n = plan.table[layer], buffers.work, plan.table[layer, FAN_OUT]
    if row[ADDS] & INPUT_ASKS == 0:
        return
    mean = statistic(MEAN, t, layer, plan, buffers)
    deviation = statistic(INVERSE_DEVIATION, t, layer, plan, buffers)
    mean_beta = statistic(MEAN_D_BETA, t, layer, plan, buffers)
    mean_gamma = statistic(MEAN_D_GAMMA, t, layer, plan, buffers)
    ldb, n_blocks = N_STATS * padded_width(layer, plan), blocks_of(n_rows)
    sum_of_blocks(mean_beta, block_values(BLOCK_D_BETA, 0, layer, plan, buffers), ldb, n_blocks, n, scale)
    sum_of_blocks(mean_gamma, block_values(BLOCK_D_GAMMA, 0, layer, plan, buffers), ldb, n_blocks, n, scale)
    deltas, below, ldd, m = plan.header[DELTAS], plan.table[row[INPUT]], row[OUT_LD], hi - lo
    ld = below[OUT_LD]
    dX, D = window(work, deltas + below[OUT] + lo * ld, m * ld), window(work, deltas + row[OUT] + lo * ldd, m * ldd)
    X = window(work, outputs(row[INPUT], slot, plan) + lo * ld, m * ld)
    gamma, adds = window(buffers.parameters, row[WEIGHTS], n), (row[ADDS] & ADDS_TO_INPUT) > 0
    if weights.shape[0] == 0:
        batch_norm_backward(dX, ld, D, ldd, X, ld, mean, deviation, gamma, mean_beta, mean_gamma, m, n, adds)
    else:
        weighted_batch_norm_backward(
            dX, ld, D, ldd, X, ld, mean, deviation, gamma, mean_beta, mean_gamma, weights, window(order, 0, m), m, n,
            adds,
        )  # fmt: skip


def _from_sums(item, G, n_rows, plan, buffers):
    layer = item[LAYER]
    if plan.table[layer, KIND] != BATCH_NORM:
        return False
    which = BLOCK_D_BETA if item[LO] == -1 else BLOCK_D_GAMMA
    parts = window(block_values(which, 0, layer, plan, buffers), item[COLUMN], 0)
    sum_of_blocks(G, parts, N_STATS * padded_width(layer, plan), blocks_of(n_rows), item[WIDTH], 1.0)
    return True


def _no_sums(item, G, n_rows, plan, buffers):
    return False


@by_type_inlined
def gradient_from_sums(item, G, n_rows, plan, buffers):
    """G = the sum of what all blocks have left of a batch norm's deltas, and True; False for any other item."""
    return _from_sums if uses(plan, "batch_norm") else _no_sums
