"""Gradients held against central differences, with the likely cause where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastbp._arrays import NUMBERS, limited, readable
from fastbp._causes import Evidence, likely_cause
from fastbp._probe import Probe
from fastbp._validation import Array, as_random_state, whole_number
from fastbp._verify import relative_difference
from fastbp.backends import Inspection
from fastbp.losses import Loss
from fastbp.model import Sequential

# A larger relative error is taken for a fault, and its cause looked for. Central differences give 1e-9 to 1e-7, a
# gradient computed in float32 1e-6; faults of formulas give far more.
TOLERANCE = 1e-5
STEP = 1e-6  # about the cube root of the precision, where rounding and the third derivative weigh the same
SHRINK = (1.0, 0.1, 0.01)
# Two values of the loss differ by its rounding, some 1e-16 of it, over 2 STEP. What is below that is zero.
NOISE = 16 * float(np.finfo(np.float64).eps) / (2 * STEP)
KINKED_ACTIVATIONS = ("relu", "leaky_relu", "selu")  # at Z = 0, where their output is 0 too
KINKED_LOSSES = ("mean_absolute_error", "quantile")  # where prediction and target meet


class Entry(NamedTuple):
    """One entry of one array: its place, the gradient, and the central difference."""

    array: str
    place: tuple[int, ...]
    gradient: float
    numeric: float


@dataclass(frozen=True)
class GradientCheck:
    """What :func:`gradient_check` found; as a string, one line an array.

    Attributes
    ----------
    relative_errors : dict of str to float
        max |g - numeric| / max |numeric| for each array by its name (W1, b1, gamma1, ...), over the entries that were
        checked; infinite for a gradient of another shape.
    worst : dict of str to tuple of int
        Index of the worst element of each array; empty for a gradient of another shape.
    n_skipped : int
        Elements beside a kink at every step tried: a difference says nothing there.
    causes : dict of str to str
        What is likely to be wrong, for each array whose error is above 1e-5.
    gradients, numeric : dict of str to ndarray
        Both sides of the comparison; NaN in ``numeric`` where nothing was compared.
    """

    relative_errors: dict[str, float]
    worst: dict[str, tuple[int, ...]]
    n_skipped: int
    causes: dict[str, str] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    numeric: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def max_relative_error(self) -> float:
        """The largest of ``relative_errors``; NaN where one of them is."""
        return float(np.max(list(self.relative_errors.values())))

    @property
    def worst_entry(self) -> Entry:
        """The worst entry of the array with the largest error."""
        name = max(self.relative_errors, key=lambda n: (np.isnan(self.relative_errors[n]), self.relative_errors[n]))
        return self.entry(name)

    @property
    def n_checked(self) -> int:
        """Elements that were compared."""
        return sum(int(np.isfinite(array).sum()) for array in self.numeric.values())

    def entry(self, name: str) -> Entry:
        """The worst entry of one array; NaN for its gradient where that has another shape."""
        index = self.worst[name]
        whole = index == () and self.numeric[name].ndim > 0
        pair = [np.nan if whole else float(side[name][index]) for side in (self.gradients, self.numeric)]
        return Entry(name, index, *pair)

    def __str__(self) -> str:
        lines = []
        for name, error in self.relative_errors.items():
            _, index, given, numeric = self.entry(name)
            if self.worst[name] == ():
                lines.append(f"{name}: shape {self.gradients[name].shape}, expected {self.numeric[name].shape}")
            else:
                lines.append(f"{name}: {error:.1e} at {index}: {given:.6g}, by differences {numeric:.6g}")
            if name in self.causes:
                lines.append(f"    likely cause: {self.causes[name]}")
        return "\n".join([*lines, f"{self.n_checked} elements checked, {self.n_skipped} elements skipped"])


def gradient_check(
    model: Sequential,
    loss: str | Loss,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    backend: str = "cpu",
    gradients: Iterable[Any] | None = None,
    max_entries: int | None = None,
    random_state: Any = 0,
) -> GradientCheck:
    """Compare the gradient of a loss with central differences, in float64, and name the likely cause of a difference.

    (L(w + h) - L(w - h)) / 2h with h = 1e-6 max(1, \\|w\\|), for each parameter. Where the step crosses a kink of an
    activation or of the loss, smaller ones are tried, down to h / 100. The loss is that of training: with its masks and
    the statistics of its batch, where layers have such. An array whose gradients are all below the rounding of the
    differences (some 2e-9 of the loss) is one of zeros.

    Parameters
    ----------
    model : Sequential
        Computed in float64, whatever its dtype; it stays as it is.
    loss : str or Loss
    X, y, sample_weight
        As in :meth:`fastbp.Trainer.fit`; a few rows are enough.
    backend : {"cpu", "reference"}, default="cpu"
        Whose gradient, and whose loss.
    gradients : sequence of array-like, optional
        Your own, to be checked in place of the backend's: in the order of ``model.get_weights()``, averaged over the
        rows as the loss is.
    max_entries : int, optional
        Of each array at most so many entries are checked, drawn with ``random_state``; all of them where it is None.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot be used.

    Notes
    -----
    Causes that are recognised: a mean over rows or outputs that is missing or taken twice, another constant factor, a
    wrong sign; a transposed or reshaped matrix; a bias that is not summed over the rows; the gradient of another array;
    a penalty that is not in the loss; entries of one row or column alone. In networks of dense layers also, for one
    layer or all of them: the derivative of an activation left out, taken at its output where its input is meant, or
    taken by the formula for its output at its input, or of a link that the loss has in it already; inputs before their
    activation; a matrix where its transpose is meant. An array is said to have a cause if mending that would make the
    array agree.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> model = fastbp.Sequential([fastbp.Dense(5, "tanh"), fastbp.Dense(3)], n_features=4, random_state=0)
    >>> X, y = np.random.default_rng(0).normal(size=(6, 4)), [0, 1, 2, 0, 1, 2]
    >>> fastbp.gradient_check(model, "softmax_cross_entropy", X, y).max_relative_error < 1e-6
    True

    A backward pass of one's own that sums over the rows where it should average:

    >>> _, right = fastbp.Trainer(model, loss="softmax_cross_entropy").loss_and_gradients(X, y)
    >>> check = fastbp.gradient_check(model, "softmax_cross_entropy", X, y, gradients=[6 * g for g in right])
    >>> check.causes["W1"]
    '6 times too large: the mean over the 6 rows (1/n) is missing'
    """
    if max_entries is not None:
        max_entries = whole_number(max_entries, "max_entries")
    rng = as_random_state(random_state)
    probe = Probe(model, loss, X, y, sample_weight, backend=backend, dtype=np.float64)
    weights = probe.model.get_weights()
    names = probe.model._described.names
    found = probe.inspect()
    given = found.gradients if gradients is None else _checked(gradients, weights, names)
    differences = _Differences(probe, weights, found)
    numeric = [differences.of_array(k, _entries(w, max_entries, rng)) for k, w in enumerate(weights)]
    noise = NOISE * max(abs(found.loss), differences.largest)
    errors, worst = {}, {}
    for name, g, n in zip(names, given, numeric, strict=True):
        errors[name], worst[name] = _compared(g, n, noise)
    evidence = Evidence(probe, names, given, numeric, found)
    causes = {
        name: likely_cause(evidence, k, errors[name]) for k, name in enumerate(names) if not errors[name] <= TOLERANCE
    }
    return GradientCheck(
        errors,
        worst,
        differences.n_skipped,
        causes,
        dict(zip(names, given, strict=True)),
        dict(zip(names, numeric, strict=True)),
    )


def _checked(gradients: Iterable[Any], weights: Sequence[Array], names: Sequence[str]) -> list[Array]:
    """A user's gradients as arrays of float64; their shapes are for the check to judge."""
    expected = f"gradients must be a sequence of {len(weights)} arrays ({', '.join(names)})"
    given = limited(gradients, expected, most=len(weights) + 1)
    if len(given) != len(weights):
        raise ValueError(f"{expected}, as model.get_weights() gives them; got {len(given)}")
    arrays = []
    for name, value in zip(names, given, strict=True):
        value = readable(value, f"gradients: that of {name}", NUMBERS)
        try:
            arrays.append(np.array(value, np.float64))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"gradients: that of {name} must be an array of numbers: {error}") from None
    return arrays


def _entries(array: Array, max_entries: int | None, rng: np.random.RandomState) -> list[tuple[int, ...]]:
    """Indices of the entries to be checked."""
    flat = np.arange(array.size)
    if max_entries is not None and max_entries < array.size:
        flat = np.sort(rng.choice(array.size, max_entries, replace=False))
    return [tuple(int(i) for i in np.unravel_index(k, array.shape)) for k in flat]


def _compared(gradient: Array, numeric: Array, noise: float) -> tuple[float, tuple[int, ...]]:
    """Relative error of an array, and where it is worst."""
    if gradient.shape != numeric.shape:
        return float("inf"), ()
    checked = ~np.isnan(numeric)
    a, b = gradient[checked], numeric[checked]
    difference = np.where(checked, np.abs(gradient - numeric), 0.0)
    place = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    if np.abs(a).max(initial=0) <= noise and np.abs(b).max(initial=0) <= noise:
        return 0.0, place
    return relative_difference(a, b), place


class _Differences:
    """Central differences of the loss, stepping around kinks."""

    def __init__(self, probe: Probe, weights: list[Array], found: Inspection) -> None:
        self._probe, self._weights = probe, weights
        names = probe.model._described.activations
        self._kinked = [k for k, name in enumerate(names) if name in KINKED_ACTIVATIONS]
        self._watches = bool(self._kinked) or probe.loss.name in (*KINKED_LOSSES, "huber")
        self.n_skipped, self.largest = 0, abs(found.loss)

    def of_array(self, k: int, entries: Sequence[tuple[int, ...]]) -> Array:
        """The derivative for some entries of the k-th array; NaN elsewhere, and beside a kink."""
        array, numeric = self._weights[k], np.full(self._weights[k].shape, np.nan)
        for index in entries:
            before = array[index]
            for shrink in SHRINK:
                h = STEP * max(1.0, abs(float(before))) * shrink
                low, high = before - h, before + h
                array[index] = low
                below, one_side = self._value()
                array[index] = high
                above, other_side = self._value()
                if one_side == other_side:
                    numeric[index] = (above - below) / (high - low)
                    break
            else:
                self.n_skipped += 1
            array[index] = before
        self._probe.set_parameters(self._weights)
        return numeric

    def _value(self) -> tuple[float, bytes]:
        """The loss, and on which side of each kink the network is."""
        self._probe.set_parameters(self._weights)
        if not self._watches:
            value, sides = self._probe.value(), b""
        else:
            found = self._probe.inspect()
            value, sides = found.loss, self._sides(found)
        self.largest = max(self.largest, abs(value))
        return value, sides

    def _sides(self, found: Inspection) -> bytes:
        kinks = [found.outputs[k] for k in self._kinked]  # what is 0 at a kink
        loss, y = self._probe.loss, self._probe.y
        if loss.name in KINKED_LOSSES:
            kinks.append(found.outputs[-1] - y)
        elif loss.name == "huber":
            kinks.append(np.abs(found.outputs[-1] - y) - getattr(loss, "delta", 1.0))
        return b"".join(np.packbits([kink > 0, kink < 0]).tobytes() for kink in kinks)
