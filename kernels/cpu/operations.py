"""What a network has besides dense layers, as parts of a step: normalisations, dropout, skip connections.

Every function takes ``plan`` and ``buffers`` as ``fastbp.kernels.layout`` defines them; lo .. hi are rows of the
workspace and ``order`` has the rows of X that go through them. What the network does not use has an empty body here,
chosen by the type of ``plan``, and is not compiled.
"""

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import relu_forward
from fastbp.kernels.cpu.dropout import dropout_rows
from fastbp.kernels.cpu.normalization import (
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_gamma,
)
from fastbp.kernels.cpu.residual import add_rows, hand_on_rows
from fastbp.kernels.cpu.simd import float_from_bits, window
from fastbp.kernels.layout import (
    ACTIVATION,
    ADD,
    ADDS,
    ADDS_TO_INPUT,
    ADDS_TO_SOURCE,
    BATCH_NORM,
    BIAS,
    COLUMN,
    CONSTANT,
    DELTAS,
    DROPOUT,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    GROUP,
    INPUT,
    INPUT_ASKS,
    KIND,
    LAYER,
    LAYER_NORM,
    LO,
    OUT,
    OUT_LD,
    RELU,
    RUNNING,
    SECOND_SLOT,
    SEED,
    SOURCE,
    SOURCE_ASKS,
    STATS,
    WEIGHTS,
    WIDTH,
)


@kernel
def outputs(layer, slot, plan):
    """Where the outputs of a layer start in ``work``.

    With owners, threads compute the first layer of step s + 1 while others still read that of step s for its weight
    gradient: its outputs have two places, ``slot`` 0 and 1, used in turn.
    """
    start = plan.table[layer, OUT]
    return start + slot * plan.header[SECOND_SLOT] if layer == 0 else start


@kernel
def output_place(layer, slot, plan):
    """The same, and the elements from one row to the next; layer -1 is the copy of a batch's rows of X."""
    if layer < 0:
        return plan.header[GATHERED], plan.header[GATHERED_LD]
    return outputs(layer, slot, plan), plan.table[layer, OUT_LD]


@kernel
def padded_width(layer, plan):
    """Columns of a layer, rounded up to whole groups."""
    return (plan.table[layer, FAN_OUT] + GROUP - 1) // GROUP * GROUP


@kernel
def running_statistic(which, layer, plan, buffers):
    """The running mean (0) or variance (1) of a batch norm."""
    width = padded_width(layer, plan)
    return window(buffers.parameters, plan.table[layer, RUNNING] + which * width, width)


# ---------------------------------------------------------------------------------------------------------------------
# Forward


def _copy(layer, Y, ldy, A, lda, m, n, plan, order, step):
    hand_on_rows(Y, ldy, A, lda, m, n, False)


def _masked(layer, Y, ldy, A, lda, m, n, plan, order, step):
    rate = float_from_bits(plan.table[layer, CONSTANT])
    dropout_rows(Y, ldy, A, lda, order, m, n, rate, plan.header[SEED], step, layer, False)


def _no_dropout(layer, Y, ldy, A, lda, m, n, plan, order, step):
    pass


@by_type_inlined
def dropout_forward(layer, Y, ldy, A, lda, m, n, plan, order, step):
    """Y = A mask / (1 - rate) in training, Y = A in a prediction (``step`` is None)."""
    if not uses(plan, "dropout"):
        return _no_dropout
    return _masked if hasattr(step, "bitwidth") else _copy


def _by_running(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    row = plan.table[layer]
    gamma, beta = window(buffers.parameters, row[WEIGHTS], n), window(buffers.parameters, row[BIAS], n)
    mean, variance = running_statistic(0, layer, plan, buffers), running_statistic(1, layer, plan, buffers)
    batch_norm_inference(Y, ldy, X, ldx, mean, variance, gamma, beta, m, n, float_from_bits(row[CONSTANT]))


def _no_batch_norm(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    pass


@by_type_inlined
def normalize_by_columns(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    """Batch norm by its running statistics, in a prediction: of training see ``batch_norm.py``."""
    return _by_running if uses(plan, "batch_norm") and not hasattr(step, "bitwidth") else _no_batch_norm


def _by_row(layer, lo, Y, ldy, X, ldx, m, n, plan, buffers):
    row = plan.table[layer]
    gamma, beta = window(buffers.parameters, row[WEIGHTS], n), window(buffers.parameters, row[BIAS], n)
    stats = window(buffers.work, row[STATS] + 2 * lo, 2 * m)
    layer_norm_forward(Y, ldy, X, ldx, stats, gamma, beta, m, n, float_from_bits(row[CONSTANT]))


def _no_layer_norm(layer, lo, Y, ldy, X, ldx, m, n, plan, buffers):
    pass


@by_type_inlined
def normalize_by_rows(layer, lo, Y, ldy, X, ldx, m, n, plan, buffers):
    """Layer norm."""
    return _by_row if uses(plan, "layer_norm") else _no_layer_norm


def _sum(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers):
    start, ldb = output_place(plan.table[layer, SOURCE], slot, plan)
    add_rows(Y, ldy, A, lda, window(buffers.work, start + lo * ldb, m * ldb), ldb, m, n)


def _no_sum(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers):
    pass


@by_type_inlined
def add_source(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers):
    """Y = A + the other input of a skip connection."""
    return _sum if uses(plan, "residual") else _no_sum


@kernel.inlined
def other_forward(layer, slot, lo, hi, plan, buffers, order, step):
    """Forward of an operation that is no dense layer, for rows lo .. hi, before its activation but with a relu.

    Of a batch norm only in a prediction: a region of a training step begins with it.
    """
    row, m = plan.table[layer], hi - lo
    (start, lda), ldy, n, kind = output_place(row[INPUT], slot, plan), row[OUT_LD], row[FAN_OUT], row[KIND]
    A = window(buffers.work, start + lo * lda, m * lda)
    Y = window(buffers.work, outputs(layer, slot, plan) + lo * ldy, m * ldy)
    if kind == DROPOUT:
        dropout_forward(layer, Y, ldy, A, lda, m, n, plan, order, step)
    elif kind == BATCH_NORM:
        normalize_by_columns(layer, Y, ldy, A, lda, m, n, plan, buffers, step)
    elif kind == LAYER_NORM:
        normalize_by_rows(layer, lo, Y, ldy, A, lda, m, n, plan, buffers)
    elif kind == ADD:
        add_source(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers)
    if row[ACTIVATION] == RELU:
        relu_forward(Y)


# ---------------------------------------------------------------------------------------------------------------------
# Backward


def _masked_back(layer, dA, lda, D, ldd, m, n, plan, order, step, adds):
    rate = float_from_bits(plan.table[layer, CONSTANT])
    dropout_rows(dA, lda, D, ldd, order, m, n, rate, plan.header[SEED], step, layer, adds)


def _no_dropout_back(layer, dA, lda, D, ldd, m, n, plan, order, step, adds):
    pass


@by_type_inlined
def dropout_backward(layer, dA, lda, D, ldd, m, n, plan, order, step, adds):
    """dA = dY mask / (1 - rate)."""
    return _masked_back if uses(plan, "dropout") else _no_dropout_back


def _layer_norm_back(layer, lo, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    row = plan.table[layer]
    gamma = window(buffers.parameters, row[WEIGHTS], padded_width(layer, plan))
    stats = window(buffers.work, row[STATS] + 2 * lo, 2 * m)
    layer_norm_backward(dX, lddx, D, ldd, X, ldx, stats, gamma, m, n, adds)


def _no_layer_norm_back(layer, lo, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    pass


@by_type_inlined
def rows_backward(layer, lo, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    """Layer norm."""
    return _layer_norm_back if uses(plan, "layer_norm") else _no_layer_norm_back


@kernel.inlined
def other_backward(layer, slot, lo, hi, plan, buffers, order, step):
    """Hand on the delta of an operation that is no dense layer, for rows lo .. hi, to its inputs' dL / dA.

    Not that of a batch norm: a region begins with it.
    """
    row, m, work, deltas = plan.table[layer], hi - lo, buffers.work, plan.header[DELTAS]
    ldd, n, kind, bits = row[OUT_LD], row[FAN_OUT], row[KIND], row[ADDS]
    D = window(work, deltas + row[OUT] + lo * ldd, m * ldd)
    if kind == ADD and bits & SOURCE_ASKS:
        other = plan.table[row[SOURCE]]
        ld = other[OUT_LD]
        hand_on_rows(window(work, deltas + other[OUT] + lo * ld, m * ld), ld, D, ldd, m, n, (bits & ADDS_TO_SOURCE) > 0)
    if bits & INPUT_ASKS == 0:
        return
    below, adds = plan.table[row[INPUT]], (bits & ADDS_TO_INPUT) > 0
    ld = below[OUT_LD]
    dA = window(work, deltas + below[OUT] + lo * ld, m * ld)
    A = window(work, outputs(row[INPUT], slot, plan) + lo * ld, m * ld)
    if kind == ADD:
        hand_on_rows(dA, ld, D, ldd, m, n, adds)
    elif kind == DROPOUT:
        dropout_backward(layer, dA, ld, D, ldd, m, n, plan, order, step, adds)
    elif kind == LAYER_NORM:
        rows_backward(layer, lo, dA, ld, D, ldd, A, ld, m, n, plan, buffers, adds)


def _of_gamma(item, G, slot, lo, hi, plan, buffers):
    row = plan.table[item[LAYER]]
    if row[KIND] != LAYER_NORM or item[LO] != -2:
        return False
    (start, ldx), ldd, column = output_place(row[INPUT], slot, plan), row[OUT_LD], item[COLUMN]
    D = window(buffers.work, plan.header[DELTAS] + row[OUT] + lo * ldd + column, 0)
    X, stats = window(buffers.work, start + lo * ldx + column, 0), window(buffers.work, row[STATS] + 2 * lo, 0)
    layer_norm_gamma(G, D, ldd, X, ldx, stats, item[WIDTH], hi - lo)
    return True


def _no_gamma(item, G, slot, lo, hi, plan, buffers):
    return False


@by_type_inlined
def gradient_of_gamma(item, G, slot, lo, hi, plan, buffers):
    """G = a layer norm's dgamma, and True; False for an item of anything else."""
    return _of_gamma if uses(plan, "layer_norm") else _no_gamma
