"""X of a prediction: whether it needs a check, and the type in which it is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite

from fastbp._validation import Array

PLAIN_SIZE = 2**14  # elements whose test for NaN and infinity takes no time worth to speak of


def is_plain_matrix(estimator: Any, X: Any, W: Array) -> bool:
    """Whether X is a small array without a need of validation, which takes 150 us: longer than a row does."""
    return (
        type(X) is np.ndarray
        and X.dtype == W.dtype
        and X.ndim == 2
        and 0 < X.size <= PLAIN_SIZE
        and X.shape[1] == len(W)
        and not hasattr(estimator, "feature_names_in_")
        and bool(np.isfinite(X).all())
    )


def in_dtype(X: Any, of_weights: np.dtype[Any], chosen: bool) -> tuple[Any, np.dtype[Any]]:
    """X in the type of its outputs: that of X and the weights together, as in scikit-learn.

    That of the weights where it was ``chosen``, by the parameter ``dtype``.
    """
    narrow = X.dtype.kind == "f" and X.dtype.itemsize <= 4
    dtype = of_weights if chosen else np.promote_types(np.float32 if narrow else np.float64, of_weights)
    if X.dtype == dtype:
        return X, dtype
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite then, and refused as such
        X = X.astype(dtype)
        assert_all_finite(X, input_name="X")
    return X, dtype
