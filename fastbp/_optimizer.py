"""What all optimizers share: the fields that each of them has, their checks, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from fastbp._validation import one_of, real_number
from fastbp.schedules import LearningRate, check_learning_rate, is_scheduled

CONVENTIONS = ("pytorch", "scikit-learn")


class _Declared:
    """What every optimizer has, beside the fields of :class:`Optimizer`: each has these where its order wants them."""

    learning_rate: LearningRate
    l2: float
    convention: str


def keep(description: Any, check: Callable[..., Any], *names: str, **options: Any) -> None:
    """Check fields of a frozen description, and keep them as Python's own numbers, flags and names.

    So that equal ones are equal and files hold them, whichever number type of NumPy they came as.
    """
    for name in names:
        object.__setattr__(description, name, check(getattr(description, name), name=name, **options))


def decay_rates(optimizer: Any, *names: str) -> None:
    """Check decay rates, from 0 to below 1."""
    keep(optimizer, real_number, *names, below=1)


@dataclass(frozen=True, repr=False)
class Optimizer(_Declared):
    """What all optimizers share: not one itself, but the class to ask for with ``isinstance``.

    Each step does the following, as far as it is asked for, in this order: the gradient of all parameters is scaled
    to the norm ``clip_norm``, where it is longer; each of its elements is brought between -clip_value and clip_value;
    l2 w + l1 sign(w) is added, with sign(0) = 0; w is multiplied by 1 - learning_rate * weight_decay; the optimizer
    changes w; and the average becomes ema_decay * average + (1 - ema_decay) * w. All parameters take part, biases too.

    Parameters
    ----------
    weight_decay : float, default=0.0
        Decoupled from the gradient: no moment sees it. At least 0.
    l1 : float, default=0.0
        Factor of the penalty l1 |w|, at least 0. Not with scikit-learn's convention, which has no such penalty.
    clip_value : float or None, default=None
        Above 0.
    clip_norm : float or None, default=None
        Above 0. The factor is min(1, clip_norm / (norm + 1e-6)), as in PyTorch; below clip_norm = 0.001, where 1e-6
        would decide the length, clip_norm / 1000 stands in its place. Gradients of any size have a norm, also where
        their squares would not be numbers of the dtype.
    ema_decay : float or None, default=None
        From 0 to below 1; the average starts from the initial weights. See :meth:`fastbp.Trainer.averaged_weights`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019. Pascanu et al., "On the difficulty of training
    recurrent neural networks", 2013. Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    Examples
    --------
    >>> from fastbp import SGD
    >>> SGD(0.1, clip_norm=1.0, ema_decay=0.99)  # shows what differs from the defaults
    SGD(learning_rate=0.1, clip_norm=1.0, ema_decay=0.99)
    """

    weight_decay: float = field(default=0.0, kw_only=True)
    l1: float = field(default=0.0, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    ema_decay: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not hasattr(self, "learning_rate"):
            raise TypeError("Optimizer is what all optimizers share: make one of these, such as fastbp.Adam()")
        check_learning_rate(self.learning_rate)
        if not is_scheduled(self.learning_rate):
            keep(self, real_number, "learning_rate")
        keep(self, real_number, "l2", "l1", "weight_decay")
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                keep(self, real_number, name, positive=True)
        if self.ema_decay is not None:
            decay_rates(self, "ema_decay")
        keep(self, one_of, "convention", options=CONVENTIONS)
        if self.l1 > 0 and self.convention == "scikit-learn":
            raise ValueError(
                f"l1 goes with convention='pytorch', got l1={self.l1!r} with 'scikit-learn', whose loss has no such "
                "penalty"
            )

    def __repr__(self) -> str:
        given = [f for f in fields(self) if getattr(self, f.name) != f.default]
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in sorted(given, key=lambda f: bool(f.kw_only)))
        return f"{type(self).__name__}({', '.join(shown)})"
