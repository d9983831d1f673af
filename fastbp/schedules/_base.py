"""What schedules have in common, and what may stand for a learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from fastbp._validation import real_number

UNITS = ("step", "epoch")


class Schedule(ABC):
    """Base class of schedules whose rate follows from a count.

    Attributes
    ----------
    per : {"step", "epoch"}
        What is counted.
    needs_total : bool
        Whether the length of the training decides.
    """

    @property
    def per(self) -> str:
        return "step"

    @property
    def needs_total(self) -> bool:
        return False

    @abstractmethod
    def __call__(self, count: int, total: int | None = None) -> float:
        """The rate after ``count`` steps (or epochs), of ``total`` where :attr:`needs_total`."""

    def check_total(self, total: int) -> None:  # noqa: B027 (most schedules go with any length)
        """Raise a ValueError where a training of ``total`` steps (or epochs) is too short for the schedule."""


def numbers(schedule: Any, *names: str, positive: bool = False) -> None:
    """Check fields as :func:`fastbp._validation.real_number` does, and keep them as floats."""
    for name in names:
        object.__setattr__(schedule, name, real_number(getattr(schedule, name), name, positive=positive))
