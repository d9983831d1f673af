"""Estimators with scikit-learn's interface: what fastbp's and scikit-learn's own are told, and how they are timed."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.peers._worker import Task, Training, Turn, peak_memory, prediction, prediction_rows
from benchmarks.workloads import MOMENTUM, flop_per_epoch

STILL = 1e-300  # a learning rate that leaves the initial weights as they are
Make = Callable[[int], Any]  # number of epochs -> estimator


class EpochStamps(io.TextIOBase):
    """Standard output that notes the time of each line that an estimator prints after an epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, text: str) -> int:
        if text.startswith("Iteration "):
            self.times.append(time.perf_counter())
        return len(text)


def settings(task: Task, n_epochs: int) -> dict[str, Any]:
    """Arguments for an estimator that trains the workload for so many epochs, or until it stops early by itself."""
    workload = task.workload
    if task.fit:
        return {
            "hidden_layer_sizes": workload.hidden, "activation": workload.activation, "early_stopping": True,
            "random_state": 0,
        }  # fmt: skip
    return {
        "hidden_layer_sizes": workload.hidden, "activation": workload.activation, "solver": workload.optimizer,
        "momentum": MOMENTUM, "nesterovs_momentum": False, "alpha": 0.0, "batch_size": workload.batch,
        "learning_rate_init": workload.learning_rate, "max_iter": n_epochs, "tol": 0.0, "n_iter_no_change": np.inf,
        "random_state": 0, "verbose": True,
    }  # fmt: skip


def column(y: Any) -> Any:
    """y as estimators take it: of one output without its second axis."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def training(task: Task, make: Make, notes: dict[str, Any]) -> Training:
    """What an estimator does of a task: epochs of ``fit``, or ``predict_proba``."""
    workload = task.workload
    if task.predict is None:
        X, y = workload.data(task.dtype)
        before = peak_memory()
        # of a sparse X the operations are those on what it holds
        dims = (workload.nonzeros or workload.n_features, *workload.dims[1:])
        flop = flop_per_epoch(workload.n_samples, dims)
        held: dict[str, Any] = {}
        turn = (fits_turn if task.fit else epochs_turn)(make, X, column(y), held)
        return Training(
            turn, workload.dims, notes, flop, memory_before_mib=before, predict=lambda X: held["estimator"].predict(X)
        )
    X, y = workload.quick().data(task.dtype)
    rows, before = prediction_rows(task), peak_memory()
    # it has the weights that libraries without a fit are given, to the last bit
    estimator = make(1).set_params(verbose=False, learning_rate_init=STILL)
    fit(estimator, X, column(y))
    predict = estimator.predict if workload.loss == "squared" else estimator.predict_proba

    def outputs() -> Any:
        return predict(rows).reshape(len(rows), -1) if workload.loss == "squared" else predict(rows)

    return replace(prediction(task, outputs, notes), memory_before_mib=before)


def epochs_turn(make: Make, X: Any, y: Any, held: dict[str, Any]) -> Turn:
    """A turn of an estimator: one ``fit`` of 1 + K epochs; ``held`` then has the ``estimator``.

    With ``verbose=True`` both scikit-learn and fastbp print a line an epoch. The time between the first line and the
    last one is that of K epochs as ``fit`` runs them, shuffling and bookkeeping included; what ``fit`` does before and
    after them is ``outside_seconds``. A difference of two fits would be the same figure with twice the noise.
    """

    def turn(n_epochs: int) -> dict[str, Any]:
        estimator, stamps = make(1 + n_epochs), EpochStamps()
        with contextlib.redirect_stdout(stamps):
            begin = time.perf_counter()
            fit(estimator, X, y)
            whole = time.perf_counter() - begin
        if len(stamps.times) != 1 + n_epochs:
            raise RuntimeError(f"asked for {1 + n_epochs} epochs, saw {len(stamps.times)}")
        seconds = (stamps.times[-1] - stamps.times[0]) / n_epochs
        held["estimator"] = estimator
        return {
            "seconds": seconds,
            "loss": float(estimator.loss_),
            "outside_seconds": whole - (1 + n_epochs) * seconds,
        }

    return turn


def fits_turn(make: Make, X: Any, y: Any, held: dict[str, Any]) -> Turn:
    """A turn of so many whole fits; ``epochs_fitted`` are those of the last."""

    def turn(n_fits: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for _ in range(n_fits):
            held["estimator"] = estimator = make(1)
            fit(estimator, X, y)
        seconds = (time.perf_counter() - begin) / n_fits
        return {"seconds": seconds, "loss": float(estimator.loss_), "epochs_fitted": estimator.n_iter_}

    return turn


def fit(estimator: Any, X: Any, y: Any) -> None:
    """``fit`` without its warning that so few epochs are not enough."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, y)
