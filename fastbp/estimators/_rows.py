"""Rows that an estimator trains on or is scored on, and what classes weigh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from fastbp._validation import Array


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


def class_weights(class_weight: Any, classes: Sequence[Array], codes: Array) -> list[Array]:
    """Weight of each class of each target.

    Parameters
    ----------
    class_weight : "balanced", dict, or list of them
    classes : sequence of ndarray
        Names of each target's classes.
    codes : ndarray of int, shape (n_samples, n_targets)
        Places in ``classes``; what ``"balanced"`` counts. Classes that do not occur weigh 1 then.

    Raises
    ------
    ValueError
        For a dict that lacks a class and has another, or another number of dicts than targets.
    """
    given = class_weight if isinstance(class_weight, list) else [class_weight] * len(classes)
    if len(given) != len(classes):
        raise ValueError(
            f"class_weight has {len(given)} entries, but y has {len(classes)} targets: give one dict {{class: weight}} "
            "for each, or one for all"
        )
    weights = []
    for one, names, column in zip(given, classes, codes.T, strict=True):
        seen = np.unique(column) if isinstance(one, str) else np.arange(len(names))
        factors = np.ones(len(names))
        factors[seen] = compute_class_weight(one, classes=names[seen], y=names[column])
        weights.append(factors)
    return weights


def weighted(weights: Array | None, by_class: Sequence[Array], codes: Array, dtype: Any) -> Array:
    """Sample weights times the weight of each sample's class; with several targets the product over them."""
    total = np.ones(len(codes), dtype) if weights is None else weights.astype(dtype)
    for factors, column in zip(by_class, codes.T, strict=True):
        total *= factors[column].astype(dtype)
    return total
