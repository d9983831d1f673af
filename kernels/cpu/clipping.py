"""Clipping by the norm of the whole gradient: it must be known before the first tile is updated.

So a step has one more region: each tile's gradient goes to its place at ``SHARDS`` in ``work``, and the sums of its
squares beside it; when all are done, each thread adds these up, and its updates start from the stored gradients.
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_type, kernel, uses
from fastbp.kernels.cpu.groups import group_sum
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.cpu.sparse import sort_entries
from fastbp.kernels.cpu.tiles import add_squares
from fastbp.kernels.cpu.update import sum_of_shards, tile_gradient, tile_place, tile_update
from fastbp.kernels.layout import (
    CLIP_NORM,
    COLUMN,
    FAN_IN,
    FAN_OUT,
    GRADIENT,
    GROUP,
    HI,
    LAYER,
    LO,
    N_SQUARES,
    OPTIMIZER,
    SCRATCH,
    SCRATCH_STRIDE,
    SHARD,
    SHARDS,
    SQUARES,
    SQUARES_AT,
    TILE_ROWS,
    WIDTH,
)


@kernel
def item_squares(item, G, plan, buffers):
    """Sums of squares, by column, of an item's gradient G, to their place in ``work``.

    By column, since how many columns a tile has depends on the vectors, and no bit of the norm may.
    """
    row, width = plan.table[item[LAYER]], item[WIDTH]
    above, n_rows = item[LO] // TILE_ROWS, item[HI] - item[LO]
    if item[LO] < 0:
        above, n_rows = (row[FAN_IN] + TILE_ROWS - 1) // TILE_ROWS - 1 - item[LO], 1
    start = row[SQUARES_AT] + above * ((row[FAN_OUT] + GROUP - 1) // GROUP * GROUP) + item[COLUMN]
    add_squares(window(buffers.work, start, width), G, width, n_rows)


@kernel
def clip_factor(plan, buffers, hyper):
    """min(1, clip_norm / (norm + 1e-6)) from the squares of all items: what the gradient is multiplied with.

    1 where the gradient itself is asked for; NaN where the gradient holds one. Pascanu et al., "On the difficulty of
    training recurrent neural networks", 2013.
    """
    header = plan.header
    if header[OPTIMIZER] == GRADIENT:
        return 1.0
    squares = window(buffers.work, header[SQUARES], header[N_SQUARES])
    factor = hyper[CLIP_NORM] / (np.sqrt(np.float64(group_sum(squares, header[N_SQUARES] // GROUP))) + 1e-6)
    return 1.0 if factor > 1.0 else factor


@kernel
def scaled(out, g, factor):
    """out = factor g; ``out`` may be g."""
    factor = g.dtype.type(factor)
    for q in range(out.shape[0]):
        out[q] = factor * g[q]


@kernel.inlined
def stored_gradients(t, slot, lo, hi, plan, buffers, X, order):
    """The gradients of the items of thread t over rows lo .. hi, each to its place, and their squares to theirs.

    With shards, the sums over these; the place of the first shard's gradient takes them.
    """
    header, work = plan.header, buffers.work
    if header[SHARD] == 0:
        sort_entries(t, X, order)
    for i in range(plan.shares[0, t], plan.shares[0, t + 1]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        G = window(work, header[SHARDS] + start, size)
        if header[SHARD] > 0:
            sum_of_shards(item, G, (hi - lo + header[SHARD] - 1) // header[SHARD], plan, buffers)
        else:
            tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t)
        item_squares(item, G, plan, buffers)


@kernel.inlined
def clipped_updates(t, rate, correction, l2, plan, buffers, hyper):
    """The optimizer on the items of thread t, from the stored gradients, shortened to the norm that is asked for."""
    header, work = plan.header, buffers.work
    factor = clip_factor(plan, buffers, hyper)
    G = window(work, header[SCRATCH] + t * header[SCRATCH_STRIDE], header[SCRATCH_STRIDE])
    for i in range(plan.shares[0, t], plan.shares[0, t + 1]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        scaled(window(G, 0, size), window(work, header[SHARDS] + start, size), factor)
        tile_update(item, G, rate, correction, l2, plan, buffers, hyper)


def _as_they_are(gradients, plan, buffers, hyper):
    pass


def _clipped(gradients, plan, buffers, hyper):
    for i in range(plan.items.shape[0]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        item_squares(item, window(gradients, start, size), plan, buffers)
    scaled(gradients, gradients, clip_factor(plan, buffers, hyper))


@by_type
def clip_gradients(gradients, plan, buffers, hyper):
    """Given gradients, laid out as the parameters, shortened in place where the network clips their norm."""
    return _clipped if uses(plan, "clipping") else _as_they_are
