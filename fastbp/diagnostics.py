"""Checks of a network's gradients: against central differences, between backends, and how they flow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp._arrays import limited
from fastbp._gradient_check import Entry, GradientCheck, gradient_check
from fastbp._gradient_flow import Finding, FlowOfGradients, gradient_flow
from fastbp._validation import one_of
from fastbp._verify import gradient_differences, relative_difference
from fastbp._words import shown
from fastbp.backends import BACKENDS
from fastbp.losses import Loss
from fastbp.model import Sequential, as_sequential
from fastbp.optimizers import SGD
from fastbp.trainer import Trainer

__all__ = [
    "BackendComparison",
    "Entry",
    "Finding",
    "FlowOfGradients",
    "GradientCheck",
    "compare_backends",
    "gradient_check",
    "gradient_flow",
]


@dataclass(frozen=True)
class BackendComparison:
    """What :func:`compare_backends` found: largest relative differences to the first backend.

    Attributes
    ----------
    backends : tuple of str
    relative_differences : dict of str to float
        For ``loss`` and the gradient of each of W1, b1, W2, b2, ...: max |a - b| / max |b|, over the backends. The
        gradient of a bias that a batch norm subtracts again is 0 but for rounding: it is held against the largest
        element of its weights' gradient.
    """

    backends: tuple[str, ...]
    relative_differences: dict[str, float]

    @property
    def max_relative_difference(self) -> float:
        """The largest of ``relative_differences``."""
        return max(self.relative_differences.values())

    def __str__(self) -> str:
        lines = [f"{name}: {difference:.1e}" for name, difference in self.relative_differences.items()]
        return "\n".join([f"{' and '.join(self.backends[1:])} against {self.backends[0]}", *lines])


def compare_backends(
    model: Sequential,
    loss: str | Loss,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    backends: Iterable[str] = ("reference", "cpu"),
) -> BackendComparison:
    """Compare loss and gradients of several backends with those of the first one, in the model's dtype.

    Parameters
    ----------
    model : Sequential
        It stays as it is.
    loss : str or Loss
    X, y, sample_weight
        As in :meth:`fastbp.Trainer.fit`; all rows are one batch.
    backends : sequence of str, default=("reference", "cpu")
        At least two.

    Returns
    -------
    BackendComparison

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot be used.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> model = fastbp.Sequential([fastbp.Dense(5, "relu"), fastbp.Dense(1)], n_features=4, random_state=0)
    >>> X = np.random.default_rng(0).normal(size=(6, 4))
    >>> fastbp.compare_backends(model, "mean_squared_error", X, X[:, 0]).max_relative_difference < 1e-5
    True
    """
    model, expected = as_sequential(model), f"backends must name at least two of {', '.join(map(repr, BACKENDS))}"
    given = () if isinstance(backends, str) else limited(backends, expected, most=100)
    if len(given) < 2:
        raise ValueError(f"{expected}, got {shown(backends)}")
    names = tuple(one_of(name, BACKENDS, "backends") for name in given)
    results = []
    for name in names:
        copy = Sequential._with_weights(model.layers, model.get_weights())
        trainer = Trainer(copy, loss=loss, optimizer=SGD(), backend=name, random_state=0)  # the same masks for all
        results.append(trainer.loss_and_gradients(X, y, sample_weight))
    (first_loss, first_gradients), *others = results
    differences = {"loss": max(relative_difference(np.array(loss), np.array(first_loss)) for loss, _ in others)}
    found = [gradient_differences(model._described, gradients, first_gradients) for _, gradients in others]
    differences |= {name: max(each[name] for each in found) for name in model._described.names}
    return BackendComparison(names, differences)
