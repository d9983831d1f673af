"""Sessions on kernels that read a plan: the compiled ones and their NumPy twins have the same names and arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends.base import Backend, Network, Session
from fastbp.kernels import layout, schedule
from fastbp.losses import Loss
from fastbp.optimizers import SGD, Adam, Optimizer


@dataclass(frozen=True)
class Kernels:
    """A set of kernels.

    Parameters
    ----------
    train_steps, predict_rows, evaluate_rows, apply_gradients : callable
        See ``fastbp.kernels.cpu``.
    lanes : callable
        ``lanes(network)``: elements of one vector, which decides the width of panels.
    threads : callable
        ``threads(n_threads)``: how many threads a request stands for.
    """

    train_steps: Callable[..., None]
    predict_rows: Callable[..., None]
    evaluate_rows: Callable[..., None]
    apply_gradients: Callable[..., None]
    lanes: Callable[[Network], int]
    threads: Callable[[int | None], int]


def loss_codes(loss: Loss) -> dict[str, int]:
    """A loss as the plan's header holds it."""
    convention = layout.SCIKIT_LEARN if loss.convention == "scikit-learn" else layout.PYTORCH
    return {"loss": layout.LOSSES[loss.name], "loss_convention": convention}


def optimizer_codes(optimizer: Optimizer) -> tuple[dict[str, int], Array]:
    """An optimizer as the plan's header and ``hyper`` hold it."""
    convention = layout.SCIKIT_LEARN if optimizer.convention == "scikit-learn" else layout.PYTORCH
    hyper = np.zeros(layout.HYPER_SIZE)
    hyper[layout.L2] = optimizer.l2
    if isinstance(optimizer, Adam):
        hyper[[layout.BETA_1, layout.BETA_2, layout.EPSILON]] = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
        return {"optimizer": layout.ADAM, "nesterov": 0, "convention": convention}, hyper
    assert isinstance(optimizer, SGD)
    hyper[layout.BETA_1] = optimizer.momentum
    return {"optimizer": layout.SGD, "nesterov": int(optimizer.nesterov), "convention": convention}, hyper


def as_data(X: Array, y: Array | None, sample_weight: Array | None) -> layout.Data:
    """Training data as kernels take it: flat, and empty where there is none."""
    real, none = X.dtype, np.zeros(0, X.dtype)
    labels, values = np.zeros(0, np.intp), none
    if y is not None and y.dtype == np.intp:
        labels = y
    elif y is not None:
        values = y.reshape(-1)
    weights = none if sample_weight is None else np.asarray(sample_weight, real)
    # one signature for all callers: a read-only array is another type to Numba
    return layout.Data(*(read_only(array) for array in (X.reshape(-1), labels, values, weights)))


def read_only(array: Array) -> Array:
    """A view that cannot be written through, contiguous and aligned, of numpy's own array type.

    A memory map is another type to Numba. An array that is not aligned is none: compiled code takes it for aligned.
    """
    view = np.require(np.asarray(array), requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


class PlannedSession(Session):
    """Training on a plan."""

    def __init__(
        self,
        kernels: Kernels,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        data: layout.Data,
        *,
        parameters: list[Array],
        batch_size: int,
        n_threads: int | None,
    ) -> None:
        self._kernels, self._network, self._loss, self._data = kernels, network, loss, data
        self._n_threads, self._lanes = kernels.threads(n_threads), kernels.lanes(network)
        codes, self._hyper = optimizer_codes(optimizer)
        self._plan, work_size = schedule.training_plan(
            network.widths,
            network.activations,
            dtype=network.dtype,
            lanes=self._lanes,
            batch=batch_size,
            n_threads=self._n_threads,
            **loss_codes(loss),
            **codes,
        )
        size = int(self._plan.header[layout.N_PARAMETERS])
        self._buffers = layout.Buffers(
            layout.aligned_zeros(size, network.dtype),
            layout.aligned_zeros(2 * size, network.dtype),
            layout.aligned_zeros(work_size, network.dtype),
            np.zeros(batch_size),
        )
        self._buffers.work[self._plan.header[layout.ONE]] = 1
        self._step = 0
        self._kept: tuple[int, Array] = (0, np.zeros(2 * size, network.dtype))
        self.set_parameters(parameters)

    @property
    def _threads(self) -> int:
        return self._plan.shares.shape[1] - 1

    def train(self, rows: Array, learning_rates: Array) -> Array:
        losses, rates = np.empty(len(learning_rates)), np.array(learning_rates, float)  # writable: one signature
        self._kernels.train_steps(
            losses, self._plan, self._buffers, self._data, read_only(rows), rates, self._hyper, self._step,
            n_threads=self._threads,
        )  # fmt: skip
        self._step += len(learning_rates)
        return losses

    def loss_and_gradients(self, rows: Array) -> tuple[float, list[Array]]:
        header = self._plan.header.copy()
        header[layout.OPTIMIZER] = layout.GRADIENT
        gradients = layout.aligned_zeros(int(header[layout.N_PARAMETERS]), self._network.dtype)
        buffers, losses = self._buffers._replace(moments=gradients), np.empty(1)
        self._kernels.train_steps(
            losses, self._plan._replace(header=header), buffers, self._data, read_only(rows), np.zeros(1), self._hyper,
            0, n_threads=self._threads,
        )  # fmt: skip
        return float(losses[0]), layout.unpack(gradients, self._plan.table, self._lanes)

    def apply_gradients(self, gradients: list[Array], learning_rate: float, n_rows: int) -> None:
        flat = np.zeros_like(self._buffers.parameters)
        layout.pack(gradients, flat, self._plan.table, self._lanes)
        self._kernels.apply_gradients(
            flat, self._plan, self._buffers, self._hyper, float(learning_rate), self._step + 1, float(n_rows)
        )
        self._step += 1

    def evaluate(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        plan, buffers = _prediction(
            self._kernels, self._network, self._buffers.parameters, len(X), self._n_threads, **loss_codes(self._loss)
        )
        losses, data, n_threads = np.empty(len(X)), as_data(X, y, sample_weight), plan.shares.shape[1] - 1
        for rows in schedule.blocks(self._network.widths, len(X), X.itemsize):
            order = read_only(np.arange(rows.start, rows.stop))
            self._kernels.evaluate_rows(losses[rows], plan, buffers, data, order, n_threads=n_threads)
        return float(losses.sum() / (len(X) if sample_weight is None else np.sum(sample_weight, dtype=float)))

    def get_parameters(self) -> list[Array]:
        return layout.unpack(self._buffers.parameters, self._plan.table, self._lanes)

    def set_parameters(self, parameters: list[Array]) -> None:
        layout.pack(parameters, self._buffers.parameters, self._plan.table, self._lanes)
        layout.pack_transposed(self._buffers.parameters, self._buffers.work, self._plan.table, self._lanes)

    def get_optimizer_state(self) -> dict[str, Any]:
        first, second = np.split(self._buffers.moments, 2)
        table, lanes = self._plan.table, self._lanes
        return {
            "step": self._step,
            "first": layout.unpack(first, table, lanes),
            "second": layout.unpack(second, table, lanes),
        }

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        first, second = np.split(self._buffers.moments, 2)
        layout.pack(state["first"], first, self._plan.table, self._lanes)
        layout.pack(state["second"], second, self._plan.table, self._lanes)
        self._step = int(state["step"])

    def keep_optimizer_state(self) -> None:
        _, moments = self._kept
        np.copyto(moments, self._buffers.moments)
        self._kept = (self._step, moments)

    def restore_optimizer_state(self) -> None:
        self._step, moments = self._kept
        np.copyto(self._buffers.moments, moments)

    def all_finite(self) -> bool:
        return bool(np.isfinite(self._buffers.parameters).all())


def _prediction(
    kernels: Kernels, network: Network, parameters: Array | None, n_rows: int, n_threads: int, **codes: int
) -> tuple[layout.Plan, layout.Buffers]:
    """Plan and workspace for ``n_rows`` rows; the layout of parameters does not depend on the number of rows."""
    plan, work_size = schedule.prediction_plan(
        network.widths,
        network.activations,
        dtype=network.dtype,
        lanes=kernels.lanes(network),
        n_rows=n_rows,
        n_threads=n_threads,
        **codes,
    )
    if parameters is None:
        parameters = layout.aligned_zeros(int(plan.header[layout.N_PARAMETERS]), network.dtype)
    work = layout.aligned_zeros(work_size, network.dtype)
    none = np.zeros(0, network.dtype)
    return plan, layout.Buffers(parameters, none, work, np.zeros(int(plan.header[layout.BATCH])))


def _predict(kernels: Kernels, network: Network, parameters: list[Array], X: Array, raw: bool, n_threads: int) -> Array:
    if raw:
        network = Network(network.widths, (*network.activations[:-1], "identity"), network.dtype)
    plan, buffers = _prediction(kernels, network, None, len(X), n_threads)
    layout.pack(parameters, buffers.parameters, plan.table, kernels.lanes(network))
    out = np.empty((len(X), network.widths[-1]), network.dtype)
    flat, n_threads = read_only(X.reshape(-1)), plan.shares.shape[1] - 1
    for rows in schedule.blocks(network.widths, len(X), X.itemsize):
        order = read_only(np.arange(rows.start, rows.stop))
        kernels.predict_rows(out[rows].reshape(-1), plan, buffers, flat, order, n_threads=n_threads)
    return out


class PlannedBackend(Backend):
    """A backend on one set of kernels."""

    def __init__(self, name: str, kernels: Kernels) -> None:
        self.name, self._kernels = name, kernels

    def open(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Array,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None = None,
        n_threads: int | None = None,
    ) -> PlannedSession:
        data = as_data(X, y, sample_weight)
        return PlannedSession(
            self._kernels, network, loss, optimizer, data,
            parameters=parameters, batch_size=batch_size, n_threads=n_threads,
        )  # fmt: skip

    def predict(
        self,
        network: Network,
        parameters: list[Array],
        X: Array,
        *,
        raw: bool = False,
        n_threads: int | None = None,
    ) -> Array:
        return _predict(self._kernels, network, parameters, X, raw, self._kernels.threads(n_threads))
