"""Many training steps in one call, on threads that go through their regions together; and a step with given gradients.

Every function takes ``plan``, ``buffers``, ``X`` and ``targets`` as ``fastbp.kernels.layout`` defines them.
"""

from numba import prange, types

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, parallel, uses
from fastbp.kernels.cpu.batch_norm import block_rows
from fastbp.kernels.cpu.clipping import clip_gradients, clipped_updates, stored_gradients
from fastbp.kernels.cpu.crew import finish_share, meet, region_under_way, take_share
from fastbp.kernels.cpu.optimizers import step_scalars
from fastbp.kernels.cpu.rules import begin_step
from fastbp.kernels.cpu.simd import unowned, window
from fastbp.kernels.cpu.step import batch_loss, batch_weight, owned_forward, row_share, rows_step, sum_of_losses
from fastbp.kernels.cpu.update import SUMS, WHOLE, tile_place, tile_update, tiles_step
from fastbp.kernels.layout import (
    AHEAD,
    BATCH,
    CONVENTION,
    GRADIENTS,
    L2,
    OPTIMIZER,
    OWNERS,
    SCIKIT_LEARN,
    SHARD,
    WHAT,
)


@kernel.inlined
def _batch_rows(s, plan, order):
    """Rows of X in the batch of step s."""
    batch, end = plan.header[BATCH], order.shape[0] - AHEAD
    return window(order, s * batch, min(batch, end - s * batch))


@kernel
def _finish_step(s, losses, plan, buffers, targets, order, hyper):
    """losses[s], from the sum over rows that stands there and the norms that the update has left."""
    weight = batch_weight(targets.weights, _batch_rows(s, plan, order))
    losses[s] = batch_loss(losses[s], weight, hyper[L2], plan, buffers)


def _whole_blocks(t, region, s, plan, buffers, X, targets, order, hyper, step):
    rows = _batch_rows(s, plan, order)
    n_rows, scale = rows.shape[0], 1.0 / batch_weight(targets.weights, rows)
    lo, hi = block_rows(t, n_rows, plan)
    if lo < hi:
        here = window(rows, lo, hi - lo)
        rows_step(t, region, s & 1, lo, hi, n_rows, scale, plan, buffers, X, targets, here, step + s)


def _even_rows(t, region, s, plan, buffers, X, targets, order, hyper, step):
    rows, n_threads, size = _batch_rows(s, plan, order), plan.shares.shape[1] - 1, plan.header[SHARD]
    n_rows, first, last = rows.shape[0], t, t + 1
    if size > 0:
        n_shards = (n_rows + size - 1) // size
        first, last = t * n_shards // n_threads, (t + 1) * n_shards // n_threads
    else:
        size = row_share(n_rows, n_threads)
    scale = 1.0 / batch_weight(targets.weights, rows)
    lo = t * size  # a share's place, or that of all shards of a thread, one after the other
    for k in range(first, last):
        count = min(size, n_rows - k * size)
        if count <= 0:
            break
        here = window(rows, k * size, count)
        rows_step(t, region, s & 1, lo, lo + count, n_rows, scale, plan, buffers, X, targets, here, step + s)
        if plan.header[SHARD] > 0:
            buffers.row_loss[n_threads * size + k] = sum_of_losses(lo, count, buffers)
            tiles_step(t, k, s & 1, lo, lo + count, 0.0, 0.0, 0.0, plan, buffers, X, here, hyper)


@by_type_inlined
def _rows_share(t, region, s, plan, buffers, X, targets, order, hyper, step):
    """Forward, loss and deltas of step s, for the rows of thread t; of its shards the gradients too."""
    return _whole_blocks if uses(plan, "batch_norm") else _even_rows


def _straight(t, slot, n_rows, rate, correction, l2, plan, buffers, X, order, hyper):
    what = SUMS if plan.header[SHARD] > 0 else WHOLE
    tiles_step(t, what, slot, 0, n_rows, rate, correction, l2, plan, buffers, X, order, hyper)


def _clipped(t, slot, n_rows, rate, correction, l2, plan, buffers, X, order, hyper):
    clipped_updates(t, rate, correction, l2, plan, buffers, hyper)


@by_type_inlined
def _update_share(t, slot, n_rows, rate, correction, l2, plan, buffers, X, order, hyper):
    """The update of a batch's n_rows, for thread t: from gradients stored before, where their norm is clipped."""
    return _clipped if uses(plan, "clipping") else _straight


@kernel.inlined
def _tiles_share(t, s, losses, plan, buffers, X, targets, order, rates, hyper, step):
    """The update of step s - 1 and, with owners, the first layer's forward of step s, for thread t."""
    if s > 0:
        rows, convention = _batch_rows(s - 1, plan, order), plan.header[CONVENTION]
        n_rows, size = rows.shape[0], plan.header[SHARD]
        if t == 0 and size > 0:
            losses[s - 1] = sum_of_losses((plan.shares.shape[1] - 1) * size, (n_rows + size - 1) // size, buffers)
        elif t == 0:
            losses[s - 1] = sum_of_losses(0, n_rows, buffers)
        rate, correction = step_scalars(plan.header[OPTIMIZER], convention, hyper, rates[s - 1], step + s)
        l2 = hyper[L2]
        if convention == SCIKIT_LEARN:
            l2 = l2 / batch_weight(targets.weights, rows)
        _update_share(t, (s - 1) & 1, n_rows, rate, correction, l2, plan, buffers, X, rows, hyper)
    if plan.header[OWNERS] and s < rates.shape[0]:
        rows = _batch_rows(s, plan, order)
        weights = window(targets.weights, 0, targets.weights.shape[0])
        owned_forward(t, s & 1, rows.shape[0], plan, buffers, X, weights, rows)


def _two_regions(plan):
    return 2


def _regions_of_plan(plan):
    return plan.regions.shape[0]


@by_type_inlined
def _regions_of_step(plan):
    return _two_regions if plan.types[plan.fields.index("regions")] == types.none else _regions_of_plan


def _no_gradients(t, region, s, plan, buffers, X, order):
    return False


def _gradients(t, region, s, plan, buffers, X, order):
    if plan.regions[region, WHAT] != GRADIENTS:
        return False
    rows = _batch_rows(s, plan, order)
    stored_gradients(t, s & 1, 0, rows.shape[0], plan, buffers, X, rows)
    return True


@by_type_inlined
def _gradients_share(t, region, s, plan, buffers, X, order):
    """A region of gradients, for thread t, and True; False for any other region."""
    return _gradients if uses(plan, "clipping") else _no_gradients


@kernel
def _go_through_steps(t, losses, plan, buffers, X, targets, order, rates, hyper, step):
    """All regions of all steps, together with whoever else does so: thread t's shares, and any that nobody takes."""
    plan, buffers, X, targets, order = unowned(plan), unowned(buffers), unowned(X), unowned(targets), unowned(order)
    n_shares, in_step = plan.shares.shape[1] - 1, _regions_of_step(plan)
    n_regions = in_step * rates.shape[0] + 1
    region = region_under_way(plan.crew, n_shares)
    while region < n_regions:
        for i in range(n_shares):
            share = (t + i) % n_shares
            if take_share(plan.crew, region, share):
                s, here = region // in_step, region % in_step
                if here == 1 and share == 0:
                    if s > 0:
                        _finish_step(s - 1, losses, plan, buffers, targets, order, hyper)
                    begin_step(plan, hyper, rates[s], step + s + 1)  # nobody reads what it writes before the update
                if here == 0:
                    _tiles_share(share, s, losses, plan, buffers, X, targets, order, rates, hyper, step)
                elif not _gradients_share(share, here, s, plan, buffers, X, order):
                    _rows_share(share, here, s, plan, buffers, X, targets, order, hyper, step)
                finish_share(plan.crew)
        meet(plan.crew, region, n_shares)
        region += 1


@parallel
def train_steps(losses, plan, buffers, X, targets, order, rates, hyper, step):
    """One optimizer step on each consecutive batch of ``order``.

    Parameters
    ----------
    losses : ndarray of float64, shape (n_steps,)
        Loss of each batch before its update; overwritten.
    plan, buffers, X, targets
        See ``fastbp.kernels.layout``. Parameters, moments and work are updated.
    order : ndarray of intp, shape (n_rows + AHEAD,)
        Rows of X; the last ``AHEAD`` are asked for by the processor, but belong to no batch.
    rates : ndarray of float64, shape (n_steps,)
        Learning rates.
    hyper : ndarray of float64, shape (HYPER_SIZE,)
    step : int
        Steps taken before this call.
    """
    n_threads, n_steps = plan.shares.shape[1] - 1, rates.shape[0]
    for i in range(plan.crew.shape[0]):
        plan.crew[i] = 0
    for t in prange(n_threads):
        _go_through_steps(t, losses, plan, buffers, X, targets, order, rates, hyper, step)
    if n_steps > 0:
        _finish_step(n_steps - 1, losses, plan, buffers, targets, order, hyper)


@kernel
def apply_gradients(gradients, plan, buffers, hyper, rate, step, weight):
    """One optimizer step with given gradients, laid out as the parameters, which may be overwritten.

    ``step`` is 1 for the first.
    """
    header = plan.header
    clip_gradients(gradients, plan, buffers, hyper)
    begin_step(plan, hyper, rate, step)
    rate, correction = step_scalars(header[OPTIMIZER], header[CONVENTION], hyper, rate, step)
    l2 = hyper[L2] / weight if header[CONVENTION] == SCIKIT_LEARN else hyper[L2]
    for i in range(plan.items.shape[0]):
        item = plan.items[i]
        start, size = tile_place(item, plan)
        G = window(gradients, start, size)
        tile_update(item, G, rate, correction, l2, plan, buffers, hyper)
