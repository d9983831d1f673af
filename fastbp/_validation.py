"""Checks of what users pass in: each error names the argument, what was given and what is expected."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_array, check_random_state

from fastbp._arrays import readable
from fastbp._random import check_generator
from fastbp._words import shown

Array = NDArray[Any]

DLPACK_DEVICES = (2, 13)  # CUDA's own memory and managed memory, as DLPack numbers them
SOFT_TARGETS_TOLERANCE = 1e-4  # shares that were written down in four digits, or averaged in float16, are right


def scalar(value: Any) -> Any:
    """The one element of an array without dimensions: it stands for the number, name or flag that it holds."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def one_of(value: Any, options: Sequence[str], name: str) -> str:
    """``value`` where it is one of ``options``.

    >>> one_of("relu6", ("identity", "relu"), "activation")
    Traceback (most recent call last):
        ...
    ValueError: activation must be one of 'identity', 'relu', got 'relu6'
    """
    given = scalar(value)
    if not isinstance(given, str) or given not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {shown(value)}")
    return str(given)


def other_name(value: Any, names: Mapping[str, str]) -> Any:
    """The name that a thing has here, where ``value`` is another one of it; anything else as it is."""
    given = scalar(value)
    return names.get(given, given) if isinstance(given, str) else value


def whole_number(value: Any, name: str, *, least: int = 1) -> int:
    """``value`` as an int, where it is a whole number of at least ``least``."""
    given = scalar(value)
    if isinstance(given, bool | np.bool_) or not isinstance(given, numbers.Integral):
        raise TypeError(f"{name} must be an integer of at least {least}, got {shown(value)}")
    number = int(given)
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {shown(value)}")
    if number > sys.maxsize:
        raise ValueError(f"{name} must be an integer of at most {sys.maxsize}, got {shown(value)}")
    return number


def real_number(value: Any, name: str, *, least: float = 0.0, below: float = np.inf, positive: bool = False) -> float:
    """``value`` as a float, where least <= value < below, or least < value where ``positive``."""
    expected = f"a number {'above' if positive else 'of at least'} {least:g}"
    expected += f" and below {below:g}" if np.isfinite(below) else ""
    given = scalar(value)
    if isinstance(given, bool | np.bool_) or not isinstance(given, numbers.Real):
        raise TypeError(f"{name} must be {expected}, got {shown(value)}")
    try:
        number = float(given)
    except OverflowError:
        raise ValueError(f"{name} must be {expected} that a float can hold, got {shown(value)}") from None
    if not ((least < number if positive else least <= number) and number < below):
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")
    return number


def flag(value: Any, name: str) -> bool:
    """``value`` as a bool."""
    given = scalar(value)
    if not isinstance(given, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(given)


def real_dtype(value: Any) -> np.dtype[Any]:
    """float32 or float64 as a dtype."""
    given = scalar(value)
    # for numpy None is a name of float64, and "f4,(" a SyntaxError
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        with suppress(Exception):
            if given is not None and np.dtype(given) == dtype:
                return dtype
    raise ValueError(f"dtype must be 'float32' or 'float64', got {shown(value)}")


def as_random_state(value: Any) -> np.random.RandomState:
    """The generator that a user's ``random_state`` stands for."""
    try:
        rng = check_random_state(scalar(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "random_state must be None, an integer from 0 to 2**32 - 1 or a numpy.random.RandomState, got "
            f"{shown(value)}"
        ) from None
    if not isinstance(value, numbers.Integral):  # of a seed there is nothing to look at, for 50 us
        check_generator(rng)
    return rng


def check_real(array: Array) -> None:
    """Raise a TypeError for strings, dates, records and complex numbers, which NumPy would turn into real numbers."""
    what = f"an array of {array.dtype}"
    refused = array.dtype.kind in "cmMSTUV"
    if array.dtype.kind == "O" and not sparse.issparse(array):
        for value in array.flat:
            if isinstance(value, str | bytes | complex | np.complexfloating | np.datetime64 | np.timedelta64):
                refused, what = True, f"{shown(value)} in {what}"
                break
    if refused:
        raise TypeError(f"it must hold real numbers, got {what}; encode the values as numbers")


def on_device(value: Any) -> bool:
    """Whether an array lies on a CUDA device, by what it says of itself."""
    if isinstance(value, np.ndarray):
        return False
    with suppress(Exception):  # PyTorch raises one for a tensor with gradients
        if getattr(value, "__cuda_ndarray__", False) or hasattr(value, "__cuda_array_interface__"):
            return True
    with suppress(Exception):
        return value.__dlpack_device__()[0] in DLPACK_DEVICES
    return False


def refuse_device(value: Any, name: str) -> None:
    """Raise a TypeError for an array on a CUDA device, which NumPy cannot read."""
    if on_device(value):
        raise TypeError(
            f"{name} lies on a CUDA device, where only estimators with device='cuda' read it, and Trainer and "
            "Sequential.predict with backend='cuda': copy it to the host first, by .get() (CuPy), .cpu() (PyTorch) or "
            ".copy_to_host() (Numba)"
        )


def real_array(value: Any, name: str, *, dtype: Any, **options: Any) -> Array:
    """A finite C-contiguous and aligned array of ``dtype``; ``options`` are those of scikit-learn's ``check_array``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """
    refuse_device(value, name)
    value = readable(value, name)
    anything: dict[str, Any] = {
        "dtype": None, "ensure_2d": False, "allow_nd": True, "ensure_all_finite": False, "ensure_min_samples": 0,
    }  # fmt: skip
    try:
        array = value if isinstance(value, np.ndarray) or sparse.issparse(value) else check_array(value, **anything)
        check_real(array)
        with np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
            array = check_array(array, dtype=dtype, order="C", input_name=name, **options)
    except OverflowError:
        raise ValueError(
            f"{name} is not usable: it holds a number too large for {np.dtype(dtype)}; scale the values"
        ) from None
    except TypeError as error:
        raise TypeError(f"{name} is not usable: {error}") from None
    except ValueError as error:
        raise ValueError(f"{name} is not usable: {error}") from None
    return as_rows(array)


def as_rows(X: Any) -> Any:
    """A checked array as backends take it: C-contiguous and aligned, or in rows with ascending columns, each once."""
    if not sparse.issparse(X):
        return np.require(X, requirements=["C", "A"])
    X = sparse.csr_array(X)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def matrix(X: Any, name: str, *, dtype: Any, n_columns: int | None = None, device: bool = False) -> Array:
    """A finite, C-contiguous and aligned matrix of ``dtype`` with at least one row; compressed rows of a sparse X.

    With ``device`` also one that lies on a CUDA device, as it is, without a look at its values.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, for what has not two dimensions, no rows, another number of columns, or values that are
        not finite numbers.
    """
    if device and on_device(X):
        from fastbp.backends._device import device_matrix  # backends import this module

        return device_matrix(X, name, dtype=dtype, n_columns=n_columns)
    X = real_array(X, name, dtype=dtype, accept_sparse="csr")
    if n_columns is not None and X.shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} columns, one for each feature, got an array of shape {X.shape}")
    return X


def labels(y: Any, name: str, *, n_samples: int, n_classes: int) -> Array:
    """Class labels 0 .. n_classes - 1, one a sample, as intp."""
    refuse_device(y, name)
    y = readable(y, name)
    try:
        y = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not usable as labels, one for each row of X: {error}") from None
    if y.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integer labels from 0 to {n_classes - 1}, got an array of {y.dtype}")
    if y.shape != (n_samples,):
        soft = "; soft targets are floats, with a column for each class" if y.ndim == 2 else ""
        raise ValueError(f"{name} must have the shape ({n_samples},), one label for each row of X, got {y.shape}{soft}")
    if y.min() < 0 or y.max() >= n_classes:
        raise ValueError(
            f"{name} must hold labels from 0 to {n_classes - 1}, one for each output, got labels from {y.min()} to "
            f"{y.max()}"
        )
    return np.require(y, np.intp, ["C", "A"])


def block_labels(y: Any, name: str, *, n_samples: int, blocks: tuple[int, ...]) -> Array:
    """A class label for each sample and block, counted from 0 within the block, as intp."""
    refuse_device(y, name)
    y, n_blocks = np.asarray(readable(y, name)), len(blocks)
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
    return np.require(y, np.intp, ["C", "A"])


def looks_soft(y: Any, n_outputs: int, by_blocks: bool) -> bool:
    """Whether y holds a share of each class instead of labels: floats in two dimensions.

    With blocks labels have two dimensions as well; then the number of columns tells.
    """
    try:
        y = np.asarray(y)
    except (TypeError, ValueError):
        return False
    return bool(y.dtype.kind == "f" and y.ndim == 2 and (y.shape[1] == n_outputs or not by_blocks))


def soft_targets(y: Any, name: str, *, n_samples: int, n_outputs: int, blocks: tuple[int, ...], dtype: Any) -> Array:
    """Shares of the classes, (n_samples, n_outputs), at least 0, whose sum over a row, or a block of it, is 1."""
    y = targets(y, name, n_samples=n_samples, n_outputs=n_outputs, dtype=dtype)
    if y.min() < 0:
        raise ValueError(
            f"{name} must be at least 0 for soft targets, shares of each class, got values down to {y.min()!s}"
        )
    start = 0
    for k, size in enumerate(blocks or (n_outputs,)):
        sums = y[:, start : start + size].sum(axis=1, dtype=float)
        worst = int(np.abs(sums - 1).argmax())
        if abs(sums[worst] - 1) > SOFT_TARGETS_TOLERANCE:
            where = f"{name}[{worst}, {start}:{start + size}] (block {k})" if blocks else f"{name}[{worst}]"
            raise ValueError(
                f"soft targets must sum to 1 over the classes, but {where} has the sum {sums[worst]:.6g}: divide each "
                "row by its sum"
            )
        start += size
    return y


def targets(y: Any, name: str, *, n_samples: int, n_outputs: int, dtype: Any, unit_interval: bool = False) -> Array:
    """Target values of shape (n_samples, n_outputs); (n_samples,) will do for one output."""
    y = real_array(y, name, dtype=dtype, ensure_2d=False)
    if y.shape != (n_samples, n_outputs) and not (n_outputs == 1 and y.shape == (n_samples,)):
        raise ValueError(
            f"{name} must have the shape ({n_samples}, {n_outputs}), a row for each row of X and a column for each "
            f"output, got {y.shape}"
        )
    if unit_interval and not (y.min() >= 0 and y.max() <= 1):
        raise ValueError(f"{name} must lie between 0 and 1 for this loss, got values from {y.min()!s} to {y.max()!s}")
    return y.reshape(n_samples, n_outputs)


def sample_weights(weights: Any, name: str, *, n_samples: int, dtype: Any) -> Array | None:
    """Non-negative weights with a positive sum, one a sample, or None."""
    if weights is None:
        return None
    weights = real_array(weights, name, dtype=dtype, ensure_2d=False)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"{name} must have the shape ({n_samples},), one weight for each row of X, got {weights.shape}"
        )
    if weights.min() < 0 or weights.sum(dtype=float) <= 0:
        raise ValueError(
            f"{name} must be at least 0 and not all 0, got values from {weights.min()!s} to {weights.max()!s}"
        )
    return weights
