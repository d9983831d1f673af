"""Clipping by the norm of the whole gradient: g *= min(1, clip_norm / (|g| + 1e-6)), |g| over all parameters."""

import numpy as np

from fastbp.kernels.layout import (
    CLIP_NORM,
    COLUMN,
    FAN_IN,
    FAN_OUT,
    GRADIENT,
    HI,
    LAYER,
    LO,
    N_SQUARES,
    OPTIMIZER,
    SHARD,
    SHARDS,
    SQUARES,
    SQUARES_AT,
    TILE_ROWS,
    WIDTH,
    padded,
)
from fastbp.kernels.reference.sparse import sort_entries
from fastbp.kernels.reference.tiles import add_squares
from fastbp.kernels.reference.update import sum_of_shards, tile_gradient, tile_place, tile_update


@np.errstate(all="ignore")
def item_squares(item, G, plan, buffers):
    """Sums of squares, by column, of an item's gradient G, to their place in ``work``."""
    row, lo, width = plan.table[item[LAYER]], item[LO], item[WIDTH]
    above, n_rows = lo // TILE_ROWS, item[HI] - lo
    if lo < 0:
        above, n_rows = -(-row[FAN_IN] // TILE_ROWS) - 1 - lo, 1
    start = row[SQUARES_AT] + above * padded(row[FAN_OUT]) + item[COLUMN]
    add_squares(buffers.work[start:], G, width, n_rows)


@np.errstate(all="ignore")
def clip_factor(plan, buffers, hyper):
    """min(1, clip_norm / (norm + 1e-6)) from the squares of all items; 1 where the gradient itself is asked for."""
    if plan.header[OPTIMIZER] == GRADIENT:
        return 1.0
    squares = buffers.work[plan.header[SQUARES] :][: plan.header[N_SQUARES]]
    return float(np.minimum(1, hyper[CLIP_NORM] / (np.sqrt(float(squares.sum())) + 1e-6)))


@np.errstate(all="ignore")
def scaled(out, g, factor):
    """out = factor g."""
    out[:] = float(factor) * g[: out.size]


def stored_gradients(t, slot, lo, hi, plan, buffers, X, order):
    """The gradients of the items of thread t, each to its place in ``work``, and their squares to theirs."""
    header = plan.header
    if not header[SHARD]:
        sort_entries(t, X, order)
    for item in plan.items[plan.shares[0, t] : plan.shares[0, t + 1]]:
        start, size = tile_place(item, plan)
        G = buffers.work[header[SHARDS] + start :][:size]
        if header[SHARD]:
            sum_of_shards(item, G, -(-(hi - lo) // header[SHARD]), plan, buffers)
        else:
            tile_gradient(item, G, slot, lo, hi, plan, buffers, X, order, t)
        item_squares(item, G, plan, buffers)


def clipped_updates(t, rate, correction, l2, plan, buffers, hyper):
    """The optimizer on the items of thread t, from the stored gradients, shortened to the norm that is asked for."""
    factor = clip_factor(plan, buffers, hyper)
    for item in plan.items[plan.shares[0, t] : plan.shares[0, t + 1]]:
        start, size = tile_place(item, plan)
        G = np.empty(size, buffers.work.dtype)
        scaled(G, buffers.work[plan.header[SHARDS] + start :], factor)
        tile_update(item, G, rate, correction, l2, plan, buffers, hyper)


def clip_gradients(gradients, plan, buffers, hyper):
    """Given gradients, laid out as the parameters, shortened in place where the network clips their norm."""
    if plan.header[SQUARES]:
        for item in plan.items:
            start, size = tile_place(item, plan)
            item_squares(item, gradients[start : start + size], plan, buffers)
        scaled(gradients, gradients, clip_factor(plan, buffers, hyper))
