"""Schedules that are one formula of the count."""

from __future__ import annotations

from dataclasses import dataclass

from fastbp._validation import one_of, whole_number
from fastbp.schedules._base import UNITS, Schedule, numbers


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate all the time.

    Parameters
    ----------
    rate : float
        Above 0.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    Examples
    --------
    >>> from fastbp.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    rate: float

    def __post_init__(self) -> None:
        numbers(self, "rate", positive=True)

    @property
    def per(self) -> str:
        return "epoch"

    def __call__(self, count: int, total: int | None = None) -> float:
        return self.rate


@dataclass(frozen=True)
class Step(Schedule):
    """A staircase: rate factor^(n // every) after n epochs, PyTorch's ``StepLR``.

    Parameters
    ----------
    rate : float
        The first one, above 0.
    every : int
        Epochs of a stair.
    factor : float, default=0.1
        Above 0.
    per : {"epoch", "step"}, default="epoch"
        Whether n and ``every`` count epochs or steps.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    Examples
    --------
    >>> from fastbp.schedules import Step
    >>> [Step(1.0, every=2, factor=0.5)(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    rate: float
    every: int
    factor: float = 0.1
    per: str = "epoch"

    def __post_init__(self) -> None:
        numbers(self, "rate", "factor", positive=True)
        object.__setattr__(self, "every", whole_number(self.every, "every"))
        object.__setattr__(self, "per", one_of(self.per, UNITS, "per"))

    def __call__(self, count: int, total: int | None = None) -> float:
        return self.rate * self.factor ** (count // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """rate factor^n after n epochs, PyTorch's ``ExponentialLR``.

    Parameters
    ----------
    rate : float
        The first one, above 0.
    factor : float, default=0.95
        Above 0.
    per : {"epoch", "step"}, default="epoch"
        Whether n counts epochs or steps.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    Examples
    --------
    >>> from fastbp.schedules import Exponential
    >>> [Exponential(1.0, 0.5)(epoch) for epoch in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    rate: float
    factor: float = 0.95
    per: str = "epoch"

    def __post_init__(self) -> None:
        numbers(self, "rate", "factor", positive=True)
        object.__setattr__(self, "per", one_of(self.per, UNITS, "per"))

    def __call__(self, count: int, total: int | None = None) -> float:
        return self.rate * self.factor**count


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """rate / t^power in step t = 1, 2, ..., scikit-learn's ``"invscaling"``.

    scikit-learn itself, and with it :class:`fastbp.MLPClassifier`, takes for t the rows of the epochs so far, plus 1.

    Parameters
    ----------
    rate : float
        The first one, above 0.
    power : float, default=0.5
        At least 0.
    per : {"step", "epoch"}, default="step"
        Whether t counts steps or epochs.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    Examples
    --------
    >>> from fastbp.schedules import InverseScaling
    >>> [InverseScaling(1.0)(count) for count in (0, 3, 99)]
    [1.0, 0.5, 0.1]
    """

    rate: float
    power: float = 0.5
    per: str = "step"

    def __post_init__(self) -> None:
        numbers(self, "rate", positive=True)
        numbers(self, "power")
        object.__setattr__(self, "per", one_of(self.per, UNITS, "per"))

    def __call__(self, count: int, total: int | None = None) -> float:
        return float(self.rate / (1 + count) ** self.power)
