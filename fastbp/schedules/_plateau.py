"""The schedule that follows a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from fastbp._validation import one_of, real_number, whole_number
from fastbp.schedules._base import numbers

SMALLEST_CHANGE = 1e-8  # what would lower the rate by less is left out, as PyTorch does


class Plateau(NamedTuple):
    """Where a :class:`ReduceOnPlateau` stands: rate, best value, epochs without a better one, epochs of cooldown."""

    rate: float
    best: float
    n_bad: int = 0
    n_cooldown: int = 0


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Lower the rate when a loss has stopped to improve, by the rule of PyTorch's ``ReduceLROnPlateau``.

    It counts epochs. After each one the loss is compared with the best so far. When it has not been better for more
    than ``patience`` epochs, the rate is multiplied by ``factor``, and for ``cooldown`` epochs none is counted as bad.
    A change of less than 1e-8 is left out.

    Parameters
    ----------
    rate : float
        The first one, above 0.
    monitor : {"val_loss", "loss"}, default="val_loss"
        ``"val_loss"`` needs ``validation_data`` in ``fit``.
    mode : {"min", "max"}, default="min"
        Whether a smaller or a larger value is better.
    factor : float, default=0.1
        Above 0 and below 1.
    patience : int, default=10
        At least 0.
    threshold : float, default=1e-4
        What is better by less is not better; at least 0.
    threshold_mode : {"rel", "abs"}, default="rel"
        Whether that is a share of the best value, or a difference from it.
    cooldown : int, default=0
        At least 0.
    min_rate : float, default=0.0
        The rate goes no lower.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    Examples
    --------
    >>> from fastbp.schedules import ReduceOnPlateau
    >>> schedule = ReduceOnPlateau(1.0, "loss", factor=0.5, patience=1)
    >>> state = schedule.start()
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     state = schedule.after(state, loss)
    >>> state.rate
    0.5
    """

    rate: float
    monitor: str = "val_loss"
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_rate: float = 0.0

    def __post_init__(self) -> None:
        numbers(self, "rate", positive=True)
        object.__setattr__(self, "monitor", one_of(self.monitor, ("val_loss", "loss"), "monitor"))
        object.__setattr__(self, "mode", one_of(self.mode, ("min", "max"), "mode"))
        object.__setattr__(self, "factor", real_number(self.factor, "factor", below=1, positive=True))
        object.__setattr__(self, "patience", whole_number(self.patience, "patience", least=0))
        object.__setattr__(self, "cooldown", whole_number(self.cooldown, "cooldown", least=0))
        object.__setattr__(self, "threshold_mode", one_of(self.threshold_mode, ("rel", "abs"), "threshold_mode"))
        numbers(self, "threshold", "min_rate")
        if self.min_rate > self.rate:
            raise ValueError(f"min_rate must be at most the first rate, which is {self.rate}, got {self.min_rate}")

    def start(self) -> Plateau:
        """Where it stands before the first epoch."""
        return Plateau(self.rate, math.inf if self.mode == "min" else -math.inf)

    def after(self, state: Plateau, value: float) -> Plateau:
        """Where it stands after an epoch that ended with ``value``."""
        rate, best, n_bad, n_cooldown = state
        sign = 1 if self.mode == "min" else -1
        margin = self.threshold * best if self.threshold_mode == "rel" and math.isfinite(best) else self.threshold
        bar = best - sign * margin if math.isfinite(best) else best
        if sign * value < sign * bar:  # never of a NaN
            best, n_bad = value, 0
        else:
            n_bad += 1
        if n_cooldown > 0:
            n_bad, n_cooldown = 0, n_cooldown - 1
        if n_bad > self.patience:
            lower = max(rate * self.factor, self.min_rate)
            rate = lower if rate - lower > SMALLEST_CHANGE else rate
            n_bad, n_cooldown = 0, self.cooldown
        return Plateau(rate, best, n_bad, n_cooldown)
