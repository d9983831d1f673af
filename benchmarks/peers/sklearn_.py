"""scikit-learn's estimators, with their BLAS on as many threads as the others."""

from __future__ import annotations

from typing import Any

from benchmarks.machine import openblas
from benchmarks.peers._estimators import settings, training
from benchmarks.peers._worker import Task, Training, serve


def prepare(task: Task) -> Training:
    """Set up ``fit``; nothing is compiled."""
    import threadpoolctl
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    threadpoolctl.threadpool_limits(task.n_threads)
    estimator: Any = MLPRegressor if task.workload.task == "regression" else MLPClassifier
    return training(task, lambda n_epochs: estimator(**settings(task, n_epochs)), {"blas": openblas()})


if __name__ == "__main__":
    serve(prepare)
