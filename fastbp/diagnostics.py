"""Checks of a network's gradients: against central differences, and between backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp._validation import Array, one_of, shown
from fastbp._verify import parameter_names, relative_difference
from fastbp.backends import BACKENDS
from fastbp.kernels.layout import ACTIVATIONS
from fastbp.kernels.reference.activations import activation_forward
from fastbp.kernels.reference.rectifiers import rectifier_forward
from fastbp.losses import Loss, as_loss
from fastbp.model import Sequential, as_sequential
from fastbp.optimizers import SGD
from fastbp.trainer import Trainer

_KINKED = {"relu", "leaky_relu", "selu"}  # activations whose derivative jumps at 0
_FORWARD: tuple[Callable[..., None], ...] = activation_forward, rectifier_forward  # each leaves the other's alone


@dataclass(frozen=True)
class GradientCheck:
    """What :func:`gradient_check` found.

    Attributes
    ----------
    relative_errors : dict of str to float
        max |g - numeric| / max |numeric| for each of W1, b1, W2, b2, ...
    worst : dict of str to tuple of int
        Index of the worst element of each array.
    n_skipped : int
        Elements beside a kink of relu, leaky relu or selu at every step tried: a difference says nothing there.
    """

    relative_errors: dict[str, float]
    worst: dict[str, tuple[int, ...]]
    n_skipped: int

    @property
    def max_relative_error(self) -> float:
        """The largest of ``relative_errors``."""
        return max(self.relative_errors.values())

    def __str__(self) -> str:
        lines = [f"{name}: {error:.1e} at {self.worst[name]}" for name, error in self.relative_errors.items()]
        return "\n".join([*lines, f"{self.n_skipped} elements skipped"])


@dataclass(frozen=True)
class BackendComparison:
    """What :func:`compare_backends` found: largest relative differences to the first backend.

    Attributes
    ----------
    backends : tuple of str
    relative_differences : dict of str to float
        For ``loss`` and the gradient of each of W1, b1, W2, b2, ...: max |a - b| / max |b|, over the backends.
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


def gradient_check(
    model: Sequential, loss: str | Loss, X: Any, y: Any, *, sample_weight: Any = None, backend: str = "cpu"
) -> GradientCheck:
    """Compare the gradient of a loss with central differences, in float64.

    (L(w + h) - L(w - h)) / 2h with h = 1e-6 max(1, \\|w\\|), for each parameter. Where the step crosses a kink of relu,
    smaller ones are tried, down to h / 100.

    Parameters
    ----------
    model : Sequential
        Computed in float64, whatever its dtype; it stays as it is.
    loss : str or Loss
    X, y, sample_weight
        As in :meth:`fastbp.Trainer.fit`; a few rows are enough.
    backend : {"cpu", "reference"}, default="cpu"
        Whose gradient, and whose loss.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot be used.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> model = fastbp.Sequential([fastbp.Dense(5, "tanh"), fastbp.Dense(3)], n_features=4, random_state=0)
    >>> X, y = np.random.default_rng(0).normal(size=(6, 4)), [0, 1, 2, 0, 1, 2]
    >>> fastbp.gradient_check(model, "softmax_cross_entropy", X, y).max_relative_error < 1e-6
    True
    """
    weights = [w.astype(np.float64) for w in as_sequential(model).get_weights()]
    # The scikit-learn convention reports another function than the one whose derivative the gradient is
    exact = replace(as_loss(loss), convention="exact")
    trainer = Trainer(Sequential._with_weights(model.layers, weights), loss=exact, optimizer=SGD(), backend=backend)
    X, y, sample_weight = trainer._checked(X, y, sample_weight)
    session = trainer._open(X, y, sample_weight, batch_size=X.shape[0])
    _, gradients = session.loss_and_gradients(np.arange(X.shape[0]))
    activations = [layer.activation for layer in model.layers]
    loss_now = session.evaluation(X, y, sample_weight)

    def value() -> float:
        session.set_parameters(weights)
        return loss_now()

    errors, worst, skipped = {}, {}, 0
    for name, array, gradient in zip(parameter_names(len(weights)), weights, gradients, strict=True):
        numeric = gradient.copy()
        for index in np.ndindex(array.shape):
            before = array[index]
            for shrink in (1.0, 0.1, 0.01):
                h = 1e-6 * max(1.0, abs(float(before))) * shrink
                sides = []
                for w in (before - h, before + h):
                    array[index] = w
                    sides.append((w, value(), _kink_sides(activations, weights, X)))
                array[index] = before
                (low, below, one), (high, above, other) = sides
                if one == other:
                    numeric[index] = (above - below) / (high - low)
                    break
            else:
                skipped += 1
        difference = np.abs(gradient - numeric)
        errors[name] = relative_difference(gradient, numeric)
        worst[name] = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    return GradientCheck(errors, worst, skipped)


def _kink_sides(activations: Sequence[str], weights: Sequence[Array], X: Array) -> bytes:
    """On which side of its kink each unit with one is, as bits; nothing for a network without kinks."""
    if not _KINKED.intersection(activations):
        return b""
    A, sides = X, b""
    for activation, W, b in zip(activations, weights[::2], weights[1::2], strict=True):
        A = A @ W + b
        if activation in _KINKED:
            sides += np.sign(A).astype(np.int8).tobytes()
        for forward in _FORWARD:
            forward(A, ACTIVATIONS[activation])
        if activation == "relu":
            A = np.maximum(A, 0)
    return sides


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
    try:
        names = () if isinstance(backends, str) else tuple(backends)
    except TypeError:
        raise TypeError(f"{expected}, got {shown(backends)}") from None
    if len(names) < 2:
        raise ValueError(f"{expected}, got {shown(backends)}")
    results = []
    for name in names:
        one_of(name, BACKENDS, "backends")
        trainer = Trainer(
            Sequential._with_weights(model.layers, model.get_weights()), loss=loss, optimizer=SGD(), backend=name
        )
        results.append(trainer.loss_and_gradients(X, y, sample_weight))
    (first_loss, first_gradients), *others = results
    differences = {"loss": max(relative_difference(np.array(loss), np.array(first_loss)) for loss, _ in others)}
    for k, name in enumerate(parameter_names(len(first_gradients))):
        differences[name] = max(relative_difference(g[k], first_gradients[k]) for _, g in others)
    return BackendComparison(names, differences)
