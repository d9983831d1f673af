"""Many training steps, and one with given gradients."""

from fastbp.kernels.layout import (
    AHEAD,
    BATCH,
    BATCH_NORM,
    CONVENTION,
    KIND,
    L2,
    OPTIMIZER,
    OWNERS,
    ROWS,
    SCIKIT_LEARN,
    SHARD,
    SQUARES,
    WHAT,
)
from fastbp.kernels.reference.batch_norm import block_rows
from fastbp.kernels.reference.clipping import clip_gradients, clipped_updates, stored_gradients
from fastbp.kernels.reference.optimizers import step_scalars
from fastbp.kernels.reference.rules import begin_step
from fastbp.kernels.reference.step import batch_loss, batch_weight, owned_forward, rows_step, sum_of_losses
from fastbp.kernels.reference.update import SUMS, WHOLE, tile_place, tile_update, tiles_step


def train_steps(losses, plan, buffers, X, targets, order, rates, hyper, step, *, n_threads=1):
    """One optimizer step on each consecutive batch of ``order``; ``n_threads`` is ignored.

    ``losses`` takes the loss of each batch before its update; ``step`` is the number of steps before this call. The
    last ``AHEAD`` entries of ``order`` belong to no batch.
    """
    order = order[: len(order) - AHEAD]
    header, threads = plan.header, range(plan.shares.shape[1] - 1)
    norms = (plan.table[:, KIND] == BATCH_NORM).any()
    batch, optimizer, convention = header[BATCH], header[OPTIMIZER], header[CONVENTION]
    for s, rate in enumerate(rates.tolist()):
        now, slot = order[s * batch : (s + 1) * batch], s % 2
        n_rows, weight = len(now), batch_weight(targets.weights, now)
        if header[OWNERS]:
            for t in threads:
                owned_forward(t, slot, n_rows, plan, buffers, X, targets.weights, now)
        size = header[SHARD]
        for k in range(-(-n_rows // size) if size else 0):
            here = now[k * size : (k + 1) * size]
            rows_step(0, 1, slot, 0, len(here), n_rows, 1 / weight, plan, buffers, X, targets, here, step + s)
            buffers.row_loss[len(threads) * size + k] = sum_of_losses(0, len(here), buffers)
            tiles_step(0, k, slot, 0, len(here), 0.0, 0.0, 0.0, plan, buffers, X, here, hyper)
        for region in range(1, 2 if plan.regions is None else len(plan.regions)) if not size else ():
            if plan.regions is not None and plan.regions[region, WHAT] != ROWS:
                continue
            for t in threads if norms else (0,):
                lo, hi = block_rows(t, n_rows, plan) if norms else (0, n_rows)
                here = now[lo:hi]
                if lo < hi:
                    rows_step(t, region, slot, lo, hi, n_rows, 1 / weight, plan, buffers, X, targets, here, step + s)
        begin_step(plan, hyper, rate, step + s + 1)
        rate, correction = step_scalars(optimizer, convention, hyper, rate, step + s + 1)
        l2 = float(hyper[L2])
        l2_of_step = l2 / weight if convention == SCIKIT_LEARN else l2
        summed = (len(threads) * size, -(-n_rows // size)) if size else (0, n_rows)
        loss = sum_of_losses(*summed, buffers)
        for t in threads if header[SQUARES] else ():
            stored_gradients(t, slot, 0, n_rows, plan, buffers, X, now)
        for t in threads:
            what = SUMS if size else WHOLE
            if header[SQUARES]:
                clipped_updates(t, rate, correction, l2_of_step, plan, buffers, hyper)
                continue
            tiles_step(t, what, slot, 0, n_rows, rate, correction, l2_of_step, plan, buffers, X, now, hyper)
        losses[s] = batch_loss(loss, weight, l2, plan, buffers)


def apply_gradients(gradients, plan, buffers, hyper, rate, step, weight):
    """One optimizer step with given gradients, laid out as the parameters, which may be overwritten.

    ``step`` is 1 for the first.
    """
    header = plan.header
    clip_gradients(gradients, plan, buffers, hyper)
    begin_step(plan, hyper, rate, step)
    rate, correction = step_scalars(header[OPTIMIZER], header[CONVENTION], hyper, rate, step)
    l2 = float(hyper[L2]) / weight if header[CONVENTION] == SCIKIT_LEARN else float(hyper[L2])
    for item in plan.items:
        start, _ = tile_place(item, plan)
        tile_update(item, gradients[start:], rate, correction, l2, plan, buffers, hyper)
