"""What can be read as an array: anything else is refused before NumPy or scikit-learn begins to read it.

NumPy reads whatever has a length and items until an item raises an IndexError, which a sequence of batches never does.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from scipy import sparse

from fastbp._sparse import checked_sparse
from fastbp._words import shown

DEEPEST = 4  # lists in lists: no argument has more than two dimensions
PLAIN = {int, float, bool, str, bytes, complex, type(None), *np.sctypeDict.values()}  # elements that are no sequences
ROWS = (
    "pass an array of shape (n_samples, n_features), a data frame or a sparse matrix; for batches that are read from "
    "elsewhere, call partial_fit or Trainer.fit for each of them"
)
ENTRIES = (
    "pass an array, a list or a column of a data frame, with an entry for each row of X; for batches that are read "
    "from elsewhere, call partial_fit or Trainer.fit for each of them"
)
NUMBERS = "pass an array or a list of numbers"


def readable(value: Any, name: str, instead: str | None = None, *, alone: bool = True) -> Any:
    """``value`` where it is one: what NumPy, SciPy or scikit-learn read as an array whole and without a fault.

    An array, a matrix of SciPy and a data frame as they are; other sequences of rows or numbers as a list.

    Parameters
    ----------
    value
    name : str
        Of the argument.
    instead : str, optional
        What the message says to do.
    alone : bool, default=True
        False leaves to scikit-learn what it reads at once and refuses in its own words.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, for anything else, for masked elements, lists of different lengths, and sparse matrices
        whose indices lie outside of them.

    Examples
    --------
    >>> readable((row for row in [[1.0], [2.0]]), "X")
    Traceback (most recent call last):
        ...
    TypeError: X is not usable: a generator is no array; pass an array of shape (n_samples, n_features), a data frame \
or a sparse matrix; for batches that are read from elsewhere, call partial_fit or Trainer.fit for each of them
    """
    if type(value) is np.ndarray:
        return value
    if sparse.issparse(value):
        return checked_sparse(value, name)
    instead = instead or (ROWS if name.endswith(("X", "X_val")) else ENTRIES)
    if isinstance(value, np.ndarray):
        return _plain(value, name, alone)
    if not alone and (value is None or isinstance(value, str | bytes | dict)):
        return value
    try:
        if isinstance(value, list | tuple):
            return _checked_items(value, 1)
        if isinstance(value, numbers.Number) or (hasattr(value, "__array__") and not isinstance(value, type)):
            return value
        given = _by_memory(value)
        return _checked_items(_items(value), 1) if given is None else given
    except _NoArrayError as error:
        raise TypeError(f"{name} is not usable: {error}; {instead}") from None
    except _UnevenError as error:
        if not alone:
            return value
        raise ValueError(f"{name} is not usable: {error}") from None


def _a(kind: type) -> str:
    """The name of a class with its article."""
    name = kind.__name__
    return f"{'an' if name[:1] in 'aeioAEIO' else 'a'} {name}"


class _NoArrayError(Exception):
    """What is none, in words."""


class _UnevenError(Exception):
    """Lists that make no array, in words."""


def _plain(value: np.ndarray[Any, Any], name: str, alone: bool) -> np.ndarray[Any, Any]:
    """An array of a class of its own, without what NumPy would pass over in silence."""
    if isinstance(value, np.matrix) and alone:
        raise TypeError(
            f"{name} is not usable: np.matrix is not supported, since it always has two dimensions; pass "
            f"np.asarray({name.split()[-1]})"
        )
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            count = int(np.ma.getmaskarray(value).sum())
            raise ValueError(
                f"{name} is not usable: {count} of its elements are masked, and there is no number for them; pass "
                f"{name.split()[-1]}.filled(value), or leave out their rows"
            )
        return np.asarray(value)
    return value


def _by_memory(value: Any) -> Any:
    """An array on the memory that an object shows; None where it shows none."""
    if isinstance(value, type | str | bytes):
        return None
    with suppress(Exception):
        if hasattr(value, "__array_interface__") or hasattr(value, "__array_struct__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(memoryview(value))
    return None


def _items(value: Any) -> list[Any]:
    """Items of another sequence than a list: so many as it has a length.

    Refused where it goes on behind its end, as endless sequences of batches do, or its first item is a batch.
    """
    kind = type(value)
    is_sequence = hasattr(kind, "__getitem__") and hasattr(kind, "__len__") and not hasattr(kind, "keys")
    if isinstance(value, type | str | bytes) or not is_sequence:
        if value is None or isinstance(value, str | bytes):
            raise _NoArrayError(f"{'None' if value is None else _a(kind)} is no array")
        what = f"the class {value.__name__}" if isinstance(value, type) else _a(kind)
        raise _NoArrayError(f"{what} is no array")
    try:
        size = len(value)
        if size and np.ndim(_first(value[0])) > 1:
            raise _NoArrayError(f"{_a(kind)} is a sequence of batches, not of rows")
        ends = False
        try:
            value[size]
        except LookupError:
            ends = True
        if not ends:
            raise _NoArrayError(f"{_a(kind)} has items beyond its length of {size}")
        return [value[k] for k in range(size)]
    except _NoArrayError:
        raise
    except Exception as error:
        raise _NoArrayError(f"the items of {_a(kind)} cannot be read ({type(error).__name__}: {error})") from None


def _first(item: Any) -> Any:
    """An item as far as its dimensions tell: of a batch (X, y) those of its parts and one more."""
    if isinstance(item, list | tuple):
        item = _checked_items(item, 2)
        return item if not any(hasattr(part, "ndim") and part.ndim for part in item) else np.empty((1, 1))
    return item if hasattr(item, "ndim") or isinstance(item, numbers.Number | str) else _items(item)


def _checked_items(items: Sequence[Any], depth: int) -> Sequence[Any]:
    """The elements of a list, once they are numbers or lists of one length; sequences of other classes as lists."""
    kinds = set(map(type, items))
    if kinds <= PLAIN:
        return items
    if depth >= DEEPEST:
        raise _UnevenError(
            f"it has lists in lists, {depth} deep, where at most two dimensions are wanted; make a row of each sample"
        )
    if kinds - PLAIN - {list, tuple, np.ndarray}:
        items = [_element(item) for item in items]
    parts = [_checked_items(item, depth + 1) if isinstance(item, list | tuple) else item for item in items]
    lengths = {
        len(part) for part in parts if isinstance(part, list | tuple) or (isinstance(part, np.ndarray) and part.ndim)
    }
    if len(lengths) > 1:
        raise _UnevenError(
            f"its rows have different lengths, from {min(lengths)} to {max(lengths)}; give all rows one length"
        )
    return parts


def _element(item: Any) -> Any:
    """An element of a list as it is, where NumPy reads it at once, or a sequence of another class as a list."""
    kind = type(item)
    known = isinstance(item, list | tuple | str | bytes | np.ndarray | np.generic | numbers.Number)
    if known or hasattr(item, "__array__") or _by_memory(item) is not None:
        return item
    if hasattr(kind, "__next__") or (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        try:
            return _items(item)
        except _NoArrayError as error:
            raise _NoArrayError(f"it holds what is no row of numbers: {error}") from None
    return item


def limited(values: Any, expected: str, *, most: int = 10**6) -> list[Any]:
    """Items of a user's sequence as a list; ``expected`` says what is wanted.

    Raises
    ------
    TypeError
        For what has no items, or more than ``most``: it may have no end.
    """
    if isinstance(values, list | tuple):
        return list(values)
    try:
        if hasattr(type(values), "__len__"):
            most = min(most, len(values))
        items = list(itertools.islice(iter(values), most + 1))
    except TypeError:
        raise TypeError(f"{expected}, got {shown(values)}") from None
    if len(items) > most:
        raise TypeError(f"{expected}, got {_a(type(values))} that goes on after {most} of them")
    return items
