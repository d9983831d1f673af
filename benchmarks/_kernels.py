"""The compiled CPU kernels, repeated within compiled code, and how they are held against their NumPy twins.

A call from Python costs some 10 us and more, longer than most of these kernels take: hence the loops. They are few,
each over several kernels, since each costs seconds of compilation for each dtype. ``_cases.py`` says on what they run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.kernels.cpu import (
    activations,
    adaptive,
    dropout,
    losses,
    normalization,
    optimizers,
    output_losses,
    predict,
    rectifiers,
    residual,
    robust_losses,
    row_weights,
    rules,
    soft_targets,
    sparse,
    step,
    tiles,
    update,
)
from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import unowned, window
from fastbp.kernels.layout import (
    ADAGRAD,
    AMSGRAD,
    BETA_1,
    CENTERED_RMSPROP,
    FAN_OUT,
    HALF_SQUARED_ERROR,
    LION,
    MOMENTUM_RMSPROP,
    NADAM,
    PYTORCH,
    RMSPROP,
    SCRATCH,
    SCRATCH_STRIDE,
)

# Largest difference from the twin, as a part of the twin's largest element. A sum of 1024 products in another order
# differs by 1e-6 and 3e-15 of it.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def verify(got: list[Any], want: list[Any], dtype: str, where: str = "") -> None:
    """AssertionError unless each array is what it should be, to :data:`TOLERANCE`; nothing may be NaN or infinite."""
    for k, (ours, twins) in enumerate(zip(got, want, strict=True)):
        assert ours.shape == twins.shape and ours.dtype == twins.dtype, f"{where}, result {k}: another kind of array"
        error, most = np.abs(ours - twins).max(initial=0), np.abs(twins).max(initial=0)
        # a NaN makes every comparison false
        assert error <= TOLERANCE[dtype] * most < np.inf, f"{where}, result {k}: off by {error:.3g} of {most:.3g}"


@dataclass(frozen=True)
class Case:
    """A kernel on some operands.

    Parameters
    ----------
    kernel, shape, dtype : str
    flop : int
        Of one repetition.
    n_bytes : int
        What one repetition must read and write, each element once.
    run : callable
        ``run(n_times)``: so many repetitions.
    want : callable
        What the twin makes of copies of the operands.
    got : callable
        What the kernel makes of the operands themselves.
    """

    kernel: str
    shape: str
    dtype: str
    flop: int
    n_bytes: int
    run: Callable[[int], Any]
    want: Callable[[], list[Any]]
    got: Callable[[], list[Any]]

    def check(self) -> None:
        """AssertionError where the kernel is not what its twin is; before it is timed, since it may work in place."""
        want = self.want()
        verify(self.got(), want, self.dtype, f"{self.kernel} {self.shape} {self.dtype}")


# ---------------------------------------------------------------------------------------------------------------------
# The loops

(
    FORWARD, BACKWARD, GRADIENT, SORT, ADAM, SGD, SQUARES, TRANSPOSE, ACTIVATION, DERIVATIVE, SOFTMAX,
    SOFTMAX_DERIVATIVE, SOFTMAX_LOSS, BLOCKS_LOSS, SIGMOID_LOSS, POISSON_LOSS, SQUARED_LOSS,
    RECTIFIER, RECTIFIER_SLOPE, RECTIFIER_DERIVATIVE,
) = range(20)  # fmt: skip
ADJUST, AVERAGE = -1, -2  # beside the codes of optimizers

RECTIFIER_KERNELS = {
    RECTIFIER: "rectifier_forward",
    RECTIFIER_SLOPE: "rectifier_forward_slope",
    RECTIFIER_DERIVATIVE: "rectifier_backward",
}


def repeated(function: Callable[..., Any]) -> Any:
    """A kernel that is compiled again when its file has changed: the cache on disk knows the kernels' files only."""
    source = hashlib.sha256(Path(function.__code__.co_filename).read_bytes()).hexdigest()[:12]
    function.__qualname__ = f"{function.__qualname__}_{source}"
    return kernel(function)


@repeated
def layers(n_times, what, first, last, n_rows, plan, buffers, X, order):
    """Of layer ``first``, or for GRADIENT of items ``first`` .. ``last`` of the update."""
    plan, buffers, X, order = unowned(plan), unowned(buffers), unowned(X), unowned(order)
    G = window(buffers.work, plan.header[SCRATCH], plan.header[SCRATCH_STRIDE])
    for _ in range(n_times):
        if what == FORWARD:
            step.layer_forward(first, 0, 0, n_rows, 0, plan.table[first, FAN_OUT], plan, buffers, X, order)
        elif what == BACKWARD:
            step.layer_backward(first, 0, n_rows, False, plan, buffers)
            step.finish_delta(first - 1, 0, 0, n_rows, plan, buffers)
        elif what == SORT:
            sparse.sort_entries(0, X, order)
        else:
            for i in range(first, last):
                update.tile_gradient(plan.items[i], G, 0, 0, n_rows, plan, buffers, X, order, 0)


@repeated
def updates(n_times, what, w, m, v, g, hyper, rate, correction, l2):
    """An optimizer on a run of parameters; ``m`` is SGD's velocity, and its momentum where Adam's beta_1 is."""
    for _ in range(n_times):
        if what == ADAM:
            optimizers.adam(w, m, v, g, hyper, rate, correction, l2)
        else:
            optimizers.sgd(w, m, g, hyper[BETA_1], 0, rate, correction, l2)


@repeated
def adaptive_updates(n_times, what, w, first, second, third, g, hyper):
    """Another optimizer on a run of parameters, or what comes before or after one."""
    for _ in range(n_times):
        if what == ADJUST:
            rules.adjust(w, g, hyper, 1e-4)
        elif what == AVERAGE:
            rules.average(first, w, hyper)
        elif what == AMSGRAD:
            adaptive.amsgrad(w, first, second, third, g, hyper)
        elif what == RMSPROP:
            adaptive.rmsprop(w, first, g, hyper)
        elif what == MOMENTUM_RMSPROP:
            adaptive.momentum_rmsprop(w, first, second, g, hyper)
        elif what == CENTERED_RMSPROP:
            adaptive.centered_rmsprop(w, first, second, third, g, hyper)
        elif what == ADAGRAD:
            adaptive.adagrad(w, first, g, hyper)
        elif what == NADAM:
            adaptive.nadam(w, first, second, g, hyper)
        elif what == LION:
            adaptive.lion(w, first, g, hyper)


@repeated
def tile(n_times, what, out, w, width, n_rows):
    """A tile that is a whole matrix."""
    for _ in range(n_times):
        if what == SQUARES:
            tiles.add_squares(out, w, width, n_rows)
        else:
            tiles.transpose_tile(out, width, w, 0, n_rows, n_rows, 0, width)


@repeated
def elements(n_times, what, dZ, A, ld, m, n, code):
    """An activation or its derivative, by element or by row."""
    for _ in range(n_times):
        if what == ACTIVATION:
            activations.activation_forward(A, code)
        elif what == DERIVATIVE:
            activations.activation_backward(dZ, A, code)
        elif what == SOFTMAX:
            activations.softmax_forward(A, ld, m, n)
        else:
            activations.softmax_backward(dZ, A, ld, m, n)


@repeated
def losses_of(n_times, what, row_loss, dZ, Z, ld, labels, values, blocks, index, weights, scale, m, n, convention):
    """A loss of m rows, and its gradient."""
    scale = Z.dtype.type(scale)
    for _ in range(n_times):
        if what == SOFTMAX_LOSS:
            losses.softmax_cross_entropy(row_loss, dZ, Z, ld, labels, index, weights, scale, m, n, convention)
        elif what == BLOCKS_LOSS:
            losses.block_softmax_cross_entropy(
                row_loss, dZ, Z, ld, labels, blocks, index, weights, scale, m, convention
            )  # fmt: skip
        elif what == SIGMOID_LOSS:
            losses.sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention)
        elif what == POISSON_LOSS:
            losses.poisson(row_loss, dZ, Z, ld, values, index, weights, scale, m, n)
        else:
            losses.squared_error(
                row_loss, dZ, Z, ld, values, index, weights, scale, m, n, HALF_SQUARED_ERROR, convention
            )  # fmt: skip


@repeated
def other_losses_of(n_times, what, row_loss, dZ, Z, ld, labels, values, coefficients, index, weights, scale, m, n):
    """A loss that plain networks do without, by its place in ``_loss_cases.NAMES``."""
    scale = Z.dtype.type(scale)
    for _ in range(n_times):
        if what == 0:
            robust_losses.absolute_error(row_loss, dZ, Z, ld, values, index, weights, scale, m, n)
        elif what == 1:
            robust_losses.huber(row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n)
        elif what == 2:
            robust_losses.quantile(row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n)
        elif what == 3:
            robust_losses.log_cosh(row_loss, dZ, Z, ld, values, index, weights, scale, m, n)
        elif what == 4:
            output_losses.output_cross_entropy(row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n)
        elif what == 5:
            output_losses.output_poisson(row_loss, dZ, Z, ld, values, index, weights, scale, m, n)
        elif what == 6:
            soft_targets.soft_cross_entropy(
                row_loss, dZ, Z, ld, labels, values, coefficients, index, weights, scale, m, n, PYTORCH
            )
        else:
            soft_targets.soft_sigmoid_cross_entropy(
                row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n, PYTORCH
            )


@repeated
def rectifier(n_times, what, out, S, Z, A, code):
    """A rectifier, or its derivative, each time from a copy of Z: gelu of gelu of gelu would soon be denormal."""
    for _ in range(n_times):
        for q in range(out.shape[0]):
            out[q] = Z[q]
        if what == RECTIFIER:
            rectifiers.rectifier_forward(out, code)
        elif what == RECTIFIER_SLOPE:
            rectifiers.rectifier_forward_slope(out, S, code)
        else:
            rectifiers.rectifier_backward(out, A, S, code)


@repeated
def layer_parts(n_times, what, Y, A, B, ld, vectors, ldv, stats, n_blocks, sizes, weights, index, floor, m, n):
    """A part of a normalisation, a dropout or a skip connection, by its place in ``_layer_cases.NAMES``."""
    a, b, c = window(vectors, 0, ldv), window(vectors, ldv, ldv), window(vectors, 2 * ldv, ldv)
    d, e, part = window(vectors, 3 * ldv, ldv), window(vectors, 4 * ldv, ldv), n_blocks * ldv
    for _ in range(n_times):
        if what == 0:
            normalization.block_statistics(a, b, c, A, ld, m, n)
        elif what == 1:
            offsets, squares = window(stats, part, part), window(stats, 2 * part, part)
            normalization.batch_statistics(a, b, c, d, stats, offsets, squares, ldv, m, n, 1e-5, 0.1)
        elif what == 2:
            normalization.batch_norm_forward(Y, ld, A, ld, a, b, c, d, floor, m, n)
        elif what == 3:
            normalization.batch_norm_inference(Y, ld, A, ld, a, b, c, d, m, n, 1e-5)
        elif what == 4:
            normalization.block_sums(a, b, B, ld, A, ld, c, d, m, n)
        elif what == 5:
            normalization.batch_norm_backward(Y, ld, B, ld, A, ld, a, b, c, d, e, m, n, False)
        elif what == 6:
            normalization.layer_norm_forward(Y, ld, A, ld, stats, a, b, m, n, 1e-5)
        elif what == 7:
            normalization.layer_norm_backward(Y, ld, B, ld, A, ld, stats, a, m, n, False)
        elif what == 8:
            normalization.layer_norm_gamma(a, B, ld, A, ld, stats, n, m)
        elif what == 9:
            dropout.dropout_rows(Y, ld, A, ld, index, m, n, 0.2, 7, 3, 1, False)
        elif what == 10:
            row_weights.weighted_block_statistics(a, b, c, A, ld, weights, index, m, n)
        elif what == 11:
            offsets, squares = window(stats, part, part), window(stats, 2 * part, part)
            row_weights.weighted_batch_statistics(
                a, b, c, d, stats, offsets, squares, ldv, sizes, n_blocks, n, 1e-5, 0.1
            )
        elif what == 12:
            row_weights.weighted_batch_norm_backward(Y, ld, B, ld, A, ld, a, b, c, d, e, weights, index, m, n, False)
        elif what == 13:
            residual.add_rows(Y, ld, A, ld, B, ld, m, n)
        else:
            residual.hand_on_rows(Y, ld, A, ld, m, n, False)


@repeated
def few_rows(n_times, Z, ld, A, lda, W, b, m, n, K, code):
    """A layer of a prediction of few rows."""
    for _ in range(n_times):
        predict.layer_rows(Z, ld, A, lda, W, b, m, n, K, code)
