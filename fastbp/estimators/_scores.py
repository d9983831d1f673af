"""Scores that scikit-learn has not: of several class targets and of several quantiles; and log-probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import log_expit
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import d2_pinball_score
from sklearn.utils import check_consistent_length

from fastbp._validation import Array
from fastbp._warnings import users_level
from fastbp._weights import usable_weights
from fastbp.estimators._codes import ClassCodes
from fastbp.estimators._rows import checked_weights


def explained_pinball(y: Array, weights: Array | None, levels: Sequence[float]) -> Callable[[Array], float]:
    """D^2 of quantiles of y, the mean of ``sklearn.metrics.d2_pinball_score`` over the levels.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    weights : ndarray of shape (n_samples,) or None
    levels : sequence of float

    Returns
    -------
    callable
        Of predictions (n_samples, n_levels). NaN of a single row.
    """
    if len(y) < 2:
        warnings.warn(
            "D^2 of a single validation row is not defined: give at least two, or scoring='loss'",
            UndefinedMetricWarning,
            stacklevel=users_level(),
        )
        return lambda predicted: float("nan")

    def score(predicted: Array) -> float:
        return float(
            np.mean(
                [
                    d2_pinball_score(y, predicted[:, k], sample_weight=weights, alpha=level)
                    for k, level in enumerate(levels)
                ]
            )
        )

    return score


def share_all_right(y: Any, predicted: Array, sample_weight: Any) -> float:
    """Weighted share of rows for which the classes of all targets are predicted.

    Raises
    ------
    ValueError
        For checked targets y of another shape, or weights that cannot be used.
    """
    check_consistent_length(y, predicted)
    if sparse.issparse(y) or y.shape != predicted.shape:
        raise ValueError(
            f"y must be an array with a class for each of {predicted.shape[1]} targets, as the y of the training was, "
            f"got one of shape {y.shape}"
        )
    weights = checked_weights(sample_weight, "sample_weight", y, np.float64)
    weights = None if weights is None else usable_weights(weights, "sample_weight")
    return float(np.average((y == predicted).all(axis=1), weights=weights))


def log_probabilities(estimator: Any, X: Any) -> Any:
    """Logarithms of a classifier's probabilities, (n_samples, n_classes), or a list for several targets."""
    logits = estimator._outputs(X, raw=True)
    binarizer = estimator._label_binarizer
    if isinstance(binarizer, ClassCodes):
        return [_log_softmax(logits[:, block]) for block in binarizer.blocks]
    if estimator.out_activation_ == "softmax":
        return _log_softmax(logits)
    if logits.shape[1] == 1:  # the probabilities of both classes: 1 - sigmoid(z) = sigmoid(-z)
        return log_expit(np.hstack([-logits, logits]))
    # labels whose probabilities are 1 to rounding stay as equal as those are, so that argmax finds the same one
    return np.where(logits > 0, np.log(np.maximum(estimator._outputs(X), 0.5)), log_expit(logits))


def _log_softmax(Z: Array) -> Array:
    """Z - log(sum(exp(Z))) by rows, exact also where a probability is near 0 or 1."""
    rows, largest = np.arange(len(Z)), Z.argmax(axis=1)
    Z = Z - Z[rows, largest][:, None]
    others = np.exp(Z)
    others[rows, largest] = 0
    shifted: Array = Z - np.log1p(others.sum(axis=1))[:, None]
    return shifted
