"""The solver that takes all rows at once: SciPy's L-BFGS on our loss and gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from fastbp._validation import Array
from fastbp.backends import Session


def minimize_lbfgs(
    session: Session,
    weights: list[Array],
    *,
    n_rows: int,
    total_weight: float,
    alpha: float,
    tol: float,
    max_iter: int,
    max_fun: int,
) -> tuple[list[Array], float, int]:
    """Minimise loss + alpha / 2 |W|^2 / total_weight over all parameters.

    Parameters
    ----------
    session : Session
        Its loss and gradients are evaluated on all rows; its parameters are overwritten.
    weights : list of ndarray
        W1, b1, W2, b2, ... to start from.
    n_rows : int
    total_weight : float
        Sum of the sample weights.
    alpha : float
        Penalty on W, not on b.
    tol, max_iter, max_fun
        Of the gradient's largest element; of iterations; of evaluations.

    Returns
    -------
    weights : list of ndarray
    loss : float
    n_iter : int

    References
    ----------
    Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """
    shapes, dtype = [array.shape for array in weights], weights[0].dtype
    cuts = np.cumsum([array.size for array in weights])[:-1]
    rows, penalty = np.arange(n_rows), alpha / total_weight

    def unpacked(flat: Array) -> list[Array]:
        parts = np.split(flat, cuts)
        return [part.reshape(shape).astype(dtype) for part, shape in zip(parts, shapes, strict=True)]

    def objective(flat: Array) -> tuple[float, Array]:
        parameters = unpacked(flat)
        session.set_parameters(parameters)
        loss, gradients = session.loss_and_gradients(rows)
        for W, dW in zip(parameters[::2], gradients[::2], strict=True):
            loss += 0.5 * penalty * float(np.vdot(W, W))
            dW += penalty * W
        return loss, np.concatenate([gradient.ravel() for gradient in gradients]).astype(float)

    start = np.concatenate([array.ravel() for array in weights]).astype(float)
    result: Any = minimize(
        objective, start, method="L-BFGS-B", jac=True, options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    )
    n_iter = _check_optimize_result("lbfgs", result, max_iter)
    return unpacked(result.x), float(result.fun), int(n_iter)
