"""The parts of a training step.

A step has two regions, and threads meet only at their ends (``crew.py``):

1. rows: gather, forward, loss and its gradient, deltas backward, for a share of the batch's rows: rows never meet;
2. tiles: dW = A^T delta for one tile of W and the optimizer on that tile while it is in the first-level cache: no
   gradient array, no reduction. The bias is a tile of one row, the sum of the deltas.

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

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.activations import activation_backward, activation_forward, output_forward, softmax_backward
from fastbp.kernels.cpu.gemm import column_sums, gemm, gemm_transposed
from fastbp.kernels.cpu.losses import poisson
from fastbp.kernels.cpu.optimizers import adam, sgd
from fastbp.kernels.cpu.output_losses import output_loss
from fastbp.kernels.cpu.simd import group_sum, vector_lanes, window
from fastbp.kernels.cpu.soft_targets import sigmoid_loss, softmax_loss
from fastbp.kernels.cpu.sparse import csr_forward, csr_gradient, row_values, sort_entries
from fastbp.kernels.cpu.tiles import add_squares, gather_rows, transpose_tile
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
    GROUP,
    HI,
    IDENTITY,
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
)

WHOLE, SUMS = -1, -2  # what ``tiles_step`` does, beside the number of a shard


@kernel
def outputs(layer, slot, plan):
    """Where the outputs of a layer start in ``work``.

    With owners, threads compute the first layer of step s + 1 while others still read that of step s for its weight
    gradient: its outputs have two places, ``slot`` 0 and 1, used in turn.
    """
    start = plan.table[layer, OUT]
    return start + slot * plan.header[SECOND_SLOT] if layer == 0 else start


@kernel.inlined
def layer_forward(layer, slot, lo, hi, first, count, plan, buffers, X, order):
    """A_l = f(A_{l-1} W + b) for rows lo .. hi and ``count`` columns from ``first``.

    Z and A share one place. A softmax is left to the loss or to ``output_forward``.
    """
    row, work, parameters = plan.table[layer], buffers.work, buffers.parameters
    ld = row[OUT_LD]
    C = window(work, outputs(layer, slot, plan) + lo * ld + first, 0)
    floor = parameters.dtype.type(0) if row[ACTIVATION] == RELU else parameters.dtype.type(-np.inf)
    if layer == 0 and plan.header[GATHERED] > 0:
        A, lda, index = window(work, plan.header[GATHERED], 0), plan.header[GATHERED_LD], window(plan.rows, lo, 0)
    elif layer == 0:
        A, lda, index = row_values(X), row[FAN_IN], window(order, 0, 0)
    else:
        below = plan.table[layer - 1]
        A, lda, index = window(work, outputs(layer - 1, slot, plan), 0), below[OUT_LD], window(plan.rows, lo, 0)
    B = window(parameters, row[WEIGHTS] + first * row[PANEL_ROWS], 0)
    bias = window(parameters, row[BIAS] + first, 0)
    if layer == 0 and csr_forward(C, ld, X, index, B, row[PANEL_ROWS], bias, floor, hi - lo, count):
        return
    gemm(C, ld, A, lda, index, B, row[PANEL_ROWS], bias, floor, hi - lo, count, row[FAN_IN])


@kernel.inlined
def forward_rows(first, slot, lo, hi, plan, buffers, X, order, step):
    """Forward from layer ``first`` for rows lo .. hi; the output activation is left to the loss."""
    n_layers = plan.header[N_LAYERS]
    for layer in range(first, n_layers):
        row = plan.table[layer]
        layer_forward(layer, slot, lo, hi, 0, row[FAN_OUT], plan, buffers, X, order)
        if layer < n_layers - 1:
            ld = row[OUT_LD]
            A = window(buffers.work, outputs(layer, slot, plan) + lo * ld, (hi - lo) * ld)
            activation_forward(A, row[ACTIVATION])


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
        output_forward(Z, ld, m, n, row[ACTIVATION])
        output_loss(losses, dZ, Z, ld, values, index, weights, scale, m, n, code, convention, plan, targets)
        if row[ACTIVATION] == SOFTMAX:
            softmax_backward(dZ, Z, ld, m, n)
        else:
            activation_backward(dZ, Z, row[ACTIVATION])


@kernel.inlined
def layer_backward(layer, slot, lo, hi, plan, buffers):
    """delta_{l-1} = (delta_l W^T) f'(A_{l-1}) for rows lo .. hi."""
    row, below, work = plan.table[layer], plan.table[layer - 1], buffers.work
    deltas, ld = plan.header[DELTAS], below[OUT_LD]
    C = window(work, deltas + below[OUT] + lo * ld, (hi - lo) * ld)
    D = window(work, deltas + row[OUT], 0)
    T = window(work, row[TRANSPOSED], 0)
    zeros, none = window(work, plan.header[ZEROS], 0), work.dtype.type(-np.inf)
    index = window(plan.rows, lo, 0)
    gemm(C, ld, D, row[OUT_LD], index, T, row[TRANSPOSED_ROWS], zeros, none, hi - lo, row[FAN_IN], row[FAN_OUT])
    A = window(work, outputs(layer - 1, slot, plan) + lo * ld, (hi - lo) * ld)
    activation_backward(C, A, below[ACTIVATION])


@kernel.inlined
def rows_step(slot, lo, hi, scale, plan, buffers, X, targets, order, step):
    """Forward, loss and deltas for rows lo .. hi. No other row is read."""
    if plan.header[GATHERED] > 0:
        ld, n = plan.header[GATHERED_LD], plan.table[0, FAN_IN]
        copy = window(buffers.work, plan.header[GATHERED] + lo * ld, (hi - lo) * ld)
        gather_rows(copy, ld, row_values(X), n, order, hi - lo, n)
    forward_rows(1 if plan.header[OWNERS] else 0, slot, lo, hi, plan, buffers, X, order, step)
    loss_backward(slot, lo, hi, scale, plan, buffers, targets, order)
    for layer in range(plan.header[N_LAYERS] - 1, 0, -1):
        layer_backward(layer, slot, lo, hi, plan, buffers)


@kernel.inlined
def owned_forward(t, slot, n_rows, plan, buffers, X, order):
    """First layer's forward for all rows of a batch and the panels that thread t owns."""
    row, panel = plan.table[0], 2 * vector_lanes(buffers.work)
    first, last = plan.shares[1, t] * panel, min(plan.shares[1, t + 1] * panel, row[FAN_OUT])
    if first < last:
        layer_forward(0, slot, 0, n_rows, first, last - first, plan, buffers, X, order)
        # relu is the gemm's own work, and what a last layer ends with is the loss's
        if plan.header[N_LAYERS] > 1 and row[ACTIVATION] != RELU and row[ACTIVATION] != IDENTITY:
            for i in range(n_rows):
                start = outputs(0, slot, plan) + i * row[OUT_LD] + first
                activation_forward(window(buffers.work, start, last - first), row[ACTIVATION])


@kernel.inlined
def tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t):
    """G = the item's tile of dW = A^T delta, or of db = sum of delta, over rows lo .. hi.

    delta is averaged over the batch already. A sparse X has been sorted for thread t.
    """
    header, work, layer = plan.header, buffers.work, item[LAYER]
    row, m, n_rows = plan.table[layer], item[HI] - item[LO], hi - lo
    ldd, width = row[OUT_LD], item[WIDTH]
    D = window(work, header[DELTAS] + row[OUT] + lo * ldd + item[COLUMN], 0)
    zeros, none = window(work, header[ZEROS], 0), work.dtype.type(-np.inf)
    if item[LO] < 0:
        column_sums(window(G, 0, width), D, ldd, width, n_rows)
    elif layer > 0 or header[GATHERED] > 0:
        start, lda = header[GATHERED], header[GATHERED_LD]
        if layer > 0:
            start, lda = outputs(layer - 1, slot, plan), plan.table[layer - 1, OUT_LD]
        A = window(work, start + lo * lda + item[LO], 0)
        gemm_transposed(G, A, lda, None, D, ldd, width, zeros, none, m, n_rows)
    elif not csr_gradient(t, G, X, item[LO], m, D, ldd, width, window(plan.rows, 0, 0), none):
        A = window(row_values(X), item[LO], 0)
        gemm_transposed(G, A, row[FAN_IN], order, D, ldd, width, zeros, none, m, n_rows)


@kernel
def tile_place(item, plan):
    """Where a tile, or a bias, starts in what is laid out as the parameters, and its size."""
    row, width = plan.table[item[LAYER]], item[WIDTH]
    if item[LO] < 0:
        return row[BIAS] + item[COLUMN], width
    return row[WEIGHTS] + item[COLUMN] * row[PANEL_ROWS] + item[LO] * width, (item[HI] - item[LO]) * width


@kernel.inlined
def tile_update(item, G, rate, correction, l2, plan, buffers, hyper):
    """The optimizer on one tile of parameters, and the transposed copy that the next deltas read.

    Under scikit-learn's convention the penalty is on weights only, and the squares of the tile before the update are
    added up by column for the reported loss.
    """
    header, row = plan.header, plan.table[item[LAYER]]
    width, optimizer = item[WIDTH], header[OPTIMIZER]
    start, size = tile_place(item, plan)
    w, m = window(buffers.parameters, start, size), window(buffers.moments, start, size)
    g = window(G, 0, size)
    if optimizer == GRADIENT:
        for q in range(size):
            m[q] = g[q]
        return
    if header[CONVENTION] == SCIKIT_LEARN:
        if item[LO] < 0:
            l2 = 0.0
        elif l2 != 0.0:
            norms = row[NORM] + item[LO] // TILE_ROWS * ((row[FAN_OUT] + GROUP - 1) // GROUP * GROUP) + item[COLUMN]
            add_squares(window(buffers.work, norms, width), w, width, item[HI] - item[LO])
    if optimizer == ADAM:
        v = window(buffers.moments, header[N_PARAMETERS] + start, size)
        adam(w, m, v, g, hyper, rate, correction, l2)
    else:
        sgd(w, m, g, hyper[BETA_1], header[NESTEROV], rate, correction, l2)
    if item[LAYER] > 0 and item[LO] >= 0:
        T = window(buffers.work, row[TRANSPOSED], 0)
        transpose_tile(T, row[TRANSPOSED_ROWS], w, item[LO], item[HI], row[FAN_IN], item[COLUMN], width)


@kernel.inlined
def sum_of_shards(item, G, n_shards, plan, buffers):
    """G = the sum of all shards' gradients of a tile, in the order of the shards."""
    start, size = tile_place(item, plan)
    total, step = window(G, 0, size), plan.header[N_PARAMETERS]
    start += plan.header[SHARDS]
    first = window(buffers.work, start, size)
    for q in range(size):
        total[q] = first[q]
    for k in range(1, n_shards):
        part = window(buffers.work, start + k * step, size)
        for q in range(size):
            total[q] = total[q] + part[q]


@kernel.inlined
def tiles_step(t, what, slot, lo, hi, rate, correction, l2, plan, buffers, X, order, hyper):
    """What is done tile by tile, for rows lo .. hi.

    Without shards, region 2: gradient and update of every item in the share of thread t (``what`` is WHOLE). With them,
    the gradients of one shard, to its own place (its number), and then region 2 from their sums (SUMS; lo .. hi is the
    batch). Pasted into both regions: as a function of its own it was compiled once more, a second of a cold start.
    """
    header, work = plan.header, buffers.work
    G = window(work, header[SCRATCH] + t * header[SCRATCH_STRIDE], header[SCRATCH_STRIDE])
    first, last = plan.shares[0, t], plan.shares[0, t + 1]
    if what >= 0:
        first, last = 0, plan.items.shape[0]
    if what != SUMS:
        sort_entries(t, X, order)
    for i in range(first, last):
        item = plan.items[i]
        if what == SUMS:
            sum_of_shards(item, G, (hi - lo + header[SHARD] - 1) // header[SHARD], plan, buffers)
        else:
            if what >= 0:
                start, size = tile_place(item, plan)
                G = window(work, header[SHARDS] + what * header[N_PARAMETERS] + start, size)
            tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t)
        if what < 0:
            tile_update(item, G, rate, correction, l2, plan, buffers, hyper)


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
