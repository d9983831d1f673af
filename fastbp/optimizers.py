"""Optimizers: frozen descriptions of how parameters follow their gradient. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass

from fastbp._validation import flag, one_of, real_number
from fastbp.schedules import LearningRate, check_learning_rate

CONVENTIONS = ("pytorch", "scikit-learn")


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum and Nesterov's momentum.

    ``"pytorch"``: g += l2 w; v = momentum v + g; w -= learning_rate v, or learning_rate (momentum v + g) with
    Nesterov's. ``"scikit-learn"``: the velocity holds the learning rate; the penalty is on weights, not on biases, is
    divided by the batch's sum of sample weights, and is part of the reported loss.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.01
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    momentum : float, default=0.0
        From 0 to 1.
    nesterov : bool, default=False
    l2 : float, default=0.0
        Factor of the penalty l2 / 2 |w|^2, at least 0.
    convention : {"pytorch", "scikit-learn"}, default="pytorch"

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> from fastbp import SGD
    >>> SGD(0.1, momentum=0.9, nesterov=True)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=True, l2=0.0, convention='pytorch')
    """

    learning_rate: LearningRate = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    convention: str = "pytorch"

    def __post_init__(self) -> None:
        check_learning_rate(self.learning_rate)
        real_number(self.momentum, "momentum")
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number from 0 to 1, got {self.momentum!r}")
        flag(self.nesterov, "nesterov")
        real_number(self.l2, "l2")
        one_of(self.convention, CONVENTIONS, "convention")


@dataclass(frozen=True)
class Adam:
    """Adam: each parameter's step is its mean gradient over the root of its mean squared gradient.

    m = beta_1 m + (1 - beta_1) g and v = beta_2 v + (1 - beta_2) g^2, each divided by 1 - beta^t, then
    w -= learning_rate m / (sqrt(v) + epsilon). ``"scikit-learn"``: epsilon is added before v's correction (to
    sqrt(v) as it was summed up); the penalty as in :class:`SGD`.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.001
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    beta_1, beta_2 : float, default=0.9 and 0.999
        From 0 to below 1.
    epsilon : float, default=1e-8
        Above 0.
    l2 : float, default=0.0
        Factor of the penalty l2 / 2 |w|^2, whose gradient is added to g; at least 0.
    convention : {"pytorch", "scikit-learn"}, default="pytorch"

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015.

    Examples
    --------
    >>> from fastbp import Adam
    >>> Adam(3e-4).beta_2
    0.999
    """

    learning_rate: LearningRate = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    convention: str = "pytorch"

    def __post_init__(self) -> None:
        check_learning_rate(self.learning_rate)
        real_number(self.beta_1, "beta_1", below=1)
        real_number(self.beta_2, "beta_2", below=1)
        real_number(self.epsilon, "epsilon", positive=True)
        real_number(self.l2, "l2")
        one_of(self.convention, CONVENTIONS, "convention")


Optimizer = SGD | Adam
