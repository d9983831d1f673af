"""Gradient and update by tiles of W: dW_l = A_{l-1}^T delta_l, and the optimizer.

Every function takes ``plan``, ``buffers`` and ``X`` as ``fastbp.kernels.layout`` defines them. lo .. hi are rows of the
workspace, and ``order`` has the rows of X that went through them.
"""

import numpy as np

from fastbp.kernels.layout import (
    BIAS,
    COLUMN,
    CONVENTION,
    DELTAS,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GRADIENT,
    HI,
    INPUT,
    LANES,
    LAYER,
    LO,
    N_PARAMETERS,
    NORM,
    OPTIMIZER,
    OUT,
    OUT_LD,
    PANEL_ROWS,
    SCIKIT_LEARN,
    SCRATCH,
    SCRATCH_STRIDE,
    SHARD,
    SHARDS,
    TILE_ROWS,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    WIDTH,
    ZEROS,
    padded,
)
from fastbp.kernels.reference.batch_norm import gradient_from_sums
from fastbp.kernels.reference.gemm import column_sums, gemm_transposed
from fastbp.kernels.reference.operations import gradient_of_gamma, output_place
from fastbp.kernels.reference.rules import apply_rule
from fastbp.kernels.reference.sparse import csr_gradient, row_values, sort_entries
from fastbp.kernels.reference.tiles import add_squares, transpose_tile

# ---------------------------------------------------------------------------------------------------------------------
# Forward

WHOLE, SUMS = -1, -2  # what ``tiles_step`` does, beside the number of a shard


def tile_place(item, plan):
    """Start and size, in what is laid out as ``parameters``, of a tile of W; or of some panels of b, beta or gamma."""
    row, width = plan.table[item[LAYER]], item[WIDTH]
    if item[LO] < 0:
        return (row[WEIGHTS] if item[LO] == -2 else row[BIAS]) + item[COLUMN], width
    return row[WEIGHTS] + item[COLUMN] * row[PANEL_ROWS] + item[LO] * width, (item[HI] - item[LO]) * width


def tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t):
    """G = rows LO .. HI and WIDTH columns from COLUMN of dW_l = A_{l-1}^T delta_l; or of db_l = 1^T delta_l.

    Over rows lo .. hi. A sparse X has been sorted for thread t.
    """
    header, work, layer, first = plan.header, buffers.work, item[LAYER], item[LO]
    below = plan.table[layer, INPUT]
    row, m, n_rows = plan.table[layer], item[HI] - first, hi - lo
    ldd, width = row[OUT_LD], item[WIDTH]
    delta = work[header[DELTAS] + row[OUT] + lo * ldd + item[COLUMN] :]
    zeros, none = work[header[ZEROS] :], -np.inf
    if first < 0:
        if gradient_from_sums(item, G, n_rows, plan, buffers):
            return
        if gradient_of_gamma(item, G, slot, lo, hi, plan, buffers):
            return
        column_sums(G, delta, ldd, width, n_rows)
    elif below >= 0 or header[GATHERED]:
        start, lda = output_place(below, slot, plan)
        gemm_transposed(G, work[start + lo * lda + first :], lda, None, delta, ldd, width, zeros, none, m, n_rows)
    elif not csr_gradient(t, G, X, first, m, delta, ldd, width, plan.rows, none):
        gemm_transposed(G, row_values(X)[first:], row[FAN_IN], order, delta, ldd, width, zeros, none, m, n_rows)


def tile_update(item, G, rate, correction, l2, plan, buffers, hyper):
    """The optimizer on one tile, and the transposed copy of W that the next deltas read.

    scikit-learn's penalty is on W alone, not on b, and is reported with the loss: |W|^2 before the update.
    """
    header, row = plan.header, plan.table[item[LAYER]]
    lo, hi, width = item[LO], item[HI], item[WIDTH]
    start, size = tile_place(item, plan)
    w, g = buffers.parameters[start : start + size], G[:size]
    if header[OPTIMIZER] == GRADIENT:
        buffers.moments[start : start + size] = g
        return
    if header[CONVENTION] == SCIKIT_LEARN:
        if lo < 0:
            l2 = 0.0
        elif l2 != 0.0:
            norms = buffers.work[row[NORM] + lo // TILE_ROWS * padded(row[FAN_OUT]) + item[COLUMN] :]
            add_squares(norms, w, width, hi - lo)
    apply_rule(w, g, start, rate, correction, l2, plan, buffers, hyper)
    if row[INPUT] >= 0 and lo >= 0:
        W_T = buffers.work[row[TRANSPOSED] :]
        transpose_tile(
            W_T, row[TRANSPOSED_ROWS], w, lo, hi, row[FAN_IN], item[COLUMN], width, lanes=header[LANES]
        )  # fmt: skip


def sum_of_shards(item, G, n_shards, plan, buffers):
    """G = the sum of all shards' gradients of a tile, in the order of the shards."""
    start, size = tile_place(item, plan)
    parts = buffers.work[plan.header[SHARDS] :][: n_shards * plan.header[N_PARAMETERS]].reshape(n_shards, -1)
    G[:size] = parts[:, start : start + size].sum(axis=0)


def tiles_step(t, what, slot, lo, hi, rate, correction, l2, plan, buffers, X, order, hyper):
    """Gradient and update of every tile in the share of thread t (WHOLE); with shards apart.

    Then ``what`` is the number of the shard whose gradients go to their place, or SUMS for the update from their sums.
    """
    header, work = plan.header, buffers.work
    G = work[header[SCRATCH] + t * header[SCRATCH_STRIDE] :][: header[SCRATCH_STRIDE]]
    if what != SUMS:
        sort_entries(t, X, order)
    for item in plan.items if what >= 0 else plan.items[plan.shares[0, t] : plan.shares[0, t + 1]]:
        if what == SUMS:
            sum_of_shards(item, G, -(-(hi - lo) // header[SHARD]), plan, buffers)
        else:
            if what >= 0:
                G = work[header[SHARDS] + what * header[N_PARAMETERS] + tile_place(item, plan)[0] :]
            tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t)
        if what < 0:
            tile_update(item, G, rate, correction, l2, plan, buffers, hyper)
