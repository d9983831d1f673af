"""Sessions on kernels that read a plan: the compiled ones and their NumPy twins have the same names and arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends._optimizers import State, described
from fastbp.backends._targets import as_targets, loss_codes, read_only
from fastbp.backends.base import Backend, Inspection, Matrix, Network, Session
from fastbp.kernels import layout, packing, schedule
from fastbp.kernels.csr import Csr, csr
from fastbp.kernels.operations import needs_delta
from fastbp.losses import LINKS, Loss
from fastbp.optimizers import Optimizer

FEW_ROWS = 8  # for so many, laying out the weights would take longer than the products


@dataclass(frozen=True)
class Kernels:
    """A set of kernels.

    Parameters
    ----------
    train_steps, predict_rows, layer_rows, rectifier_forward, evaluate_rows, apply_gradients : callable
        See ``fastbp.kernels.cpu``.
    lanes : callable
        ``lanes(network)``: elements of one vector, which decides the width of panels.
    threads : callable
        ``threads(n_threads)``: how many threads a request stands for.
    """

    train_steps: Callable[..., None]
    predict_rows: Callable[..., None]
    layer_rows: Callable[..., None]
    rectifier_forward: Callable[..., None]
    evaluate_rows: Callable[..., None]
    apply_gradients: Callable[..., None]
    lanes: Callable[[Network], int]
    threads: Callable[[int | None], int]


def as_rows(X: Matrix, plan: layout.Plan | None = None) -> Array | Csr:
    """X as kernels take it: flat, or in compressed rows; ``plan`` where it is for training.

    Read-only, since a writable array is another type to Numba, and every kernel would be compiled twice.
    """
    if isinstance(X, np.ndarray):
        return read_only(X.reshape(-1))
    columns, starts = X.indices.astype(np.int32, copy=False), X.indptr.astype(np.intp, copy=False)
    return csr(read_only(X.data), read_only(columns), read_only(starts), plan)


def density(X: Matrix) -> float | None:
    """Share of a sparse X that is not zero; None where X is dense."""
    return None if isinstance(X, np.ndarray) else float(X.nnz / (X.shape[0] * X.shape[1]))


def outputs_and_deltas(
    network: Network, header: Array, table: Array, work: Array, n_rows: int
) -> tuple[list[Array], list[Array]]:
    """Copies of A and dL / dZ of each operation, (n_rows, fan_out), as a step has left them in ``work``."""

    def of_layers(start: int) -> list[Array]:
        places = table[:, [layout.OUT, layout.OUT_LD, layout.FAN_OUT]].tolist()
        return [
            work[start + out :][: n_rows * ld].reshape(n_rows, ld)[:, :fan_out].copy() for out, ld, fan_out in places
        ]

    outputs, deltas = of_layers(0), of_layers(int(header[layout.DELTAS]))
    for delta, is_there in zip(deltas, needs_delta(network.all_operations), strict=True):
        delta[:] = delta if is_there else np.nan  # not computed where nothing below is trained
    return outputs, deltas


class PlannedSession(Session):
    """Training on a plan."""

    def __init__(
        self,
        kernels: Kernels,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Matrix,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None,
        n_threads: int | None,
        seed: int,
    ) -> None:
        self._kernels, self._network, self._loss = kernels, network, loss
        self._n_threads, self._lanes = kernels.threads(n_threads), kernels.lanes(network)
        numbers = described(optimizer)
        self._hyper = numbers.hyper
        of_loss = loss_codes(loss, network.activations[-1], y)
        self._plan, work_size = schedule.training_plan(
            network.widths,
            network.activations,
            dtype=network.dtype,
            lanes=self._lanes,
            batch=batch_size,
            n_threads=self._n_threads,
            density=density(X),
            operations=network.operations,
            seed=seed,
            **of_loss,
            clipping=numbers.clipping,
            **numbers.codes,
        )
        self._matrix = X
        self._predicting: tuple[Array, Callable[[list[Array]], Array]] | None = None
        self._X = as_rows(X, self._plan)
        self._targets = as_targets(y, sample_weight, network.dtype, loss, of_loss, X.shape[0], network.widths[-1])
        size = int(self._plan.header[layout.N_PARAMETERS])
        self._buffers = layout.Buffers(
            layout.aligned_zeros(size, network.dtype),
            layout.aligned_zeros(len(numbers.arrays) * size, network.dtype),
            layout.aligned_zeros(work_size, network.dtype),
            np.zeros(len(self._plan.rows)),
        )
        self._parameters = packing.Views(self._buffers.parameters, self._plan.table, self._lanes)
        self._state = State(optimizer, numbers, self._buffers.moments, self._plan.table, self._lanes)
        self._state.start(parameters)
        self.set_parameters(parameters)

    @property
    def _threads(self) -> int:
        return self._plan.shares.shape[1] - 1

    def train(self, rows: Array, learning_rates: Array) -> Array:
        losses, rates = np.empty(len(learning_rates)), np.array(learning_rates, float)  # writable: one signature
        self._kernels.train_steps(
            losses, self._plan, self._buffers, self._X, self._targets, read_only(layout.with_next(rows)), rates,
            self._hyper, self._state.step, n_threads=self._threads,
        )  # fmt: skip
        self._state.step += len(learning_rates)
        return losses

    def loss_and_gradients(self, rows: Array) -> tuple[float, list[Array]]:
        header = self._plan.header.copy()
        header[layout.OPTIMIZER] = layout.GRADIENT
        gradients = layout.aligned_zeros(int(header[layout.N_PARAMETERS]), self._network.dtype)
        buffers, losses = self._buffers._replace(moments=gradients), np.empty(1)
        self._kernels.train_steps(
            losses, self._plan._replace(header=header), buffers, self._X, self._targets,
            read_only(layout.with_next(rows)), np.zeros(1), self._hyper, 0, n_threads=self._threads,
        )  # fmt: skip
        return float(losses[0]), packing.unpack(gradients, self._plan.table, self._lanes)

    def inspect(self, rows: Array) -> Inspection:
        header = self._plan.header
        if header[layout.SHARD]:
            raise ValueError("a session with shards keeps no outputs and deltas: open it with a smaller batch")
        loss, gradients = self.loss_and_gradients(rows)
        outputs, deltas = outputs_and_deltas(self._network, header, self._plan.table, self._buffers.work, len(rows))
        if self._loss.name in LINKS:  # such a loss starts from Z, and works in its place
            # by gradient_check the same rows again and again
            if self._predicting is None or not np.array_equal(self._predicting[0], rows):
                predict = _predictor(self._kernels, self._network, self._matrix[rows], False, self._n_threads)
                self._predicting = rows.copy(), predict
            outputs[-1] = self._predicting[1](self.get_parameters())
        return Inspection(loss, gradients, outputs, deltas)

    def apply_gradients(self, gradients: list[Array], learning_rate: float, n_rows: int) -> None:
        flat = np.zeros_like(self._buffers.parameters)
        packing.pack(gradients, flat, self._plan.table, self._lanes)
        self._kernels.apply_gradients(
            flat, self._plan, self._buffers, self._hyper, float(learning_rate), self._state.step + 1, float(n_rows)
        )
        self._state.step += 1

    def evaluation(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> Callable[[], float]:
        network, codes = self._network, loss_codes(self._loss, self._network.activations[-1], y)
        rows = _Rows(self._kernels, network, X, self._n_threads, **codes)
        buffers = rows.buffers._replace(parameters=self._buffers.parameters)
        targets = as_targets(y, sample_weight, X.dtype, self._loss, codes, X.shape[0], network.widths[-1])
        losses = np.empty(X.shape[0])
        total = float(targets.weights.sum(dtype=float)) if targets.weights.size else X.shape[0]
        total = total or np.inf  # as in a step: what has no weight has no loss

        def loss() -> float:
            for here, order in rows.blocks:
                self._kernels.evaluate_rows(
                    losses[here], rows.plan, buffers, rows.data, targets, order, n_threads=rows.n_threads
                )
            return float(losses.sum() / total)

        return loss

    def get_parameters(self) -> list[Array]:
        return self._parameters.read()

    def set_parameters(self, parameters: list[Array]) -> None:
        self._parameters.write(parameters)
        packing.pack_transposed(self._buffers.parameters, self._buffers.work, self._plan.table, self._lanes)

    def get_optimizer_state(self) -> dict[str, Any]:
        return self._state.read()

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        self._state.write(state)

    def keep_optimizer_state(self) -> None:
        self._state.keep()

    def restore_optimizer_state(self) -> None:
        self._state.restore()

    def all_finite(self) -> bool:
        return bool(np.isfinite(self._buffers.parameters).all())


class _Rows:
    """Rows that are not trained on: the plan and the workspace for them, and the runs that they are gone through in.

    The layout of parameters is that of training: it does not depend on the number of rows.
    """

    def __init__(self, kernels: Kernels, network: Network, X: Matrix, n_threads: int, **codes: int) -> None:
        n_rows, part = X.shape[0], density(X)
        self.lanes = kernels.lanes(network)
        self.plan, work_size = schedule.prediction_plan(
            network.widths,
            network.activations,
            dtype=network.dtype,
            lanes=self.lanes,
            n_rows=n_rows,
            n_threads=n_threads,
            density=part,
            operations=network.operations,
            **codes,
        )
        self.data, self.n_threads = as_rows(X), self.plan.shares.shape[1] - 1
        none = np.zeros(0, network.dtype)
        work = layout.aligned_zeros(work_size, network.dtype)
        self.buffers = layout.Buffers(none, none, work, np.zeros(int(self.plan.header[layout.BATCH])))
        self.blocks = [
            (here, read_only(np.arange(here.start, here.stop)))
            for here in schedule.blocks(network.widths, n_rows, X.dtype.itemsize, part, network.operations)
        ]


def _predict_few(kernels: Kernels, network: Network, parameters: list[Array], X: Array) -> Array:
    """Outputs of a few rows, layer by layer, on the parameters as they lie."""
    n_rows, A, lda = len(X), read_only(X.reshape(-1)), X.shape[1]
    for (K, n), name, W, b in zip(
        itertools.pairwise(network.widths), network.activations, parameters[::2], parameters[1::2], strict=True
    ):
        ld = layout.padded(n)
        Z = np.zeros(n_rows * ld, network.dtype)
        kernels.layer_rows(
            Z, ld, A, lda, read_only(W.reshape(-1)), read_only(b), n_rows, n, K, layout.ACTIVATIONS[name]
        )  # fmt: skip
        if name in layout.RECTIFIERS:  # apart, so that other networks do not wait for their code
            kernels.rectifier_forward(Z, layout.RECTIFIERS[name])
        A, lda = read_only(Z), ld
    return np.ascontiguousarray(A.reshape(n_rows, lda)[:, : network.widths[-1]])


def _predictor(
    kernels: Kernels, network: Network, X: Matrix, raw: bool, n_threads: int
) -> Callable[[list[Array]], Array]:
    if raw:
        network = replace(network, activations=(*network.activations[:-1], "identity"))
    if X.shape[0] <= FEW_ROWS and isinstance(X, np.ndarray) and not network.operations:
        return lambda parameters: _predict_few(kernels, network, parameters, X)
    rows = _Rows(kernels, network, X, n_threads)
    size = int(rows.plan.header[layout.N_PARAMETERS])
    buffers = rows.buffers._replace(parameters=layout.aligned_zeros(size, network.dtype))
    views = packing.Views(buffers.parameters, rows.plan.table, rows.lanes)

    def predict(parameters: list[Array]) -> Array:
        views.write(parameters)
        out = np.empty((X.shape[0], network.widths[-1]), network.dtype)
        for here, order in rows.blocks:
            kernels.predict_rows(out[here].reshape(-1), rows.plan, buffers, rows.data, order, n_threads=rows.n_threads)
        return out

    return predict


class PlannedBackend(Backend):
    """A backend on one set of kernels."""

    def __init__(self, name: str, kernels: Kernels) -> None:
        self.name, self._kernels = name, kernels

    def open(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Matrix,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None = None,
        n_threads: int | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> PlannedSession:
        self._check(precision)
        return PlannedSession(
            self._kernels, network, loss, optimizer, X, y,
            parameters=parameters, batch_size=batch_size, sample_weight=sample_weight, n_threads=n_threads,
            seed=seed,
        )  # fmt: skip

    def predictor(
        self,
        network: Network,
        X: Matrix,
        *,
        raw: bool = False,
        n_threads: int | None = None,
        precision: str = "float32",
    ) -> Callable[[list[Array]], Array]:
        self._check(precision)
        return _predictor(self._kernels, network, X, raw, self._kernels.threads(n_threads))

    def _check(self, precision: str) -> None:
        if precision != "float32":
            raise ValueError(f"precision={precision!r} is for backend 'cuda': {self.name!r} computes in X's own dtype")
