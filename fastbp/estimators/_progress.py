"""scikit-learn's bookkeeping after each epoch: loss curve, validation scores, learning rate, and when to stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp._validation import Array
from fastbp.callbacks import Callback
from fastbp.trainer import Trainer

SMALLEST_ADAPTIVE_RATE = 1e-6


class Progress(Callback):
    """Follows the training of an estimator and decides when it ends.

    Parameters
    ----------
    estimator : BaseMLP
        Its parameters are read; it is not changed.
    n_samples : int
        Rows of an epoch.
    state : dict
        ``loss_curve_``, ``best_loss_``, ``validation_scores_``, ``best_validation_score_``, ``t_`` and
        ``_no_improvement_count`` to go on from.
    best_weights : list of ndarray or None
        What early stopping falls back to; None for the last weights, where a warm start finds no better score than
        that of an earlier fit (so does scikit-learn).
    score : callable or None
        Validation score of the present weights; None without early stopping.
    incremental : bool
        Whether this is ``partial_fit``, which has one epoch and no limit to warn of.
    """

    def __init__(
        self,
        estimator: Any,
        n_samples: int,
        state: Mapping[str, Any],
        best_weights: list[Array] | None,
        score: Callable[[], float] | None,
        incremental: bool,
    ) -> None:
        self._estimator, self._n_samples, self._score, self._incremental = estimator, n_samples, score, incremental
        self.loss_curve, self.best_loss = list(state["loss_curve_"]), state["best_loss_"]
        scores = state["validation_scores_"]
        self.validation_scores = None if scores is None else list(scores)
        self.best_score, self.t = state["best_validation_score_"], state["t_"]
        self.n_iter, self.no_improvement, self.best_weights = 0, state["_no_improvement_count"], best_weights

    @property
    def state(self) -> dict[str, Any]:
        """Attributes of the estimator after the training."""
        return {
            "n_iter_": self.n_iter,
            "t_": self.t,
            "loss_curve_": self.loss_curve,
            "loss_": self.loss_curve[-1] if self.loss_curve else np.inf,
            "best_loss_": self.best_loss,
            "validation_scores_": self.validation_scores,
            "best_validation_score_": self.best_score,
            "_no_improvement_count": self.no_improvement,
        }

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        estimator = self._estimator
        self.n_iter += 1
        self.t += self._n_samples
        self.loss_curve.append(logs["loss"])
        if estimator.verbose:
            print(f"Iteration {self.n_iter}, loss = {logs['loss']:.8f}")
        if self._score is None:
            self._compare_loss(logs["loss"])
        else:
            self._compare_score(self._score(), trainer)
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            trainer.learning_rate = estimator.learning_rate_init / (self.t + 1) ** estimator.power_t
        if self.no_improvement > estimator.n_iter_no_change:
            if self._stops(trainer):
                trainer.stop()
                return
            self.no_improvement = 0
        if self.n_iter == estimator.max_iter and not self._incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=7,  # progress, trainer, _fit_stochastic, _fit, fit, scikit-learn's wrapper, caller,
            )

    def _compare_loss(self, loss: float) -> None:
        # a NaN compares false: it neither counts nor resets, as in scikit-learn
        self.no_improvement = self.no_improvement + 1 if loss > self.best_loss - self._estimator.tol else 0
        if loss < self.best_loss:
            self.best_loss = loss

    def _compare_score(self, score: float, trainer: Trainer) -> None:
        assert self.validation_scores is not None
        self.validation_scores.append(score)
        if self._estimator.verbose:
            print(f"Validation score: {score:f}")
        self.no_improvement = self.no_improvement + 1 if score < self.best_score + self._estimator.tol else 0
        if score > self.best_score:
            self.best_score, self.best_weights = score, trainer.model.get_weights()

    def _stops(self, trainer: Trainer) -> bool:
        """Whether the training ends; otherwise the adaptive learning rate has been lowered."""
        estimator = self._estimator
        patience = estimator.n_iter_no_change
        what = "Training loss" if self._score is None else "Validation score"
        reason = f"{what} did not improve more than tol={estimator.tol:f} for {patience} consecutive epochs."
        stops, then = True, "Stopping."
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
            if trainer.learning_rate <= SMALLEST_ADAPTIVE_RATE:
                then = "Learning rate too small. Stopping."
            else:
                trainer.learning_rate /= 5.0
                stops, then = False, f"Setting learning rate to {trainer.learning_rate:f}"
        if estimator.verbose:
            print(f"{reason} {then}")
        return stops
