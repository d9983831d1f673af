"""What a training step does by tiles of W: gradient, update and the transposed copy, while a tile is in cache.

Every function takes ``plan``, ``buffers`` and ``X`` as ``fastbp.kernels.layout`` defines them. lo .. hi are rows of the
workspace, and ``order`` has the rows of X that went through them.
"""

import numpy as np

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.batch_norm import gradient_from_sums
from fastbp.kernels.cpu.gemm import column_sums, gemm_transposed
from fastbp.kernels.cpu.operations import gradient_of_gamma, outputs
from fastbp.kernels.cpu.rules import apply_rule
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.cpu.sparse import csr_gradient, row_values, sort_entries
from fastbp.kernels.cpu.tiles import add_squares, transpose_tile
from fastbp.kernels.layout import (
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
    INPUT,
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
)

WHOLE, SUMS = -1, -2  # what ``tiles_step`` does, beside the number of a shard


@kernel.inlined
def tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t):
    """G = the item's tile of dW = A^T delta, or of db = sum of delta, over rows lo .. hi.

    delta is averaged over the batch already. A sparse X has been sorted for thread t.
    """
    header, work, layer = plan.header, buffers.work, item[LAYER]
    row, m, n_rows = plan.table[layer], item[HI] - item[LO], hi - lo
    below = row[INPUT]
    ldd, width = row[OUT_LD], item[WIDTH]
    D = window(work, header[DELTAS] + row[OUT] + lo * ldd + item[COLUMN], 0)
    zeros, none = window(work, header[ZEROS], 0), work.dtype.type(-np.inf)
    if item[LO] < 0:
        if gradient_from_sums(item, G, n_rows, plan, buffers):
            return
        if gradient_of_gamma(item, G, slot, lo, hi, plan, buffers):
            return
        column_sums(window(G, 0, width), D, ldd, width, n_rows)
    elif below >= 0 or header[GATHERED] > 0:
        start, lda = header[GATHERED], header[GATHERED_LD]
        if below >= 0:
            start, lda = outputs(below, slot, plan), plan.table[below, OUT_LD]
        A = window(work, start + lo * lda + item[LO], 0)
        gemm_transposed(G, A, lda, None, D, ldd, width, zeros, none, m, n_rows)
    elif not csr_gradient(t, G, X, item[LO], m, D, ldd, width, window(plan.rows, 0, 0), none):
        A = window(row_values(X), item[LO], 0)
        gemm_transposed(G, A, row[FAN_IN], order, D, ldd, width, zeros, none, m, n_rows)


@kernel
def tile_place(item, plan):
    """Where a tile, a bias, a beta or a gamma starts in what is laid out as the parameters, and its size."""
    row, width = plan.table[item[LAYER]], item[WIDTH]
    if item[LO] < 0:
        return (row[WEIGHTS] if item[LO] == -2 else row[BIAS]) + item[COLUMN], width
    return row[WEIGHTS] + item[COLUMN] * row[PANEL_ROWS] + item[LO] * width, (item[HI] - item[LO]) * width


@kernel.inlined
def tile_update(item, G, rate, correction, l2, plan, buffers, hyper):
    """The optimizer on one tile of parameters, and the transposed copy that the next deltas read.

    Under scikit-learn's convention the penalty is on weights only, and the squares of the tile before the update are
    added up by column for the reported loss.
    """
    header, row = plan.header, plan.table[item[LAYER]]
    width = item[WIDTH]
    start, size = tile_place(item, plan)
    w, g = window(buffers.parameters, start, size), window(G, 0, size)
    if header[OPTIMIZER] == GRADIENT:
        m = window(buffers.moments, start, size)
        for q in range(size):
            m[q] = g[q]
        return
    if header[CONVENTION] == SCIKIT_LEARN:
        if item[LO] < 0:
            l2 = 0.0
        elif l2 != 0.0:
            norms = row[NORM] + item[LO] // TILE_ROWS * ((row[FAN_OUT] + GROUP - 1) // GROUP * GROUP) + item[COLUMN]
            add_squares(window(buffers.work, norms, width), w, width, item[HI] - item[LO])
    apply_rule(w, g, start, rate, correction, l2, plan, buffers, hyper)
    if row[INPUT] >= 0 and item[LO] >= 0:
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
