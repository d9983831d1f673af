"""What may stand for a learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastbp._validation import real_number
from fastbp.schedules._base import Schedule
from fastbp.schedules._plateau import ReduceOnPlateau

LearningRate = float | Schedule | ReduceOnPlateau | Callable[[int], float]


def check_learning_rate(value: Any) -> None:
    """Raise a TypeError or ValueError for what can be no optimizer's ``learning_rate``.

    >>> check_learning_rate("fast")
    Traceback (most recent call last):
        ...
    TypeError: learning_rate must be a number above 0, got 'fast'; or one of fastbp.schedules, or a function of the step
    """
    if isinstance(value, type):
        raise TypeError(
            f"learning_rate must be a schedule, got the class {value.__name__}: {value.__name__}(...) makes one of it"
        )
    if is_scheduled(value):
        return
    try:
        real_number(value, "learning_rate", positive=True)
    except TypeError as error:
        raise TypeError(f"{error}; or one of fastbp.schedules, or a function of the step") from None


def is_scheduled(learning_rate: Any) -> bool:
    """Whether this is a schedule or another function, and no number.

    >>> is_scheduled(0.1), is_scheduled(ReduceOnPlateau(0.1)), is_scheduled(lambda step: 0.1 / (step + 1))
    (False, True, True)
    """
    return isinstance(learning_rate, Schedule | ReduceOnPlateau) or callable(learning_rate)
