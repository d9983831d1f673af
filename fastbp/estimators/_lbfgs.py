"""The solver that takes all rows at once: SciPy's L-BFGS on our loss and gradient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from fastbp._fit import Data
from fastbp._run import ctrl_c_waits
from fastbp._validation import Array
from fastbp.callbacks import Callback
from fastbp.history import History
from fastbp.trainer import Trainer


class _Objective:
    """Loss + alpha / 2 |W|^2 over the sum of weights, as a function of all parameters in one array."""

    def __init__(self, trainer: Trainer, data: Data, alpha: float) -> None:
        X, _, weights = data
        n_samples = X.shape[0]
        self.session = trainer._open(*data, batch_size=n_samples)
        self._rows = np.arange(n_samples)
        total = float(n_samples if weights is None else weights.sum(dtype=np.float64))
        self._penalty = alpha / total
        arrays = trainer.model._weights
        self._shapes, self._dtype = [array.shape for array in arrays], arrays[0].dtype
        self._cuts = np.cumsum([array.size for array in arrays])[:-1]
        self.start = np.concatenate([array.ravel() for array in arrays]).astype(float)

    def unpacked(self, flat: Array) -> list[Array]:
        """W1, b1, W2, b2, ... of one array."""
        parts = np.split(flat, self._cuts)
        return [part.reshape(shape).astype(self._dtype) for part, shape in zip(parts, self._shapes, strict=True)]

    def __call__(self, flat: Array) -> tuple[float, Array]:
        parameters = self.unpacked(flat)
        self.session.set_parameters(parameters)
        loss, gradients = self.session.loss_and_gradients(self._rows)
        for W, dW in zip(parameters, gradients, strict=True):
            if W.ndim == 1:  # no weights, but biases, or what a normalisation has
                continue
            squares = float(np.vdot(W, W))
            if not np.isfinite(squares):  # in float64 the penalty of float32's weights is a number
                squares = float(np.vdot(W.astype(float), W.astype(float)))
            loss += 0.5 * self._penalty * squares
            dW += self._penalty * W
        return loss, np.concatenate([gradient.ravel() for gradient in gradients]).astype(float)


def minimize_lbfgs(
    trainer: Trainer,
    data: Data,
    validation: Data | None,
    listeners: Sequence[Callback],
    *,
    alpha: float,
    tol: float,
    max_iter: int,
    max_fun: int,
) -> tuple[float, int, History]:
    """Minimise loss + alpha / 2 |W|^2 over all parameters of the trainer's model, and set them.

    Parameters
    ----------
    trainer : Trainer
    data, validation : tuple of X, y and weights
        As backends take them.
    listeners : sequence of Callback
        An iteration is an epoch of one step to them.
    alpha : float
        Penalty on W, not on b.
    tol, max_iter, max_fun
        Of the gradient's largest element; of iterations; of evaluations.

    Returns
    -------
    loss : float
        After Ctrl-C, which ends the training, that of the last whole iteration; infinite where there is none.
    n_iter : int
    history : History

    References
    ----------
    Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """
    objective, model = _Objective(trainer, data, alpha), trainer.model
    validation_loss = None if validation is None else objective.session.evaluation(*validation)
    history = History(["loss", *([] if validation is None else ["val_loss"]), "epoch_seconds"])
    since = time.perf_counter()

    def iteration_end(intermediate_result: Any) -> None:
        nonlocal since
        with ctrl_c_waits():
            weights = objective.unpacked(intermediate_result.x)
            logs = {"loss": float(intermediate_result.fun), "epoch_seconds": time.perf_counter() - since}
            if validation_loss is not None:
                objective.session.set_parameters(weights)
                logs["val_loss"] = validation_loss()
            model._weights = weights
            history.append(logs)
        for listener in listeners:
            listener.on_chunk_end(trainer, len(history.epochs) - 1, 1, logs)
        for listener in listeners:
            listener.on_epoch_end(trainer, len(history.epochs) - 1, logs)
        for listener in listeners:
            listener.on_epoch_complete(trainer, len(history.epochs) - 1, logs)
        since = time.perf_counter()
        if trainer.stopping:
            raise StopIteration

    result: Any = None
    try:
        for listener in listeners:
            listener.on_train_begin(trainer, max_iter, 1)
        result = minimize(
            objective,
            objective.start,
            method="L-BFGS-B",
            jac=True,
            callback=iteration_end,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
        )
        model._weights, history.message = objective.unpacked(result.x), str(result.message)
    except KeyboardInterrupt:
        history.interrupted = True
        history.message = f"interrupted after {len(history.epochs)} of {max_iter} iterations"
    if trainer.stopping and not history.interrupted:  # by a listener: no failure to converge
        history.message = f"stopped by a callback after {len(history.epochs)} of {max_iter} iterations"
    for listener in listeners:
        listener.on_train_end(trainer, history)
    if history.interrupted:
        return history["loss"][-1] if history["loss"] else np.inf, len(history.epochs), history
    if trainer.stopping:
        return float(result.fun), len(history.epochs), history
    return float(result.fun), int(_check_optimize_result("lbfgs", result, max_iter)), history
