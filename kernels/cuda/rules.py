"""An update from its gradient: what a step's row of numbers holds, and what is done to one parameter.

In this order, as far as it is asked for: the gradient's norm is clipped (``clipping.py``), then each of its elements;
l2 w and l1 sign(w) are added; w is decayed; the optimizer's step; the weights' average.
"""

import functools
from typing import Any

import numpy as np

from fastbp.kernels import layout
from fastbp.kernels.cuda._target import cuda, inlined
from fastbp.kernels.cuda.adaptive import (
    adagrad,
    amsgrad,
    centered_rmsprop,
    lion,
    momentum_rmsprop,
    nadam,
    rmsprop,
    sign,
)
from fastbp.kernels.cuda.optimizers import (
    AT_BETA_1,
    AT_BETA_2,
    AT_CLIP_NORM,
    AT_CLIP_VALUE,
    AT_CORRECTION,
    AT_EMA_DECAY,
    AT_EMA_REST,
    AT_EPSILON,
    AT_KEPT,
    AT_L1,
    AT_L2,
    AT_MOMENTUM,
    AT_NOW,
    AT_RATE,
    AT_REST_1,
    AT_REST_2,
    AT_SCALE,
    AT_THEN,
    N_NUMBERS,
    adam,
    adam_scalars,
    powers,
    sgd_of,
)
from fastbp.kernels.layout import (
    ADAGRAD,
    ADAM,
    AMSGRAD,
    CENTERED_RMSPROP,
    GRADIENT,
    LION,
    MOMENTUM_RMSPROP,
    NADAM,
    RMSPROP,
    SCIKIT_LEARN,
    SGD,
    Array,
)

# How many arrays of state each optimizer has
N_STATES = {
    SGD: 1,
    ADAM: 2,
    AMSGRAD: 3,
    RMSPROP: 1,
    MOMENTUM_RMSPROP: 2,
    CENTERED_RMSPROP: 3,
    ADAGRAD: 1,
    NADAM: 2,
    LION: 1,
}
STEPS = {
    ADAM: adam,
    AMSGRAD: amsgrad,
    RMSPROP: rmsprop,
    MOMENTUM_RMSPROP: momentum_rmsprop,
    CENTERED_RMSPROP: centered_rmsprop,
    ADAGRAD: adagrad,
    NADAM: nadam,
    LION: lion,
}

# ---------------------------------------------------------------------------------------------------------------------
# Once for many steps, on the host


def momentum_of_step(beta_1, decay, steps):
    """NAdam's mu = beta_1 (1 - 0.96^(step decay) / 2)."""
    return beta_1 * (1 - 0.5 * 0.96 ** (steps * decay))


@np.errstate(all="ignore")
def step_numbers(
    optimizer: int, convention: int, hyper: Array, rates: Array, weights: Array, first_step: int, adjusts: bool,
    real: Any,
) -> Array:  # fmt: skip
    """What the updates of many steps need besides parameters and state.

    Parameters
    ----------
    optimizer, convention : int
    hyper : 1-D array of float64
        NAdam's ``MU_PRODUCT`` is brought to what it is after the last step.
    rates, weights : 1-D array of float64
        Learning rate and sum of the sample weights of each step.
    first_step : int
        Steps before these.
    adjusts : bool
        Whether the update does what :func:`adjust` does; without, its numbers are neutral.
    real : type

    Returns
    -------
    numbers : ndarray of real, shape (n_steps, N_NUMBERS)
        Computed in float64. The bits of a row do not depend on the steps it is computed with.
    """
    n_steps, scikit_learn = len(rates), convention == SCIKIT_LEARN
    steps = first_step + 1 + np.arange(n_steps)
    numbers = np.zeros((n_steps, N_NUMBERS))
    for at, value in {
        AT_SCALE: 1 / weights,
        AT_RATE: rates,
        AT_CORRECTION: 1,
        AT_L2: hyper[layout.L2] / weights if scikit_learn else hyper[layout.L2],
        AT_L1: hyper[layout.L1] if adjusts else 0,
        AT_KEPT: 1 - rates * hyper[layout.WEIGHT_DECAY] if adjusts else 1,
        AT_CLIP_VALUE: hyper[layout.CLIP_VALUE] if adjusts and hyper[layout.CLIP_VALUE] > 0 else np.inf,
        AT_CLIP_NORM: hyper[layout.CLIP_NORM],
        AT_BETA_1: hyper[layout.BETA_1],
        AT_REST_1: 1 - hyper[layout.BETA_1],
        AT_BETA_2: hyper[layout.BETA_2],
        AT_REST_2: 1 - hyper[layout.BETA_2],
        AT_EPSILON: hyper[layout.EPSILON],
        AT_MOMENTUM: hyper[layout.MOMENTUM],
        AT_EMA_DECAY: hyper[layout.EMA_DECAY],
        AT_EMA_REST: 1 - hyper[layout.EMA_DECAY],
    }.items():
        numbers[:, at] = value
    if optimizer == SGD and scikit_learn:
        numbers[:, AT_RATE], numbers[:, AT_CORRECTION] = 1, rates
    elif optimizer in (ADAM, AMSGRAD):
        scalars = adam_scalars(scikit_learn, hyper[layout.BETA_1], hyper[layout.BETA_2], rates, steps)
        numbers[:, AT_RATE], numbers[:, AT_CORRECTION] = scalars
    elif optimizer == ADAGRAD:
        numbers[:, AT_RATE] = rates / (1 + (steps - 1) * hyper[layout.DECAY])
    elif optimizer == NADAM:
        mu, next_mu = (momentum_of_step(hyper[layout.BETA_1], hyper[layout.DECAY], steps + k) for k in (0, 1))
        products = np.cumprod(np.concatenate([hyper[[layout.MU_PRODUCT]], mu]))
        hyper[layout.MU_PRODUCT], product = products[-1], products[1:]
        numbers[:, AT_CORRECTION] = 1 / np.sqrt(1 - powers(hyper[layout.BETA_2], steps))
        numbers[:, AT_NOW] = rates * (1 - mu) / (1 - product)
        numbers[:, AT_THEN] = rates * next_mu / (1 - product * next_mu)
    return numbers.astype(real)


# ---------------------------------------------------------------------------------------------------------------------
# One parameter


@inlined
def adjust(w, g, l2, numbers, row):
    """w and g: g = clip(g) + l2 w + l1 sign(w), then w *= 1 - learning rate * weight decay."""
    most = numbers[row + AT_CLIP_VALUE]
    g = most if g > most else g
    g = -most if g < -most else g
    g = cuda.fma(numbers[row + AT_L1], sign(w), cuda.fma(l2, w, g))
    return numbers[row + AT_KEPT] * w, g


@inlined
def average(a, w, numbers, row):
    """decay a + (1 - decay) w."""
    return cuda.fma(numbers[row + AT_EMA_DECAY], a, numbers[row + AT_EMA_REST] * w)


@inlined
def _load_1(moments, size, at):
    return (moments[at],)


@inlined
def _load_2(moments, size, at):
    return moments[at], moments[size + at]


@inlined
def _load_3(moments, size, at):
    return moments[at], moments[size + at], moments[2 * size + at]


@inlined
def _store_1(moments, size, at, state):
    moments[at] = state[0]


@inlined
def _store_2(moments, size, at, state):
    moments[at] = state[0]
    moments[size + at] = state[1]


@inlined
def _store_3(moments, size, at, state):
    moments[at] = state[0]
    moments[size + at] = state[1]
    moments[2 * size + at] = state[2]


ACCESS = {1: (_load_1, _store_1), 2: (_load_2, _store_2), 3: (_load_3, _store_3)}


@inlined
def _store_gradient(parameters, moments, size, at, g, penalised, numbers, row):
    moments[at] = g


@functools.lru_cache
def rule_of(optimizer, convention, nesterov, adjusts, averages, n_moments, real):
    """The device function ``apply_rule`` of an optimizer: one step on the parameter at ``at``.

    Parameters
    ----------
    optimizer, convention : int
        GRADIENT writes g to the first array of moments, and changes nothing else.
    nesterov, adjusts, averages : bool
    n_moments : int
        Arrays in ``moments``; the last one is the average, if there is one.
    real : type
        Of parameters, moments, g and numbers.

    Returns
    -------
    apply_rule : device function (parameters, moments, size, at, g, penalised, numbers, row)
        ``size`` elements lie between two arrays of moments; scikit-learn's l2 counts only where ``penalised``; ``row``
        is where the step's row begins in the flat ``numbers``.
    """
    if optimizer == GRADIENT:
        return _store_gradient
    step = sgd_of(bool(nesterov)) if optimizer == SGD else STEPS[optimizer]
    load, store = ACCESS[N_STATES[optimizer]]
    everywhere, adjusts, averages = convention != SCIKIT_LEARN, bool(adjusts), bool(averages)
    last, zero, penalises = n_moments - 1, real(0), optimizer in (SGD, ADAM)  # l2 of the others is an adjustment

    @inlined
    def apply_rule(parameters, moments, size, at, g, penalised, numbers, row):
        # all loads first, so that they overlap: behind a store none is moved to before it
        w, state = parameters[at], load(moments, size, at)
        mean = moments[last * size + at] if averages else zero
        l2 = numbers[row + AT_L2] if everywhere or penalised else zero
        if adjusts:
            w, g = adjust(w, g, l2, numbers, row)
        elif penalises:
            g = cuda.fma(l2, w, g)
        w, state = step(w, state, g, numbers, row)
        parameters[at] = w
        store(moments, size, at, state)
        if averages:
            moments[last * size + at] = average(mean, w, numbers, row)

    return apply_rule
