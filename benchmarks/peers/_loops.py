"""Whole fits of a library that has no ``fit`` that stops early: the loop that its user would write, by the rules that
scikit-learn's estimators have by default, from the same weights, rows held out and orders of rows, so that all stop at
the same epoch but for rounding and a penalty that hardly shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers._worker import Task, Turn
from benchmarks.workloads import initial_weights

BATCH, MAX_EPOCHS, PATIENCE, TOLERANCE, HELD_OUT = 200, 200, 10, 1e-4, 0.1


@dataclass(frozen=True)
class Learner:
    """A network of some library.

    Parameters
    ----------
    start : callable
        Puts the initial weights in place.
    train : callable
        ``train(order, batch)`` takes a step on each batch of these rows, of which the last may be short; mean loss.
    predict : callable
        Labels, or a regression's values, for rows.
    keep : callable
        A copy of the weights.
    put_back : callable
        Takes it.
    """

    start: Callable[[], object]
    train: Callable[[Any, int], float]
    predict: Callable[[Any], Any]
    keep: Callable[[], Any]
    put_back: Callable[[Any], object]


def fits_turn(task: Task, learner: Learner) -> Turn:
    """A turn of so many whole fits; ``epochs_fitted`` are those of the last."""
    from sklearn.model_selection import train_test_split

    workload = task.workload
    X, y = workload.data(task.dtype)
    classes = y if workload.loss == "logistic" else None  # the estimators do so where there is one output

    def fit() -> tuple[float, int]:
        rng = np.random.RandomState(0)
        initial_weights(workload.dims, task.dtype, rng)  # what follows them is drawn as the estimators draw it
        rows, held_out = train_test_split(np.arange(len(X)), test_size=HELD_OUT, random_state=rng, stratify=classes)
        X_val, y_val = X[held_out], y[held_out]
        learner.start()
        best, kept, waited, epoch, loss = -np.inf, learner.keep(), 0, 0, np.inf
        while epoch < MAX_EPOCHS and waited <= PATIENCE:
            rows = rows[rng.permutation(len(rows))]
            loss, epoch = learner.train(rows, min(BATCH, len(rows))), epoch + 1
            score = workload.score(learner.predict(X_val), y_val)
            waited = waited + 1 if score < best + TOLERANCE else 0
            if score > best:
                best, kept = score, learner.keep()
        learner.put_back(kept)
        return loss, epoch

    def turn(n_fits: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for _ in range(n_fits):
            loss, epochs = fit()
        return {"seconds": (time.perf_counter() - begin) / n_fits, "loss": loss, "epochs_fitted": epochs}

    return turn
