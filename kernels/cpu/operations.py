"""What a network has besides dense layers, as parts of a step: normalisations, dropout, skip connections.

Every function takes ``plan`` and ``buffers`` as ``fastbp.kernels.layout`` defines them; lo .. hi are rows of the
workspace and ``order`` has the rows of X that go through them. What the network does not use has an empty body here,
chosen by the type of ``plan``, and is not compiled.
"""

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import relu_forward
from fastbp.kernels.cpu.dropout import dropout_rows
from fastbp.kernels.cpu.normalization import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    batch_norm_sums,
    column_statistics,
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
    CONSTANT_2,
    D_BETA,
    D_GAMMA,
    DELTAS,
    DROPOUT,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    GRADIENT,
    GROUP,
    INPUT,
    INPUT_ASKS,
    INVERSE_DEVIATION,
    KIND,
    LAYER,
    LAYER_NORM,
    LO,
    MEAN,
    MEAN_D_BETA,
    MEAN_D_GAMMA,
    OPTIMIZER,
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
def statistic(which, layer, plan, buffers):
    """One of the arrays of a batch norm that stand at STATS."""
    width = padded_width(layer, plan)
    return window(buffers.work, plan.table[layer, STATS] + which * width, width)


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


def _by_batch(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    row = plan.table[layer]
    gamma, beta = window(buffers.parameters, row[WEIGHTS], n), window(buffers.parameters, row[BIAS], n)
    mean, deviation = statistic(MEAN, layer, plan, buffers), statistic(INVERSE_DEVIATION, layer, plan, buffers)
    batch_norm_forward(Y, ldy, X, ldx, mean, deviation, gamma, beta, m, n)


def _by_running(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    row = plan.table[layer]
    gamma, beta = window(buffers.parameters, row[WEIGHTS], n), window(buffers.parameters, row[BIAS], n)
    mean, variance = running_statistic(0, layer, plan, buffers), running_statistic(1, layer, plan, buffers)
    batch_norm_inference(Y, ldy, X, ldx, mean, variance, gamma, beta, m, n, float_from_bits(row[CONSTANT]))


def _no_batch_norm(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    pass


@by_type_inlined
def normalize_by_columns(layer, Y, ldy, X, ldx, m, n, plan, buffers, step):
    """Batch norm: by the batch's statistics in training, by the running ones in a prediction."""
    if not uses(plan, "batch_norm"):
        return _no_batch_norm
    return _by_batch if hasattr(step, "bitwidth") else _by_running


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
    """Forward of an operation that is no dense layer, for rows lo .. hi, before its activation but with a relu."""
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


def _batch_norm_back(layer, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    gamma = window(buffers.parameters, plan.table[layer, WEIGHTS], n)
    mean, deviation = statistic(MEAN, layer, plan, buffers), statistic(INVERSE_DEVIATION, layer, plan, buffers)
    mean_beta, mean_gamma = statistic(MEAN_D_BETA, layer, plan, buffers), statistic(MEAN_D_GAMMA, layer, plan, buffers)
    batch_norm_backward(dX, lddx, D, ldd, X, ldx, mean, deviation, gamma, mean_beta, mean_gamma, m, n, adds)


def _no_batch_norm_back(layer, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    pass


@by_type_inlined
def columns_backward(layer, dX, lddx, D, ldd, X, ldx, m, n, plan, buffers, adds):
    """Batch norm, after :func:`sums_share`."""
    return _batch_norm_back if uses(plan, "batch_norm") else _no_batch_norm_back


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
    """Hand on the delta of an operation that is no dense layer, for rows lo .. hi, to its inputs' dL / dA."""
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
    elif kind == BATCH_NORM:
        columns_backward(layer, dA, ld, D, ldd, A, ld, m, n, plan, buffers, adds)
    elif kind == LAYER_NORM:
        rows_backward(layer, lo, dA, ld, D, ldd, A, ld, m, n, plan, buffers, adds)


# ---------------------------------------------------------------------------------------------------------------------
# By columns, and the gradients of gamma and beta


@kernel
def column_share(t, layer, plan):
    """First column of thread t in a region by columns, and the one after its last: whole groups of them."""
    n_threads, groups = plan.shares.shape[1] - 1, padded_width(layer, plan) // GROUP
    return t * groups // n_threads * GROUP, min((t + 1) * groups // n_threads * GROUP, plan.table[layer, FAN_OUT])


@kernel.inlined
def statistics_share(t, layer, slot, n_rows, plan, buffers):
    """Statistics of a batch norm for the columns of thread t, over all rows of the batch; the running ones follow."""
    row = plan.table[layer]
    (start, ldx), (first, last) = output_place(row[INPUT], slot, plan), column_share(t, layer, plan)
    # a gradient alone changes nothing
    momentum = 0.0 if plan.header[OPTIMIZER] == GRADIENT else float_from_bits(row[CONSTANT_2])
    if first < last:
        n = last - first
        mean, deviation = statistic(MEAN, layer, plan, buffers), statistic(INVERSE_DEVIATION, layer, plan, buffers)
        running, variance = running_statistic(0, layer, plan, buffers), running_statistic(1, layer, plan, buffers)
        column_statistics(
            window(mean, first, n), window(deviation, first, n), window(running, first, n), window(variance, first, n),
            window(buffers.work, start + first, 0), ldx, n_rows, n, float_from_bits(row[CONSTANT]), momentum,
        )  # fmt: skip


@kernel.inlined
def sums_share(t, layer, slot, n_rows, plan, buffers):
    """Sums of a batch norm's deltas for the columns of thread t, over all rows of the batch."""
    row, work = plan.table[layer], buffers.work
    (start, ldx), (first, last) = output_place(row[INPUT], slot, plan), column_share(t, layer, plan)
    if first < last:
        n = last - first
        D, X = window(work, plan.header[DELTAS] + row[OUT] + first, 0), window(work, start + first, 0)
        mean, deviation = statistic(MEAN, layer, plan, buffers), statistic(INVERSE_DEVIATION, layer, plan, buffers)
        d_beta, d_gamma = statistic(D_BETA, layer, plan, buffers), statistic(D_GAMMA, layer, plan, buffers)
        mean_beta = statistic(MEAN_D_BETA, layer, plan, buffers)
        mean_gamma = statistic(MEAN_D_GAMMA, layer, plan, buffers)
        batch_norm_sums(
            window(d_beta, first, n), window(d_gamma, first, n), window(mean_beta, first, n),
            window(mean_gamma, first, n), D, row[OUT_LD], X, ldx, window(mean, first, n), window(deviation, first, n),
            n_rows, n,
        )  # fmt: skip


def _from_sums(item, G, plan, buffers):
    if plan.table[item[LAYER], KIND] != BATCH_NORM:
        return False
    source = statistic(D_BETA if item[LO] == -1 else D_GAMMA, item[LAYER], plan, buffers)
    g, sums = window(G, 0, item[WIDTH]), window(source, item[COLUMN], item[WIDTH])
    for q in range(item[WIDTH]):
        g[q] = sums[q]
    return True


def _no_sums(item, G, plan, buffers):
    return False


@by_type_inlined
def gradient_from_sums(item, G, plan, buffers):
    """G = the sums that a batch norm's region has left, and True; False for an item of anything else."""
    return _from_sums if uses(plan, "batch_norm") else _no_sums


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
