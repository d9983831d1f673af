"""What is likely to be wrong with a gradient: each cause is tried, and named where mending it makes the array agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastbp._backward import Variant, variants
from fastbp._probe import Probe
from fastbp._validation import Array
from fastbp.backends import Inspection

# A cause explains an array if what is left is at most so much of the array, and a small part of what was wrong: float32
# leaves 1e-6, and an accident of numbers more than this
LEFT_OF_ARRAY, LEFT_OF_ERROR = 1e-4, 0.02


@dataclass(frozen=True)
class Evidence:
    """All that a cause may be found by.

    Attributes
    ----------
    probe : Probe
    names : sequence of str
    given, numeric : sequence of ndarray
        Gradients in question and central differences, NaN where there is none.
    found : Inspection
        What the network itself computes.
    """

    probe: Probe
    names: Sequence[str]
    given: Sequence[Array]
    numeric: Sequence[Array]
    found: Inspection

    @cached_property
    def variants(self) -> list[Variant]:
        """Backward passes with one fault each; first those that explain most arrays."""

        def explained(variant: Variant) -> int:
            triples = zip(self.given, variant.gradients, self.numeric, strict=True)
            return sum(
                faulty is not None and given.shape == faulty.shape and _agrees(given, faulty, LEFT_OF_ARRAY, numeric)
                for given, faulty, numeric in triples
            )

        return sorted(variants(self.probe, self.found), key=explained, reverse=True)


def likely_cause(evidence: Evidence, k: int, error: float, noise: float = 0.0) -> str:
    """What is likely to be wrong with the k-th array, whose relative error is given, in words.

    ``noise`` is how much of the array the differences may be wrong by.
    """
    given, numeric = evidence.given[k], evidence.numeric[k]
    if not np.isfinite(given).all():
        return "it holds NaN or infinity: look for a division by zero, a logarithm of zero or an overflow"
    if given.shape != numeric.shape:
        return _of_shape(evidence, k)
    if not given.any():
        return "it is all zeros: it was never computed, or no delta arrives"
    allowed = min(max(LEFT_OF_ARRAY, noise), LEFT_OF_ERROR * error)
    for mended, cause in _mended(evidence, k):
        if _agrees(mended, numeric, allowed):
            return cause
    known = _factor(evidence, k, allowed, known=True)
    if known:
        return known
    for variant in evidence.variants:
        faulty = variant.gradients[k]
        if faulty is not None and _agrees(given, faulty, allowed, where=numeric):
            return variant.cause
    return (
        _penalty(evidence, k, allowed)
        or _other_array(evidence, k, allowed)
        or _factor(evidence, k, allowed, known=False)
        or _place(given, numeric, error)
        or "none that is recognised: not a shape, a sign, a constant factor or a derivative by itself"
    )


def _agrees(a: Array, b: Array, allowed: float, where: Array | None = None) -> bool:
    """Whether two arrays agree in what was checked: where the second, or ``where``, is no NaN."""
    checked = ~np.isnan(b if where is None else where)
    a, b = a[checked], b[checked]
    largest = np.abs(b).max(initial=0)
    return bool(largest > 0 and np.abs(a - b).max() <= allowed * largest)


def _mended(evidence: Evidence, k: int) -> Iterator[tuple[Array, str]]:
    """The gradient with one fault of its arrangement mended."""
    given = evidence.given[k]
    if given.ndim == 2:
        fan_in, fan_out = given.shape
        if fan_in == fan_out:
            yield given.T, "it is transposed: dW is A^T delta, of the shape (fan_in, fan_out), not delta^T A"
        elif min(given.shape) > 1:
            turned = given.reshape(fan_out, fan_in).T
            yield turned, "its entries are those of the transpose: it was reshaped where it should be transposed (.T)"
    else:
        delta = evidence.found.deltas[k // 2] if _is_dense(evidence) else None
        if delta is not None and delta.sum(axis=0).size > 1 and _constant(given):
            total = float(delta.sum())
            if abs(given[0] - total) <= LEFT_OF_ARRAY * abs(total):
                yield (
                    delta.sum(axis=0),
                    "it is summed over units as well as rows: db is the sum over rows alone (axis=0)",
                )


def _constant(array: Array) -> bool:
    return bool((array == array[0]).all())


def _is_dense(evidence: Evidence) -> bool:
    return not evidence.probe.model._described.operations


def _of_shape(evidence: Evidence, k: int) -> str:
    """What another shape comes from."""
    given, numeric = evidence.given[k], evidence.numeric[k]
    expected = f"the shape must be {numeric.shape}, got {given.shape}"
    if given.ndim == 2 and given.shape[::-1] == numeric.shape:
        agrees = _agrees(given.T, numeric, LEFT_OF_ARRAY)
        rest = "" if agrees else "; its entries differ as well"
        return f"it is transposed ({expected}): dW is A^T delta, not delta^T A{rest}"
    n_rows = evidence.probe.X.shape[0]
    if numeric.ndim == 1 and given.shape == (n_rows, numeric.size):
        for over, summed in (("sum", given.sum(axis=0)), ("mean", given.mean(axis=0))):
            if _agrees(summed, numeric, LEFT_OF_ARRAY):
                return f"the {over} over the rows is missing ({expected}): db = delta.{over}(axis=0)"
        return f"the sum or mean over the rows is missing ({expected}): db = delta.sum(axis=0)"
    if given.size == numeric.size and _agrees(given.reshape(numeric.shape), numeric, LEFT_OF_ARRAY):
        return f"only the shape is another one ({expected}): drop the axis that was kept (keepdims)"
    for other, name in enumerate(evidence.names):
        if evidence.numeric[other].shape == given.shape and _agrees(given, evidence.numeric[other], LEFT_OF_ARRAY):
            return f"it is the gradient of {name}: the order is {', '.join(evidence.names)}"
    return expected


def _factor(evidence: Evidence, k: int, allowed: float, *, known: bool) -> str:
    """A constant factor: one with a meaning, or any; the latter says nothing of an array of one entry."""
    given, numeric = evidence.given[k], evidence.numeric[k]
    checked = ~np.isnan(numeric)
    a, b = given[checked], numeric[checked]
    factor = float(a @ b) / float(b @ b) if b.any() else 0.0  # given = factor times right
    if factor == 0 or not _agrees(given / factor, numeric, allowed):
        return ""
    sign = "the sign is wrong" if factor < 0 else ""
    n, n_outputs = evidence.probe.weight, evidence.probe.model.n_outputs
    rows = f"{n:g} rows" if evidence.probe.sample_weight is None else f"sum of the weights, {n:g}"
    size, slack = abs(factor), max(allowed, 1e-6)
    if abs(size - 1) <= slack:
        return (
            f"{sign}: the gradient points downhill where it should point uphill, w -= rate * gradient" if sign else ""
        )
    meanings = [
        (n, f"the mean over the {rows} (1/n) is missing"),
        (1 / n, f"the mean over the {rows} (1/n) is taken twice"),
        (n_outputs, f"the mean over the {n_outputs} outputs is missing, or the loss has it where yours has not"),
        (1 / n_outputs, f"a mean over the {n_outputs} outputs is taken that the loss has not"),
        (n * n_outputs, f"the mean over the {rows} and {n_outputs} outputs is missing"),
        (1 / (n * n_outputs), f"the mean over the {rows} and {n_outputs} outputs is taken twice"),
        (2.0, "a factor 1/2 of the loss is missing"),
        (0.5, "the factor 2 from the derivative of a square is missing"),
    ]
    fits = [meaning for value, meaning in meanings if value != 1 and abs(size - value) <= slack * value]
    if not fits and (known or a.size == 1):
        return ""
    times = f"{size:.6g} times too large" if size > 1 else f"{1 / size:.6g} times too small"
    said = " or ".join(dict.fromkeys(fits)) or "a constant factor in the loss or in a delta"
    return f"{times}: {said}" + (f"; and {sign}" if sign else "")


def _penalty(evidence: Evidence, k: int, allowed: float) -> str:
    """A multiple of the parameters themselves."""
    numeric, w = evidence.numeric[k], evidence.probe.model.get_weights()[k]
    checked = ~np.isnan(numeric)
    extra, w = (evidence.given[k] - numeric)[checked], w[checked]
    if w.size < 2 or not w.any():
        return ""
    factor = float(extra @ w) / float(w @ w)
    if np.abs(extra - factor * w).max() <= max(allowed, LEFT_OF_ERROR) * np.abs(extra).max():
        return f"{factor:.4g} times the parameters is in it: a penalty (weight decay) that is not in the loss"
    return ""


def _other_array(evidence: Evidence, k: int, allowed: float) -> str:
    """The gradient of an array of the same shape."""
    for other, name in enumerate(evidence.names):
        same = other != k and evidence.numeric[other].shape == evidence.given[k].shape
        if same and _agrees(evidence.given[k], evidence.numeric[other], allowed):
            return f"it is the gradient of {name}: the order is {', '.join(evidence.names)}"
    return ""


def _place(given: Array, numeric: Array, error: float) -> str:
    """Where the differences are, if that is one entry, row or column of a larger array."""
    difference = np.nan_to_num(np.abs(given - numeric))
    wrong = np.argwhere(difference > 0.01 * difference.max())
    if given.size < 4 or len(wrong) == 0:
        return ""
    only = "only {} is wrong: look at how indices are cut there"
    if len(wrong) == 1:
        return only.format(f"the entry {tuple(int(i) for i in wrong[0])}")
    if given.ndim == 2:
        for axis, what in ((0, "row {} (input {})"), (1, "column {} (unit {})")):
            places = np.unique(wrong[:, axis])
            if len(places) == 1 and given.shape[axis] > 1:
                return only.format(what.format(places[0], places[0]))
    return ""
