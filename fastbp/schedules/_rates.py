"""Learning rates of a training, step by step: where a schedule stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastbp._validation import Array, real_number, whole_number
from fastbp._words import shown
from fastbp.schedules._base import Schedule
from fastbp.schedules._learning_rate import LearningRate, check_learning_rate, is_scheduled
from fastbp.schedules._plateau import Plateau, ReduceOnPlateau

LONG = 10**9  # before the first fit, a schedule without a total is at the beginning of a very long training


class Position(NamedTuple):
    """Where a training stands.

    Steps and whole epochs of all fits; of those before the present fit; the length of the present fit in epochs, and
    of an epoch in steps (0 before the first one); the rate where it is a number; the state of a plateau schedule.
    """

    step: int = 0
    epoch: int = 0
    first_step: int = 0
    first_epoch: int = 0
    n_epochs: int = 0
    n_steps: int = 0
    rate: float | None = None
    plateau: Plateau | None = None


class Rates:
    """The rates of the steps to come, from a number, a schedule or a function of the step.

    Parameters
    ----------
    source : float, Schedule, ReduceOnPlateau or callable

    Attributes
    ----------
    position : Position
        Replaced and never changed, so that whoever keeps one can go back to it.
    """

    def __init__(self, source: LearningRate) -> None:
        self.source = source
        self.position = Position()
        if isinstance(source, ReduceOnPlateau):
            self.position = Position(plateau=source.start())
        elif not is_scheduled(source):
            self.position = Position(rate=float(source))  # type: ignore[arg-type]

    @property
    def scheduled(self) -> bool:
        """Whether the rate is not a plain number, which may be set."""
        return self.position.rate is None

    @property
    def spans_fit(self) -> bool:
        """Whether the schedule takes its length from the fit."""
        return isinstance(self.source, Schedule) and self.source.needs_total

    @property
    def now(self) -> float:
        """The rate of the next step."""
        return self._at(self.position.step)

    def set(self, rate: Any) -> None:
        """Set the rate of all steps to come.

        Raises
        ------
        TypeError, ValueError
            For what is no number of at least 0, or where there is a schedule.
        """
        rate = real_number(rate, "learning_rate")
        if self.scheduled:
            raise ValueError(
                f"learning_rate follows {shown(self.source)} and cannot be set: give the optimizer a number as its "
                "learning_rate to set it by hand, or a function of the step"
            )
        self.position = self.position._replace(rate=rate)

    def begin(self, n_epochs: int, n_steps: int, *, validated: bool) -> None:
        """A fit of ``n_epochs`` times ``n_steps`` begins; ``validated`` where it has a validation loss.

        Raises
        ------
        ValueError
            Where the schedule cannot go with it.
        """
        source = self.source
        if isinstance(source, ReduceOnPlateau) and source.monitor == "val_loss" and not validated:
            raise ValueError(
                "the schedule ReduceOnPlateau follows 'val_loss', which needs validation_data in fit: give some, or "
                "ReduceOnPlateau(..., monitor='loss')"
            )
        if isinstance(source, Schedule) and source.needs_total:
            source.check_total(n_epochs * n_steps if source.per == "step" else n_epochs)
        here = self.position
        self.position = here._replace(first_step=here.step, first_epoch=here.epoch, n_epochs=n_epochs, n_steps=n_steps)

    def ahead(self, n: int) -> Array:
        """Rates of the next ``n`` steps, all within one epoch."""
        source, step = self.source, self.position.step
        if self.scheduled and not isinstance(source, ReduceOnPlateau) and getattr(source, "per", "step") == "step":
            return np.array([self._at(step + k) for k in range(n)])
        return np.full(n, self.now)

    def advance(self, n: int) -> None:
        """``n`` steps were taken."""
        self.position = self.position._replace(step=self.position.step + n)

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """An epoch was finished, with these losses."""
        here = self.position._replace(epoch=self.position.epoch + 1)
        if isinstance(self.source, ReduceOnPlateau) and here.plateau is not None:
            here = here._replace(plateau=self.source.after(here.plateau, logs[self.source.monitor]))
        self.position = here

    def _at(self, step: int) -> float:
        """The rate of a step of the present epoch."""
        source, here = self.source, self.position
        if here.rate is not None:
            return here.rate
        if here.plateau is not None:
            return here.plateau.rate
        if not isinstance(source, Schedule):
            assert callable(source)
            return real_number(source(step), f"the learning rate that the function gives for step {step}")
        by_step = source.per == "step"
        count = step if by_step else here.epoch
        if not source.needs_total:
            return source(count)
        count -= here.first_step if by_step else here.first_epoch
        return source(count, (here.n_epochs * here.n_steps if by_step else here.n_epochs) or LONG)


def preview(learning_rate: LearningRate, *, epochs: int, steps: int) -> Array:
    """Rates of every step of a first fit, to look at or to plot.

    Parameters
    ----------
    learning_rate : float, Schedule or callable
        What an optimizer takes; not a ReduceOnPlateau, which follows losses.
    epochs, steps : int
        How many, and steps of an epoch: n_samples / batch_size, rounded up.

    Returns
    -------
    ndarray of float64, shape (epochs * steps,)

    Raises
    ------
    TypeError, ValueError
        For what has no rates ahead of the training.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.schedules.preview(fastbp.schedules.Step(1.0, every=1, factor=0.5), epochs=3, steps=2).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    check_learning_rate(learning_rate)
    if isinstance(learning_rate, ReduceOnPlateau):
        raise TypeError("ReduceOnPlateau follows the losses of a training: it has no rates ahead of it")
    epochs, steps = whole_number(epochs, "epochs"), whole_number(steps, "steps")
    rates, found = Rates(learning_rate), []
    rates.begin(epochs, steps, validated=True)
    for _ in range(epochs):
        found.append(rates.ahead(steps))
        rates.advance(steps)
        rates.end_epoch({})
    return np.concatenate(found)
