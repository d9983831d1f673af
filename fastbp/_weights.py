"""Weights of rows: whether they leave something to train on, in the numbers of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastbp._validation import Array

if TYPE_CHECKING:
    from fastbp.losses import Loss


def usable_weights(weights: Array, name: str) -> Array:
    """Weights of a mean over rows, with those as 0 that are too small to divide by.

    Parameters
    ----------
    weights : ndarray of float32 or float64
        Finite, of any sign: scikit-learn takes negative ones.
    name : str
        What they are, for the message.

    Raises
    ------
    ValueError
        Where they sum to 0, or to a number that their dtype cannot divide by.
    """
    limits, sizes = np.finfo(weights.dtype), np.abs(weights)
    small = (sizes < limits.tiny) & (sizes > 0)  # a batch of these alone would be divided by what has no reciprocal
    if small.any():
        weights = np.where(small, weights.dtype.type(0), weights)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(weights.sum(dtype=np.float64))
    if not float(limits.tiny) <= abs(total) <= float(limits.max):
        what = "0" if total == 0 else f"{total:g}, which {weights.dtype} cannot divide by"
        raise ValueError(
            f"{name} must leave something to train on or to compare with, but sums to {what}: the loss is a mean over "
            "the rows by their weights; give weights of about 1"
        )
    return weights


def check_terms(loss: Loss, y: Array, weights: Array | None, prefix: str) -> None:
    """Raise a ValueError where sample weights and the loss's own class weights make every term of the loss 0.

    Parameters
    ----------
    loss : Loss
    y : ndarray
        As backends take it.
    weights : ndarray of shape (n_samples,) or None
    prefix : str
        What stands before ``sample_weight`` in the message.
    """
    if loss.class_weight is None:
        return
    by_class = np.asarray(loss.class_weight)
    if y.dtype == np.intp:
        parts = by_class[y]
    elif loss.name == "softmax_cross_entropy":
        parts = np.full(len(y), by_class.max()) if loss.label_smoothing else (y * by_class).sum(axis=1)
    else:
        pairs = np.broadcast_to(by_class, (y.shape[1], 2))
        shares = (1 - loss.label_smoothing) * y + loss.label_smoothing / 2
        parts = (pairs[:, 0] * (1 - shares) + pairs[:, 1] * shares).sum(axis=1)
    total = float((parts if weights is None else parts * weights.astype(float)).sum())
    if not float(np.finfo(np.float32).tiny) <= total < np.inf:
        raise ValueError(
            f"{prefix}sample_weight and the loss's class_weight must leave something to train on or to compare with, "
            f"but together they sum to {total:g} over the rows: give a weight above 0 to a class of a row that counts"
        )
