"""Targets that an estimator is given: ``y`` and ``y_val`` go through the same checks, and errors name the one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.multiclass import type_of_target

from fastbp._validation import Array
from fastbp._warnings import users_level
from fastbp.estimators._inputs import named

MULTIOUTPUT = "multiclass-multioutput"
LABELS = "multilabel-indicator"


def listed(values: Any) -> str:
    """Values as messages show them: those at both ends where there are many.

    >>> listed(np.arange(3)), listed(np.arange(1000))
    ('[0 1 2]', '[0 1 2 3 4 ... 995 996 997 998 999]')
    """
    array = np.asarray(values)
    text = np.array2string(array, threshold=20, edgeitems=5, max_line_width=1000)
    if array.dtype.kind in "iu":  # which NumPy fills up to one width
        text = " ".join(text.split()).replace("[ ", "[")
    return text if len(text) <= 300 else f"{text[:200]}... ({len(values)} of them)"


def checked_targets(estimator: Any, y: Any, name: str) -> Any:
    """Targets as scikit-learn checks those of ``fit``: an array of one or two dimensions, or rows of a sparse matrix.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """
    try:
        with named(name):
            y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name=name, estimator=estimator)
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} is not usable: {error}") from None
    return y


def one_column(y: Any, name: str) -> Any:
    """A matrix of one column as an array of one dimension, with scikit-learn's warning."""
    if y.ndim == 1 or y.shape[1] > 1:
        return y
    if sparse.issparse(y):
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. Use '.toarray()' to convert to a dense "
            "numpy array."
        )
    warnings.warn(
        f"A column-vector {name} was passed when a 1d array was expected. Please change the shape of {name} to "
        "(n_samples, ), for example using ravel().",
        DataConversionWarning,
        stacklevel=users_level(),
    )
    return y[:, 0]


def real_targets(y: Any, name: str, dtype: Any) -> Array:
    """Checked targets as finite numbers, also in ``dtype``, that of the network; a sparse matrix is filled up.

    Raises
    ------
    ValueError
    """
    y = one_column(y.toarray() if sparse.issparse(y) else y, name)
    if y.dtype.kind == "O":
        with named(name):
            y = y.astype(np.float64)
    if y.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold numbers, got an array of {y.dtype}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():  # None among objects is NaN now
        assert_all_finite(y, input_name=name)
    largest = float(np.finfo(dtype).max)
    if y.dtype.itemsize > np.dtype(dtype).itemsize and max(abs(float(y.min())), abs(float(y.max()))) > largest:
        raise ValueError(
            f"{name} holds values from {y.min():g} to {y.max():g}, too large for {np.dtype(dtype)}: scale the targets, "
            "or train in float64"
        )
    return y


def target_kind(y: Any, name: str) -> str:
    """What checked targets of a classifier are: ``"binary"``, ``"multiclass"``, ``LABELS`` or ``MULTIOUTPUT``.

    Raises
    ------
    ValueError, TypeError
        For what holds no classes.
    """
    try:
        kind = str(type_of_target(y, input_name=name))
    except (TypeError, ValueError) as error:
        kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
        raise kind_of_error(f"{name} is not usable: {error}") from None
    values = y.data if sparse.issparse(y) else y
    if kind == LABELS and not ((values == 0) | (values == 1)).all():  # which scikit-learn takes for 1
        kind = MULTIOUTPUT
    if kind in ("binary", "multiclass") and sparse.issparse(y) and y.shape[1] > 1:  # of which it overlooks columns
        kind = MULTIOUTPUT
    if kind == "continuous-multioutput":
        raise ValueError(
            f"Multioutput target data is not supported with label binarization: {name} holds real numbers of several "
            "targets, and a classifier needs classes; MLPRegressor takes real numbers"
        )
    if kind == "unknown":
        try:
            np.unique(y)
        except TypeError as error:
            raise TypeError(f"{name} holds classes of several types: {error}") from None
    if kind not in ("binary", "multiclass", LABELS, MULTIOUTPUT):
        raise ValueError(
            f"Unknown label type: {name} is {kind}, an array of {y.dtype}. A classifier needs classes, as integers, "
            "strings or booleans; MLPRegressor takes real numbers"
        )
    return kind


def check_kind(y: Any, name: str, fitted_kind: str, n_labels: int) -> None:
    """Raise a ValueError where targets are no classes, or no labels, as those of the training are.

    Parameters
    ----------
    y : ndarray or sparse matrix
        Checked.
    name : str
    fitted_kind : str
        That of the training's targets, but for ``MULTIOUTPUT``.
    n_labels : int
        Labels of a row, where the targets are labels.
    """
    kind = target_kind(y, name)
    if fitted_kind != LABELS:
        if y.ndim == 2:
            raise ValueError(
                f"Unknown label type: {name} is {kind}, an array of shape {y.shape}, but the y of the training has one "
                f"class for each row: give {name} of shape ({y.shape[0]},)"
            )
    elif kind != LABELS or y.shape[1] != n_labels:
        raise ValueError(
            f"Unknown label type: {name} is {kind}, an array of shape {y.shape}, but the y of the training has "
            f"{n_labels} labels: give {name} of shape ({y.shape[0]}, {n_labels}) that holds 0 and 1"
        )
