"""fastbp by its estimators' ``fit``; with ``--variant`` their default penalty, the Trainer, or the NumPy reference."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

from benchmarks.machine import openblas
from benchmarks.peers._estimators import settings, training
from benchmarks.peers._worker import Task, Training, UnavailableError, serve
from benchmarks.workloads import MOMENTUM, Workload, initial_weights


def prepare(task: Task) -> Training:
    """Set up the variant that is asked for."""
    if task.variant in ("", "alpha"):
        return _estimator(task, {"alpha": 1e-4} if task.variant else {})
    if task.variant in ("trainer", "reference"):
        return _trainer(task)
    raise UnavailableError(f"no variant {task.variant!r}: it is alpha, trainer, reference, or none for the estimators")


def _notes() -> dict[str, Any]:
    from fastbp.kernels.cpu import _jit, _threads

    # asked for after training, since the layer is chosen by the first parallel region
    return {"vector_bits": _jit.VECTOR_BITS, "threading_layer": _threads.threading_layer()}


def _estimator(task: Task, changes: dict[str, Any]) -> Training:
    from fastbp import MLPClassifier, MLPRegressor

    estimator: Any = MLPRegressor if task.workload.task == "regression" else MLPClassifier

    def make(n_epochs: int) -> Any:
        return estimator(**settings(task, n_epochs) | {"n_jobs": task.n_threads, **changes})

    prepared = training(task, make, {})
    prepared.turn(1)
    return replace(prepared, notes=_notes())


def descriptions(workload: Workload, n_outputs: int) -> tuple[Any, Any]:
    """The Trainer's loss and optimizer."""
    import fastbp
    from fastbp.losses import Loss

    if workload.loss == "squared":
        loss = Loss("half_squared_error", "scikit-learn")
    else:
        loss = Loss("sigmoid_cross_entropy" if n_outputs == 1 else "softmax_cross_entropy")
    if workload.optimizer == "sgd":
        return loss, fastbp.SGD(workload.learning_rate, MOMENTUM)
    return loss, fastbp.Adam(workload.learning_rate)


def _trainer(task: Task) -> Training:
    import threadpoolctl

    import fastbp

    workload, reference = task.workload, task.variant == "reference"
    # the Trainer is what the probe is compared with, and trains the probe's network
    dims = workload.dims if reference else workload.softmax_dims
    X, y = workload.data(task.dtype)
    threadpoolctl.threadpool_limits(task.n_threads)
    held: dict[str, Any] = {}
    layers = [fastbp.Dense(units, workload.activation) for units in dims[1:-1]] + [fastbp.Dense(dims[-1])]
    loss, optimizer = descriptions(workload, dims[-1])

    class Stamps(fastbp.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            self.times.append(time.perf_counter())

    def turn(n_epochs: int) -> dict[str, Any]:
        model = fastbp.Sequential(layers, n_features=dims[0], dtype=task.dtype)
        model.set_weights(initial_weights(dims, task.dtype))
        trainer = fastbp.Trainer(
            model,
            loss=loss,
            optimizer=optimizer,
            backend="reference" if reference else "cpu",
            n_threads=task.n_threads,
            random_state=0,
        )
        stamps = Stamps()
        history = trainer.fit(X, y, epochs=1 + n_epochs, batch_size=workload.batch, callbacks=[stamps])
        held["model"] = model
        return {
            "seconds": (stamps.times[-1] - stamps.times[0]) / n_epochs,
            "loss": history["loss"][-1],
            # of the compiled steps and the shuffle alone
            "steps_seconds": sum(itertools.islice(history["epoch_seconds"], 1, None)) / n_epochs,
        }

    def predict(X: Any) -> Any:
        outputs = held["model"].predict(X).reshape(len(X), -1)
        return workload.decide(outputs, middle=0.5)

    turn(1)
    return Training(turn, dims, {"blas": openblas()} if reference else _notes(), predict=predict)


if __name__ == "__main__":
    serve(prepare)
