"""Values that callbacks watch: which of two is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastbp._validation import one_of, scalar
from fastbp._words import shown

FALLS = ("loss", "error", "seconds")
RISES = ("accuracy", "acc", "score", "auc", "f1", "precision", "recall", "r2")


class Monitor:
    """A value of the logs that is to fall or to rise.

    Parameters
    ----------
    name : str
    mode : {"auto", "min", "max"}
        ``"auto"`` goes by the end of the name.

    Raises
    ------
    TypeError, ValueError
        For a name that tells ``"auto"`` nothing, or no name.

    Examples
    --------
    >>> Monitor("val_loss", "auto").better(0.5, 0.6), Monitor("val_accuracy", "auto").better(0.5, 0.6)
    (True, False)
    """

    def __init__(self, name: Any, mode: str) -> None:
        given = scalar(name)
        if not isinstance(given, str) or not given:
            raise TypeError(f"monitor must be the name of a value, such as 'val_loss', got {shown(name)}")
        self.name, self.mode = str(given), one_of(mode, ("auto", "min", "max"), "mode")
        if self.mode == "auto":
            last = self.name.rsplit("_", 1)[-1]
            if last not in FALLS + RISES:
                raise ValueError(
                    f"mode='auto' cannot tell whether {name!r} is to fall or to rise: say mode='min' or mode='max'"
                )
            self.mode = "min" if last in FALLS else "max"

    @property
    def worst(self) -> float:
        """What any value is better than."""
        return math.inf if self.mode == "min" else -math.inf

    def better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Whether a value is better by more than ``by``; a NaN never is."""
        return value < than - by if self.mode == "min" else value > than + by

    def value(self, logs: Mapping[str, float], who: str) -> float:
        """The value in the logs.

        Raises
        ------
        ValueError
            Where it is not there.
        """
        if self.name not in logs:
            what = "give validation_data to fit, or " if self.name == "val_loss" else ""
            raise ValueError(
                f"{who} watches {self.name!r}, but the values of an epoch are {', '.join(map(repr, logs))}: {what}name "
                "one of these as monitor, or add it to the logs in a callback that comes before"
            )
        return float(logs[self.name])
