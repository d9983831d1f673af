"""Clipping by the norm of the whole gradient: g *= min(1, clip_norm / (|g| + epsilon)), |g| over all parameters.

epsilon = min(1e-6, clip_norm / 1000).
"""

import numpy as np

from fastbp.kernels.layout import (
    CLIP_EPSILON,
    CLIP_EPSILON_SHARE,
    CLIP_NORM,
    COLUMN,
    FAN_IN,
    FAN_OUT,
    GRADIENT,
    HI,
    LAYER,
    LEAST,
    LO,
    MOST,
    N_PARAMETERS,
    N_SQUARES,
    OPTIMIZER,
    REACH,
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
def with_scaled_squares(total, gradients, scale, start, n):
    """total + (scale g)^2, in float64, for n elements from ``start`` on."""
    return total + float(((scale * gradients[start : start + n].astype(float)) ** 2).sum())


def all_scaled_squares(gradients, scale, plan):
    """Sum of (scale g)^2 over all parameters, in float64."""
    total = 0.0
    for item in plan.items:
        total = with_scaled_squares(total, gradients, scale, *tile_place(item, plan))
    return total


@np.errstate(all="ignore")
def clip_factors(gradients, plan, buffers, hyper):
    """min(1, clip_norm / (norm + epsilon)) from the squares of all items, as (scale, factor), whose product it is.

    1, 1 where the gradient itself is asked for. The scale is a power of two, other than 1 where squares or the factor
    would leave the range of their dtype.
    """
    if plan.header[OPTIMIZER] == GRADIENT:
        return 1.0, 1.0
    total = float(buffers.work[plan.header[SQUARES] :][: plan.header[N_SQUARES]].sum())
    wide, clip_norm = int(buffers.work.itemsize == 8), float(hyper[CLIP_NORM])
    least, most = 2.0 ** LEAST[wide], MOST[wide]
    epsilon = min(CLIP_EPSILON, CLIP_EPSILON_SHARE * clip_norm)
    factor = clip_norm / (np.sqrt(total) + epsilon)
    vanished = total < least and clip_norm < 2 * np.sqrt(least)
    if np.isnan(total) or (total < np.inf and not vanished and factor >= 2.0**-most):
        return 1.0, float(np.minimum(1, factor))
    reach = 0
    if vanished or total == np.inf:
        reach = REACH[wide] if vanished else -REACH[wide]
        total = all_scaled_squares(gradients, 2.0**reach, plan)
        if total == np.inf:
            return 1.0, 0.0
    norm = np.sqrt(total)
    power = int(np.clip(reach - np.frexp(norm)[1], -most, most)) if norm > 0 else most
    norm, scale = np.ldexp(norm, power - reach) + 2.0**power * epsilon, 2.0**power
    return (1.0, 1.0) if scale * clip_norm > norm else (scale, float(clip_norm / norm))


@np.errstate(all="ignore")
def scaled(out, g, factor):
    """out = factor g."""
    out[:] = float(factor) * g[: out.size]


def shorten(out, g, scale, factor):
    """out = factor (scale g)."""
    scaled(out, g, scale)
    scaled(out, out, factor)


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
    gradients = buffers.work[plan.header[SHARDS] :][: plan.header[N_PARAMETERS]]
    factors = clip_factors(gradients, plan, buffers, hyper)
    for item in plan.items[plan.shares[0, t] : plan.shares[0, t + 1]]:
        start, size = tile_place(item, plan)
        G = np.empty(size, buffers.work.dtype)
        shorten(G, gradients[start:], *factors)
        tile_update(item, G, rate, correction, l2, plan, buffers, hyper)


def clip_gradients(gradients, plan, buffers, hyper):
    """Given gradients, laid out as the parameters, shortened in place where the network clips their norm."""
    if plan.header[SQUARES]:
        for item in plan.items:
            start, size = tile_place(item, plan)
            item_squares(item, gradients[start : start + size], plan, buffers)
        shorten(gradients, gradients, *clip_factors(gradients, plan, buffers, hyper))
