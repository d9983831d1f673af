"""The score of several quantiles at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import d2_pinball_score

from fastbp._validation import Array


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
            # _outputs_score, _score, _fit_stochastic, _fit, fit, scikit-learn's wrapper, caller
            stacklevel=8,
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
