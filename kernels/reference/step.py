"""Backpropagation. One training step, from top to bottom:

forward    A_0 = X,  Z_l = A_{l-1} W_l + b_l,  A_l = f_l(Z_l)
loss       L = mean over the batch of loss(A_L, y)
backward   delta_L = dL / dZ_L,  delta_{l-1} = (delta_l W_l^T) f'_{l-1}(Z_{l-1})
gradient   dW_l = A_{l-1}^T delta_l,  db_l = sum over the batch of delta_l
update     W_l -= rate dW_l, or as the optimizer has it

The mean over the batch is in delta_L already, so dW and db need no division. The functions below are the parts of
a step, in this order; ``training.py`` is the loop over batches. The compiled kernels share their work out by
rows of the batch and by tiles of W, and so do the twins: a tile of dW_l needs only some columns of A_{l-1} and delta_l.

Every function takes ``plan``, ``buffers``, ``X`` and ``targets`` as ``fastbp.kernels.layout`` defines them. lo .. hi
are rows of the workspace, and ``order`` has the rows of X that go through them. ``step`` counts the steps from 0; None
stands for a prediction.
"""

import numpy as np

from fastbp.kernels.layout import (
    ACTIVATION,
    ADAM,
    BETA_1,
    BIAS,
    COLUMN,
    CONVENTION,
    DELTAS,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    GRADIENT,
    HI,
    LANES,
    LAYER,
    LO,
    LOSS,
    LOSS_CONVENTION,
    N_LAYERS,
    N_NORMS,
    N_PARAMETERS,
    NESTEROV,
    NORM,
    NORMS,
    OPTIMIZER,
    OUT,
    OUT_LD,
    OWNERS,
    PANEL_ROWS,
    POISSON,
    RELU,
    SCIKIT_LEARN,
    SCRATCH,
    SCRATCH_STRIDE,
    SECOND_SLOT,
    SHARD,
    SHARDS,
    SIGMOID_CROSS_ENTROPY,
    SOFTMAX,
    SOFTMAX_CROSS_ENTROPY,
    TILE_ROWS,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    WIDTH,
    ZEROS,
    padded,
)
from fastbp.kernels.reference._views import rows
from fastbp.kernels.reference.activations import (
    activation_backward,
    activation_forward,
    output_forward,
    softmax_backward,
)
from fastbp.kernels.reference.gemm import column_sums, gemm, gemm_transposed
from fastbp.kernels.reference.losses import poisson
from fastbp.kernels.reference.optimizers import adam, sgd
from fastbp.kernels.reference.output_losses import output_loss
from fastbp.kernels.reference.soft_targets import sigmoid_loss, softmax_loss
from fastbp.kernels.reference.sparse import csr_forward, csr_gradient, row_values, sort_entries
from fastbp.kernels.reference.tiles import add_squares, gather_rows, transpose_tile

WHOLE, SUMS = -1, -2  # what ``tiles_step`` does, beside the number of a shard


def outputs(layer, slot, plan):
    """Where the outputs of a layer start in ``work``; those of the first layer have two places with owners."""
    start = plan.table[layer, OUT]
    return start + slot * plan.header[SECOND_SLOT] if layer == 0 else start


# ---------------------------------------------------------------------------------------------------------------------
# Forward


def layer_forward(layer, slot, lo, hi, first, count, plan, buffers, X, order):
    """Z_l = A_{l-1} W_l + b_l for rows lo .. hi and ``count`` columns from ``first``; relu as well."""
    row, work, parameters = plan.table[layer], buffers.work, buffers.parameters
    ld = row[OUT_LD]
    Z = work[outputs(layer, slot, plan) + lo * ld + first :]
    W, b = parameters[row[WEIGHTS] + first * row[PANEL_ROWS] :], parameters[row[BIAS] + first :]
    if layer == 0 and plan.header[GATHERED]:
        A, lda, index = work[plan.header[GATHERED] :], plan.header[GATHERED_LD], plan.rows[lo:hi]
    elif layer == 0:
        A, lda, index = row_values(X), row[FAN_IN], order
    else:
        A, lda, index = work[outputs(layer - 1, slot, plan) :], plan.table[layer - 1, OUT_LD], plan.rows[lo:hi]
    floor, lanes = 0.0 if row[ACTIVATION] == RELU else -np.inf, plan.header[LANES]
    if layer == 0 and csr_forward(Z, ld, X, index, W, row[PANEL_ROWS], b, floor, hi - lo, count, lanes=lanes):
        return
    gemm(Z, ld, A, lda, index, W, row[PANEL_ROWS], b, floor, hi - lo, count, row[FAN_IN], lanes=lanes)


def forward_rows(first, slot, lo, hi, plan, buffers, X, order, step):
    """A_l = f_l(Z_l), layer after layer from ``first``; the output activation is left to the loss."""
    n_layers = plan.header[N_LAYERS]
    for layer in range(first, n_layers):
        row = plan.table[layer]
        layer_forward(layer, slot, lo, hi, 0, row[FAN_OUT], plan, buffers, X, order)
        if layer < n_layers - 1:
            start, ld = outputs(layer, slot, plan), row[OUT_LD]
            activation_forward(buffers.work[start + lo * ld : start + hi * ld], row[ACTIVATION])


def owned_forward(t, slot, n_rows, plan, buffers, X, order):
    """First layer's forward for all rows of a batch and the panels of W_1 that thread t owns."""
    row, panel = plan.table[0], 2 * plan.header[LANES]
    first, last = plan.shares[1, t] * panel, min(plan.shares[1, t + 1] * panel, row[FAN_OUT])
    if first < last:
        layer_forward(0, slot, 0, n_rows, first, last - first, plan, buffers, X, order)
        if plan.header[N_LAYERS] > 1:
            Z = buffers.work[outputs(0, slot, plan) + first :]
            activation_forward(rows(Z, row[OUT_LD], n_rows, last - first), row[ACTIVATION])


# ---------------------------------------------------------------------------------------------------------------------
# Loss and backward


def loss_backward(slot, lo, hi, scale, plan, buffers, targets, order):
    """Loss of rows lo .. hi, and delta_L = dL / dZ_L."""
    header, work = plan.header, buffers.work
    row = plan.table[header[N_LAYERS] - 1]
    ld, n, m, activation = row[OUT_LD], row[FAN_OUT], hi - lo, row[ACTIVATION]
    start, delta_start = outputs(header[N_LAYERS] - 1, slot, plan), header[DELTAS] + row[OUT]
    Z, delta = work[start + lo * ld : start + hi * ld], work[delta_start + lo * ld : delta_start + hi * ld]
    losses, index, scale = buffers.row_loss[lo:hi], order, float(scale)
    labels, values, weights = targets.labels, targets.values, targets.weights
    code, convention = header[LOSS], header[LOSS_CONVENTION]
    if code == SOFTMAX_CROSS_ENTROPY:
        softmax_loss(losses, delta, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets)
    elif code == SIGMOID_CROSS_ENTROPY:
        sigmoid_loss(losses, delta, Z, ld, values, index, weights, scale, m, n, convention, plan, targets)
    elif code == POISSON:
        poisson(losses, delta, Z, ld, values, index, weights, scale, m, n)
    else:
        output_forward(Z, ld, m, n, activation)  # from here on Z holds A_L
        output_loss(losses, delta, Z, ld, values, index, weights, scale, m, n, code, convention, plan, targets)
        if activation == SOFTMAX:
            softmax_backward(delta, Z, ld, m, n)
        else:
            activation_backward(delta, Z, activation)


def layer_backward(layer, slot, lo, hi, plan, buffers):
    """delta_{l-1} = (delta_l W_l^T) f'(Z_{l-1}) for rows lo .. hi."""
    row, below, work, header = plan.table[layer], plan.table[layer - 1], buffers.work, plan.header
    ld, fan_in, fan_out = below[OUT_LD], row[FAN_IN], row[FAN_OUT]
    start, above = header[DELTAS] + below[OUT], work[header[DELTAS] + row[OUT] :]
    delta = work[start + lo * ld : start + hi * ld]
    W_T, zeros = work[row[TRANSPOSED] :], work[header[ZEROS] :]
    gemm(
        delta, ld, above, row[OUT_LD], plan.rows[lo:hi], W_T, row[TRANSPOSED_ROWS], zeros, -np.inf, hi - lo, fan_in,
        fan_out, lanes=header[LANES],
    )  # fmt: skip
    start = outputs(layer - 1, slot, plan)
    activation_backward(delta, work[start + lo * ld : start + hi * ld], below[ACTIVATION])


def rows_step(slot, lo, hi, scale, plan, buffers, X, targets, order, step):
    """Forward, loss and deltas for rows lo .. hi of the workspace, which are the rows ``order`` of X."""
    if plan.header[GATHERED]:
        ld, n = plan.header[GATHERED_LD], plan.table[0, FAN_IN]
        gather_rows(buffers.work[plan.header[GATHERED] + lo * ld :], ld, row_values(X), n, order, hi - lo, n)
    forward_rows(1 if plan.header[OWNERS] else 0, slot, lo, hi, plan, buffers, X, order, step)
    loss_backward(slot, lo, hi, scale, plan, buffers, targets, order)
    for layer in range(plan.header[N_LAYERS] - 1, 0, -1):
        layer_backward(layer, slot, lo, hi, plan, buffers)


# ---------------------------------------------------------------------------------------------------------------------
# Gradient and update


def tile_place(item, plan):
    """Start and size, in what is laid out as ``parameters``, of a tile of W or (LO is -1) of a panel of the bias."""
    row, width = plan.table[item[LAYER]], item[WIDTH]
    if item[LO] < 0:
        return row[BIAS] + item[COLUMN], width
    return row[WEIGHTS] + item[COLUMN] * row[PANEL_ROWS] + item[LO] * width, (item[HI] - item[LO]) * width


def tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t):
    """G = rows LO .. HI and WIDTH columns from COLUMN of dW_l = A_{l-1}^T delta_l; or of db_l = 1^T delta_l.

    Over rows lo .. hi. A sparse X has been sorted for thread t.
    """
    header, work, layer, first = plan.header, buffers.work, item[LAYER], item[LO]
    row, m, n_rows = plan.table[layer], item[HI] - first, hi - lo
    ldd, width = row[OUT_LD], item[WIDTH]
    delta = work[header[DELTAS] + row[OUT] + lo * ldd + item[COLUMN] :]
    zeros, none = work[header[ZEROS] :], -np.inf
    if first < 0:
        column_sums(G, delta, ldd, width, n_rows)
    elif layer > 0 or header[GATHERED]:
        start, lda = header[GATHERED], header[GATHERED_LD]
        if layer > 0:
            start, lda = outputs(layer - 1, slot, plan), plan.table[layer - 1, OUT_LD]
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
    w, m = buffers.parameters[start : start + size], buffers.moments[start : start + size]
    v = buffers.moments[header[N_PARAMETERS] :][start : start + size]
    g = G[:size]
    if header[OPTIMIZER] == GRADIENT:
        m[:] = g
        return
    if header[CONVENTION] == SCIKIT_LEARN:
        if lo < 0:
            l2 = 0.0
        elif l2 != 0.0:
            norms = buffers.work[row[NORM] + lo // TILE_ROWS * padded(row[FAN_OUT]) + item[COLUMN] :]
            add_squares(norms, w, width, hi - lo)
    if header[OPTIMIZER] == ADAM:
        adam(w, m, v, g, hyper, rate, correction, l2)
    else:
        sgd(w, m, g, hyper[BETA_1], header[NESTEROV], rate, correction, l2)
    if item[LAYER] > 0 and lo >= 0:
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


# ---------------------------------------------------------------------------------------------------------------------
# Batch after batch


def batch_weight(weights, order):
    """Sum of the sample weights of a batch, infinite where that is 0; its number of rows where there are none."""
    if not weights.size:
        return float(len(order))
    total = float(weights[order].sum(dtype=np.float64))
    return total if total != 0 else np.inf


def sum_of_losses(first, n, buffers):
    """Sum of n losses from ``first``: of a batch's rows, of a shard's, or of all shards."""
    return float(buffers.row_loss[first : first + n].sum())


def batch_loss(total, weight, l2, plan, buffers):
    """The rows' losses, ``total``, and under scikit-learn's convention l2 / 2 |W|^2, over the sum of weights."""
    header = plan.header
    if l2 != 0.0 and header[CONVENTION] == SCIKIT_LEARN and header[OPTIMIZER] != GRADIENT:
        total += 0.5 * l2 * float(buffers.work[header[NORMS] :][: header[N_NORMS]].sum())
    return total / weight


def row_share(n_rows, n_threads):
    """Rows of a batch for each thread but the last, a multiple of 4."""
    return 4 * -(-n_rows // (4 * n_threads))
