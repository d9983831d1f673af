"""Gradients held against central differences, with the likely cause where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastbp._arrays import NUMBERS, limited, readable
from fastbp._causes import Evidence, likely_cause
from fastbp._noise import EPSILON, LONG_STEP, N_VALUES, SAFETY, extrapolated, noise_of
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
# Two values of the loss differ by its rounding, some 1e-16 of it, over 2 STEP. What is below that may be zero.
NOISE = 16 * EPSILON / (2 * STEP)
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
        checked, less what the noise of the differences explains; infinite for a gradient of another shape. Where all
        of ``numeric`` is 0, max |g| stands below the line.
    worst : dict of str to tuple of int
        Index of the worst element of each array; empty for a gradient of another shape.
    n_skipped : int
        Elements beside a kink at every step tried: a difference says nothing there.
    causes : dict of str to str
        What is likely to be wrong, for each array whose error is above 1e-5.
    gradients, numeric : dict of str to ndarray
        Both sides of the comparison; NaN in ``numeric`` where nothing was compared.
    noise : dict of str to float
        For each array, how much of max |numeric| the differences may be wrong by: smaller errors cannot be told. 0
        where plain differences agree with the gradient; 1 or more where they say nothing, see ``undecided``.
    """

    relative_errors: dict[str, float]
    worst: dict[str, tuple[int, ...]]
    n_skipped: int
    causes: dict[str, str] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    numeric: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    noise: dict[str, float] = field(default_factory=dict)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Arrays whose gradient is no larger than the noise of the differences: right or wrong, it cannot be told."""
        return tuple(name for name, noise in self.noise.items() if noise >= 1)

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
            if name in self.undecided:
                lines.append("    undecided: the differences are noise; check with weights that are less well trained")
            elif self.noise.get(name, 0) > TOLERANCE:
                lines.append(
                    f"    errors below {self.noise[name]:.1e} cannot be told from the noise of the differences"
                )
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
    the statistics of its batch, where layers have such.

    In a well-trained network the gradient may be smaller than the errors of such differences. Where they disagree with
    it by more than 1e-5, steps of 1e-4, 2e-4 and 4e-4 are taken as well and extrapolated, and the noise of the loss is
    measured; the error is then the part of the disagreement that neither explains. ``noise`` of the result says how
    large an error would not be seen, and ``undecided`` names the arrays of which nothing can be said.

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

    The noise is that of J. J. Moré, S. M. Wild, "Estimating computational noise", 2011, from differences of fourth to
    sixth order of 9 values of the loss; 12 of its standard deviations, and the spread of L. F. Richardson's
    extrapolation (1911), bound the error of a difference.

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
    errors, worst, noise = {}, {}, {}
    for k, (name, g) in enumerate(zip(names, given, strict=True)):
        errors[name], worst[name] = _compared(g, numeric[k])
        noise[name] = 0.0
        if differences.doubtful(g, numeric[k], errors[name]):
            numeric[k], bound = differences.refined(k, numeric[k])
            errors[name], worst[name], noise[name] = _compared_with_noise(g, numeric[k], bound)
    evidence = Evidence(probe, names, given, numeric, found)
    causes = {
        name: likely_cause(evidence, k, errors[name], noise[name])
        for k, name in enumerate(names)
        if not errors[name] <= TOLERANCE
    }
    return GradientCheck(
        errors,
        worst,
        differences.n_skipped,
        causes,
        dict(zip(names, given, strict=True)),
        dict(zip(names, numeric, strict=True)),
        noise,
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


def _compared(gradient: Array, numeric: Array) -> tuple[float, tuple[int, ...]]:
    """Relative error of an array, and where it is worst."""
    if gradient.shape != numeric.shape:
        return float("inf"), ()
    checked = ~np.isnan(numeric)
    a, b = gradient[checked], numeric[checked]
    difference = np.where(checked, np.abs(gradient - numeric), 0.0)
    place = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    return relative_difference(a, b), place


def _compared_with_noise(gradient: Array, numeric: Array, bound: Array) -> tuple[float, tuple[int, ...], float]:
    """Relative error that a bound of the noise does not explain, where it is worst, and the bound in the same units."""
    checked = ~np.isnan(numeric)
    difference = np.where(checked, np.abs(gradient - numeric), 0.0)
    beyond, largest = np.maximum(difference - bound, 0), float(np.abs(numeric[checked]).max())
    place = np.unravel_index(np.argmax(beyond if beyond.any() else difference), difference.shape)
    unit = largest if largest > 0 else float(np.abs(gradient[checked]).max())
    noise = float(bound.max()) / largest if largest > 0 else np.inf
    return float(beyond.max()) / unit, tuple(int(i) for i in place), noise


class _Differences:
    """Central differences of the loss, stepping around kinks."""

    def __init__(self, probe: Probe, weights: list[Array], found: Inspection) -> None:
        self._probe, self._weights = probe, weights
        names = probe.model._described.activations
        self._kinked = [k for k, name in enumerate(names) if name in KINKED_ACTIVATIONS]
        self._watches = bool(self._kinked) or probe.loss.name in (*KINKED_LOSSES, "huber")
        self._steps = [np.full(array.shape, np.nan) for array in weights]  # that of each difference
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
                    numeric[index], self._steps[k][index] = (above - below) / (high - low), h
                    break
            else:
                self.n_skipped += 1
            array[index] = before
        self._probe.set_parameters(self._weights)
        return numeric

    def doubtful(self, gradient: Array, numeric: Array, error: float) -> bool:
        """Whether differences of one step do not decide: they disagree, or both sides may be rounding."""
        if error == 0 or not np.isfinite(error):  # of other shapes, or with NaN or infinity
            return False
        of_gradient, of_numeric = np.abs(np.where(np.isnan(numeric), 0, [gradient, numeric])).reshape(2, -1).max(axis=1)
        return bool(error > TOLERANCE or of_numeric == 0 or max(of_gradient, of_numeric) <= NOISE * self.largest)

    def refined(self, k: int, numeric: Array) -> tuple[Array, Array]:
        """Derivatives of the k-th array from longer steps, and a bound of the error of each; 0 where there is none.

        Beside a kink the steps are shorter.
        """
        array, better, steps = self._weights[k], numeric.copy(), self._steps[k].copy()
        spread, noise = np.zeros(numeric.shape), np.zeros(numeric.shape)
        places = [tuple(int(i) for i in place) for place in np.argwhere(~np.isnan(numeric))]
        for index in places:
            long = LONG_STEP * max(1.0, abs(float(array[index])))
            for h in (*(long * shrink for shrink in SHRINK), steps[index] / (N_VALUES // 2)):
                values = self._along(array, index, h)
                if values is not None:
                    better[index], spread[index] = extrapolated(values, h)
                    noise[index], steps[index] = noise_of(values), h
                    break
        self._probe.set_parameters(self._weights)
        # so few values may agree by chance: those of other entries say what is usual
        usual = np.median([noise[index] for index in places])
        return better, np.nan_to_num(spread + SAFETY * np.maximum(noise, usual) / steps)

    def _along(self, array: Array, index: tuple[int, ...], h: float) -> Array | None:
        """The loss at the entry's value + j h, j = -4 .. 4; None where a kink lies between, or one is not finite."""
        before, found = array[index], {}
        reach = range(-(N_VALUES // 2), N_VALUES // 2 + 1)
        for j in sorted(reach, key=abs, reverse=True):  # a kink shows between the ends
            array[index] = before + j * h
            found[j] = self._value()
            if len({sides for _, sides in found.values()}) > 1:
                break
        array[index] = before
        values = np.array([found[j][0] for j in reach if j in found])
        one_side = len(values) == N_VALUES and len({sides for _, sides in found.values()}) == 1
        return values if one_side and np.isfinite(values).all() else None

    def _value(self) -> tuple[float, bytes]:
        """The loss, and on which side of each kink the network is."""
        self._probe.set_parameters(self._weights)
        if not self._watches:
            value, sides = self._probe.value(), b""
        else:
            found = self._probe.inspect()
            value, sides = found.loss, self._sides(found)
        if np.isfinite(value):
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
