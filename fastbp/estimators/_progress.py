"""scikit-learn's bookkeeping after each epoch: loss curve, validation scores, learning rate, and when to stop."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastbp._overflow import finite
from fastbp._validation import Array
from fastbp._warnings import users_level
from fastbp._words import shown
from fastbp.callbacks import Callback
from fastbp.estimators._validation import Score
from fastbp.history import History
from fastbp.schedules import ReduceOnPlateau
from fastbp.schedules._rates import Position
from fastbp.trainer import Trainer

SMALLEST_ADAPTIVE_RATE = 1e-6


def check_schedule(trainer: Trainer, validated: bool, incremental: bool) -> None:
    """Raise a ValueError for a schedule that needs what this training has not."""
    schedule = trainer.optimizer.learning_rate
    if isinstance(schedule, ReduceOnPlateau) and schedule.monitor == "val_loss" and not validated:
        raise ValueError(
            "the schedule ReduceOnPlateau follows 'val_loss', which needs validation rows: give X_val and y_val, set "
            "early_stopping=True, or make it ReduceOnPlateau(..., monitor='loss')"
        )
    if incremental and trainer._rates.spans_fit:
        raise ValueError(
            f"{shown(schedule)} goes from the beginning of a training to its end, which partial_fit does not know: "
            "give the schedule the number of all steps as its total"
        )


def go_on(trainer: Trainer, solver: Any, solver_before: Any, optimizer_state: Any, rate: float | Position) -> None:
    """Go on from the optimizer's state and the learning rate of an earlier training, as far as they fit this one."""
    if solver_before != solver:  # Adam's moments are no velocity
        return
    trainer._optimizer_state, rates = optimizer_state, trainer._rates
    if isinstance(rate, Position):
        if rates.scheduled:  # what follows a plateau begins where another schedule has been
            here = rates.position.plateau
            rates.position = rate._replace(plateau=None if here is None else rate.plateau or here)
    elif not rates.scheduled:
        trainer.learning_rate = rate


class Progress(Callback):
    """Follows the training of an estimator and decides when it ends.

    Parameters
    ----------
    estimator : BaseMLP
        Its parameters are read, and what it has where training goes on; it is not changed.
    state : dict
        What the estimator will have; ``loss_curve_``, ``t_`` and their like are written to it after each epoch.
    n_samples : int
        Rows of an epoch.
    score : callable or None
        Score of a model on the validation rows, for early stopping; None to go by their loss.
    validated : bool
        Whether there are validation rows.
    first_pass : bool
        Whether the training starts anew.
    incremental : bool
        Whether this is ``partial_fit``, which has one epoch and no limit to warn of.

    Attributes
    ----------
    best_weights : list of ndarray or None
        What early stopping falls back to; None for the last weights, where no score is better than -inf, or a warm
        start finds none that is better than those of an earlier fit (so does scikit-learn).
    """

    def __init__(
        self,
        estimator: Any,
        state: dict[str, Any],
        n_samples: int,
        score: Score | None,
        validated: bool,
        first_pass: bool,
        incremental: bool,
    ) -> None:
        self._estimator, self._state, self._n_samples = estimator, state, n_samples
        self._score, self._incremental, self._scores = score, incremental, False
        self._prints = bool(estimator.verbose) and not isinstance(estimator.verbose, str)
        goes_on = incremental and not first_pass
        before_this = getattr(estimator, "_best_weights", None) if goes_on else None
        self.best_weights: list[Array] | None = before_this or None
        other_rows = goes_on and before_this is None  # after a fit, which had validation rows of its own
        stopping = bool(estimator.early_stopping)
        fresh = {
            "t_": 0,
            "loss_curve_": [],
            "best_loss_": None if stopping else np.inf,
            "validation_scores_": [] if stopping else None,
            "best_validation_score_": -np.inf if stopping else None,
            "validation_loss_curve_": [] if validated else None,
            "_no_improvement_count": 0,
        }
        kept = {} if first_pass else {name: getattr(estimator, name) for name in fresh if hasattr(estimator, name)}
        # a warm start may switch early stopping on or off: what that compares with has not been there yet
        kept = {name: value for name, value in kept.items() if value is not None or fresh[name] is None}
        if stopping and other_rows:
            kept |= {"best_validation_score_": -np.inf, "_no_improvement_count": 0}
        state |= {name: list(v) if isinstance(v, list) else v for name, v in (fresh | kept).items()}
        state |= {"n_iter_": 0, "stopped_early_": False, "loss_": np.inf}
        columns = ["loss", *["val_loss"] * validated, *["val_score"] * stopping, "learning_rate", "epoch_seconds"]
        before = None if first_pass else getattr(estimator, "history_", None)
        state["history_"] = History(columns)
        if before is not None and list(before) == columns:
            for k in before.epochs:
                state["history_"].append({name: before[name][k] for name in columns})

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        estimator, state = self._estimator, self._state
        state["n_iter_"] += 1
        state["t_"] += self._n_samples
        state["loss_"] = logs["loss"]
        state["loss_curve_"].append(logs["loss"])
        values = {"learning_rate": trainer.learning_rate, **logs}  # a schedule is a step further than the logs
        if self._prints:
            print(f"Iteration {state['n_iter_']}, loss = {logs['loss']:.8f}")
        if "val_loss" in logs:
            state["validation_loss_curve_"].append(logs["val_loss"])
        if estimator.early_stopping:
            scored = -logs["val_loss"] if self._score is None else self._score(trainer.model, state, logs["val_loss"])
            self._compare_score(scored, trainer)
            values["val_score"] = scored
        else:
            self._compare_loss(logs["loss"])
        state["history_"].append(values)
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            rate, power = float(estimator.learning_rate_init), float(estimator.power_t)
            trainer.learning_rate = rate / (state["t_"] + 1) ** power
        if state["_no_improvement_count"] > estimator.n_iter_no_change:
            if self._stops(trainer):
                state["stopped_early_"] = True
                trainer.stop()
                return
            state["_no_improvement_count"] = 0
        if state["n_iter_"] == estimator.max_iter and not self._incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=users_level(),
            )

    def finish(self, trainer: Trainer, history: History) -> None:
        """After the training: the best weights where early stopping asks for them, and the optimizer's state."""
        estimator, state = self._estimator, self._state
        stops = state["stopped_early_"] or not self._incremental
        if estimator.early_stopping and not self._scores and stops and self._keeps_last(trainer.model.get_weights()):
            warnings.warn(
                "Early stopping has no best weights, since no validation score was a number above -inf: the weights "
                "are those of the last epoch. Give validation rows that have a score, or scoring='loss'",
                stacklevel=users_level(),
            )
        # an empty list: partial_fit has early stopping, and no best weights yet
        state["_best_weights"] = (self.best_weights or []) if self._incremental and estimator.early_stopping else None
        # partial_fit goes on from the last weights; the best ones are taken when it has come to its end
        if estimator.early_stopping and self.best_weights is not None and stops:
            trainer.model._weights = [array.copy() for array in self.best_weights]
        rate = trainer._rates.position if trainer._rates.scheduled else trainer.learning_rate
        state["_optimizer_state"] = (estimator.solver, trainer._optimizer_state, rate)
        mine, early = state["history_"], state["stopped_early_"]
        mine.interrupted, mine.message = history.interrupted, "stopped early" if early else "not stopped early"
        if history.interrupted or (trainer.stopping and not early):
            mine.message = history.message

    def _keeps_last(self, weights: list[Array]) -> bool:
        """Whether the last weights stay where no epoch had a score; they do not where they are no model."""
        none = self.best_weights is None if self._incremental else self._state["n_iter_"] > 0
        return none and all(map(finite, weights))

    def _compare_loss(self, loss: float) -> None:
        state = self._state
        best, tol = state["best_loss_"], float(self._estimator.tol)
        self._count(loss <= best - tol, loss < best, best)
        if loss < state["best_loss_"]:
            state["best_loss_"] = loss

    def _count(self, enough: bool, better: bool, best: float) -> None:
        """Count epochs without an improvement: also a NaN, which scikit-learn takes for one.

        By scikit-learn's rule a change of ``tol`` is one; from an infinite value to a number any is.
        """
        state = self._state
        state["_no_improvement_count"] += 1
        if enough if np.isfinite(best) else better:
            state["_no_improvement_count"] = 0

    def _compare_score(self, score: float, trainer: Trainer) -> None:
        state = self._state
        state["validation_scores_"].append(score)
        if self._prints:
            print(f"Validation score: {score:f}")
        best = state["best_validation_score_"]
        self._scores = self._scores or score > -np.inf
        self._count(score >= best + float(self._estimator.tol), score > best, best)
        if score > best:
            state["best_validation_score_"], self.best_weights = score, trainer.model.get_weights()

    def _stops(self, trainer: Trainer) -> bool:
        """Whether the training ends; otherwise the adaptive learning rate has been lowered."""
        estimator = self._estimator
        patience = estimator.n_iter_no_change
        what = "Validation score" if estimator.early_stopping else "Training loss"
        reason = f"{what} did not improve more than tol={estimator.tol:f} for {patience} consecutive epochs."
        stops, then = True, "Stopping."
        if estimator.solver == "sgd" and estimator.learning_rate == "adaptive":
            if trainer.learning_rate <= SMALLEST_ADAPTIVE_RATE:
                then = "Learning rate too small. Stopping."
            else:
                trainer.learning_rate /= 5.0
                stops, then = False, f"Setting learning rate to {trainer.learning_rate:f}"
        if self._prints:
            print(f"{reason} {then}")
        return stops
