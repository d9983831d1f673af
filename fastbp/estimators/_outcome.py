"""Whether what a training has ended with is a model."""

from __future__ import annotations

from typing import Any

from fastbp._overflow import finite, may_overflow
from fastbp.estimators._rows import Rows
from fastbp.estimators._validation import predictor_of
from fastbp.model import Sequential

CURE = (
    "The input data may contain large values and need to be preprocessed: scale X and y to about 1 (StandardScaler, "
    "for example), or lower learning_rate_init."
)


def check_outcome(
    estimator: Any, model: Sequential, state: dict[str, Any], rows: Rows, held_out: Rows | None, *, partial: bool
) -> None:
    """Raise a ValueError where a weight is not finite, or an output for the rows of the training or of the validation.

    Where the last losses are finite, and the weights so small that outputs cannot overflow, nothing is predicted. The
    losses alone do not tell: they are those of before the last update. e^z overflows so early that it is looked at each
    time, but not in ``partial_fit``, whose single epoch takes about three times as long as the prediction.
    """
    losses = [state["loss_"], *(state["validation_loss_curve_"] or [])[-1:]]
    if finite(losses) and not may_overflow(model._network, model._weights, exp=not partial):
        return
    if not all(map(finite, model._weights)):
        raise ValueError(f"Solver produced non-finite parameter weights. {CURE}")
    for name, part in (("X", rows), ("X_val", held_out)):
        if part is not None and not finite(predictor_of(estimator, model, part.X)()(model._weights)):
            largest = max(float(abs(array).max()) for array in model._weights)
            raise ValueError(
                f"Solver produced parameter weights with which outputs for {name} are infinite or NaN; the largest is "
                f"{largest:.3g}. {CURE}"
            )
