"""What a group of threads does to one row of the batch, forward and backward, operation by operation.

Row ``r`` of the workspace is row ``sample`` of the data, and lies in row ``source`` of X. ``program`` is
:class:`fastbp.kernels.cuda.layout.Program`, ``buffers`` :class:`fastbp.kernels.layout.Buffers`. The lanes of a group
take every ``WIDTH``-th column.
"""

import functools

import numpy as np

from fastbp.kernels.cuda._target import WIDTH, cuda, device, group_sum, group_sync, inlined, like, load4
from fastbp.kernels.cuda.dropout import dropout_row
from fastbp.kernels.cuda.layout import (
    BACKWARD_AT,
    BACKWARD_PARTS,
    FINISHES,
    FINISHES_INPUT,
    FINISHES_SOURCE,
    FORWARD_AT,
    FORWARD_PARTS,
    THRESHOLD,
)
from fastbp.kernels.cuda.normalization import batch_norm_inference, layer_norm_backward, layer_norm_forward
from fastbp.kernels.cuda.rectifiers import element_functions, uses_slopes
from fastbp.kernels.cuda.residual import add_row, hand_on_row
from fastbp.kernels.layout import (
    ACTIVATION,
    ADD,
    ADDS,
    ADDS_TO_INPUT,
    ADDS_TO_SOURCE,
    BATCH,
    BATCH_NORM,
    BIAS,
    DELTAS,
    DENSE,
    DROPOUT,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    GROUP,
    IDENTITY,
    INPUT,
    INPUT_ASKS,
    KIND,
    LAYER_NORM,
    N_LAYERS,
    OUT,
    OUT_LD,
    RUNNING,
    SEED,
    SLOPE,
    SOURCE,
    SOURCE_ASKS,
    STATS,
    WEIGHTS,
)


@device
def output_place(layer, r, program):
    """Where row r of an operation's outputs starts in ``work``; layer -1 is the copy of a batch's rows of X."""
    if layer < 0:
        return program.header[GATHERED] + r * program.header[GATHERED_LD]
    return program.table[layer, OUT] + r * program.table[layer, OUT_LD]


@device
def own_activation(layer, program):
    """The activation that an operation applies itself: the last one leaves it to the loss."""
    if layer == program.header[N_LAYERS] - 1:
        return IDENTITY
    return program.table[layer, ACTIVATION]


@functools.cache
def narrow_product_of(real):
    """narrow_product(lane, work, y, A, a, parameters, W, ld, b, n, K): Z = A W + b for one row.

    A lane takes every ``WIDTH``-th k, of 16 columns at a time, and then the lanes' sums are added up: with a lane to a
    column, 128 x 10 would be 128 loads in a row by 10 of 32 lanes.
    """
    dtype, zero = np.dtype(real), np.dtype(real).type(0)

    @inlined
    def narrow_product(lane, work, y, A, a, parameters, W, ld, b, n, K):
        sums = cuda.local.array(GROUP, dtype)
        for first in range(0, n, GROUP):
            for j in range(GROUP):
                sums[j] = zero
            for k in range(lane, K, WIDTH):
                x, at = A[a + k], W + k * ld + first
                for j in range(0, GROUP, 4):
                    w = load4(parameters, at + j)
                    sums[j] += x * w[0]
                    sums[j + 1] += x * w[1]
                    sums[j + 2] += x * w[2]
                    sums[j + 3] += x * w[3]
            for j in range(GROUP):
                sums[j] = group_sum(sums[j])
            for j in range(GROUP):
                if lane == j % WIDTH and first + j < n:
                    work[y + first + j] = sums[j] + parameters[b + first + j]

    return narrow_product


@device
def gather_row(lane, r, program, buffers, X, source):
    """Copy a row of X to where what is no dense layer reads it."""
    place, n = output_place(-1, r, program), program.table[0, FAN_IN]
    for j in range(lane, n, WIDTH):
        buffers.work[place + j] = X[source * n + j]


@functools.cache
def forward_of(spec):
    """(row_forward, combine): an operation's output for one row, or that of a product whose sum was cut."""
    element_forward, _ = element_functions(spec.codes)
    slopes, trains = uses_slopes(spec.codes) and spec.mode == "train", spec.mode == "train"
    dense, drops, layer_norms = DENSE in spec.kinds, DROPOUT in spec.kinds, LAYER_NORM in spec.kinds
    batch_norms, adds = BATCH_NORM in spec.kinds and not trains, ADD in spec.kinds
    narrow_product = narrow_product_of(spec.real)

    @device
    def activate(lane, layer, r, program, buffers):
        """A = f(Z) in place."""
        code, n = own_activation(layer, program), program.table[layer, FAN_OUT]
        if code == IDENTITY:
            return
        place, slope = r * program.table[layer, OUT_LD], program.table[layer, SLOPE]
        start, work = program.table[layer, OUT] + place, buffers.work
        for j in range(lane, n, WIDTH):
            a, s = element_forward(work[start + j], code)
            work[start + j] = a
            if slopes:
                if slope > 0:
                    work[slope + place + j] = s

    @device
    def row_forward(lane, layer, r, program, buffers, X, source, sample, step):
        """One operation, its activation included unless it is the last."""
        table, work, kind = program.table, buffers.work, program.table[layer, KIND]
        n, y, below = table[layer, FAN_OUT], output_place(layer, r, program), table[layer, INPUT]
        x = output_place(below, r, program)
        W, b = table[layer, WEIGHTS], table[layer, BIAS]
        if dense:
            if kind == DENSE:
                K, ld = table[layer, FAN_IN], (n + GROUP - 1) // GROUP * GROUP
                if below < 0:
                    narrow_product(lane, work, y, X, source * K, buffers.parameters, W, ld, b, n, K)
                else:
                    narrow_product(lane, work, y, work, x, buffers.parameters, W, ld, b, n, K)
        if drops:
            if kind == DROPOUT:
                if trains:
                    threshold, factor = table[layer, THRESHOLD], program.constants[2 * layer]
                    seed = program.header[SEED]
                    dropout_row(lane, work, y, x, n, sample, threshold, factor, seed, step, layer, False)
                else:
                    hand_on_row(lane, work, y, x, n, False)
        if layer_norms:
            if kind == LAYER_NORM:
                stats = table[layer, STATS] + 2 * r
                epsilon = program.constants[2 * layer]
                layer_norm_forward(lane, work, y, x, n, stats, buffers.parameters, W, b, epsilon)
        if batch_norms:
            if kind == BATCH_NORM:
                mean = table[layer, RUNNING]
                variance = mean + (n + GROUP - 1) // GROUP * GROUP
                epsilon = program.constants[2 * layer]
                batch_norm_inference(lane, work, y, x, n, buffers.parameters, mean, variance, W, b, epsilon)
        if adds:
            if kind == ADD:
                add_row(lane, work, y, x, output_place(table[layer, SOURCE], r, program), n)
        group_sync()
        activate(lane, layer, r, program, buffers)

    @inlined
    def keep(z, j, n, work, A, slope, code):
        """An output, where it is no padding."""
        if j < n:
            a, s = element_forward(z, code)
            work[A + j] = a
            if slopes:
                if slope >= 0:
                    work[slope + j] = s

    @device
    def combine(lane, layer, r, program, buffers, partials):
        """A = f(the sum of all parts + b), in the order of the parts."""
        table, work, batch = program.table, buffers.work, program.header[BATCH]
        ld, n, parts, bias = (
            table[layer, OUT_LD],
            table[layer, FAN_OUT],
            table[layer, FORWARD_PARTS],
            table[layer, BIAS],
        )
        code, slope = own_activation(layer, program), table[layer, SLOPE]
        start, A = table[layer, FORWARD_AT] + r * ld, table[layer, OUT] + r * ld
        slope = slope + r * ld if slope > 0 else -1
        for j in range(4 * lane, n, 4 * WIDTH):
            z0, z1, z2, z3 = load4(buffers.parameters, bias + j)
            for part in range(parts):
                x0, x1, x2, x3 = load4(partials, start + part * batch * ld + j)
                z0 += x0
                z1 += x1
                z2 += x2
                z3 += x3
            keep(z0, j, n, work, A, slope, code)
            keep(z1, j + 1, n, work, A, slope, code)
            keep(z2, j + 2, n, work, A, slope, code)
            keep(z3, j + 3, n, work, A, slope, code)

    return row_forward, combine


@functools.cache
def finish_of(spec):
    """finished(value, layer, place, program, work): dL / dZ of an element from its dL / dA, (place: row and column)."""
    _, element_backward = element_functions(spec.codes)
    slopes = uses_slopes(spec.codes)

    @device
    def finished(value, layer, place, program, work):
        """Value f'(Z), from A or from what the forward has kept."""
        code, slope = program.table[layer, ACTIVATION], like(value, 0)
        if slopes:
            if program.table[layer, SLOPE] > 0:
                slope = work[program.table[layer, SLOPE] + place]
        return element_backward(value, work[program.table[layer, OUT] + place], slope, code)

    return finished


@functools.cache
def backward_of(spec):
    """(row_backward, combine_back, finish_row): what one row's delta hands on."""
    finished = finish_of(spec)
    dense, drops, layer_norms = DENSE in spec.kinds, DROPOUT in spec.kinds, LAYER_NORM in spec.kinds
    adds = ADD in spec.kinds

    @device
    def finish_row(lane, layer, r, program, buffers):
        """delta = dL / dA f'(Z) in place."""
        work, ld = buffers.work, program.table[layer, OUT_LD]
        start = program.header[DELTAS] + program.table[layer, OUT]
        for j in range(lane, program.table[layer, FAN_OUT], WIDTH):
            work[start + r * ld + j] = finished(work[start + r * ld + j], layer, r * ld + j, program, work)

    @device
    def narrow_backward(lane, layer, r, program, buffers):
        """dL / dA of the input = delta W^T for one row, and f' where that is complete."""
        table, work, parameters, below = program.table, buffers.work, buffers.parameters, program.table[layer, INPUT]
        n, W, bits = table[layer, FAN_OUT], table[layer, WEIGHTS], table[layer, ADDS]
        ld, deltas = (n + GROUP - 1) // GROUP * GROUP, program.header[DELTAS]
        d, place = deltas + table[layer, OUT] + r * table[layer, OUT_LD], r * table[below, OUT_LD]
        start = deltas + table[below, OUT] + place
        for i in range(lane, table[layer, FAN_IN], WIDTH):
            value = like(work[d], 0)
            for j in range(0, n, 4):  # the padding of both is 0
                d0, d1, d2, d3 = load4(work, d + j)
                w0, w1, w2, w3 = load4(parameters, W + i * ld + j)
                value += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3
            if bits & ADDS_TO_INPUT:
                value += work[start + i]
            if table[layer, FINISHES] & FINISHES_INPUT:
                value = finished(value, below, place + i, program, work)
            work[start + i] = value

    @device
    def combine_back(lane, layer, r, program, buffers, partials):
        """The same from a product whose sum was cut."""
        table, work, batch, below = program.table, buffers.work, program.header[BATCH], program.table[layer, INPUT]
        ld, parts = table[below, OUT_LD], table[layer, BACKWARD_PARTS]
        place, first = r * ld, table[layer, BACKWARD_AT] + r * ld
        start = program.header[DELTAS] + table[below, OUT] + place
        for i in range(lane, table[layer, FAN_IN], WIDTH):
            value = like(work[start], 0)
            for part in range(parts):
                value += partials[first + part * batch * ld + i]
            if table[layer, ADDS] & ADDS_TO_INPUT:
                value += work[start + i]
            if table[layer, FINISHES] & FINISHES_INPUT:
                value = finished(value, below, place + i, program, work)
            work[start + i] = value

    @device
    def row_backward(lane, layer, r, program, buffers, sample, step):
        """Hand on the delta of an operation that goes by rows."""
        table, work, kind = program.table, buffers.work, program.table[layer, KIND]
        n, bits, below, deltas = table[layer, FAN_OUT], table[layer, ADDS], table[layer, INPUT], program.header[DELTAS]
        d = deltas + table[layer, OUT] + r * table[layer, OUT_LD]
        if dense:
            if kind == DENSE:
                narrow_backward(lane, layer, r, program, buffers)
                return
        if adds:
            if kind == ADD:
                if bits & SOURCE_ASKS:
                    other = table[layer, SOURCE]
                    place = deltas + table[other, OUT] + r * table[other, OUT_LD]
                    hand_on_row(lane, work, place, d, n, (bits & ADDS_TO_SOURCE) > 0)
                    group_sync()
                    if table[layer, FINISHES] & FINISHES_SOURCE:
                        finish_row(lane, other, r, program, buffers)
                        group_sync()
        if not bits & INPUT_ASKS:
            return
        place, more = r * table[below, OUT_LD], (bits & ADDS_TO_INPUT) > 0
        x, dx = table[below, OUT] + place, deltas + table[below, OUT] + place
        if adds:
            if kind == ADD:
                hand_on_row(lane, work, dx, d, n, more)
        if drops:
            if kind == DROPOUT:
                threshold, factor = table[layer, THRESHOLD], program.constants[2 * layer]
                seed = program.header[SEED]
                dropout_row(lane, work, dx, d, n, sample, threshold, factor, seed, step, layer, more)
        if layer_norms:
            if kind == LAYER_NORM:
                stats, gamma = table[layer, STATS] + 2 * r, table[layer, WEIGHTS]
                layer_norm_backward(lane, work, dx, d, x, n, stats, buffers.parameters, gamma, more)
        group_sync()
        if table[layer, FINISHES] & FINISHES_INPUT:
            finish_row(lane, below, r, program, buffers)

    return row_backward, combine_back, finish_row
