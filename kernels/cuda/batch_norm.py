"""Batch norm as a part of a step, by columns: a block takes ``WIDTH`` of them with all rows of the batch.

Every function takes ``plan``, which has a header and a table of operations, and ``buffers`` as
``fastbp.kernels.layout`` defines them; ``n_rows`` is the batch's rows. Of the arrays at STATS, each as long as a padded
row, four are used here. A row counts in the statistics by its weight in ``targets``, by which it counts in the mean of
the loss.
"""

import functools

from fastbp.kernels.cuda._target import WIDTH, cuda, device
from fastbp.kernels.cuda.normalization import column_functions
from fastbp.kernels.cuda.rectifiers import FIRST_BY_SLOPE, element_functions, uses_slopes
from fastbp.kernels.layout import (
    ACTIVATION,
    ADDS,
    ADDS_TO_INPUT,
    BIAS,
    DELTAS,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    GROUP,
    IDENTITY,
    INPUT,
    INPUT_ASKS,
    INVERSE_DEVIATION,
    MEAN,
    N_LAYERS,
    OUT,
    OUT_LD,
    RUNNING,
    SLOPE,
    STATS,
    WEIGHTS,
)

SUM_D_BETA, SUM_D_GAMMA = 2, 3


@device
def input_place(layer, column, plan):
    """Where a column of an operation's input starts in ``work``, and the elements from one row to the next."""
    below = plan.table[layer, INPUT]
    if below < 0:
        return plan.header[GATHERED] + column, plan.header[GATHERED_LD]
    return plan.table[below, OUT] + column, plan.table[below, OUT_LD]


@device
def statistic_place(which, layer, column, plan):
    """Where an element of one of the arrays at STATS stands in ``work``."""
    width = (plan.table[layer, FAN_OUT] + (GROUP - 1)) // GROUP * GROUP
    return plan.table[layer, STATS] + which * width + column


@functools.lru_cache
def batch_norm_of(n_groups, moves_running, codes, real):
    """(normalize_columns, hand_on_columns) for blocks of n_groups groups of threads.

    Both take (unit, layer, n_rows, plan, buffers, constants, targets, order, at, scale): of operation ``layer`` the
    columns from unit WIDTH on, by all threads of a block. ``constants`` has epsilon and momentum of operation l at 2 l
    and 2 l + 1; the batch's rows of the data are order[at], order[at + 1], ..., and ``scale`` is 1 / the sum of their
    weights.

    Parameters
    ----------
    n_groups : int
    moves_running : bool
        False where a gradient alone is asked for, which changes nothing.
    codes : frozenset of int
        Activations of the network.
    real : dtype
    """
    functions = column_functions(n_groups, real)
    batch_statistics, weighted_statistics, move_running, column_sums, batch_norm_backward, weighted_backward = functions
    element_forward, _ = element_functions(codes)
    keeps_slopes = uses_slopes(codes)

    @device
    def normalize_columns(unit, layer, n_rows, plan, buffers, constants, targets, order, at, scale):
        """A batch norm's output and its activation, by the batch's statistics; those of the last one is the loss's.

        Mean and inverse deviation stay at STATS.
        """
        group, table, work, parameters = cuda.threadIdx.x // WIDTH, plan.table, buffers.work, buffers.parameters
        lane = cuda.threadIdx.x - group * WIDTH
        column, epsilon = unit * WIDTH + lane, constants[2 * layer]
        valid, (x, ldx) = column < table[layer, FAN_OUT], input_place(layer, column, plan)
        if targets.weights.shape[0] > 0:
            mean, inverse, variance, moves = weighted_statistics(
                group, lane, valid, work, x, ldx, targets.weights, order, at, n_rows, scale, epsilon
            )
        else:
            mean, inverse, variance, moves = batch_statistics(group, lane, valid, work, x, ldx, n_rows, epsilon)
        if not valid:
            return
        if group == 0:
            work[statistic_place(MEAN, layer, column, plan)] = mean
            work[statistic_place(INVERSE_DEVIATION, layer, column, plan)] = inverse
            if moves_running:
                running = table[layer, RUNNING]
                width = (table[layer, FAN_OUT] + (GROUP - 1)) // GROUP * GROUP
                momentum, m = constants[2 * layer + 1], running + column
                if moves:
                    move_running(parameters, m, m + width, mean, variance, momentum)
        code = IDENTITY if layer == plan.header[N_LAYERS] - 1 else table[layer, ACTIVATION]
        gamma, beta = parameters[table[layer, WEIGHTS] + column], parameters[table[layer, BIAS] + column]
        for r in range(group, n_rows, n_groups):
            place = r * table[layer, OUT_LD] + column
            z = gamma * ((work[x + r * ldx] - mean) * inverse) + beta
            a, slope = element_forward(z, code)
            work[table[layer, OUT] + place] = a
            if keeps_slopes:
                if code >= FIRST_BY_SLOPE:
                    work[table[layer, SLOPE] + place] = slope

    @device
    def hand_on_columns(unit, layer, n_rows, plan, buffers, constants, targets, order, at, scale):
        """Leave d_beta and d_gamma at STATS and hand on a batch norm's delta to its input's dL / dA."""
        group, table, work, deltas = cuda.threadIdx.x // WIDTH, plan.table, buffers.work, plan.header[DELTAS]
        lane = cuda.threadIdx.x - group * WIDTH
        column = unit * WIDTH + lane
        valid, (x, ldx) = column < table[layer, FAN_OUT], input_place(layer, column, plan)
        d, ldd, below = deltas + table[layer, OUT] + column, table[layer, OUT_LD], table[layer, INPUT]
        # threads without a column read another's
        own = column if valid else 0
        mean = work[statistic_place(MEAN, layer, own, plan)]
        inverse = work[statistic_place(INVERSE_DEVIATION, layer, own, plan)]
        d_beta, d_gamma = column_sums(group, lane, valid, work, d, ldd, work, x, ldx, mean, inverse, n_rows)
        if not valid:
            return
        if group == 0:
            work[statistic_place(SUM_D_BETA, layer, column, plan)] = d_beta
            work[statistic_place(SUM_D_GAMMA, layer, column, plan)] = d_gamma
        if table[layer, ADDS] & INPUT_ASKS:
            gamma, adds = buffers.parameters[table[layer, WEIGHTS] + column], (table[layer, ADDS] & ADDS_TO_INPUT) > 0
            dx = deltas + table[below, OUT] + column
            if targets.weights.shape[0] > 0:
                weighted_backward(
                    group, work, dx, ldx, work, d, ldd, work, x, ldx, mean, inverse, gamma, d_beta, d_gamma,
                    targets.weights, order, at, n_rows, scale, adds,
                )  # fmt: skip
            else:
                batch_norm_backward(
                    group, work, dx, ldx, work, d, ldd, work, x, ldx, mean, inverse, gamma, d_beta, d_gamma, n_rows,
                    adds,
                )  # fmt: skip

    return normalize_columns, hand_on_columns
