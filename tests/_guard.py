"""Kernels on arrays that lie against a page without access: run as a script, since a fault ends the process.

Each operand is placed twice: ending where such a page begins, and beginning where one ends. With the argument
``after`` or ``before`` the script reads one element too far on purpose.
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np
from _kernels import DTYPES, Net, lanes, panelled, panels_of, read_only

from fastbp.kernels import layout
from fastbp.kernels.cpu import (
    activations,
    adaptive,
    clipping,
    gemm,
    losses,
    normalization,
    optimizers,
    output_losses,
    robust_losses,
    row_weights,
    rules,
    simd,
    soft_targets,
    tiles,
)
from fastbp.kernels.cpu.predict import evaluate_rows, predict_rows
from fastbp.kernels.cpu.training import train_steps

ADAM = {"optimizer": layout.ADAM, "convention": layout.SCIKIT_LEARN, "hyper": (0.9, 0.99, 1e-8, 0.1)}
CLIPPED = {
    "optimizer": layout.CENTERED_RMSPROP, "n_moments": 4, "adjusts": 1, "averages": 1, "clipping": True,
    "hyper": (0.9, 0.99, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.5),
}  # fmt: skip
PAGE = mmap.PAGESIZE
PROT_NONE = 0
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
kept = []  # the memory must outlive the arrays


def guarded(array, at_end):
    """A copy of the array between two pages without access: right before the second, or right after the first."""
    size = -(-max(array.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)
    kept.append(memory)
    whole = np.frombuffer(memory, np.uint8)
    for start in (0, size + PAGE):
        if libc.mprotect(whole.ctypes.data + start, PAGE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = PAGE + (size - array.nbytes if at_end else 0)
    copy = whole[start : start + array.nbytes].view(array.dtype)
    copy[:] = array.reshape(-1)
    return copy


def guarded_rows(X, at_end):
    """X guarded, whether it is dense or in compressed rows."""
    if isinstance(X, np.ndarray):
        return read_only(guarded(X, at_end))
    arrays = {name: guarded(array, at_end) for name, array in X._asdict().items()}
    arrays["tiles"] = arrays["tiles"].reshape(X.tiles.shape)
    for name in ("values", "columns", "starts"):
        arrays[name] = read_only(arrays[name])
    return X._replace(**arrays)


def products(dtype, at_end):
    rng = np.random.default_rng(0)
    panel = simd.NV * lanes(dtype)
    heights, widths = (1, 3, 4, simd.MR - 1, simd.MR, simd.MR + 1, 2 * simd.MR + 5), (1, lanes(dtype), panel, panel + 1)
    for m, n, K in itertools.product(heights, widths, (1, 2, 7)):
        width = panelled(n, dtype)
        A, B = rng.normal(size=(m, K)).astype(dtype), rng.normal(size=(K, n)).astype(dtype)
        index = guarded(rng.permutation(m).astype(np.intp), at_end)
        panels, init = guarded(panels_of(B, dtype), at_end), guarded(np.zeros(width, dtype), at_end)
        C = guarded(np.zeros((m, width), dtype), at_end)
        gemm.gemm(C, width, guarded(A, at_end), K, index, panels, K, init, 0, dtype(0), m, n, K)
        D, zeros = guarded(np.ones((K, width), dtype), at_end), guarded(np.zeros(panel, dtype), at_end)
        index, A = guarded(layout.with_next(rng.permutation(K)), at_end), guarded(A.T, at_end)
        for tile_width in {min(width, panel), lanes(dtype)}:
            G = guarded(np.zeros((m, tile_width), dtype), at_end)
            for steps in (index, None):
                gemm.gemm_transposed(G, A, m, steps, D, width, tile_width, zeros, dtype(-np.inf), m, K)


def elements(dtype, at_end):
    """Element-wise kernels; matrices end with the padding of their last row, user data with its last element."""
    hyper = np.array([0.9, 0.99, 1e-8, 0.0])
    for n in (1, 7, 15, 16, 17, 33):
        m, ld = 3, layout.row_stride(n, np.dtype(dtype).itemsize)
        w, v, s, g = (guarded(np.ones(n, dtype), at_end) for _ in range(4))
        optimizers.adam(w, v, s, g, hyper, 0.1, 1.0, 0.1)
        optimizers.sgd(w, v, g, 0.9, 1, 0.1, 1.0, 0.1)
        numbers, third = np.full(layout.HYPER_SIZE, 0.5), guarded(np.ones(n, dtype), at_end)
        adaptive.amsgrad(w, v, s, third, g, numbers)
        adaptive.centered_rmsprop(w, v, s, third, g, numbers)
        adaptive.momentum_rmsprop(w, v, s, g, numbers)
        adaptive.nadam(w, v, s, g, numbers)
        for rule in (adaptive.rmsprop, adaptive.adagrad, adaptive.lion):
            rule(w, v, g, numbers)
        rules.adjust(w, g, numbers, 0.1)
        rules.average(v, w, numbers)
        clipping.scaled(w, g, 0.5)
        for code in (layout.RELU, layout.LOGISTIC, layout.TANH, layout.EXP):
            activations.activation_forward(w, code)
            activations.activation_backward(g, w, code)
        tiles.add_squares(v, guarded(np.ones((4, n), dtype), at_end), n, 4)
        index = guarded(np.array([2, 0, 1]), at_end)
        tiles.gather_rows(
            guarded(np.ones(3 * n, dtype), at_end), n, guarded(np.ones(3 * n, dtype), at_end), n, index, 3, n
        )
        Z, dZ = (guarded(np.ones((m, ld), dtype), at_end) for _ in range(2))
        activations.softmax_forward(Z, ld, m, n)
        activations.softmax_backward(dZ, Z, ld, m, n)
        row_loss, index = guarded(np.zeros(m), at_end), guarded(np.array([2, 0, 1], np.intp), at_end)
        labels, values = guarded(np.full(m, n - 1, np.intp), at_end), guarded(np.ones((m, n), dtype), at_end)
        for weights, convention in itertools.product((np.ones(m, dtype), np.zeros(0, dtype)), (0, 1)):
            weights = guarded(weights, at_end)
            rest = (index, weights, dtype(1), m, n)
            losses.softmax_cross_entropy(row_loss, dZ, Z, ld, labels, *rest, convention)
            losses.sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, *rest, convention)
            if n > 3:
                blocks = guarded(np.array([0, 2, n], np.intp), at_end)
                several = guarded(np.array([[0, n - 3], [1, 0], [1, n - 3]], np.intp), at_end)
                losses.block_softmax_cross_entropy(
                    row_loss, dZ, Z, ld, several, blocks, index, weights, dtype(1), m, convention
                )
            losses.poisson(row_loss, dZ, Z, ld, values, *rest)
            losses.squared_error(row_loss, dZ, Z, ld, values, *rest, layout.MEAN_SQUARED_ERROR, convention)
            other_losses(at_end, row_loss, dZ, Z, ld, labels, values, *rest, convention)


def other_losses(at_end, row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention):
    """Those that plain networks do without; ``coefficients`` end with the last that each of them has."""
    real, none = Z.dtype.type, np.zeros(0, Z.dtype)
    one, each, classes, pairs = (guarded(np.full(k, 0.5, real), at_end) for k in (1, n, 1 + n, 1 + 2 * n))
    out, rest = (row_loss, dZ, Z, ld), (index, weights, scale, m, n)
    robust_losses.absolute_error(*out, values, *rest)
    robust_losses.huber(*out, values, one, *rest)
    robust_losses.quantile(*out, values, each, *rest)
    robust_losses.log_cosh(*out, values, *rest)
    output_losses.output_cross_entropy(*out, values, pairs, *rest)
    output_losses.output_poisson(*out, values, *rest)
    soft_targets.soft_sigmoid_cross_entropy(*out, values, pairs, *rest, convention)
    soft_targets.soft_cross_entropy(*out, np.zeros(0, np.intp), values, classes, *rest, convention)
    factors = guarded(np.ones(m, real), at_end)
    soft_targets.soft_cross_entropy(*out, labels, factors, classes, *rest, convention)
    if n > 3:
        blocks, rest = guarded(np.array([0, 2, n], np.intp), at_end), (index, weights, scale, m, convention)
        several = guarded(np.array([[0, n - 3], [1, 0], [1, n - 3]], np.intp), at_end)
        soft_targets.block_soft_cross_entropy(*out, several, none, blocks, one, *rest)
        soft_targets.block_soft_cross_entropy(*out, np.zeros(0, np.intp), values, blocks, one, *rest)


def batch_norms(dtype, at_end):
    """Matrices end with the padding of their last row, and what belongs to columns with that of the last column."""
    for m, n in itertools.product((1, 4, 20), (1, 7, 16, 17, 33, 70)):
        ld, count = layout.padded(n), layout.block_count(m)
        X, D, Y = (guarded(np.ones((m, ld), dtype), at_end) for _ in range(3))
        first, second, third, fourth, fifth = (guarded(np.ones(ld, dtype), at_end) for _ in range(5))
        parts = [guarded(np.ones((count, ld), dtype), at_end) for _ in range(3)]
        weights, index = guarded(np.ones(m, dtype), at_end), guarded(np.arange(m)[::-1].copy(), at_end)
        sizes = guarded(np.full(count * layout.GROUP, m / count, dtype), at_end)
        normalization.block_statistics(first, second, third, X, ld, m, n)
        normalization.batch_statistics(first, second, third, fourth, *parts, ld, m, n, 0.1, 0.1)
        row_weights.weighted_block_statistics(first, second, third, X, ld, weights, index, m, n)
        row_weights.weighted_batch_statistics(
            first, second, third, fourth, *parts, ld, sizes, count, n, 0.1, 0.1
        )  # fmt: skip
        normalization.batch_norm_forward(Y, ld, X, ld, first, second, third, fourth, dtype(0), m, n)
        normalization.block_sums(first, second, D, ld, X, ld, third, fourth, m, n)
        normalization.sum_of_blocks(first, parts[0], ld, count, n, 0.1)
        for adds in (False, True):
            normalization.batch_norm_backward(
                Y, ld, D, ld, X, ld, first, second, third, fourth, fifth, m, n, adds
            )  # fmt: skip
            row_weights.weighted_batch_norm_backward(
                Y, ld, D, ld, X, ld, first, second, third, fourth, fifth, weights, index, m, n, adds
            )  # fmt: skip


def transposes(dtype, at_end):
    for fan_in, fan_out in ((1, 1), (17, 33), (40, 5), (65, 16)):
        rows = layout.padded(fan_in)
        for column, width in layout.panel_columns(fan_out, lanes(dtype)):
            T = guarded(np.zeros(rows * layout.padded(fan_out), dtype), at_end)
            w = guarded(np.zeros((rows, width), dtype), at_end)
            for lo in range(0, fan_in, layout.TILE_ROWS):
                hi = min(lo + layout.TILE_ROWS, fan_in)
                tiles.transpose_tile(T, layout.padded(fan_out), w[lo * width :], lo, hi, fan_in, column, width)


def training(dtype, at_end):
    """Whole steps, every buffer guarded."""
    cases = [
        ((5, 3), ("softmax",), "softmax_cross_entropy"),
        ((33, 17, 2), ("relu", "logistic"), "sigmoid_cross_entropy"),
        ((9, 33, 3), ("exp", "exp"), "poisson"),
        ((7, 40, 19, 1), ("tanh", "logistic", "identity"), "mean_squared_error"),
    ]
    ways = [{"owners": owners, "weighted": weighted} for owners in (False, True) for weighted in (False, True)]
    ways += [{"shard": 4, "n_threads": 3}, {"shard": 4, "gathered": True, "weighted": True}]
    if dtype == np.float32:  # for one type, since it is one more compilation
        ways += [{"density": 0.2}, {"density": 0.2, "shard": 4}]
        ways += [CLIPPED, CLIPPED | {"shard": 4, "n_threads": 3}, CLIPPED | {"owners": True}]
    for (widths, names, loss), way in itertools.product(cases, ways):
        net = Net(
            widths, names, dtype, batch=6, n_rows=16, loss=loss, **{"n_threads": 2} | ADAM | way,
        )  # fmt: skip
        buffers = layout.Buffers(*(guarded(array, at_end) for array in net.buffers))
        X = guarded_rows(net.X, at_end)
        targets = layout.Targets(*(read_only(guarded(array, at_end)) for array in net.targets))
        order = read_only(guarded(net.order, at_end))
        rates, step_losses = guarded(np.full(3, 0.01), at_end), guarded(np.zeros(3), at_end)
        padded = read_only(guarded(layout.with_next(net.order), at_end))
        train_steps.serial(step_losses, net.plan, buffers, X, targets, padded, rates, net.hyper, 0)
        if not way.get("owners") and not way.get("shard"):  # a prediction's plan has neither
            out = guarded(np.zeros(16 * widths[-1], dtype), at_end)
            predict_rows.serial(out, net.plan, buffers, X, order)
            evaluate_rows.serial(guarded(np.zeros(16), at_end), net.plan, buffers, X, targets, order)


def main():
    if len(sys.argv) > 1:
        after = sys.argv[1] == "after"
        array = guarded(np.zeros(5), at_end=after)
        address = array.ctypes.data + (array.nbytes if after else -8)
        print(ctypes.c_double.from_address(address).value)
        return
    for dtype, at_end in itertools.product(DTYPES, (True, False)):
        for check in (products, elements, batch_norms, transposes, training):
            print(check.__name__, np.dtype(dtype).name, "end" if at_end else "begin", flush=True)
            check(dtype, at_end)
    print("nothing outside was touched")


if __name__ == "__main__":
    main()
