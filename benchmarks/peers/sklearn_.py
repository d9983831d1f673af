"""scikit-learn's MLPClassifier, with its BLAS on as many threads as the others."""

from __future__ import annotations

from typing import Any

from benchmarks.machine import openblas
from benchmarks.peers._worker import Task, Training, estimator_training, serve
from benchmarks.workloads import LEARNING_RATE


def prepare(task: Task) -> Training:
    """Set up ``fit``; nothing is compiled."""
    import numpy as np
    import threadpoolctl
    from sklearn.neural_network import MLPClassifier

    workload = task.workload
    threadpoolctl.threadpool_limits(task.n_threads)

    def make(n_epochs: int) -> Any:
        return MLPClassifier(
            workload.hidden, alpha=0.0, batch_size=workload.batch, learning_rate_init=LEARNING_RATE,
            max_iter=n_epochs, tol=0.0, n_iter_no_change=np.inf, random_state=0, verbose=True,
        )  # fmt: skip

    return estimator_training(task, make, {"blas": openblas()})


if __name__ == "__main__":
    serve(prepare)
