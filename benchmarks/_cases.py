"""Operands for each compiled CPU kernel, what one repetition must compute and move, and its NumPy twin beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import _kernels as loops
from benchmarks import _layer_cases, _loss_cases
from benchmarks._kernels import BACKWARD, FORWARD, GRADIENT, SORT, Case
from benchmarks._operands import aligned as _aligned
from benchmarks._operands import in_place as _case
from benchmarks._rules import ADAPTIVE, adaptive_update
from benchmarks.workloads import SPARSE
from fastbp.backends import Network, get_backend
from fastbp.kernels import layout
from fastbp.kernels.cpu import simd
from fastbp.kernels.layout import FAN_OUT, OUT, OUT_LD, SCRATCH
from fastbp.kernels.reference import (
    activations,
    losses,
    operations,
    optimizers,
    predict,
    rectifiers,
    sparse,
    step,
    tiles,
)
from fastbp.kernels.reference import update as update_part
from fastbp.kernels.reference._views import rows
from fastbp.losses import Loss
from fastbp.optimizers import Adam

# Operations of the polynomials, counted by hand: a fused multiply-add is two, a comparison or a shift none
EXP = LOG = {"float32": 23, "float64": 35}
TANH = {"float32": 26, "float64": 38}
HYPER = np.array([0.9, 0.999, 1e-8, 0.0])

# ---------------------------------------------------------------------------------------------------------------------
# Layers, on the buffers of a session


class _Layer:
    """A session on one thread whose last layer has given widths; activations and deltas are drawn, not trained."""

    def __init__(self, dtype: str, widths: tuple[int, ...], batch: int, X: Any, order: Any) -> None:
        rng, hidden = np.random.default_rng(0), ["relu"] * (len(widths) - 2)
        network = Network(widths, (*hidden, "softmax"), np.dtype(dtype))
        weights = [(rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype) for shape in network.shapes]
        session: Any = get_backend("cpu").open(
            network, Loss("softmax_cross_entropy"), Adam(), X, np.zeros(X.shape[0], np.intp), parameters=weights,
            batch_size=batch, n_threads=1,
        )  # fmt: skip
        self.plan, self.buffers, self.X = session._plan, session._buffers, session._X
        self.batch, self.order = batch, order
        for l in range(len(widths) - 1):
            for matrix in (self.outputs(l), self.deltas(l)):
                matrix[:] = rng.normal(size=matrix.shape)

    def _matrix(self, start: Any, l: int) -> Any:
        return rows(self.buffers.work[start:], self.plan.table[l, OUT_LD], self.batch, self.plan.table[l, FAN_OUT])

    def outputs(self, l: int) -> Any:
        """View of a layer's outputs."""
        return self._matrix(operations.outputs(l, 0, self.plan), l)

    def deltas(self, l: int) -> Any:
        """View of a layer's deltas."""
        return self._matrix(self.plan.header[layout.DELTAS] + self.plan.table[l, OUT], l)

    def run(self, what: int, first: int, last: int, n_times: int) -> None:
        """Repetitions of the compiled kernel."""
        loops.layers(n_times, what, first, last, self.batch, self.plan, self.buffers, self.X, self.order)

    def twin(self) -> _Layer:
        """The same with a workspace of its own."""
        twin = object.__new__(_Layer)
        twin.__dict__.update(self.__dict__)
        twin.buffers = self.buffers._replace(work=self.buffers.work.copy())
        return twin

    def tile(self, item: Any) -> Any:
        """View of the thread's tile of the gradient."""
        n_rows = 1 if item[layout.LO] < 0 else item[layout.HI] - item[layout.LO]
        return self.buffers.work[self.plan.header[SCRATCH] :][: n_rows * item[layout.WIDTH]]

    def gradients(self, compiled: bool) -> list[Any]:
        """Each tile of the gradient."""
        tiles_of_all = []
        for i, item in enumerate(self.plan.items):
            if compiled:
                self.run(GRADIENT, i, i + 1, 1)
            else:
                G = self.tile(item)
                update_part.tile_gradient(item, G, 0, 0, self.batch, self.plan, self.buffers, self.X, self.order, 0)
            tiles_of_all.append(self.tile(item).copy())
        return tiles_of_all

    def forward(self, compiled: bool) -> list[Any]:
        """The first layer's outputs."""
        n = self.plan.table[0, FAN_OUT]
        if compiled:
            self.run(FORWARD, 0, 0, 1)
        else:
            step.layer_forward(0, 0, 0, self.batch, 0, n, self.plan, self.buffers, self.X, self.order)
        return [self.outputs(0)]

    def backward(self, compiled: bool) -> list[Any]:
        """The first layer's deltas."""
        if compiled:
            self.run(BACKWARD, 1, 0, 1)
        else:
            step.layer_backward(1, 0, self.batch, False, self.plan, self.buffers)
            step.finish_delta(0, 0, 0, self.batch, self.plan, self.buffers)
        return [self.deltas(0)]


def _layer_case(name: str, shape: str, dtype: str, what: int, layer: _Layer, flop: int, elements: int) -> Case:
    compute = {FORWARD: _Layer.forward, BACKWARD: _Layer.backward, GRADIENT: _Layer.gradients}[what]
    first, last = {FORWARD: (0, 0), BACKWARD: (1, 0), GRADIENT: (0, len(layer.plan.items))}[what]
    return Case(
        name, shape, dtype, flop, elements * np.dtype(dtype).itemsize, partial(layer.run, what, first, last),
        lambda: compute(layer.twin(), False), lambda: compute(layer, True),
    )  # fmt: skip


def dense(what: int, batch: int, fan_in: int, fan_out: int, dtype: str, scattered: bool = False) -> Case:
    """A layer's product. ``scattered``: the batch's rows lie at random among 20 times as many."""
    rng = np.random.default_rng(0)
    n_samples = batch * 20 if scattered else batch
    widths = (16, fan_in, fan_out) if what == BACKWARD else (fan_in, fan_out)
    X = rng.normal(size=(n_samples, widths[0])).astype(dtype)
    order = rng.permutation(n_samples)[:batch].copy() if scattered else np.arange(batch)
    layer = _Layer(dtype, widths, batch, X, layout.with_next(order))
    name = {FORWARD: "gemm", BACKWARD: "gemm, deltas", GRADIENT: "gemm_transposed"}[what]
    product = (fan_out, fan_in) if what == BACKWARD else (fan_in, fan_out)
    shape = f"{batch}x{product[0]}x{product[1]}{', scattered' if scattered else ''}"
    elements = batch * fan_in + fan_in * fan_out + batch * fan_out
    return _layer_case(name, shape, dtype, what, layer, 2 * batch * fan_in * fan_out, elements)


def compressed(what: int, dtype: str) -> Case:
    """A first layer's product with X in compressed rows, or the sort of a batch."""
    workload, rng = SPARSE["text"].quick(), np.random.default_rng(0)
    X, _ = workload.data(dtype)
    batch, (fan_in, fan_out) = workload.batch, (workload.n_features, workload.hidden[0])
    order = rng.permutation(X.shape[0])[:batch].copy()
    layer, chosen, itemsize = _Layer(dtype, (fan_in, fan_out), batch, X, order), X[order], np.dtype(dtype).itemsize
    shape = f"{batch}x{fan_in}x{fan_out}, {workload.nonzeros} a row"
    X = layer.X

    def entries(compiled: bool) -> list[Any]:
        twin_X = X if compiled else X._replace(
            tile_starts=X.tile_starts.copy(), entry_rows=X.entry_rows.copy(), entry_columns=X.entry_columns.copy(),
            entry_values=X.entry_values.copy(),
        )  # fmt: skip
        if compiled:
            layer.run(SORT, 0, 0, 1)
        else:
            sparse.sort_entries(0, twin_X, order)
        n_tiles = X.tiles[0, 1] - X.tiles[0, 0]
        parts = [twin_X.entry_rows, twin_X.entry_columns, twin_X.entry_values]
        return [twin_X.tile_starts[: n_tiles + 1].copy(), *(part[: chosen.nnz].copy() for part in parts)]

    if what == SORT:
        n_bytes = chosen.nnz * (4 + itemsize + 8 + itemsize)
        run = partial(layer.run, SORT, 0, 0)
        return Case("sort_entries", shape, dtype, 0, n_bytes, run, partial(entries, False), partial(entries, True))
    if what == GRADIENT:
        sparse.sort_entries(0, X, order)
        elements = 2 * chosen.nnz + batch * fan_out + fan_in * fan_out
    else:
        elements = 2 * chosen.nnz + len(np.unique(chosen.indices)) * fan_out + batch * fan_out
    name = "csr_forward" if what == FORWARD else "csr_gradient"
    return _layer_case(name, shape, dtype, what, layer, 2 * chosen.nnz * fan_out, elements)


# ---------------------------------------------------------------------------------------------------------------------
# Kernels on arrays of their own


def update(what: int, size: int, dtype: str) -> Case:
    """An optimizer on one run of parameters."""
    w, m, v, g = (_aligned(values, dtype) for values in np.random.default_rng(0).normal(size=(4, size)))
    np.abs(v, out=v)
    rates = (0.1, 1.1, 1e-4)  # rate, correction, l2

    def twin(w: Any, m: Any, v: Any, g: Any) -> None:
        if what == loops.ADAM:
            optimizers.adam(w, m, v, g, HYPER, *rates)
        else:
            optimizers.sgd(w, m, g, HYPER[layout.BETA_1], 0, *rates)

    # read w, m, v, g and write w, m, v; the same without v
    name, flop, elements = ("adam", 15, 7) if what == loops.ADAM else ("sgd", 7, 5)
    shape = f"{size:,}, from memory" if size > 1e6 else str(size)
    return _case(
        name, shape, dtype, flop * size, elements * size, (w, m, v, g),
        lambda n_times, w, m, v, g: loops.updates(n_times, what, w, m, v, g, HYPER, *rates), twin,
        lambda w, m, v, g: [w, m, v],
    )  # fmt: skip


def tile(what: int, dtype: str) -> Case:
    """What else is done to a tile of W."""
    width, n_rows = simd.NV * simd.lanes(np.dtype(dtype).itemsize), layout.TILE_ROWS
    w, out = (_aligned(values, dtype) for values in np.random.default_rng(0).normal(size=(2, n_rows * width)))
    shape, size, lanes = f"{n_rows}x{width}", n_rows * width, simd.lanes(np.dtype(dtype).itemsize)

    def twin(out: Any, w: Any) -> None:
        if what == loops.SQUARES:
            tiles.add_squares(out, w, width, n_rows)
        else:
            tiles.transpose_tile(out, width, w, 0, n_rows, n_rows, 0, width, lanes=lanes)

    name, flop, written = ("add_squares", 2, width) if what == loops.SQUARES else ("transpose_tile", 0, size)
    return _case(
        name, shape, dtype, flop * size, size + written, (out, w),
        lambda n_times, out, w: loops.tile(n_times, what, out, w, width, n_rows), twin, lambda out, w: [out],
    )  # fmt: skip


def elements(what: int, code: str, dtype: str, m: int = 64, n: int = 128) -> Case:
    """An activation, or its derivative, on m rows of n.

    Derivatives are in place: again and again, they would soon make numbers that are denormal, and slow. From outputs A
    of 1.7 to 3, of both signs, they grow (up to infinity, which is as fast as any number), and the kernels take them.
    """
    rng, ld = np.random.default_rng(0), layout.row_stride(n, np.dtype(dtype).itemsize)
    if what in (loops.ACTIVATION, loops.DERIVATIVE):
        ld = n
    backward = what in (loops.DERIVATIVE, loops.SOFTMAX_DERIVATIVE)
    values = rng.uniform(1.7, 3, (m, n)) * rng.choice([-1, 1], (m, n)) if backward else rng.normal(size=(m, n))
    A, dZ = layout.aligned_zeros(m * ld, dtype), layout.aligned_zeros(m * ld, dtype)
    rows(A, ld, m, n)[:], rows(dZ, ld, m, n)[:] = values, rng.normal(size=(m, n))
    number = layout.ACTIVATIONS[code]

    def twin(dZ: Any, A: Any) -> None:
        if what == loops.ACTIVATION:
            activations.activation_forward(A, number)
        elif what == loops.DERIVATIVE:
            activations.activation_backward(dZ, A, number)
        elif what == loops.SOFTMAX:
            activations.softmax_forward(A, ld, m, n)
        else:
            activations.softmax_backward(dZ, A, ld, m, n)

    if backward:
        flop = {"relu": 0, "logistic": 3, "tanh": 3, "exp": 1, "softmax": 4}[code]
    else:
        exp = EXP[dtype]
        flop = {"logistic": exp + 2, "tanh": TANH[dtype], "exp": exp, "softmax": exp + 3}[code]
    if code == "softmax":
        name, shape = f"softmax_{'backward' if backward else 'forward'}", f"{m}x{n}"
    else:
        name, shape = f"activation_{'backward' if backward else 'forward'}", f"{code}, {m}x{n}"
    return _case(
        name, shape, dtype, flop * m * n, (3 if backward else 2) * m * n, (dZ, A),
        lambda n_times, dZ, A: loops.elements(n_times, what, dZ, A, ld, m, n, number), twin,
        lambda dZ, A: [rows(dZ if backward else A, ld, m, n)],
    )  # fmt: skip


def rectifier(what: int, code: str, dtype: str, m: int = 64, n: int = 128) -> Case:
    """One of ``fastbp.kernels.layout.RECTIFIERS`` on m rows of n: in predictions, in training, or its derivative."""
    out, S, Z, A = (_aligned(values, dtype) for values in np.random.default_rng(0).normal(size=(4, m * n)))
    name, number = loops.RECTIFIER_KERNELS[what], layout.RECTIFIERS[code]

    def twin(out: Any, S: Any, Z: Any, A: Any) -> None:
        out[:] = Z
        arrays = {loops.RECTIFIER: (out,), loops.RECTIFIER_SLOPE: (out, S), loops.RECTIFIER_DERIVATIVE: (out, A, S)}
        getattr(rectifiers, name)(*arrays[what], number)

    exp, tail = EXP[dtype], {"float32": 37, "float64": 63}[dtype]  # tail: of the normal distribution
    forward = {
        "leaky_relu": 1, "elu": exp, "selu": exp + 1, "softplus": exp + LOG[dtype], "gelu": exp + tail,
        "gelu_tanh": exp + 10, "silu": exp + 5, "mish": exp + 13,
    }  # fmt: skip
    backward = {"elu": 2, "selu": 2, "softplus": exp + 1}.get(code, 1)
    flop = backward if what == loops.RECTIFIER_DERIVATIVE else forward[code]
    return _case(
        name, f"{code}, {m}x{n}", dtype, flop * m * n, 3 * m * n, (out, S, Z, A),
        lambda n_times, out, S, Z, A: loops.rectifier(n_times, what, out, S, Z, A, number), twin,
        lambda out, S, Z, A: [out, S],
    )  # fmt: skip


LOSSES = {
    loops.SOFTMAX_LOSS: "softmax_cross_entropy",
    loops.BLOCKS_LOSS: "block_softmax_cross_entropy",
    loops.SIGMOID_LOSS: "sigmoid_cross_entropy",
    loops.POISSON_LOSS: "poisson",
    loops.SQUARED_LOSS: "squared_error",
}


def loss(what: int, m: int, n: int, dtype: str, convention: int = layout.PYTORCH) -> Case:
    """A loss and its gradient; blocks are 3 columns and the rest."""
    rng, ld = np.random.default_rng(0), layout.row_stride(n, np.dtype(dtype).itemsize)
    row_loss, dZ, Z = np.zeros(m), layout.aligned_zeros(m * ld, dtype), layout.aligned_zeros(m * ld, dtype)
    rows(Z, ld, m, n)[:] = rng.normal(size=(m, n))
    blocks, none, index, scale = np.array([0, 3, n]), np.zeros(0, dtype), rng.permutation(m), 1.0 / m
    labels = (rng.integers(0, [3, n - 3], (m, 2)) if what == loops.BLOCKS_LOSS else rng.integers(0, n, m)).reshape(-1)
    values = rng.integers(0, 2, m * n).astype(dtype)  # for Poisson as well as for the sigmoid

    def twin(row_loss: Any, dZ: Any, Z: Any) -> None:
        out, rest = (row_loss, dZ, Z, ld), (index, none, scale, m)
        if what == loops.SOFTMAX_LOSS:
            losses.softmax_cross_entropy(*out, labels, *rest, n, convention)
        elif what == loops.BLOCKS_LOSS:
            losses.block_softmax_cross_entropy(*out, labels, blocks, *rest, convention)
        elif what == loops.SIGMOID_LOSS:
            losses.sigmoid_cross_entropy(*out, values, *rest, n, convention)
        elif what == loops.POISSON_LOSS:
            losses.poisson(*out, values, *rest, n)
        else:
            losses.squared_error(*out, values, *rest, n, layout.HALF_SQUARED_ERROR, convention)

    exp, log, clipped = EXP[dtype], LOG[dtype], convention == layout.SCIKIT_LEARN
    flop = m * n * {
        loops.SOFTMAX_LOSS: exp + 3,
        loops.BLOCKS_LOSS: exp + 3,
        loops.SIGMOID_LOSS: exp + 2 + (2 * log + 8 if clipped else exp + log + 9),
        loops.POISSON_LOSS: exp + log + 7,
        loops.SQUARED_LOSS: 4,
    }[what]  # fmt: skip
    if what in (loops.SOFTMAX_LOSS, loops.BLOCKS_LOSS):
        flop += labels.size * (log + 3)
    targets = 0 if what in (loops.SOFTMAX_LOSS, loops.BLOCKS_LOSS) else 1
    shape = f"{m}x{n}{', scikit-learn' if clipped else ''}"
    return _case(
        LOSSES[what], shape, dtype, flop, (2 + targets) * m * n, (row_loss, dZ, Z),
        lambda n_times, row_loss, dZ, Z: loops.losses_of(
            n_times, what, row_loss, dZ, Z, ld, labels, values, blocks, index, none, scale, m, n, convention
        ),
        twin, lambda row_loss, dZ, Z: [row_loss, rows(dZ, ld, m, n)],
    )  # fmt: skip


def few_rows(m: int, K: int, n: int, dtype: str) -> Case:
    """A layer of a prediction of few rows, without panels."""
    rng, ld = np.random.default_rng(0), layout.padded(n)
    A, W, b = (_aligned(rng.normal(size=shape), dtype) for shape in ((m, K), (K, n), (n,)))
    Z, code = layout.aligned_zeros(m * ld, dtype), layout.RELU
    return _case(
        "layer_rows", f"{m}x{K}x{n}", dtype, 2 * m * K * n, m * K + K * n + n + m * n, (Z, A, W, b),
        lambda n_times, Z, A, W, b: loops.few_rows(n_times, Z, ld, A, K, W, b, m, n, K, code),
        lambda Z, A, W, b: predict.layer_rows(Z, ld, A, K, W, b, m, n, K, code),
        lambda Z, A, W, b: [rows(Z, ld, m, n)],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# All of them, each to be made when its turn comes: some take hundreds of MiB


def _named() -> dict[str, Callable[..., Case]]:
    cases: dict[str, Callable[..., Case]] = {}
    products = [(64, 784, 128), (256, 256, 256), (128, 128, 128), (256, 512, 1024), (64, 128, 10)]
    for what, name in ((FORWARD, "gemm"), (GRADIENT, "gemm_transposed")):
        for shape in products:
            cases[f"{name} {'x'.join(map(str, shape))}"] = partial(dense, what, *shape)
        cases[f"{name} scattered"] = partial(dense, what, *products[0], scattered=True)
    for shape in products[1:]:
        cases[f"deltas {'x'.join(map(str, shape))}"] = partial(dense, BACKWARD, *shape)
    for what, name in ((FORWARD, "csr_forward"), (GRADIENT, "csr_gradient"), (SORT, "sort_entries")):
        cases[name] = partial(compressed, what)
    for code in ("logistic", "tanh", "exp"):
        cases[f"forward {code}"] = partial(elements, loops.ACTIVATION, code)
    for code in ("relu", "logistic", "tanh", "exp"):
        cases[f"backward {code}"] = partial(elements, loops.DERIVATIVE, code)
    for code in layout.RECTIFIERS:
        what = loops.RECTIFIER_SLOPE if code in layout.BY_SLOPE else loops.RECTIFIER
        cases[f"rectifier forward {code}"] = partial(rectifier, what, code)
    for code in ("leaky_relu", "elu", "softplus", "gelu"):
        cases[f"rectifier backward {code}"] = partial(rectifier, loops.RECTIFIER_DERIVATIVE, code)
    cases["softmax_forward"] = partial(elements, loops.SOFTMAX, "softmax", m=256, n=100)
    cases["softmax_backward"] = partial(elements, loops.SOFTMAX_DERIVATIVE, "softmax", m=256, n=100)
    for what, name in LOSSES.items():
        cases[f"{name} 64x10"] = partial(loss, what, 64, 10)
    cases["softmax_cross_entropy 256x100"] = partial(loss, loops.SOFTMAX_LOSS, 256, 100)
    for what in (loops.SOFTMAX_LOSS, loops.SIGMOID_LOSS):
        cases[f"{LOSSES[what]} 64x10 scikit-learn"] = partial(loss, what, 64, 10, convention=layout.SCIKIT_LEARN)
    cases |= _loss_cases.CASES | _layer_cases.CASES
    for what, name in ((loops.ADAM, "adam"), (loops.SGD, "sgd")):
        for size in (768, 4_000_000):  # a tile of 48 rows and 16 columns; 64 MB of float32 in four arrays
            cases[f"{name} {size}"] = partial(update, what, size)
    cases |= {f"{name} 768": partial(adaptive_update, name, 768) for name in ADAPTIVE}
    cases["transpose_tile"], cases["add_squares"] = partial(tile, loops.TRANSPOSE), partial(tile, loops.SQUARES)
    for shape in ((1, 784, 128), (4, 784, 128), (1, 512, 1024)):
        cases[f"layer_rows {'x'.join(map(str, shape))}"] = partial(few_rows, *shape)
    return cases


CASES = _named()
