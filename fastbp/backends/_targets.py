"""Losses and targets as kernels that read a plan take them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.kernels import layout
from fastbp.losses import CROSS_ENTROPIES, OUTPUTS, Loss


def read_only(array: Array) -> Array:
    """A view that cannot be written through, contiguous and aligned, of numpy's own array type.

    A memory map is another type to Numba. An array that is not aligned is none: compiled code takes it for aligned.
    """
    view = np.require(np.asarray(array), requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def loss_codes(loss: Loss, link: str, y: Array) -> dict[str, Any]:
    """A loss as the plan's header holds it, for outputs with the activation ``link`` and targets y."""
    convention = layout.SCIKIT_LEARN if loss.convention == "scikit-learn" else layout.PYTORCH
    code, soft = layout.LOSSES[loss.name], False
    if link in OUTPUTS.get(loss.name, ()):
        code = layout.OUTPUT_LOSSES[loss.name]
    elif loss.name in CROSS_ENTROPIES:
        shares = loss.name == "softmax_cross_entropy" and y.dtype != np.intp
        # class weights of labels alone are weights of samples
        soft = loss.label_smoothing > 0 or shares or (loss.class_weight is not None and not _of_labels(loss, y))
    return {"loss": code, "loss_convention": convention, "soft_targets": int(soft), "n_blocks": len(loss.blocks)}


def check_sizes(y: Array, sample_weight: Array | None, loss: Loss, n_rows: int, n_outputs: int) -> None:
    """Raise a ValueError where compiled code, which takes sizes from X and the network, would read beyond an array."""
    if y.dtype == np.intp and loss.name == "softmax_cross_entropy":
        expected: tuple[int, ...] = (n_rows, len(loss.blocks)) if loss.blocks else (n_rows,)
    else:
        expected = (n_rows, n_outputs)
    for name, array, shape in (("y", y, expected), ("sample_weight", sample_weight, (n_rows,))):
        if array is not None and (array.size != math.prod(shape) or len(array) != n_rows):
            raise ValueError(
                f"{name} must have the shape {shape} for X of {n_rows} rows, a network of {n_outputs} outputs and the "
                f"loss {loss.name!r}, got {array.shape}: give sessions what Loss.check_targets returns"
            )


def as_targets(
    y: Array, sample_weight: Array | None, real: Any, loss: Loss, codes: dict[str, Any], n_rows: int, n_outputs: int
) -> layout.Targets:
    """Targets, weights and the loss's own numbers as kernels take them: flat, and empty where there are none.

    Raises
    ------
    ValueError
        For a y or sample weights of another shape than n_rows, n_outputs and the loss ask for.
    """
    check_sizes(y, sample_weight, loss, n_rows, n_outputs)
    labels, values = np.zeros(0, np.intp), np.zeros(0, real)
    if y.dtype == np.intp:
        labels = y.reshape(-1)
    else:
        values = y.reshape(-1)
    if codes["soft_targets"] and loss.class_weight is not None and _of_labels(loss, y):
        # the loss of a row has the weights of all classes in it, and its part in the mean that of its own
        values = np.ones(len(labels), real) if sample_weight is None else np.asarray(sample_weight, real)
    parts = row_weights(loss, y, sample_weight)
    weights = np.zeros(0, real) if parts is None else np.asarray(parts, real)
    ends = np.cumsum([0, *loss.blocks], dtype=np.intp) if loss.blocks else np.zeros(0, np.intp)
    numbers = np.zeros(0, real)
    if codes["soft_targets"] or codes["loss"] in layout.LOSS_FEATURES:
        numbers = coefficients(loss, n_outputs).astype(real)
    return layout.Targets(*(read_only(array) for array in (labels, values, weights, ends, numbers)))


def row_weights(loss: Loss, y: Array, sample_weight: Array | None) -> Array | None:
    """What each row counts for in the mean that a loss is: its sample weight, times that of its class for labels.

    None where every row counts as one.
    """
    if loss.class_weight is None or not _of_labels(loss, y):
        return sample_weight
    by_class = np.asarray(loss.class_weight)[y]
    return by_class if sample_weight is None else by_class.astype(sample_weight.dtype) * sample_weight


def too_few_rows(weights: Array) -> bool:
    """Whether rows with these weights are worth fewer than 2, so that a batch norm finds no variance in any batch."""
    return bool(max(weights.sum(dtype=float), np.count_nonzero(weights)) < 2)


def coefficients(loss: Loss, n_outputs: int) -> Array:
    """``Targets.coefficients`` of a loss that has some."""
    if loss.name == "softmax_cross_entropy":
        weights = np.ones(n_outputs) if loss.class_weight is None else np.asarray(loss.class_weight)
        return np.concatenate([[loss.label_smoothing], weights])
    if loss.name == "sigmoid_cross_entropy":
        pairs = np.ones(2) if loss.class_weight is None else np.asarray(loss.class_weight)
        return np.concatenate([[loss.label_smoothing], np.broadcast_to(pairs, (n_outputs, 2)).T.reshape(-1)])
    if loss.name == "quantile":
        return np.broadcast_to(np.asarray(loss.level, float), (n_outputs,))
    return np.array([loss.delta] if loss.name == "huber" else [], float)


def _of_labels(loss: Loss, y: Array) -> bool:
    """Whether targets are one label of a softmax each."""
    return loss.name == "softmax_cross_entropy" and y.dtype == np.intp
