"""X, y and weights that an estimator is given: checked by scikit-learn, an X on the device as it lies there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_y, check_consistent_length, validate_data

from fastbp._arrays import ENTRIES, ROWS, readable
from fastbp._validation import Array, as_rows, refuse_device
from fastbp.backends._device import device_matrix, is_on_device, on_host
from fastbp.estimators._device import reads_device

NO_ARRAY = (  # how messages of NumPy and scikit-learn begin
    "float() argument must be", "Cannot cast array data", "could not convert string",
    "Input should have at least 1 dim", "setting an array element with a sequence",
)  # fmt: skip
SPARSE = ("csr", "csc")  # what scikit-learn's take; other sparse formats are converted to the first


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors of other libraries about what is no array say which argument it is, and what to pass instead.

    Numbers that no float holds are a ValueError.
    """
    try:
        yield
    except OverflowError:
        raise ValueError(f"{name} is not usable: it holds a number too large for float64; scale the values") from None
    except (TypeError, ValueError) as error:
        if not str(error).startswith(NO_ARRAY):
            raise
        kind, text = TypeError if isinstance(error, TypeError) else ValueError, f"{name} is not usable: {error}"
        instead = ROWS if name.startswith("X") else ENTRIES
        raise kind(f"{text} P{instead[1:]}" if text.endswith(".") else f"{text}; {instead}") from None


def of_numbers(values: Any) -> Any:
    """An array of numbers: objects, which scikit-learn leaves as they are where they come in a list, as floats."""
    return values.astype(np.float64) if values.dtype == object else values


def checked_rows(estimator: Any, X: Any, name: str = "X", *, dtype: Any, converts: bool = True) -> Any:
    """X as backends take it, with the features of the training: of ``dtype``, or on the host also of its own.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        Also for an X on a CUDA device that is not of ``dtype`` and C-contiguous, or where there is no GPU to use.
    """
    if is_on_device(X):
        X = _device_rows(estimator, X, name, dtype)
        return validate_data(estimator, X, reset=False, skip_check_array=True)
    X, wanted = readable(X, name, alone=False), dtype if converts else "numeric"
    with named(name):
        X = validate_data(estimator, X, dtype=wanted, order="C", reset=False, accept_sparse=SPARSE)
        return as_rows(of_numbers(X))


def checked_rows_and_targets(
    estimator: Any, X: Any, y: Any, *, dtype: Any, reset: bool, y_numeric: bool = False
) -> tuple[Any, Array]:
    """The same for a training, with y, which lies on the host: ``dtype`` may be a tuple of those that will do.

    With ``reset`` the features are noted, otherwise compared.
    """
    if is_on_device(X):
        X = _device_rows(estimator, X, "X", dtype)
        validate_data(estimator, X, y, reset=reset, skip_check_array=True)
        with named("y"):
            y = _check_y(y, multi_output=True, y_numeric=y_numeric, estimator=estimator)
        check_consistent_length(X, y)
        return X, y
    X = readable(X, "X", alone=False)
    with named("X or y"):
        X, y = validate_data(
            estimator, X, y, multi_output=True, y_numeric=y_numeric, dtype=dtype, order="C", reset=reset,
            accept_sparse=SPARSE,
        )  # fmt: skip
    return as_rows(X), y


def _device_rows(estimator: Any, X: Any, name: str, dtype: Any) -> Any:
    if not reads_device(estimator):
        refuse_device(X, name)
    return device_matrix(X, name, dtype=dtype)


def on_the_host(estimator: Any, **given: Any) -> list[Any]:
    """Targets and weights by their names: as they are, or copied from the device where the estimator computes there.

    Whatever else is no array is refused, before scikit-learn looks at it; None is for it to judge.
    """
    for name, value in given.items():
        if is_on_device(value):
            if not reads_device(estimator):
                refuse_device(value, name)
            given[name] = on_host(value, name, backend="cuda")
        elif value is not None:
            given[name] = readable(value, name, alone=False)
    return list(given.values())
