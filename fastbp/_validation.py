"""Checks of what users pass in: each error names the argument, what was given and what is expected."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_array

Array = NDArray[Any]


def one_of(value: Any, options: Sequence[str], name: str) -> str:
    """``value`` where it is one of ``options``.

    >>> one_of("relu6", ("identity", "relu"), "activation")
    Traceback (most recent call last):
        ...
    ValueError: activation must be one of 'identity', 'relu', got 'relu6'
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def whole_number(value: Any, name: str, *, least: int = 1) -> int:
    """``value`` as an int, where it is a whole number of at least ``least``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer of at least {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def real_number(value: Any, name: str, *, least: float = 0.0, below: float = np.inf, positive: bool = False) -> float:
    """``value`` as a float, where least <= value < below, or least < value where ``positive``."""
    expected = f"a number {'above' if positive else 'of at least'} {least:g}"
    expected += f" and below {below:g}" if np.isfinite(below) else ""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    number = float(value)
    if not ((least < number if positive else least <= number) and number < below):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return number


def flag(value: Any, name: str) -> bool:
    """``value`` as a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def real_dtype(value: Any) -> np.dtype[Any]:
    """float32 or float64 as a dtype."""
    # for numpy None is a name of float64
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        with suppress(TypeError):
            if value is not None and np.dtype(value) == dtype:
                return dtype
    raise ValueError(f"dtype must be 'float32' or 'float64', got {value!r}")


def matrix(X: Any, name: str, *, dtype: Any, n_columns: int | None = None) -> Array:
    """A finite C-contiguous matrix of ``dtype`` with at least one row; compressed rows where X is sparse.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, for what has not two dimensions, no rows, another number of columns, or values that are
        not finite numbers.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
            X = check_array(X, dtype=dtype, order="C", input_name=name, accept_sparse="csr")
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name} is not usable: {error}") from None
    if n_columns is not None and X.shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} columns, one a feature, got an array of shape {X.shape}")
    return as_rows(X)


def as_rows(X: Any) -> Any:
    """A checked matrix as backends take it: C-contiguous and aligned, or in rows with ascending columns, each once."""
    if not sparse.issparse(X):
        return np.require(X, requirements=["C", "A"])
    X = sparse.csr_array(X)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def labels(y: Any, name: str, *, n_samples: int, n_classes: int) -> Array:
    """Class labels 0 .. n_classes - 1, one a sample, as intp."""
    y = np.asarray(y)
    if y.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer labels from 0 to {n_classes - 1}, got an array of {y.dtype}")
    if y.shape != (n_samples,):
        raise ValueError(f"{name} must have the shape ({n_samples},), one label for each row of X, got {y.shape}")
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(
            f"{name} must hold labels from 0 to {n_classes - 1}, one for each output, got labels from {y.min()} to "
            f"{y.max()}"
        )
    return np.ascontiguousarray(y, np.intp)


def block_labels(y: Any, name: str, *, n_samples: int, blocks: tuple[int, ...]) -> Array:
    """A class label for each sample and block, counted from 0 within the block, as intp."""
    y, n_blocks = np.asarray(y), len(blocks)
    if y.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer labels, one for each block, got an array of {y.dtype}")
    if y.shape != (n_samples, n_blocks):
        raise ValueError(
            f"{name} must have the shape ({n_samples}, {n_blocks}), a row for each row of X and a label for each "
            f"block, got {y.shape}"
        )
    for k, size in enumerate(blocks):
        least, most = y[:, k].min(), y[:, k].max()
        if least < 0 or most >= size:
            raise ValueError(
                f"{name}[:, {k}] must hold labels from 0 to {size - 1}, one for each output of block {k}, got labels "
                f"from {least} to {most}"
            )
    return np.ascontiguousarray(y, np.intp)


def targets(y: Any, name: str, *, n_samples: int, n_outputs: int, dtype: Any, unit_interval: bool = False) -> Array:
    """Target values of shape (n_samples, n_outputs); (n_samples,) will do for one output."""
    try:
        with np.errstate(over="ignore"):
            y = check_array(y, dtype=dtype, order="C", ensure_2d=False, input_name=name)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name} is not usable: {error}") from None
    if y.shape != (n_samples, n_outputs) and not (n_outputs == 1 and y.shape == (n_samples,)):
        raise ValueError(
            f"{name} must have the shape ({n_samples}, {n_outputs}), a row for each row of X and a column for each "
            f"output, got {y.shape}"
        )
    if unit_interval and not (y.min() >= 0 and y.max() <= 1):
        raise ValueError(f"{name} must lie between 0 and 1 for this loss, got values from {y.min()} to {y.max()}")
    return np.require(y.reshape(n_samples, n_outputs), requirements=["C", "A"])


def sample_weights(weights: Any, name: str, *, n_samples: int, dtype: Any) -> Array | None:
    """Non-negative weights with a positive sum, one a sample, or None."""
    if weights is None:
        return None
    try:
        with np.errstate(over="ignore"):
            weights = check_array(weights, dtype=dtype, order="C", ensure_2d=False, input_name=name)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name} is not usable: {error}") from None
    if weights.shape != (n_samples,):
        raise ValueError(
            f"{name} must have the shape ({n_samples},), one weight for each row of X, got {weights.shape}"
        )
    if weights.min() < 0 or weights.sum(dtype=float) <= 0:
        raise ValueError(f"{name} must be at least 0 and not all 0, got values from {weights.min()} to {weights.max()}")
    return np.require(weights, requirements=["C", "A"])
