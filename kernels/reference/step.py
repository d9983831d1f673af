"""Backpropagation. One training step, from top to bottom:

forward    A_0 = X,  Z_l = A_{l-1} W_l + b_l,  A_l = f_l(Z_l)
loss       L = mean over the batch of loss(A_L, y)
backward   delta_L = dL / dZ_L,  delta_{l-1} = (delta_l W_l^T) f'_{l-1}(Z_{l-1})
gradient   dW_l = A_{l-1}^T delta_l,  db_l = sum over the batch of delta_l
update     W_l -= rate dW_l, or as the optimizer has it

The mean over the batch is in delta_L already, so dW and db need no division. The functions below are the parts of
a step, in this order; gradient and update stand in ``update.py``, what is no dense layer in ``operations.py``, and
``training.py`` is the loop over batches. The compiled kernels share their work out by
rows of the batch and by tiles of W, and so do the twins: a tile of dW_l needs only some columns of A_{l-1} and delta_l.

Every function takes ``plan``, ``buffers``, ``X`` and ``targets`` as ``fastbp.kernels.layout`` defines them. lo .. hi
are rows of the workspace, and ``order`` has the rows of X that go through them. ``step`` counts the steps from 0; None
stands for a prediction.
"""

import numpy as np

from fastbp.kernels.layout import (
    ACTIVATION,
    ADDS,
    ADDS_TO_INPUT,
    BATCH_NORM,
    BIAS,
    BOTTOM,
    CONVENTION,
    DELTAS,
    DENSE,
    FAN_IN,
    FAN_OUT,
    FIRST,
    GATHERED,
    GATHERED_LD,
    GRADIENT,
    INPUT,
    INPUT_ASKS,
    KIND,
    LANES,
    LAST,
    LOSS,
    LOSS_CONVENTION,
    N_LAYERS,
    N_NORMS,
    NORMS,
    OPTIMIZER,
    OUT,
    OUT_LD,
    OWNERS,
    PANEL_ROWS,
    POISSON,
    RELU,
    SCIKIT_LEARN,
    SIGMOID_CROSS_ENTROPY,
    SOFTMAX,
    SOFTMAX_CROSS_ENTROPY,
    TOP,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    WITH_LOSS,
    ZEROS,
    block_count,
)
from fastbp.kernels.reference.activations import softmax_backward
from fastbp.kernels.reference.batch_norm import (
    first_block,
    hand_on_share,
    leave_statistics,
    leave_sums,
    normalize_share,
)
from fastbp.kernels.reference.gemm import gemm
from fastbp.kernels.reference.losses import poisson
from fastbp.kernels.reference.operations import (
    other_backward,
    other_forward,
    output_place,
    outputs,
)
from fastbp.kernels.reference.output_losses import output_loss
from fastbp.kernels.reference.rectifiers import element_backward, element_forward, last_forward
from fastbp.kernels.reference.soft_targets import sigmoid_loss, softmax_loss
from fastbp.kernels.reference.sparse import csr_forward, row_values
from fastbp.kernels.reference.tiles import gather_rows

# ---------------------------------------------------------------------------------------------------------------------
# Forward


def layer_forward(layer, slot, lo, hi, first, count, plan, buffers, X, order):
    """Z_l = A_{l-1} W_l + b_l for rows lo .. hi and ``count`` columns from ``first``; relu as well."""
    row, work, parameters = plan.table[layer], buffers.work, buffers.parameters
    ld = row[OUT_LD]
    Z = work[outputs(layer, slot, plan) + lo * ld + first :]
    W, b = parameters[row[WEIGHTS] + first * row[PANEL_ROWS] :], parameters[row[BIAS] + first :]
    reads_X = row[INPUT] < 0
    if reads_X and not plan.header[GATHERED]:
        A, lda, index = row_values(X), row[FAN_IN], order
    else:
        start, lda = output_place(row[INPUT], slot, plan)
        A, index = work[start:], plan.rows[lo:hi]
    floor, lanes = 0.0 if row[ACTIVATION] == RELU else -np.inf, plan.header[LANES]
    if reads_X and csr_forward(Z, ld, X, index, W, row[PANEL_ROWS], b, floor, hi - lo, count, lanes=lanes):
        return
    gemm(Z, ld, A, lda, index, W, row[PANEL_ROWS], b, 0, floor, hi - lo, count, row[FAN_IN], lanes=lanes)


def operation_forward(layer, slot, lo, hi, plan, buffers, X, order, step):
    """A layer's output for rows lo .. hi, before its activation: Z = A W + b, or what else the layer does."""
    if plan.table[layer, KIND] == DENSE:
        layer_forward(layer, slot, lo, hi, 0, plan.table[layer, FAN_OUT], plan, buffers, X, order)
    else:
        other_forward(layer, slot, lo, hi, plan, buffers, order, step)


def first_layer(plan):
    """Layer that a share of rows starts from: 1 with owners, -1 where the rows of X are copied, otherwise 0."""
    if plan.header[OWNERS]:
        return 1
    return -1 if plan.header[GATHERED] else 0


def finish_outputs(layer, slot, lo, hi, plan, buffers, step):
    """A_l = f_l(Z_l) in place; the output activation is the loss's."""
    row = plan.table[layer]
    if layer < plan.header[N_LAYERS] - 1:
        start, ld = outputs(layer, slot, plan), row[OUT_LD]
        element_forward(buffers.work[start + lo * ld : start + hi * ld], row, lo * ld, plan, buffers, step)


def forward_rows(first, last, slot, lo, hi, plan, buffers, X, order, step):
    """A_l = f_l(Z_l), layers first .. last. Layer -1 is the copy of a batch's rows of X."""
    if first < 0:
        ld, n = plan.header[GATHERED_LD], plan.table[0, FAN_IN]
        gather_rows(buffers.work[plan.header[GATHERED] + lo * ld :], ld, row_values(X), n, order, hi - lo, n)
    for layer in range(max(first, 0), last):
        operation_forward(layer, slot, lo, hi, plan, buffers, X, order, step)
        finish_outputs(layer, slot, lo, hi, plan, buffers, step)


def owned_forward(t, slot, n_rows, plan, buffers, X, weights, order):
    """First layer's forward for all rows of a batch and the panels of W_1 that thread t owns."""
    row, panel = plan.table[0], 2 * plan.header[LANES]
    first, last = plan.shares[1, t] * panel, min(plan.shares[1, t + 1] * panel, row[FAN_OUT])
    if first < last:
        layer_forward(0, slot, 0, n_rows, first, last - first, plan, buffers, X, order)
        for place in range(first, n_rows * row[OUT_LD], row[OUT_LD]) if plan.header[N_LAYERS] > 1 else ():
            A = buffers.work[outputs(0, slot, plan) + place :][: last - first]
            element_forward(A, row, place, plan, buffers, 0)
        end_owned(slot, first, last - first, n_rows, plan, buffers, weights, order)


# ---------------------------------------------------------------------------------------------------------------------
# Loss and backward


def loss_backward(slot, lo, hi, scale, plan, buffers, targets, order):
    """Loss of rows lo .. hi, and delta_L = dL / dZ_L."""
    header, work = plan.header, buffers.work
    row = plan.table[header[N_LAYERS] - 1]
    ld, n, m = row[OUT_LD], row[FAN_OUT], hi - lo
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
        last_forward(Z, m, row, lo * ld, plan, buffers, 0)  # from here on Z holds A_L
        output_loss(losses, delta, Z, ld, values, index, weights, scale, m, n, code, convention, plan, targets)
        if row[ACTIVATION] == SOFTMAX:
            softmax_backward(delta, Z, ld, m, n)
        else:
            element_backward(delta, Z, row, lo * ld, plan, buffers)


def layer_backward(layer, lo, hi, adds, plan, buffers):
    """dL / dA_{l-1} = delta_l W_l^T for rows lo .. hi, or that is added where ``adds``."""
    row, work, header = plan.table[layer], buffers.work, plan.header
    below, fan_in, fan_out = plan.table[row[INPUT]], row[FAN_IN], row[FAN_OUT]
    ld, start, above = below[OUT_LD], header[DELTAS] + below[OUT], work[header[DELTAS] + row[OUT] :]
    delta = work[start + lo * ld : start + hi * ld]
    W_T = work[row[TRANSPOSED] :]
    initial, ld_initial = (delta, ld) if adds else (work[header[ZEROS] :], 0)
    gemm(
        delta, ld, above, row[OUT_LD], plan.rows[lo:hi], W_T, row[TRANSPOSED_ROWS], initial, ld_initial, -np.inf,
        hi - lo, fan_in, fan_out, lanes=header[LANES],
    )  # fmt: skip


def finish_delta(layer, slot, lo, hi, plan, buffers):
    """delta_l = dL / dA_l f'(Z_l) in place for rows lo .. hi."""
    row, work = plan.table[layer], buffers.work
    ld, start, delta = row[OUT_LD], outputs(layer, slot, plan), plan.header[DELTAS] + row[OUT]
    A = work[start + lo * ld : start + hi * ld]
    element_backward(work[delta + lo * ld : delta + hi * ld], A, row, lo * ld, plan, buffers)


def operation_backward(layer, slot, lo, hi, plan, buffers, order, step):
    """Hand on the delta of a layer for rows lo .. hi to what it was fed by."""
    bits = plan.table[layer, ADDS]
    if plan.table[layer, KIND] != DENSE:
        other_backward(layer, slot, lo, hi, plan, buffers, order, step)
    elif bits & INPUT_ASKS:
        layer_backward(layer, lo, hi, (bits & ADDS_TO_INPUT) > 0, plan, buffers)


def rows_region(region, plan):
    """What a region does for its rows: layers from, to; whether the loss; deltas handed on by layers from, down to."""
    if plan.regions is None:
        n_layers = plan.header[N_LAYERS]
        return first_layer(plan), n_layers, True, n_layers - 1, 0
    what = plan.regions[region]
    return what[FIRST], what[LAST], what[WITH_LOSS] > 0, what[TOP], what[BOTTOM]


def start_region(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step):
    """What a region's rows begin with, where that is a batch norm, and the next layers forward and backward."""
    first, last, _, top, _ = rows_region(region, plan)
    if first == last:
        hand_on_share(t, top, slot, lo, hi, n_rows, scale, plan, buffers, weights, order)
        finish_delta(top - 1, slot, lo, hi, plan, buffers)
        return first, top - 1
    if first < 0 or plan.table[first, KIND] != BATCH_NORM:
        return first, top
    normalize_share(t, first, slot, lo, hi, n_rows, plan, buffers, weights)
    finish_outputs(first, slot, lo, hi, plan, buffers, step)
    return first + 1, top


def end_region(t, region, slot, n_rows, plan, buffers, weights, order):
    """What a region's rows leave for the batch norm that the next region begins with."""
    _, last, with_loss, top, bottom = rows_region(region, plan)
    first, end = first_block(t, n_rows, plan), first_block(t + 1, n_rows, plan)
    if not with_loss and top == bottom:
        leave_statistics(last, slot, first, end, 0, plan.table[last, FAN_OUT], n_rows, plan, buffers, weights, order)
    elif plan.table[bottom, KIND] == BATCH_NORM:
        leave_sums(t, bottom, slot, first, end, n_rows, plan, buffers)


def end_owned(slot, first, count, n_rows, plan, buffers, weights, order):
    """What columns of the first layer's outputs leave for a batch norm behind it: a region begins with that."""
    if len(plan.table) > 1 and plan.table[1, KIND] == BATCH_NORM:
        leave_statistics(1, slot, 0, block_count(n_rows), first, count, n_rows, plan, buffers, weights, order)


def rows_step(t, region, slot, lo, hi, n_rows, scale, plan, buffers, X, targets, order, step):
    """Forward, loss and deltas for rows lo .. hi of the workspace, or what of them belongs to a region.

    They are share t of the batch's ``n_rows``.
    """
    _, last, with_loss, _, bottom = rows_region(region, plan)
    weights = targets.weights
    first, top = start_region(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step)
    forward_rows(first, last, slot, lo, hi, plan, buffers, X, order, step)
    if with_loss:
        loss_backward(slot, lo, hi, scale, plan, buffers, targets, order)
    for layer in range(top, bottom, -1):
        operation_backward(layer, slot, lo, hi, plan, buffers, order, step)
        finish_delta(layer - 1, slot, lo, hi, plan, buffers)
    end_region(t, region, slot, n_rows, plan, buffers, weights, order)


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
