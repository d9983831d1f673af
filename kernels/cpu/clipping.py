"""Clipping by the norm of the whole gradient: it must be known before the first tile is updated.

So a step has one more region: each tile's gradient goes to its place at ``SHARDS`` in ``work``, and the sums of its
squares beside it; when all are done, each thread adds these up, and its updates start from the stored gradients.
Squares that leave the range of their dtype are added up again, scaled (J. L. Blue, "A portable Fortran program to find
the Euclidean norm of a vector", 1978).
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_type, kernel, uses
from fastbp.kernels.cpu.groups import group_sum
from fastbp.kernels.cpu.simd import NV, window
from fastbp.kernels.cpu.sparse import sort_entries
from fastbp.kernels.cpu.tiles import add_squares
from fastbp.kernels.cpu.update import sum_of_shards, tile_gradient, tile_place, tile_update
from fastbp.kernels.layout import (
    BATCH_NORM,
    BIAS,
    CLIP_EPSILON,
    CLIP_EPSILON_SHARE,
    CLIP_NORM,
    COLUMN,
    DENSE,
    FAN_IN,
    FAN_OUT,
    GRADIENT,
    GROUP,
    HI,
    KIND,
    LANES,
    LAYER,
    LAYER_NORM,
    LEAST,
    LO,
    MOST,
    N_LAYERS,
    N_PARAMETERS,
    N_SQUARES,
    OPTIMIZER,
    PANEL_ROWS,
    REACH,
    SCRATCH,
    SCRATCH_STRIDE,
    SHARD,
    SHARDS,
    SQUARES,
    SQUARES_AT,
    TILE_ROWS,
    WEIGHTS,
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
def with_scaled_squares(total, gradients, scale, start, n):
    """total + (scale g)^2, in float64, for n elements from ``start`` on, one after the other."""
    for q in range(start, start + n):
        g = scale * np.float64(gradients[q])
        total += g * g
    return total


@kernel
def all_scaled_squares(gradients, scale, plan):
    """Sum of (scale g)^2 over all parameters, in float64: W row by row, so that no bit depends on panels or tiles."""
    total, lanes = 0.0, plan.header[LANES]
    panel = NV * lanes
    for l in range(plan.header[N_LAYERS]):
        row = plan.table[l]
        n, kind = row[FAN_OUT], row[KIND]
        if kind == DENSE:
            for k in range(row[FAN_IN]):
                for first in range(0, n, panel):
                    width = panel if n - first > lanes else lanes
                    start = row[WEIGHTS] + first * row[PANEL_ROWS] + k * width
                    total = with_scaled_squares(total, gradients, scale, start, min(width, n - first))
        elif kind == BATCH_NORM or kind == LAYER_NORM:
            total = with_scaled_squares(total, gradients, scale, row[WEIGHTS], n)
        if kind == DENSE or kind == BATCH_NORM or kind == LAYER_NORM:
            total = with_scaled_squares(total, gradients, scale, row[BIAS], n)
    return total


@kernel
def clip_factors(gradients, plan, buffers, hyper):
    """min(1, clip_norm / (norm + epsilon)) from the squares of all items, as (scale, factor), whose product it is.

    epsilon is 1e-6, but at most clip_norm / 1000. ``scale`` is 1 or, where squares or the factor would leave their
    range, a power of two; only then ``gradients``, laid out as the parameters, are read. (1, 1) where the gradient
    itself is asked for; the factor is NaN where the gradient holds one, and 0 where it holds an infinity, which times
    0 is NaN. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
    """
    header = plan.header
    if header[OPTIMIZER] == GRADIENT:
        return 1.0, 1.0
    squares, wide = window(buffers.work, header[SQUARES], header[N_SQUARES]), 1 if buffers.work.itemsize == 8 else 0
    total = np.float64(group_sum(squares, header[N_SQUARES] // GROUP))
    clip_norm, least, most = hyper[CLIP_NORM], 2.0 ** LEAST[wide], 2.0 ** MOST[wide]
    epsilon = min(CLIP_EPSILON, CLIP_EPSILON_SHARE * clip_norm)
    factor = clip_norm / (np.sqrt(total) + epsilon)
    vanished = total < least and clip_norm < 2 * np.sqrt(least)  # with a larger clip_norm the factor is 1 anyway
    if np.isnan(total) or (total < np.inf and not vanished and factor * most >= 1):
        return 1.0, 1.0 if factor > 1.0 else factor
    scale = 1.0
    if vanished or not total < np.inf:
        scale = 2.0 ** (REACH[wide] if vanished else -REACH[wide])
        total = all_scaled_squares(gradients, scale, plan)
        if not total < np.inf:
            return 1.0, 0.0
    norm = np.sqrt(total)
    while norm >= 1 and scale * most > 1:
        norm, scale = 0.5 * norm, 0.5 * scale
    while norm < 0.5 and scale < most:
        norm, scale = 2 * norm, 2 * scale
    norm += scale * epsilon
    if scale * clip_norm > norm:
        return 1.0, 1.0
    return scale, clip_norm / norm


@kernel
def scaled(out, g, factor):
    """out = factor g; ``out`` may be g."""
    factor = g.dtype.type(factor)
    for q in range(out.shape[0]):
        out[q] = factor * g[q]


@kernel
def shorten(out, g, scale, factor):
    """out = factor (scale g); ``out`` may be g."""
    if scale != 1.0:
        scaled(out, g, scale)
        scaled(out, out, factor)
    else:
        scaled(out, g, factor)


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
    scale, factor = clip_factors(window(work, header[SHARDS], header[N_PARAMETERS]), plan, buffers, hyper)
    G = window(work, header[SCRATCH] + t * header[SCRATCH_STRIDE], header[SCRATCH_STRIDE])
    for i in range(plan.shares[0, t], plan.shares[0, t + 1]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        shorten(window(G, 0, size), window(work, header[SHARDS] + start, size), scale, factor)
        tile_update(item, G, rate, correction, l2, plan, buffers, hyper)


def _as_they_are(gradients, plan, buffers, hyper):
    pass


def _clipped(gradients, plan, buffers, hyper):
    for i in range(plan.items.shape[0]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        item_squares(item, window(gradients, start, size), plan, buffers)
    scale, factor = clip_factors(gradients, plan, buffers, hyper)
    shorten(gradients, gradients, scale, factor)


@by_type
def clip_gradients(gradients, plan, buffers, hyper):
    """Given gradients, laid out as the parameters, shortened in place where the network clips their norm."""
    return _clipped if uses(plan, "clipping") else _as_they_are
