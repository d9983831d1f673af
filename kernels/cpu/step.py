"""The parts of a training step.

A step has two regions, and threads meet only at their ends (``crew.py``):

1. rows: gather, forward, loss and its gradient, deltas backward, for a share of the batch's rows: rows never meet;
2. tiles: dW = A^T delta for one tile of W and the optimizer on that tile while it is in the first-level cache: no
   gradient array, no reduction. The bias is a tile of one row, the sum of the deltas.

Besides dense layers a network may have what is in ``operations.py``. A batch norm cuts region 1 into several, which end
and begin with what is in ``batch_norm.py``: see :func:`fastbp.kernels.operations.regions`.

A large batch of a small network goes in shards: region 1 goes on to the gradients of a shard, while its activations are
in the second-level cache, and region 2 starts from the sums over the shards.

Where the first layer is wide, its panels have owners: a thread that alone reads and updates some columns of W1 and
their moments, in its own second-level cache. The forward of the first layer for step s + 1 then goes by panels too,
and joins the tiles of step s in one region.

Every function takes ``plan``, ``buffers``, ``X`` and ``targets`` as ``fastbp.kernels.layout`` defines them. lo .. hi
are rows of the workspace, and ``order`` has the rows of X that go through them. ``step`` counts the steps from 0; None
stands for a prediction.
"""

import numpy as np
from numba import types

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, more_than_dense, uses
from fastbp.kernels.cpu.activations import softmax_backward
from fastbp.kernels.cpu.batch_norm import (
    first_block,
    hand_on_share,
    leave_statistics,
    leave_sums,
    normalize_share,
)
from fastbp.kernels.cpu.gemm import gemm
from fastbp.kernels.cpu.groups import group_sum
from fastbp.kernels.cpu.losses import poisson
from fastbp.kernels.cpu.normalization import blocks_of
from fastbp.kernels.cpu.operations import other_backward, other_forward, outputs
from fastbp.kernels.cpu.output_losses import output_loss
from fastbp.kernels.cpu.rectifiers import element_backward, element_forward, last_forward
from fastbp.kernels.cpu.simd import vector_lanes, window
from fastbp.kernels.cpu.soft_targets import sigmoid_loss, softmax_loss
from fastbp.kernels.cpu.sparse import csr_forward, row_values
from fastbp.kernels.cpu.tiles import gather_rows
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
    GROUP,
    IDENTITY,
    INPUT,
    INPUT_ASKS,
    KIND,
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
)


@kernel.inlined
def layer_forward(layer, slot, lo, hi, first, count, plan, buffers, X, order):
    """A_l = f(A_{l-1} W + b) for rows lo .. hi and ``count`` columns from ``first``.

    Z and A share one place. A softmax is left to the loss or to ``output_forward``.
    """
    row, work, parameters = plan.table[layer], buffers.work, buffers.parameters
    ld = row[OUT_LD]
    C = window(work, outputs(layer, slot, plan) + lo * ld + first, 0)
    floor = parameters.dtype.type(0) if row[ACTIVATION] == RELU else parameters.dtype.type(-np.inf)
    reads_X = row[INPUT] < 0
    if reads_X and plan.header[GATHERED] > 0:
        A, lda, index = window(work, plan.header[GATHERED], 0), plan.header[GATHERED_LD], window(plan.rows, lo, 0)
    elif reads_X:
        A, lda, index = row_values(X), row[FAN_IN], window(order, 0, 0)
    else:
        below = plan.table[row[INPUT]]
        A, lda, index = window(work, outputs(row[INPUT], slot, plan), 0), below[OUT_LD], window(plan.rows, lo, 0)
    B = window(parameters, row[WEIGHTS] + first * row[PANEL_ROWS], 0)
    bias = window(parameters, row[BIAS] + first, 0)
    if reads_X and csr_forward(C, ld, X, index, B, row[PANEL_ROWS], bias, floor, hi - lo, count):
        return
    gemm(C, ld, A, lda, index, B, row[PANEL_ROWS], bias, 0, floor, hi - lo, count, row[FAN_IN])


def _dense_forward(layer, slot, lo, hi, plan, buffers, X, order, step):
    layer_forward(layer, slot, lo, hi, 0, plan.table[layer, FAN_OUT], plan, buffers, X, order)


def _any_forward(layer, slot, lo, hi, plan, buffers, X, order, step):
    if plan.table[layer, KIND] == DENSE:
        layer_forward(layer, slot, lo, hi, 0, plan.table[layer, FAN_OUT], plan, buffers, X, order)
    else:
        other_forward(layer, slot, lo, hi, plan, buffers, order, step)


@by_type_inlined
def operation_forward(layer, slot, lo, hi, plan, buffers, X, order, step):
    """Forward of a layer for rows lo .. hi, before its activation."""
    return _any_forward if more_than_dense(plan) else _dense_forward


@kernel
def first_layer(plan):
    """Layer that a share of rows starts from: 1 with owners, -1 where the rows of X are copied, otherwise 0."""
    if plan.header[OWNERS]:
        return 1
    return -1 if plan.header[GATHERED] > 0 else 0


@kernel.inlined
def finish_outputs(layer, slot, lo, hi, plan, buffers, step):
    """A = f(Z) in place for rows lo .. hi; the output activation is left to the loss."""
    row = plan.table[layer]
    if layer < plan.header[N_LAYERS] - 1:
        ld = row[OUT_LD]
        A = window(buffers.work, outputs(layer, slot, plan) + lo * ld, (hi - lo) * ld)
        element_forward(A, row, lo * ld, plan, buffers, step)


@kernel.inlined
def forward_rows(first, last, slot, lo, hi, plan, buffers, X, order, step):
    """Forward of layers first .. last for rows lo .. hi.

    Layer -1 is the copy of the batch's rows of X, where there is one.
    """
    if first < 0:
        ld, n = plan.header[GATHERED_LD], plan.table[0, FAN_IN]
        copy = window(buffers.work, plan.header[GATHERED] + lo * ld, (hi - lo) * ld)
        gather_rows(copy, ld, row_values(X), n, order, hi - lo, n)
    for layer in range(max(first, 0), last):
        operation_forward(layer, slot, lo, hi, plan, buffers, X, order, step)
        finish_outputs(layer, slot, lo, hi, plan, buffers, step)


@kernel.inlined
def loss_backward(slot, lo, hi, scale, plan, buffers, targets, order):
    """Loss of rows lo .. hi, and the last layer's dZ."""
    header, work = plan.header, buffers.work
    row = plan.table[header[N_LAYERS] - 1]
    ld, n, m = row[OUT_LD], row[FAN_OUT], hi - lo
    Z = window(work, outputs(header[N_LAYERS] - 1, slot, plan) + lo * ld, m * ld)
    dZ = window(work, header[DELTAS] + row[OUT] + lo * ld, m * ld)
    losses, index = window(buffers.row_loss, lo, m), window(order, 0, m)
    labels = window(targets.labels, 0, targets.labels.shape[0])
    values = window(targets.values, 0, targets.values.shape[0])
    weights = window(targets.weights, 0, targets.weights.shape[0])
    code, convention = header[LOSS], header[LOSS_CONVENTION]
    scale = work.dtype.type(scale)
    if code == SOFTMAX_CROSS_ENTROPY:
        softmax_loss(losses, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets)
    elif code == SIGMOID_CROSS_ENTROPY:
        sigmoid_loss(losses, dZ, Z, ld, values, index, weights, scale, m, n, convention, plan, targets)
    elif code == POISSON:
        poisson(losses, dZ, Z, ld, values, index, weights, scale, m, n)
    else:
        last_forward(Z, m, row, lo * ld, plan, buffers, 0)
        output_loss(losses, dZ, Z, ld, values, index, weights, scale, m, n, code, convention, plan, targets)
        if row[ACTIVATION] == SOFTMAX:
            softmax_backward(dZ, Z, ld, m, n)
        else:
            element_backward(dZ, Z, row, lo * ld, plan, buffers)


@kernel.inlined
def layer_backward(layer, lo, hi, adds, plan, buffers):
    """dL / dA = delta W^T for a dense layer's input A and rows lo .. hi, or that is added where ``adds``."""
    row, work = plan.table[layer], buffers.work
    deltas, below = plan.header[DELTAS], plan.table[row[INPUT]]
    ld = below[OUT_LD]
    C = window(work, deltas + below[OUT] + lo * ld, (hi - lo) * ld)
    D = window(work, deltas + row[OUT], 0)
    T = window(work, row[TRANSPOSED], 0)
    none, index = work.dtype.type(-np.inf), window(plan.rows, lo, 0)
    start, ld_start = (window(C, 0, 0), ld) if adds else (window(work, plan.header[ZEROS], 0), 0)
    gemm(
        C, ld, D, row[OUT_LD], index, T, row[TRANSPOSED_ROWS], start, ld_start, none, hi - lo, row[FAN_IN],
        row[FAN_OUT],
    )  # fmt: skip


@kernel.inlined
def finish_delta(layer, slot, lo, hi, plan, buffers):
    """delta = dL / dA f'(A) in place for rows lo .. hi."""
    row, work = plan.table[layer], buffers.work
    ld = row[OUT_LD]
    C = window(work, plan.header[DELTAS] + row[OUT] + lo * ld, (hi - lo) * ld)
    A = window(work, outputs(layer, slot, plan) + lo * ld, (hi - lo) * ld)
    element_backward(C, A, row, lo * ld, plan, buffers)


def _dense_backward(layer, slot, lo, hi, plan, buffers, order, step):
    layer_backward(layer, lo, hi, False, plan, buffers)


def _any_backward(layer, slot, lo, hi, plan, buffers, order, step):
    bits = plan.table[layer, ADDS]
    if plan.table[layer, KIND] != DENSE:
        other_backward(layer, slot, lo, hi, plan, buffers, order, step)
    elif bits & INPUT_ASKS:
        layer_backward(layer, lo, hi, (bits & ADDS_TO_INPUT) > 0, plan, buffers)


@by_type_inlined
def operation_backward(layer, slot, lo, hi, plan, buffers, order, step):
    """Hand on the delta of a layer for rows lo .. hi to what it was fed by."""
    return _any_backward if more_than_dense(plan) else _dense_backward


def _whole_step(region, plan):
    n_layers = plan.header[N_LAYERS]
    return first_layer(plan), n_layers, True, n_layers - 1, 0


def _part_of_step(region, plan):
    what = plan.regions[region]
    return what[FIRST], what[LAST], what[WITH_LOSS] > 0, what[TOP], what[BOTTOM]


@by_type_inlined
def rows_region(region, plan):
    """What a region does for its rows: layers from, to; whether the loss; deltas handed on by layers from, down to."""
    return _whole_step if plan.types[plan.fields.index("regions")] == types.none else _part_of_step


def _starts_at_once(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step):
    return first_layer(plan), plan.header[N_LAYERS] - 1


def _starts_from_a_norm(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step):
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


@by_type_inlined
def start_region(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step):
    """What a region's rows begin with, where that is a batch norm, and the next layers forward and backward."""
    return _starts_from_a_norm if uses(plan, "batch_norm") else _starts_at_once


def _ends_at_once(t, region, slot, n_rows, plan, buffers, weights, order):
    pass


def _ends_at_a_norm(t, region, slot, n_rows, plan, buffers, weights, order):
    _, last, with_loss, top, bottom = rows_region(region, plan)
    first, end = first_block(t, n_rows, plan), first_block(t + 1, n_rows, plan)
    if not with_loss and top == bottom:
        n = plan.table[last, FAN_OUT]
        leave_statistics(last, slot, first, end, 0, n, n_rows, plan, buffers, weights, order)
    elif plan.table[bottom, KIND] == BATCH_NORM:
        leave_sums(t, bottom, slot, first, end, n_rows, plan, buffers)


@by_type_inlined
def end_region(t, region, slot, n_rows, plan, buffers, weights, order):
    """What a region's rows leave for the batch norm that the next region begins with."""
    return _ends_at_a_norm if uses(plan, "batch_norm") else _ends_at_once


@kernel.inlined
def rows_step(t, region, slot, lo, hi, n_rows, scale, plan, buffers, X, targets, order, step):
    """Forward, loss and deltas for rows lo .. hi, or what of them belongs to a region. No other row is read.

    They are share t of the batch's ``n_rows``.
    """
    _, last, with_loss, _, bottom = rows_region(region, plan)
    weights = window(targets.weights, 0, targets.weights.shape[0])
    first, top = start_region(t, region, slot, lo, hi, n_rows, scale, plan, buffers, weights, order, step)
    forward_rows(first, last, slot, lo, hi, plan, buffers, X, order, step)
    if with_loss:
        loss_backward(slot, lo, hi, scale, plan, buffers, targets, order)
    for layer in range(top, bottom, -1):
        operation_backward(layer, slot, lo, hi, plan, buffers, order, step)
        finish_delta(layer - 1, slot, lo, hi, plan, buffers)
    end_region(t, region, slot, n_rows, plan, buffers, weights, order)


def _no_norm_next(slot, first, count, n_rows, plan, buffers, weights, order):
    pass


def _norm_next(slot, first, count, n_rows, plan, buffers, weights, order):
    if plan.header[N_LAYERS] > 1 and plan.table[1, KIND] == BATCH_NORM:
        leave_statistics(1, slot, 0, blocks_of(n_rows), first, count, n_rows, plan, buffers, weights, order)


@by_type_inlined
def end_owned(slot, first, count, n_rows, plan, buffers, weights, order):
    """What columns of the first layer's outputs leave for a batch norm behind it: a region begins with that."""
    return _norm_next if uses(plan, "batch_norm") else _no_norm_next


@kernel.inlined
def owned_forward(t, slot, n_rows, plan, buffers, X, weights, order):
    """First layer's forward for all rows of a batch and the panels that thread t owns."""
    row, panel = plan.table[0], 2 * vector_lanes(buffers.work)
    first, last = plan.shares[1, t] * panel, min(plan.shares[1, t + 1] * panel, row[FAN_OUT])
    if first < last:
        layer_forward(0, slot, 0, n_rows, first, last - first, plan, buffers, X, order)
        # relu is the gemm's own work, and what a last layer ends with is the loss's
        if plan.header[N_LAYERS] > 1 and row[ACTIVATION] != RELU and row[ACTIVATION] != IDENTITY:
            for i in range(n_rows):
                place = i * row[OUT_LD] + first
                A = window(buffers.work, outputs(0, slot, plan) + place, last - first)
                element_forward(A, row, place, plan, buffers, 0)
        end_owned(slot, first, last - first, n_rows, plan, buffers, weights, order)


@kernel
def batch_weight(weights, order):
    """Sum of the sample weights of a batch; its number of rows where there are none.

    Infinite where they sum to 0: what is divided by it vanishes, loss, gradient and penalty alike.
    """
    if weights.shape[0] == 0:
        return float(order.shape[0])
    total = 0.0
    for r in order:
        total += weights[r]
    return total if total != 0.0 else np.inf


@kernel
def sum_of_losses(first, n, buffers):
    """Sum of n losses from ``first``: of a batch's rows, of a shard's, or of all shards."""
    total = 0.0
    for i in range(first, first + n):
        total += buffers.row_loss[i]
    return total


@kernel
def batch_loss(total, weight, l2, plan, buffers):
    """The rows' losses, ``total``, and under scikit-learn's convention l2 / 2 |W|^2, over the sum of weights."""
    if l2 != 0.0 and plan.header[CONVENTION] == SCIKIT_LEARN and plan.header[OPTIMIZER] != GRADIENT:
        norms = window(buffers.work, plan.header[NORMS], plan.header[N_NORMS])
        total += 0.5 * l2 * group_sum(norms, plan.header[N_NORMS] // GROUP)
    return total / weight


@kernel
def row_share(n_rows, n_threads):
    """Rows of a batch for each thread but the last: whole micro-kernels of height 4, which fill the multipliers."""
    return ((n_rows + n_threads - 1) // n_threads + 3) // 4 * 4
