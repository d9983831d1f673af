"""Optimizers: frozen descriptions of how parameters follow their gradient. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastbp._optimizer import CONVENTIONS, Optimizer, decay_rates, keep
from fastbp._validation import flag, real_number
from fastbp.schedules import LearningRate

__all__ = ["CONVENTIONS", "SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RMSprop"]


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
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
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

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
    SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    """

    learning_rate: LearningRate = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    convention: str = "pytorch"

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(self, real_number, "momentum")
        if self.momentum > 1:
            raise ValueError(f"momentum must be a number from 0 to 1, got {self.momentum!r}")
        keep(self, flag, "nesterov")


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
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
    amsgrad : bool, default=False
        Whether v's largest value so far takes the place of v in the step: it never grows again.
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015. Reddi et al., "On the Convergence of Adam and
    Beyond", 2018.

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
    amsgrad: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_rates(self, "beta_1", "beta_2")
        keep(self, real_number, "epsilon", positive=True)
        keep(self, flag, "amsgrad")


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: w *= 1 - learning_rate * weight_decay before each step.

    With L2 in the gradient, Adam divides the penalty by sqrt(v) as well, so that weights with large gradients are
    hardly decayed; here all are decayed alike.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, l2, convention, amsgrad, l1, clip_value, clip_norm, ema_decay
        As in :class:`Adam`.
    weight_decay : float, default=0.01
        At least 0.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019.

    Examples
    --------
    >>> from fastbp import AdamW
    >>> AdamW(3e-4).weight_decay
    0.01
    """

    weight_decay: float = field(default=1e-2, kw_only=True)


@dataclass(frozen=True, repr=False)
class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which grows: mu_t = beta_1 (1 - 0.96^(t * momentum_decay) / 2).

    m and v as in :class:`Adam`, and M_t = mu_1 ... mu_t. The step is learning_rate times
    ((1 - mu_t) g / (1 - M_t) + mu_{t+1} m / (1 - M_{t+1})) / (sqrt(v / (1 - beta_2^t)) + epsilon).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.002
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    beta_1, beta_2 : float, default=0.9 and 0.999
        From 0 to below 1.
    epsilon : float, default=1e-8
        Above 0.
    momentum_decay : float, default=0.004
        At least 0.
    l2, convention
        As in :class:`SGD`: the convention is about the penalty alone.
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Dozat, "Incorporating Nesterov Momentum into Adam", 2016.

    Examples
    --------
    >>> from fastbp import NAdam
    >>> NAdam(momentum_decay=0.0).beta_1
    0.9
    """

    learning_rate: LearningRate = 2e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 4e-3
    l2: float = field(default=0.0, kw_only=True)
    convention: str = field(default="pytorch", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_rates(self, "beta_1", "beta_2")
        keep(self, real_number, "epsilon", positive=True)
        keep(self, real_number, "momentum_decay")


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of its mean square, v = alpha v + (1 - alpha) g^2.

    d = g / (sqrt(v) + epsilon) and w -= learning_rate d; with momentum u = momentum u + d and w -= learning_rate u.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.01
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    alpha : float, default=0.99
        From 0 to below 1.
    epsilon : float, default=1e-8
        Above 0.
    momentum : float, default=0.0
        From 0 to below 1.
    centered : bool, default=False
        Whether the variance of the gradient, v less the square of its mean, takes the place of v.
    l2, convention
        As in :class:`SGD`: the convention is about the penalty alone.
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Tieleman & Hinton, "Lecture 6.5: RMSProp", 2012. Graves, "Generating Sequences With Recurrent Neural Networks",
    2013.

    Examples
    --------
    >>> from fastbp import RMSprop
    >>> RMSprop(1e-3, momentum=0.9, centered=True)
    RMSprop(learning_rate=0.001, momentum=0.9, centered=True)
    """

    learning_rate: LearningRate = 1e-2
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    l2: float = field(default=0.0, kw_only=True)
    convention: str = field(default="pytorch", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_rates(self, "alpha", "momentum")
        keep(self, real_number, "epsilon", positive=True)
        keep(self, flag, "centered")


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad: the gradient over the root of the sum of all its squares, v += g^2; steps shrink where it was large.

    w -= rate g / (sqrt(v) + epsilon) with rate = learning_rate / (1 + (t - 1) * learning_rate_decay).

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.01
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    learning_rate_decay : float, default=0.0
        At least 0.
    initial_accumulator_value : float, default=0.0
        What v starts from, at least 0.
    epsilon : float, default=1e-10
        Above 0.
    l2, convention
        As in :class:`SGD`: the convention is about the penalty alone.
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011.

    Examples
    --------
    >>> from fastbp import Adagrad
    >>> Adagrad(0.1).epsilon
    1e-10
    """

    learning_rate: LearningRate = 1e-2
    learning_rate_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10
    l2: float = field(default=0.0, kw_only=True)
    convention: str = field(default="pytorch", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(self, real_number, "learning_rate_decay", "initial_accumulator_value")
        keep(self, real_number, "epsilon", positive=True)


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion: every parameter moves by the learning rate, w -= learning_rate sign(beta_1 m + (1 - beta_1) g).

    Then m = beta_2 m + (1 - beta_2) g. A good learning rate is 3 to 10 times smaller than Adam's, ``weight_decay`` as
    much larger.

    Parameters
    ----------
    learning_rate : float, schedule or callable, default=0.0001
        Above 0; or one of :mod:`fastbp.schedules`, or a function of the step.
    beta_1, beta_2 : float, default=0.9 and 0.99
        From 0 to below 1.
    l2, convention
        As in :class:`SGD`: the convention is about the penalty alone.
    weight_decay, l1, clip_value, clip_norm, ema_decay
        Of every optimizer: see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range.

    References
    ----------
    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023.

    Examples
    --------
    >>> from fastbp import Lion
    >>> Lion(weight_decay=0.1)
    Lion(weight_decay=0.1)
    """

    learning_rate: LearningRate = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    l2: float = field(default=0.0, kw_only=True)
    convention: str = field(default="pytorch", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        decay_rates(self, "beta_1", "beta_2")
