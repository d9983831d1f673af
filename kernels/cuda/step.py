"""One training step on a GPU: what ``kernels/reference/step.py`` explains, cut into phases.

forward    tiles of Z_l = A_{l-1} W_l + b_l, with f_l behind the product; narrow layers and all else by rows
loss       by rows, with delta_L = dL / dZ_L
backward   tiles of delta_l W_l^T, with f' behind the product; W is read as it lies
update     tiles of dW_l = A_{l-1}^T delta_l, with the optimizer behind the product (``update.py``)

A block takes every ``gridDim``-th unit of a phase. Which block that is changes no sum, and so no bit.
"""

import functools

from fastbp.kernels.cuda._target import WIDTH, cuda, device, group_sync, inlined
from fastbp.kernels.cuda.batch_norm import batch_norm_of
from fastbp.kernels.cuda.gemm import product_of
from fastbp.kernels.cuda.layout import (
    BACKWARD,
    BACKWARD_AT,
    BACKWARD_PARTS,
    COLUMNS,
    COLUMNS_BACK,
    FINISHES,
    FINISHES_INPUT,
    FIRST,
    FORWARD,
    FORWARD_AT,
    FORWARD_PARTS,
    GATHER,
    LAST,
    LAYER,
    OPERATION,
    PHASE,
    ROW_BACKWARD,
    ROW_COMBINE,
    ROW_COMBINE_BACK,
    ROW_FINISH,
    ROW_FORWARD,
    ROW_LOSS,
    ROW_OUTPUT,
    ROWS,
    TASK,
)
from fastbp.kernels.cuda.loss_rows import link_of, loss_of
from fastbp.kernels.cuda.operations import backward_of, finish_of, forward_of, gather_row, own_activation
from fastbp.kernels.cuda.optimizers import AT_SCALE
from fastbp.kernels.cuda.rectifiers import element_functions, uses_slopes
from fastbp.kernels.layout import (
    ADDS,
    ADDS_TO_INPUT,
    BATCH,
    BIAS,
    DELTAS,
    FAN_IN,
    FAN_OUT,
    GRADIENT,
    GROUP,
    INPUT,
    N_LAYERS,
    OUT,
    OUT_LD,
    SLOPE,
    WEIGHTS,
)

# Rows of tiles that neighbouring blocks share out among them: their rows of A and columns of B then meet in the
# second-level cache
BAND = 8


@functools.cache
def places_of(tile):
    """(tile_count, tile_place) of an m x n product."""
    tile_rows, tile_columns = tile.rows, tile.columns

    @device
    def tile_count(m, n):
        return ((m + tile_rows - 1) // tile_rows) * ((n + tile_columns - 1) // tile_columns)

    @device
    def tile_place(unit, m, n):
        """(part of the sum, first row, first column)."""
        high, wide = (m + tile_rows - 1) // tile_rows, (n + tile_columns - 1) // tile_columns
        part = unit // (high * wide)
        rest = unit - part * high * wide
        band = rest // (BAND * wide)
        rest -= band * BAND * wide
        rows = min(BAND, high - band * BAND)
        column = rest // rows
        return part, (band * BAND + rest - column * rows) * tile_rows, column * tile_columns

    return tile_count, tile_place


@functools.cache
def part_of(depth):
    """part_range(part, parts, K): k of one part of a sum, cut at multiples of a tile's depth."""

    @device
    def part_range(part, parts, K):
        size = ((K + parts - 1) // parts + depth - 1) // depth * depth
        return min(part * size, K), min(part * size + size, K)

    return part_range


@functools.cache
def layer_forward_of(spec):
    """layer_forward(unit, layer, n_rows, program, buffers, partials, X, places, first): one tile of Z, or of a part."""
    element_forward, _ = element_functions(spec.codes)
    slopes = uses_slopes(spec.codes) and spec.mode == "train"

    @inlined
    def prepare(context):
        """What the epilogue needs, looked up behind the loop over k, which needs the registers."""
        program, buffers, partials, layer, part = context
        table = program.table
        at = table[layer, FORWARD_AT] + part * program.header[BATCH] * table[layer, OUT_LD]
        return (
            buffers.work, buffers.parameters, partials, table[layer, FORWARD_PARTS], at, table[layer, BIAS],
            table[layer, OUT], table[layer, SLOPE], table[layer, OUT_LD], own_activation(layer, program),
        )  # fmt: skip

    @inlined
    def leave(i, j, value, prepared):
        """A = f(Z), or the part of the sum."""
        work, parameters, partials, parts, at, bias, start, slope, ld, code = prepared
        if parts > 1:
            partials[at + i * ld + j] = value
        else:
            a, s = element_forward(value + parameters[bias + j], code)
            work[start + i * ld + j] = a
            if slopes:
                if slope > 0:
                    work[slope + i * ld + j] = s

    product = product_of("forward", spec.tile, spec.real, spec.precision, leave, prepare)
    part_range, (_, tile_place) = part_of(spec.tile.depth), places_of(spec.tile)

    @device
    def layer_forward(unit, layer, n_rows, program, buffers, partials, X, places, first):
        table = program.table
        K, n, below = table[layer, FAN_IN], table[layer, FAN_OUT], table[layer, INPUT]
        part, row, column = tile_place(unit, n_rows, n)
        start, end = part_range(part, table[layer, FORWARD_PARTS], K)
        A, a, lda = X, 0, K
        if below >= 0:
            A, a, lda = buffers.work, table[below, OUT], table[below, OUT_LD]
        product(
            A, a, lda, places, first, below < 0, buffers.parameters, table[layer, WEIGHTS],
            (n + GROUP - 1) // GROUP * GROUP, n_rows, n, start, end, row, column,
            (program, buffers, partials, layer, part),
        )  # fmt: skip

    return layer_forward


@functools.cache
def layer_backward_of(spec):
    """layer_backward(unit, layer, n_rows, program, buffers, partials, places): one tile of what a delta hands on."""
    finished = finish_of(spec)

    @inlined
    def prepare(context):
        """As in the forward: looked up behind the loop over k."""
        program, buffers, partials, layer, part = context
        table = program.table
        below = table[layer, INPUT]
        at = table[layer, BACKWARD_AT] + part * program.header[BATCH] * table[below, OUT_LD]
        return (
            program, buffers.work, partials, table[layer, BACKWARD_PARTS], at,
            program.header[DELTAS] + table[below, OUT], table[below, OUT_LD],
            (table[layer, ADDS] & ADDS_TO_INPUT) > 0, (table[layer, FINISHES] & FINISHES_INPUT) > 0, below,
        )  # fmt: skip

    @inlined
    def leave(i, j, value, prepared):
        """dL / dA of the input, times f' where it is complete, or the part of the sum."""
        program, work, partials, parts, at, start, ld, adds, finishes, below = prepared
        if parts > 1:
            partials[at + i * ld + j] = value
        else:
            if adds:
                value += work[start + i * ld + j]
            if finishes:
                value = finished(value, below, i * ld + j, program, work)
            work[start + i * ld + j] = value

    product = product_of("backward", spec.tile, spec.real, spec.precision, leave, prepare)
    part_range, (_, tile_place) = part_of(spec.tile.depth), places_of(spec.tile)

    @device
    def layer_backward(unit, layer, n_rows, program, buffers, partials, places):
        table, K = program.table, program.table[layer, FAN_OUT]
        part, row, column = tile_place(unit, n_rows, table[layer, FAN_IN])
        start, end = part_range(part, table[layer, BACKWARD_PARTS], K)
        product(
            buffers.work, program.header[DELTAS] + table[layer, OUT], table[layer, OUT_LD], places, 0, False,
            buffers.parameters, table[layer, WEIGHTS], (K + GROUP - 1) // GROUP * GROUP, n_rows, table[layer, FAN_IN],
            start, end, row, column, (program, buffers, partials, layer, part),
        )  # fmt: skip

    return layer_backward


@functools.cache
def rows_step_of(spec):
    """rows_step(lane, r, first, last, program, ...): tasks first .. last for one row."""
    row_forward, combine = forward_of(spec)
    row_backward, combine_back, finish_row = backward_of(spec)
    real = spec.real
    loss_backward = loss_of(
        spec.loss, spec.loss_convention, spec.soft_targets, spec.n_blocks, spec.link, spec.codes, real
    )
    last_forward = link_of(spec.link, spec.codes, real)
    gathers, forwards, combines, looks, predicts = (
        task in spec.tasks for task in (GATHER, ROW_FORWARD, ROW_COMBINE, ROW_LOSS, ROW_OUTPUT)
    )
    hands_on, combines_back, finishes = (task in spec.tasks for task in (ROW_BACKWARD, ROW_COMBINE_BACK, ROW_FINISH))

    @device
    def leave_loss(lane, r, program, buffers, targets, sample, scale):
        """The loss of a row, and its delta."""
        last = program.header[N_LAYERS] - 1
        place = r * program.table[last, OUT_LD]
        z, slope = program.table[last, OUT] + place, program.table[last, SLOPE] + place
        d, n = program.header[DELTAS] + z, program.table[last, FAN_OUT]
        loss = loss_backward(lane, buffers.work, z, d, slope, n, targets, sample, scale)
        if lane == 0:
            buffers.row_loss[r] = loss

    @device
    def leave_outputs(lane, r, program, buffers, out, place):
        """The outputs of a row, without padding."""
        last = program.header[N_LAYERS] - 1
        z, n = program.table[last, OUT] + r * program.table[last, OUT_LD], program.table[last, FAN_OUT]
        last_forward(lane, buffers.work, z, n)
        group_sync()
        for j in range(lane, n, WIDTH):
            out[place * n + j] = buffers.work[z + j]

    @device
    def rows_step(
        lane, r, first, last, program, buffers, partials, X, targets, source, sample, scale, step, out, place
    ):
        """Tasks first .. last for one row, which is row ``place`` of the order."""
        for t in range(first, last):
            task, layer = program.tasks[t, TASK], program.tasks[t, OPERATION]
            if gathers:
                if task == GATHER:
                    gather_row(lane, r, program, buffers, X, source)
            if forwards:
                if task == ROW_FORWARD:
                    row_forward(lane, layer, r, program, buffers, X, source, sample, step)
            if combines:
                if task == ROW_COMBINE:
                    combine(lane, layer, r, program, buffers, partials)
            if predicts:
                if task == ROW_OUTPUT:
                    leave_outputs(lane, r, program, buffers, out, place)
            if looks:
                if task == ROW_LOSS:
                    leave_loss(lane, r, program, buffers, targets, sample, scale)
            if hands_on:
                if task == ROW_BACKWARD:
                    row_backward(lane, layer, r, program, buffers, sample, step)
            if combines_back:
                if task == ROW_COMBINE_BACK:
                    combine_back(lane, layer, r, program, buffers, partials)
            if finishes:
                if task == ROW_FINISH:
                    finish_row(lane, layer, r, program, buffers)
            group_sync()

    return rows_step


@functools.cache
def step_of(spec):
    """run(p, n_rows, program, buffers, partials, X, targets, order, places, first, numbers, row, step, out): a phase.

    All but the update. ``order`` has the rows of the data, ``places`` where they lie in X: the same but for data that
    is streamed. ``first`` is the batch's first place in both, ``row`` that of the step in ``numbers``.
    """
    tile_count, _ = places_of(spec.tile)
    n_groups, evaluates, moves_running = spec.tile.threads // WIDTH, spec.mode == "evaluate", spec.optimizer != GRADIENT
    forwards, backwards, by_rows = (phase in spec.phases for phase in (FORWARD, BACKWARD, ROWS))
    columns, columns_back = (phase in spec.phases for phase in (COLUMNS, COLUMNS_BACK))
    layer_forward = layer_forward_of(spec) if forwards else None
    layer_backward = layer_backward_of(spec) if backwards else None
    rows_step = rows_step_of(spec) if by_rows else None
    normalize_columns, hand_on_columns = (
        batch_norm_of(n_groups, moves_running, spec.codes, spec.real) if columns or columns_back else (None, None)
    )

    @device
    def run(p, n_rows, program, buffers, partials, X, targets, order, places, first, numbers, row, step, out):
        what, layer, block, n_blocks = (
            program.phases[p, PHASE],
            program.phases[p, LAYER],
            cuda.blockIdx.x,
            cuda.gridDim.x,
        )
        if forwards:
            if what == FORWARD:
                units = tile_count(n_rows, program.table[layer, FAN_OUT]) * program.table[layer, FORWARD_PARTS]
                for unit in range(block, units, n_blocks):
                    layer_forward(unit, layer, n_rows, program, buffers, partials, X, places, first)
        if backwards:
            if what == BACKWARD:
                units = tile_count(n_rows, program.table[layer, FAN_IN]) * program.table[layer, BACKWARD_PARTS]
                for unit in range(block, units, n_blocks):
                    layer_backward(unit, layer, n_rows, program, buffers, partials, places)
        if by_rows:
            if what == ROWS:
                thread = cuda.threadIdx.x
                group = thread // WIDTH
                lane = thread - group * WIDTH
                scale = numbers[row + AT_SCALE]
                # rows first to all blocks, and then to their groups: a batch of 64 keeps 64 multiprocessors busy
                for r in range(group * n_blocks + block, n_rows, n_groups * n_blocks):
                    rows_step(
                        lane, r, program.phases[p, FIRST], program.phases[p, LAST], program, buffers, partials, X,
                        targets, places[first + r], order[first + r], scale, step, out, first + r,
                    )  # fmt: skip
                    if evaluates:
                        if lane == 0:
                            out[first + r] = buffers.row_loss[r]
        if columns:
            if what == COLUMNS:
                units = (program.table[layer, FAN_OUT] + WIDTH - 1) // WIDTH
                for unit in range(block, units, n_blocks):
                    normalize_columns(
                        unit, layer, n_rows, program, buffers, program.constants, targets, order, first,
                        numbers[row + AT_SCALE],
                    )  # fmt: skip
        if columns_back:
            if what == COLUMNS_BACK:
                units = (program.table[layer, FAN_OUT] + WIDTH - 1) // WIDTH
                for unit in range(block, units, n_blocks):
                    hand_on_columns(
                        unit, layer, n_rows, program, buffers, program.constants, targets, order, first,
                        numbers[row + AT_SCALE],
                    )  # fmt: skip

    return run
