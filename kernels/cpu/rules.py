"""An update from its gradient: which optimizer it is, and what is done before and after it.

In this order, as far as it is asked for: the gradient's norm is clipped (``clipping.py``), then each of its elements;
l2 w and l1 sign(w) are added; w is decayed; the optimizer's step; the weights' average. SGD or Adam alone, with at most
an L2 penalty, need nothing of that: for those the plain bodies are compiled (``Plan.uses`` lacks ``"optimizers"``).
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_type, by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import exp
from fastbp.kernels.cpu.adaptive import (
    adagrad,
    amsgrad,
    centered_rmsprop,
    lion,
    momentum_rmsprop,
    nadam,
    rmsprop,
)
from fastbp.kernels.cpu.optimizers import adam, power, sgd, step_scalars
from fastbp.kernels.cpu.simd import fma, window
from fastbp.kernels.layout import (
    ADAGRAD,
    ADAM,
    ADJUSTS,
    AMSGRAD,
    AVERAGES,
    BETA_1,
    BETA_2,
    CENTERED_RMSPROP,
    CLIP_VALUE,
    CONVENTION,
    CORRECTION,
    DECAY,
    EMA_DECAY,
    GRADIENT,
    KEPT,
    L1,
    LION,
    MOMENTUM_RMSPROP,
    MU,
    MU_PRODUCT,
    N_MOMENTS,
    N_PARAMETERS,
    NADAM,
    NESTEROV,
    NEXT_MU,
    OPTIMIZER,
    RATE,
    RMSPROP,
    SGD,
    WEIGHT_DECAY,
)

LOG_0_96 = -0.04082199452025517  # ln 0.96

# ---------------------------------------------------------------------------------------------------------------------
# Once a step


@kernel
def momentum_of_step(beta_1, decay, step):
    """NAdam's mu = beta_1 (1 - 0.96^(step decay) / 2).

    By our own exp: libm's power has other bits from machine to machine.
    """
    return beta_1 * (1.0 - 0.5 * exp(step * decay * LOG_0_96))


@kernel
def write_scalars(optimizer, convention, hyper, rate, step):
    """What the update of a step needs besides its state, into ``hyper``: one thread does so before all others read it.

    Parameters
    ----------
    optimizer, convention : int
        For GRADIENT nothing changes.
    hyper : 1-D array of float64
        From ``RATE`` on it is overwritten, but for ``MU_PRODUCT``, NAdam's product of all mu so far, which goes on.
    rate : float
        Learning rate of this step.
    step : int
        1 for the first step.
    """
    if optimizer == GRADIENT:
        return
    hyper[KEPT] = 1.0 - rate * hyper[WEIGHT_DECAY]
    hyper[RATE], hyper[CORRECTION] = rate, 1.0
    if optimizer == SGD or optimizer == ADAM or optimizer == AMSGRAD:
        code = SGD if optimizer == SGD else ADAM
        hyper[RATE], hyper[CORRECTION] = step_scalars(code, convention, hyper, rate, step)
    elif optimizer == ADAGRAD:
        hyper[RATE] = rate / (1.0 + (step - 1) * hyper[DECAY])
    elif optimizer == NADAM:
        hyper[CORRECTION] = 1.0 / np.sqrt(1.0 - power(hyper[BETA_2], step))
        hyper[MU] = momentum_of_step(hyper[BETA_1], hyper[DECAY], step)
        hyper[NEXT_MU] = momentum_of_step(hyper[BETA_1], hyper[DECAY], step + 1)
        hyper[MU_PRODUCT] *= hyper[MU]


def _nothing(plan, hyper, rate, step):
    pass


def _scalars(plan, hyper, rate, step):
    write_scalars(plan.header[OPTIMIZER], plan.header[CONVENTION], hyper, rate, step)


@by_type
def begin_step(plan, hyper, rate, step):
    """:func:`write_scalars` where the network needs it; ``step`` is 1 for the first."""
    return _scalars if uses(plan, "optimizers") else _nothing


# ---------------------------------------------------------------------------------------------------------------------
# Before and after an optimizer


@kernel
def adjust(w, g, hyper, l2):
    """g = clip(g) + l2 w + l1 sign(w), then w *= 1 - learning rate * weight decay. The sign of 0 is 0.

    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019.

    Parameters
    ----------
    w, g : 1-D array of real
        Parameters and gradient; updated.
    hyper : 1-D array of float64
    l2 : float
    """
    real = w.dtype.type
    most = real(hyper[CLIP_VALUE]) if hyper[CLIP_VALUE] > 0.0 else real(np.inf)
    least, kept, l1, l2 = -most, real(hyper[KEPT]), real(hyper[L1]), real(l2)
    zero, one, minus_one = real(0), real(1), real(-1)
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        gradient = most if gradient > most else gradient
        gradient = least if gradient < least else gradient
        sign = one if weight > zero else (minus_one if weight < zero else zero)
        g[q] = fma(l1, sign, fma(l2, weight, gradient))
        w[q] = kept * weight


@kernel
def average(a, w, hyper):
    """a = decay a + (1 - decay) w: an exponential moving average of the weights.

    Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    Parameters
    ----------
    a : 1-D array of real
        Updated.
    w : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    decay, rest = real(hyper[EMA_DECAY]), real(1.0 - hyper[EMA_DECAY])
    for q in range(w.shape[0]):
        a[q] = fma(decay, a[q], rest * w[q])


# ---------------------------------------------------------------------------------------------------------------------
# The update of a tile


def _plain(w, g, start, rate, correction, l2, plan, buffers, hyper):
    header, size = plan.header, w.shape[0]
    m = window(buffers.moments, start, size)
    if header[OPTIMIZER] == ADAM:
        v = window(buffers.moments, header[N_PARAMETERS] + start, size)
        adam(w, m, v, g, hyper, rate, correction, l2)
    else:
        sgd(w, m, g, hyper[BETA_1], header[NESTEROV], rate, correction, l2)


def _any(w, g, start, rate, correction, l2, plan, buffers, hyper):
    header, moments, size = plan.header, buffers.moments, w.shape[0]
    optimizer, n = header[OPTIMIZER], header[N_PARAMETERS]
    if header[ADJUSTS]:
        adjust(w, g, hyper, l2)
        l2 = 0.0
    first = window(moments, start, size)
    if optimizer == SGD:
        sgd(w, first, g, hyper[BETA_1], header[NESTEROV], hyper[RATE], hyper[CORRECTION], l2)
    elif optimizer == RMSPROP:
        rmsprop(w, first, g, hyper)
    elif optimizer == ADAGRAD:
        adagrad(w, first, g, hyper)
    elif optimizer == LION:
        lion(w, first, g, hyper)
    else:
        second = window(moments, n + start, size)
        if optimizer == ADAM:
            adam(w, first, second, g, hyper, hyper[RATE], hyper[CORRECTION], l2)
        elif optimizer == NADAM:
            nadam(w, first, second, g, hyper)
        elif optimizer == MOMENTUM_RMSPROP:
            momentum_rmsprop(w, first, second, g, hyper)
        else:
            third = window(moments, 2 * n + start, size)
            if optimizer == AMSGRAD:
                amsgrad(w, first, second, third, g, hyper)
            elif optimizer == CENTERED_RMSPROP:
                centered_rmsprop(w, first, second, third, g, hyper)
    if header[AVERAGES]:
        average(window(moments, (header[N_MOMENTS] - 1) * n + start, size), w, hyper)


@by_type_inlined
def apply_rule(w, g, start, rate, correction, l2, plan, buffers, hyper):
    """One step of the plan's optimizer on a tile of parameters.

    Parameters
    ----------
    w : 1-D array of real
        The tile; updated, and its state in ``buffers.moments`` with it.
    g : 1-D array of real
        Its gradient; may be overwritten.
    start : int
        Where the tile begins in what is laid out as the parameters.
    rate, correction : float
        From ``step_scalars``; where ``begin_step`` has left numbers in ``hyper``, these count.
    l2 : float
    plan, buffers, hyper
        See ``fastbp.kernels.layout``.
    """
    return _any if uses(plan, "optimizers") else _plain
