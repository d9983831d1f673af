"""fastbp by its estimators' ``fit``; with ``--variant`` their default penalty, the Trainer, or the NumPy reference."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.machine import openblas
from benchmarks.peers._estimators import settings, training
from benchmarks.peers._worker import Task, Training, UnavailableError, serve
from benchmarks.workloads import CLIP_NORM, DROPOUT_RATE, MOMENTUM, WORKLOADS, Workload, initial_weights


def prepare(task: Task) -> Training:
    """Set up the variant that is asked for."""
    if task.variant == "plain":  # what a feature costs, in the same run
        plain = WORKLOADS["deep"]
        return _trainer(replace(task, workload=plain.quick() if task.workload.steps < plain.steps else plain))
    if task.workload.extra or task.workload.activation == "gelu":
        return _trainer(task)
    if task.variant in ("", "alpha"):
        return _estimator(task, {"alpha": 1e-4} if task.variant else {})
    if task.variant in ("trainer", "reference"):
        return _trainer(task)
    raise UnavailableError(
        f"no variant {task.variant!r}: it is alpha, plain, trainer, reference, or none for the estimators"
    )


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
    clipping = {"clip_norm": CLIP_NORM} if workload.extra == "clipping" else {}
    if workload.optimizer == "sgd":
        return loss, fastbp.SGD(workload.learning_rate, MOMENTUM, **clipping)
    return loss, fastbp.Adam(workload.learning_rate, **clipping)


def _hidden(workload: Workload, units: int, first: bool) -> list[Any]:
    """Layers of one hidden layer; the skip connections start behind the first."""
    import fastbp

    dense, name = fastbp.Dense(units, workload.activation), workload.activation
    norms = {"batch_norm": fastbp.BatchNorm, "layer_norm": fastbp.LayerNorm}
    if workload.extra in norms:
        return [fastbp.Dense(units), norms[workload.extra](name)]
    if workload.extra == "dropout":
        return [dense, fastbp.Dropout(DROPOUT_RATE)]
    if workload.extra == "residual" and not first:
        return [fastbp.Residual([fastbp.Dense(units)], name)]
    return [dense]


def _start(model: Any, dims: Sequence[int], dtype: str) -> None:
    """Give a model the initial weights; what a normalisation has stays at ones and zeros."""
    arrays = iter(initial_weights(dims, dtype))
    own = zip(model._described.names, model.get_weights(), strict=True)
    model.set_weights([next(arrays) if name[0] in "Wb" and name[1].isdigit() else array for name, array in own])


def _trainer(task: Task) -> Training:
    import threadpoolctl

    import fastbp

    workload, reference = task.workload, task.variant == "reference"
    # the Trainer is what the probe is compared with, and trains the probe's network
    dims = workload.dims if reference else workload.softmax_dims
    X, y = workload.data(task.dtype)
    threadpoolctl.threadpool_limits(task.n_threads)
    held: dict[str, Any] = {}
    layers = [layer for k, units in enumerate(dims[1:-1]) for layer in _hidden(workload, units, first=k == 0)]
    layers.append(fastbp.Dense(dims[-1]))
    loss, optimizer = descriptions(workload, dims[-1])

    class Stamps(fastbp.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            self.times.append(time.perf_counter())

    def turn(n_epochs: int) -> dict[str, Any]:
        model = fastbp.Sequential(layers, n_features=dims[0], dtype=task.dtype)
        _start(model, dims, task.dtype)
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
