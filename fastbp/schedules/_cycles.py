"""Schedules that rise and fall: the cosine with its warm-up and restarts, and one cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastbp._validation import flag, one_of, real_number, whole_number
from fastbp._words import shown
from fastbp.schedules._base import UNITS, Schedule, numbers


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``max_rate`` down to ``min_rate``, after a linear warm-up, with or without restarts.

    min_rate + (max_rate - min_rate) (1 + cos(pi n / T)) / 2 after n of T steps. PyTorch's ``CosineAnnealingLR`` for one
    cycle, ``CosineAnnealingWarmRestarts`` with ``cycle``; the warm-up is its ``LinearLR``. After the last step the
    rate stays at ``min_rate`` (PyTorch's rises again).

    Parameters
    ----------
    max_rate : float
        Above 0.
    total : int, optional
        Steps of warm-up and cosine together. None: those of the ``fit``, epochs times steps, for each ``fit`` anew.
    min_rate : float, default=0.0
        From 0 to max_rate.
    warmup : int or float, default=0
        Steps of the warm-up; a float below 1 is a share of the total, rounded, which leaves at least one step.
    warmup_start : float, optional
        Share of max_rate that the warm-up of w steps starts with. None: 1 / (w + 1), so that its steps are even and
        none has the rate 0.
    cycle : int, optional
        Steps of the first cycle, after which the cosine starts again from max_rate. None: a single one. It takes the
        place of ``total``: cycles follow each other without an end.
    cycle_factor : int, default=1
        Each cycle is so many times as long as the one before.
    per : {"step", "epoch"}, default="step"
        Whether all these counts are of steps or of epochs.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range, or values that do not go together.

    References
    ----------
    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Examples
    --------
    >>> from fastbp.schedules import Cosine
    >>> [round(Cosine(1.0, total=8, warmup=4)(step), 3) for step in range(9)]
    [0.2, 0.4, 0.6, 0.8, 1.0, 0.854, 0.5, 0.146, 0.0]
    >>> [round(Cosine(1.0, cycle=2, cycle_factor=2)(step), 3) for step in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    max_rate: float
    total: int | None = None
    min_rate: float = 0.0
    warmup: int | float = 0
    warmup_start: float | None = None
    cycle: int | None = None
    cycle_factor: int = 1
    per: str = "step"

    def __post_init__(self) -> None:
        numbers(self, "max_rate", positive=True)
        numbers(self, "min_rate")
        if self.min_rate > self.max_rate:
            raise ValueError(f"min_rate must be at most max_rate, which is {self.max_rate}, got {self.min_rate}")
        for name in ("total", "cycle"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(getattr(self, name), name))
        object.__setattr__(self, "cycle_factor", whole_number(self.cycle_factor, "cycle_factor"))
        object.__setattr__(self, "warmup", _as_warmup(self.warmup))
        if self.warmup_start is not None:
            numbers(self, "warmup_start")
            if self.warmup_start > 1:
                raise ValueError(f"warmup_start must be a share of max_rate, from 0 to 1, got {self.warmup_start!r}")
        object.__setattr__(self, "per", one_of(self.per, UNITS, "per"))
        if self.cycle is None and self.cycle_factor != 1:
            raise ValueError(f"cycle_factor={self.cycle_factor} goes with restarts: give cycle, the first one's length")
        if self.cycle is not None and self.total is not None:
            raise ValueError("cycle takes the place of total, since cycles have no end: give one of them")
        if self.cycle is not None and isinstance(self.warmup, float):
            raise ValueError(f"warmup={self.warmup!r} is a share of a total, and with cycle there is none: give steps")
        if self.total is not None:
            self.check_total(self.total)

    @property
    def needs_total(self) -> bool:
        return self.total is None and self.cycle is None

    def check_total(self, total: int) -> None:
        if self._warmup(total) >= total and self.cycle is None:
            raise ValueError(f"warmup must be shorter than the {total} {self.per}s in total, got {self.warmup!r}")

    def _warmup(self, total: int) -> int:
        if isinstance(self.warmup, float):
            return max(0, min(round(self.warmup * total), total - 1))
        return self.warmup

    def __call__(self, count: int, total: int | None = None) -> float:
        total = self.total if total is None or self.total is not None else total
        if self.cycle is None and total is None:
            raise TypeError("the schedule has no total: say how many steps there are, schedule(count, total)")
        warmup = self._warmup(total or 0)
        if count < warmup:
            start = 1 / (warmup + 1) if self.warmup_start is None else self.warmup_start
            return self.max_rate * (start + (1 - start) * count / warmup)
        n = count - warmup
        if self.cycle is None:
            assert total is not None
            length = total - warmup
            n = min(n, length)
        else:
            n, length = self._in_cycle(n)
        return self.min_rate + (self.max_rate - self.min_rate) * (1 + math.cos(math.pi * n / length)) / 2

    def _in_cycle(self, n: int) -> tuple[int, int]:
        """Steps of the present cycle that are done, and its length."""
        assert self.cycle is not None
        if self.cycle_factor == 1:
            return n % self.cycle, self.cycle
        length = self.cycle
        while n >= length:
            n, length = n - length, length * self.cycle_factor
        return n, length


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``max_rate`` and down again, step by step: PyTorch's ``OneCycleLR``, without its cycle of the momentum.

    From max_rate / div_factor up over ``pct_start`` of the steps, then down to max_rate / (div_factor
    final_div_factor). It counts steps. After the last one the rate stays where it is. A cycle of a single step has
    max_rate there (PyTorch's has the last rate, with which nothing is learnt).

    Parameters
    ----------
    max_rate : float
        Above 0.
    total : int, optional
        Steps of the cycle. None: those of the ``fit``, epochs times steps, for each ``fit`` anew.
    pct_start : float, default=0.3
        Share of the steps that the rate rises in, from 0 to below 1; below 0.5 with three phases.
    anneal : {"cosine", "linear"}, default="cosine"
    div_factor, final_div_factor : float, default=25 and 1e4
        Above 0.
    three_phase : bool, default=False
        Whether the rate comes down as it rose, and then falls to its end in a third phase.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2019.

    Examples
    --------
    >>> from fastbp.schedules import OneCycle
    >>> schedule = OneCycle(1.0, total=10, pct_start=0.4, anneal="linear", div_factor=4)
    >>> [round(schedule(step), 2) for step in range(10)]
    [0.25, 0.5, 0.75, 1.0, 0.83, 0.67, 0.5, 0.33, 0.17, 0.0]
    """

    max_rate: float
    total: int | None = None
    pct_start: float = 0.3
    anneal: str = "cosine"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        numbers(self, "max_rate", "div_factor", "final_div_factor", positive=True)
        if self.total is not None:
            object.__setattr__(self, "total", whole_number(self.total, "total"))
        object.__setattr__(self, "three_phase", flag(self.three_phase, "three_phase"))
        share = real_number(self.pct_start, "pct_start", below=0.5 if self.three_phase else 1)
        object.__setattr__(self, "pct_start", share)
        object.__setattr__(self, "anneal", one_of(self.anneal, ("cosine", "linear"), "anneal"))

    @property
    def needs_total(self) -> bool:
        return self.total is None

    def __call__(self, count: int, total: int | None = None) -> float:
        total = self.total if total is None or self.total is not None else total
        if total is None:
            raise TypeError("the schedule has no total: say how many steps there are, schedule(count, total)")
        if total == 1:
            return self.max_rate
        first, last = self.max_rate / self.div_factor, self.max_rate / self.div_factor / self.final_div_factor
        rise = self.pct_start * total
        stops = [(0.0, first), (rise - 1, self.max_rate)]  # a rate, and the step that has it
        if self.three_phase:
            stops.append((2 * rise - 2, first))
        stops.append((total - 1, last))
        count = min(count, total - 1)
        for k, (end, rate) in enumerate(stops[1:]):
            begin, before = stops[k]
            if count <= end or k == len(stops) - 2:
                share = (count - begin) / (end - begin) if end > begin else 1.0
                if self.anneal == "linear":
                    return before + (rate - before) * share
                return rate + (before - rate) * (1 + math.cos(math.pi * share)) / 2
        raise AssertionError


def _as_warmup(value: int | float) -> int | float:
    """A whole number of steps, or a share below 1."""
    try:
        if np.asarray(value).dtype.kind == "f":
            return real_number(value, "warmup", below=1)
        return whole_number(value, "warmup", least=0)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "warmup must be a whole number of steps, or a float from 0 to below 1, the share of all, got "
            f"{shown(value)}"
        ) from None
