"""Gradient and update by tiles of W, dW_l = A_{l-1}^T delta_l with the optimizer behind it; and what else is trained.

A gradient whose sum is cut, or that is to be clipped by its norm, is stored, and follows in ``clipping.py``.
"""

import functools

import numpy as np

from fastbp.kernels.cuda._target import SIMULATED, WIDTH, cuda, device, inlined, like
from fastbp.kernels.cuda.gemm import product_of
from fastbp.kernels.cuda.layout import (
    COLUMN,
    GRADIENT_AT,
    GRADIENT_PARTS,
    ITEM,
    LO,
    OF_LAYER,
    SPLIT,
    TILE_ITEM,
    VECTOR_ITEM,
    VECTORS_AT,
)
from fastbp.kernels.cuda.operations import output_place
from fastbp.kernels.cuda.optimizers import AT_L2, AT_SCALE
from fastbp.kernels.cuda.rules import rule_of
from fastbp.kernels.cuda.step import part_of
from fastbp.kernels.layout import (
    BATCH_NORM,
    BIAS,
    DELTAS,
    DENSE,
    FAN_IN,
    FAN_OUT,
    GROUP,
    INPUT,
    KIND,
    LAYER_NORM,
    N_PARAMETERS,
    OUT,
    OUT_LD,
    STATS,
    WEIGHTS,
)


@functools.cache
def block_sum_of(n_threads, real):
    """block_sum(x): the sum over a block's threads, in their order, the same in each of them."""
    dtype = np.dtype(real)

    @device
    def block_sum(x):
        if SIMULATED:
            parts = cuda.shared.array(n_threads, dtype)
        else:
            # dynamic: a static array belongs to one function with one caller, or NVVM finds its name twice
            parts = cuda.shared.array(0, dtype, 16)
        cuda.syncthreads()
        parts[cuda.threadIdx.x] = x
        cuda.syncthreads()
        distance = n_threads // 2
        while distance > 0:
            if cuda.threadIdx.x < distance:
                parts[cuda.threadIdx.x] += parts[cuda.threadIdx.x + distance]
            cuda.syncthreads()
            distance //= 2
        total = parts[0]
        cuda.syncthreads()  # what comes next may lie at the same place
        return total

    return block_sum


@functools.cache
def rule_for(spec):
    """The optimizer that a network is compiled with."""
    return rule_of(
        spec.optimizer,
        spec.convention,
        spec.nesterov,
        spec.adjusts,
        spec.averages,
        spec.n_moments,
        np.dtype(spec.real).type,
    )


@functools.cache
def tile_update_of(spec):
    """tile_update(item, n_rows, program, buffers, store, X, places, first, numbers, row, norms): a tile of W."""
    apply_rule, stores = rule_for(spec), spec.clipping
    tile_rows, tile_columns, n_threads = spec.tile.rows, spec.tile.columns, spec.tile.threads
    block_sum, part_range, reports = block_sum_of(n_threads, "float64"), part_of(spec.tile.depth), spec.reports

    @inlined
    def prepare(context):
        """What the epilogue needs, looked up behind the loop over k, which needs the registers."""
        program, buffers, store, layer, part, numbers, row = context
        table = program.table
        width = (table[layer, FAN_OUT] + GROUP - 1) // GROUP * GROUP
        return (
            buffers.parameters, buffers.moments, store.partials, table[layer, GRADIENT_PARTS] > 1 or stores,
            table[layer, GRADIENT_AT] + part * table[layer, FAN_IN] * width, program.header[N_PARAMETERS],
            table[layer, WEIGHTS], width, numbers, row,
        )  # fmt: skip

    @inlined
    def leave(i, j, value, prepared):
        """One step of the optimizer on an element, or its gradient for later."""
        parameters, moments, partials, stored, at, size, start, width, numbers, row = prepared
        if stored:
            partials[at + i * width + j] = value
        else:
            apply_rule(parameters, moments, size, start + i * width + j, value, True, numbers, row)

    product = product_of("gradient", spec.tile, spec.real, spec.precision, leave, prepare)

    @device
    def leave_norm(item, lo, column, layer, program, parameters, norms, at):
        """|W|^2 of a tile before its update: scikit-learn reports it with the loss."""
        n, fan_in, total = program.table[layer, FAN_OUT], program.table[layer, FAN_IN], 0.0
        width = (n + GROUP - 1) // GROUP * GROUP
        for e in range(cuda.threadIdx.x, tile_rows * tile_columns, n_threads):
            i = e // tile_columns
            j = column + e - i * tile_columns
            if lo + i < fan_in and j < n:
                w = parameters[program.table[layer, WEIGHTS] + (lo + i) * width + j]
                total += w * w
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            norms[at + item] = total

    @device
    def tile_update(item, n_rows, program, buffers, store, X, places, first, numbers, row, at):
        table, layer = program.table, program.items[item, OF_LAYER]
        lo, column, part = program.items[item, LO], program.items[item, COLUMN], program.items[item, SPLIT]
        m, n, below, parts = (
            table[layer, FAN_IN],
            table[layer, FAN_OUT],
            table[layer, INPUT],
            table[layer, GRADIENT_PARTS],
        )
        if reports:
            if parts == 1 and not stores and numbers[row + AT_L2] != 0:
                leave_norm(item, lo, column, layer, program, buffers.parameters, store.norms, at)
        start, end = part_range(part, parts, n_rows)
        A, a, lda = X, 0, m
        if below >= 0:
            A, a, lda = buffers.work, table[below, OUT], table[below, OUT_LD]
        product(
            A, a, lda, places, first, below < 0, buffers.work, program.header[DELTAS] + table[layer, OUT],
            table[layer, OUT_LD], m, n, start, end, lo, column, (program, buffers, store, layer, part, numbers, row),
        )  # fmt: skip

    return tile_update


@functools.cache
def vector_update_of(spec):
    """vector_update(item, n_rows, program, buffers, store, numbers, row): ``WIDTH`` elements of b, beta or gamma."""
    apply_rule, stores, dtype = rule_for(spec), spec.clipping, np.dtype(spec.real)
    n_groups, n_threads = spec.tile.threads // WIDTH, spec.tile.threads
    dense, layer_norms, batch_norms = DENSE in spec.kinds, LAYER_NORM in spec.kinds, BATCH_NORM in spec.kinds

    @device
    def column_sum(group, j, layer, which, n_rows, program, work):
        """What the rows of one group add to db = dbeta = the sum of delta, or dgamma = the sum of delta x^."""
        table = program.table
        d, ld = program.header[DELTAS] + table[layer, OUT] + j, table[layer, OUT_LD]
        total = like(work[d], 0)
        for r in range(group, n_rows, n_groups):
            value = work[d + r * ld]
            if layer_norms:
                if which == 1:
                    stats = table[layer, STATS] + 2 * r
                    x = work[output_place(table[layer, INPUT], r, program) + j]
                    value *= (x - work[stats]) * work[stats + 1]
            total += value
        return total

    @device
    def vector_update(item, n_rows, program, buffers, store, numbers, row):
        if SIMULATED:
            parts = cuda.shared.array(n_threads, dtype)
        else:
            parts = cuda.shared.array(0, dtype, 16)
        table, thread, layer = program.table, cuda.threadIdx.x, program.items[item, OF_LAYER]
        which, group = program.items[item, LO], thread // WIDTH
        j, n = program.items[item, COLUMN] + thread - group * WIDTH, table[layer, FAN_OUT]
        width, kind = (n + GROUP - 1) // GROUP * GROUP, table[layer, KIND]
        cuda.syncthreads()
        if j < n:
            if batch_norms:
                if kind == BATCH_NORM:
                    parts[thread] = buffers.work[table[layer, STATS] + (2 + which) * width + j]
            if dense or layer_norms:
                if kind != BATCH_NORM:
                    parts[thread] = column_sum(group, j, layer, which, n_rows, program, buffers.work)
        cuda.syncthreads()
        if group == 0 and j < n:
            g = parts[thread]
            if kind != BATCH_NORM:
                for k in range(1, n_groups):
                    g += parts[thread + k * WIDTH]
            if stores:
                store.partials[table[layer, VECTORS_AT] + which * width + j] = g
            else:
                at = (table[layer, BIAS] if which == 0 else table[layer, WEIGHTS]) + j
                size = program.header[N_PARAMETERS]
                apply_rule(buffers.parameters, buffers.moments, size, at, g, False, numbers, row)
        cuda.syncthreads()  # a tile that comes next lies at the same place

    return vector_update


@functools.cache
def losses_of(spec):
    """(leave_loss, add_penalty): the loss of a step, and what scikit-learn adds to it."""
    n_threads = spec.tile.threads
    block_sum = block_sum_of(n_threads, "float64")

    @device
    def leave_loss(losses, s, n_rows, buffers, numbers, row):
        """The mean over the batch: a thread adds up every so many rows, and then they are added up."""
        total = 0.0
        for r in range(cuda.threadIdx.x, n_rows, n_threads):
            total += buffers.row_loss[r]
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            losses[s] = total * numbers[row + AT_SCALE]

    @device
    def add_penalty(losses, s, norms, at, count, numbers, row):
        """l2 / 2 |W|^2 over the weight of the batch, which is in the step's l2 already."""
        total = 0.0
        for k in range(cuda.threadIdx.x, count, n_threads):
            total += norms[at + k]
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            losses[s] += 0.5 * numbers[row + AT_L2] * total

    return leave_loss, add_penalty


@functools.cache
def tiles_step_of(spec):
    """tiles_step(n_items, n_rows, program, ..., losses, s, since): the update.

    ``s`` is the step in ``losses``, and ``since`` the first of this launch: the penalty of each step is added by the
    next one, when all its norms are there, and that of the last by :func:`fastbp.kernels.cuda.training.train_steps`.
    """
    tile_update, vector_update = tile_update_of(spec) if DENSE in spec.kinds else None, vector_update_of(spec)
    leave_loss, add_penalty = losses_of(spec)
    dense, reports = DENSE in spec.kinds, spec.reports

    @device
    def tiles_step(
        n_items, n_rows, program, buffers, store, X, places, first, numbers, row, width, losses, s, since
    ):  # fmt: skip
        count = store.norms.shape[0] // 2
        for item in range(cuda.blockIdx.x, n_items, cuda.gridDim.x):
            what = program.items[item, ITEM]
            if dense:
                if what == TILE_ITEM:
                    at = (s & 1) * count
                    tile_update(item, n_rows, program, buffers, store, X, places, first, numbers, row, at)
            if what == VECTOR_ITEM:
                vector_update(item, n_rows, program, buffers, store, numbers, row)
            elif what != TILE_ITEM:
                leave_loss(losses, s, n_rows, buffers, numbers, row)
                if reports:
                    if s > since:
                        add_penalty(losses, s - 1, store.norms, ((s - 1) & 1) * count, count, numbers, row - width)

    return tiles_step
