"""Rows that an estimator trains on or is scored on, and what classes weigh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import _check_sample_weight

from fastbp._validation import Array, real_number
from fastbp._words import counted, shown
from fastbp.estimators._inputs import named
from fastbp.estimators._targets import listed


class Rows(NamedTuple):
    """Checked data.

    Attributes
    ----------
    X : ndarray, scipy.sparse.csr_array or array on the device
        As backends take it.
    y : ndarray of shape (n_samples, n_targets)
        Encoded: values, indicators of classes or labels, or codes of classes.
    weights : ndarray of shape (n_samples,) or None
    """

    X: Any
    y: Array
    weights: Array | None


def checked_weights(given: Any, name: str, y: Array, dtype: Any) -> Array | None:
    """Sample weights of rows with targets y, as scikit-learn checks them; None where none are given.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """
    if given is None:
        return None
    try:
        with named(name), np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
            weights: Array = _check_sample_weight(given, y, dtype=dtype)
            if not np.isfinite(weights).all():  # one number for all rows is not looked at
                assert_all_finite(weights, input_name="sample_weight")
    except (TypeError, ValueError) as error:
        if name == "sample_weight" or str(error).startswith(f"{name} "):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} is not usable: {str(error).replace('sample_weight', name)}") from None
    return weights


def class_weights(
    class_weight: Any, classes: Sequence[Array], codes: Array, sample_weight: Array | None = None
) -> list[Array]:
    """Weight of each class of each target.

    Parameters
    ----------
    class_weight : "balanced", dict, or list of them
        Classes that a dict does not have weigh 1.
    classes : sequence of ndarray
        Names of each target's classes.
    codes : ndarray of int, shape (n_samples, n_targets)
        Places in ``classes``; what ``"balanced"`` counts, by the sample weights where there are some. Classes that do
        not occur weigh 1 then.
    sample_weight : ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError, TypeError
        For a key that is no class, a weight that is no number of at least 0, another number of dicts than targets, or
        classes that weigh nothing together.
    """
    given = class_weight if isinstance(class_weight, list) else [class_weight] * len(classes)
    if len(given) != len(classes):
        raise ValueError(
            f"class_weight has {counted(len(given), 'weight')}, but y has {counted(len(classes), 'target')}: give one "
            "dict {class: weight} for each, or one for all"
        )
    weights = []
    for k, (one, names) in enumerate(zip(given, classes, strict=True)):
        name = f"class_weight[{k}]" if isinstance(class_weight, list) else "class_weight"
        if isinstance(one, str) and one == "balanced":
            weights.append(_balanced(name, len(names), codes[:, k], sample_weight))
        elif one is None or isinstance(one, dict):
            weights.append(_by_name(name, one or {}, names))
        else:
            raise TypeError(f"{name} must be a dict {{class: weight}}, 'balanced' or None, got {shown(one)}")
    return weights


def _by_name(name: str, weights: dict[Any, Any], classes: Array) -> Array:
    """A weight for each class, 1 for those without a key."""
    places, factors = {one: k for k, one in enumerate(classes.tolist())}, np.ones(len(classes))
    unknown = [key for key in weights if key not in places]
    if unknown:
        raise ValueError(
            f"{name} has the keys {shown(unknown)}, which are no classes of y: its classes are {listed(classes)}"
        )
    for key, value in weights.items():
        factors[places[key]] = real_number(value, f"{name}[{shown(key)}]")
    if not factors.any():
        raise ValueError(f"{name} gives 0 to every class: give a weight above 0 to one of {listed(classes)}")
    return factors


def _balanced(name: str, n_classes: int, codes: Array, sample_weight: Array | None) -> Array:
    """Sum of the sample weights, over the number of classes that have some times the sum of those of a class."""
    rows = None if sample_weight is None else sample_weight.astype(float)
    if rows is not None and rows.min() < 0:
        raise ValueError(
            f"{name}='balanced' counts rows by their sample_weight, which must be at least 0 then, got values down to "
            f"{rows.min():g}: give a dict {{class: weight}}"
        )
    counts = np.bincount(codes, weights=rows, minlength=n_classes)
    there, factors = counts > 0, np.ones(n_classes)
    factors[there] = counts.sum() / (there.sum() * counts[there])
    return factors


def weighted(weights: Array | None, by_class: Sequence[Array], codes: Array, dtype: Any) -> Array:
    """Sample weights times the weight of each sample's class; with several targets the product over them.

    Raises
    ------
    ValueError
        For a product that ``dtype`` cannot hold.
    """
    total = np.ones(len(codes), dtype) if weights is None else weights.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for factors, column in zip(by_class, codes.T, strict=True):
            total *= factors[column].astype(dtype)
    if not np.isfinite(total).all():
        raise ValueError(
            f"class_weight, times sample_weight where there is one, is too large for {np.dtype(dtype)}: give weights "
            "of about 1"
        )
    return total
