"""What a network has besides dense layers: normalisations, dropout, skip connections.

Every function takes ``plan`` and ``buffers`` as ``fastbp.kernels.layout`` defines them; lo .. hi are rows of the
workspace and ``order`` has the rows of X that go through them.
"""

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
    padded,
)
from fastbp.kernels.reference.activations import relu_forward
from fastbp.kernels.reference.dropout import dropout_rows
from fastbp.kernels.reference.normalization import (
    batch_norm_inference,
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_gamma,
)
from fastbp.kernels.reference.residual import add_rows, hand_on_rows


def outputs(layer, slot, plan):
    """Where the outputs of a layer start in ``work``; those of the first layer have two places with owners."""
    start = plan.table[layer, OUT]
    return start + slot * plan.header[SECOND_SLOT] if layer == 0 else start


def output_place(layer, slot, plan):
    """The same, and the elements from one row to the next; layer -1 is the copy of a batch's rows of X."""
    if layer < 0:
        return plan.header[GATHERED], plan.header[GATHERED_LD]
    return outputs(layer, slot, plan), plan.table[layer, OUT_LD]


def padded_width(layer, plan):
    """Columns of a layer, rounded up to whole groups."""
    return padded(int(plan.table[layer, FAN_OUT]))


def running_statistic(which, layer, plan, buffers):
    """The running mean (0) or variance (1) of a batch norm."""
    width = padded_width(layer, plan)
    return buffers.parameters[plan.table[layer, RUNNING] + which * width :][:width]


def _real(bits):
    """A float64 that the table holds."""
    return float(bits.view("f8"))


def _vectors(layer, plan, buffers):
    """gamma and beta."""
    row, width = plan.table[layer], padded_width(layer, plan)
    return buffers.parameters[row[WEIGHTS] :][:width], buffers.parameters[row[BIAS] :][:width]


# ---------------------------------------------------------------------------------------------------------------------
# Forward


def dropout_forward(layer, Y, ldy, A, lda, m, n, plan, order, step):
    """Y = A mask / (1 - rate) in training, Y = A in a prediction (``step`` is None)."""
    if step is None:
        hand_on_rows(Y, ldy, A, lda, m, n, False)
    else:
        rate = _real(plan.table[layer, CONSTANT])
        dropout_rows(Y, ldy, A, lda, order, m, n, rate, plan.header[SEED], step, layer, False)


def normalize_by_columns(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    """Batch norm by its running statistics, in a prediction: of training see ``batch_norm.py``."""
    if step is None:
        gamma, beta = _vectors(layer, plan, buffers)
        mean, variance = (running_statistic(which, layer, plan, buffers) for which in (0, 1))
        epsilon = _real(plan.table[layer, CONSTANT])
        batch_norm_inference(Y, ldy, X, ldx, mean, variance, gamma, beta, m, n, epsilon)


def normalize_by_rows(layer, lo, Y, ldy, X, ldx, m, n, plan, buffers):
    """Layer norm."""
    gamma, beta = _vectors(layer, plan, buffers)
    stats = buffers.work[plan.table[layer, STATS] + 2 * lo :]
    layer_norm_forward(Y, ldy, X, ldx, stats, gamma, beta, m, n, _real(plan.table[layer, CONSTANT]))


def add_source(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers):
    """Y = A + the other input of a skip connection."""
    start, ldb = output_place(plan.table[layer, SOURCE], slot, plan)
    add_rows(Y, ldy, A, lda, buffers.work[start + lo * ldb :], ldb, m, n)


def other_forward(layer, slot, lo, hi, plan, buffers, order, step):
    """Forward of an operation that is no dense layer, for rows lo .. hi, before its activation but with a relu.

    Of a batch norm only in a prediction: a region of a training step begins with it.
    """
    row, m = plan.table[layer], hi - lo
    (start, lda), ldy, n, kind = output_place(row[INPUT], slot, plan), row[OUT_LD], row[FAN_OUT], row[KIND]
    A, Y = buffers.work[start + lo * lda :], buffers.work[outputs(layer, slot, plan) + lo * ldy :]
    if kind == DROPOUT:
        dropout_forward(layer, Y, ldy, A, lda, m, n, plan, order, step)
    elif kind == BATCH_NORM:
        normalize_by_columns(layer, Y, ldy, A, lda, m, n, plan, buffers, step)
    elif kind == LAYER_NORM:
        normalize_by_rows(layer, lo, Y, ldy, A, lda, m, n, plan, buffers)
    elif kind == ADD:
        add_source(layer, slot, lo, Y, ldy, A, lda, m, n, plan, buffers)
    if row[ACTIVATION] == RELU:
        relu_forward(Y[: m * ldy])


# ---------------------------------------------------------------------------------------------------------------------
# Backward


def dropout_backward(layer, dA, lda, D, ldd, m, n, plan, order, step, adds):
    """dA = dY mask / (1 - rate)."""
    rate = _real(plan.table[layer, CONSTANT])
    dropout_rows(dA, lda, D, ldd, order, m, n, rate, plan.header[SEED], step, layer, adds)


def rows_backward(layer, lo, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    """Layer norm."""
    gamma, _ = _vectors(layer, plan, buffers)
    stats = buffers.work[plan.table[layer, STATS] + 2 * lo :]
    layer_norm_backward(dX, lddx, D, ldd, X, ldx, stats, gamma, m, n, adds)


def other_backward(layer, slot, lo, hi, plan, buffers, order, step):
    """Hand on the delta of an operation that is no dense layer, for rows lo .. hi, to its inputs' dL / dA.

    Not that of a batch norm: a region begins with it.
    """
    row, m, work, deltas = plan.table[layer], hi - lo, buffers.work, plan.header[DELTAS]
    ldd, n, kind, bits = row[OUT_LD], row[FAN_OUT], row[KIND], row[ADDS]
    D = work[deltas + row[OUT] + lo * ldd :]
    if kind == ADD and bits & SOURCE_ASKS:
        other = plan.table[row[SOURCE]]
        ld = other[OUT_LD]
        hand_on_rows(work[deltas + other[OUT] + lo * ld :], ld, D, ldd, m, n, (bits & ADDS_TO_SOURCE) > 0)
    if not bits & INPUT_ASKS:
        return
    below, adds = plan.table[row[INPUT]], (bits & ADDS_TO_INPUT) > 0
    ld = below[OUT_LD]
    dA, A = work[deltas + below[OUT] + lo * ld :], work[outputs(row[INPUT], slot, plan) + lo * ld :]
    if kind == ADD:
        hand_on_rows(dA, ld, D, ldd, m, n, adds)
    elif kind == DROPOUT:
        dropout_backward(layer, dA, ld, D, ldd, m, n, plan, order, step, adds)
    elif kind == LAYER_NORM:
        rows_backward(layer, lo, dA, ld, D, ldd, A, ld, m, n, plan, buffers, adds)


def gradient_of_gamma(item, G, slot, lo, hi, plan, buffers):
    """G = a layer norm's dgamma, and True; False for an item of anything else."""
    row = plan.table[item[LAYER]]
    if row[KIND] != LAYER_NORM or item[LO] != -2:
        return False
    (start, ldx), ldd, column = output_place(row[INPUT], slot, plan), row[OUT_LD], item[COLUMN]
    D = buffers.work[plan.header[DELTAS] + row[OUT] + lo * ldd + column :]
    X, stats = buffers.work[start + lo * ldx + column :], buffers.work[row[STATS] + 2 * lo :]
    layer_norm_gamma(G, D, ldd, X, ldx, stats, item[WIDTH], hi - lo)
    return True
