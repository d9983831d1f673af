"""An update from its gradient. In this order, as far as it is asked for:

g *= min(1, clip_norm / (|g| + 1e-6))     |g| over all parameters
g = clip(g, -clip_value, clip_value)
g += l2 w + l1 sign(w)
w *= 1 - learning rate * weight decay
the optimizer's step
average = decay average + (1 - decay) w
"""

import numpy as np

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
from fastbp.kernels.reference.adaptive import (
    adagrad,
    amsgrad,
    centered_rmsprop,
    lion,
    momentum_rmsprop,
    nadam,
    rmsprop,
)
from fastbp.kernels.reference.optimizers import adam, power, sgd, step_scalars

# What each optimizer calls of (w, its arrays, g, hyper), and how many arrays
STEPS = {
    AMSGRAD: (amsgrad, 3),
    RMSPROP: (rmsprop, 1),
    MOMENTUM_RMSPROP: (momentum_rmsprop, 2),
    CENTERED_RMSPROP: (centered_rmsprop, 3),
    ADAGRAD: (adagrad, 1),
    NADAM: (nadam, 2),
    LION: (lion, 1),
}


def momentum_of_step(beta_1, decay, step):
    """NAdam's mu = beta_1 (1 - 0.96^(step decay) / 2)."""
    return float(beta_1) * (1 - 0.5 * 0.96 ** float(step * decay))


def write_scalars(optimizer, convention, hyper, rate, step):
    """What the update of a step needs besides its state, into ``hyper``; for GRADIENT nothing."""
    if optimizer == GRADIENT:
        return
    hyper[KEPT] = 1 - rate * hyper[WEIGHT_DECAY]
    hyper[RATE], hyper[CORRECTION] = rate, 1
    if optimizer in (SGD, ADAM, AMSGRAD):
        code = SGD if optimizer == SGD else ADAM
        hyper[RATE], hyper[CORRECTION] = step_scalars(code, convention, hyper, rate, step)
    elif optimizer == ADAGRAD:
        hyper[RATE] = rate / (1 + (step - 1) * hyper[DECAY])
    elif optimizer == NADAM:
        hyper[CORRECTION] = 1 / np.sqrt(1 - power(hyper[BETA_2], step))
        hyper[MU] = momentum_of_step(hyper[BETA_1], hyper[DECAY], step)
        hyper[NEXT_MU] = momentum_of_step(hyper[BETA_1], hyper[DECAY], step + 1)
        hyper[MU_PRODUCT] *= hyper[MU]


def begin_step(plan, hyper, rate, step):
    """:func:`write_scalars` where the network needs it; ``step`` is 1 for the first."""
    if plan.uses is not None and "optimizers" in plan.uses.dtype.names:
        write_scalars(plan.header[OPTIMIZER], plan.header[CONVENTION], hyper, rate, step)


@np.errstate(all="ignore")
def adjust(w, g, hyper, l2):
    """g = clip(g) + l2 w + l1 sign(w), then w *= 1 - learning rate * weight decay."""
    if hyper[CLIP_VALUE] > 0:
        np.clip(g, -hyper[CLIP_VALUE], hyper[CLIP_VALUE], out=g)
    g += float(l2) * w + float(hyper[L1]) * np.sign(w)
    w *= float(hyper[KEPT])


@np.errstate(all="ignore")
def average(a, w, hyper):
    """a = decay a + (1 - decay) w."""
    decay = float(hyper[EMA_DECAY])
    a[:] = decay * a + (1 - decay) * w


def apply_rule(w, g, start, rate, correction, l2, plan, buffers, hyper):
    """One step of the plan's optimizer on the parameters w from ``start``; the gradient g may be overwritten."""
    header, optimizer, size = plan.header, plan.header[OPTIMIZER], w.size
    states = buffers.moments.reshape(-1, header[N_PARAMETERS])[:, start : start + size]
    if header[ADJUSTS]:
        adjust(w, g, hyper, l2)
        l2 = 0.0
    if optimizer == ADAM:
        adam(w, states[0], states[1], g, hyper, rate, correction, l2)
    elif optimizer == SGD:
        sgd(w, states[0], g, hyper[BETA_1], header[NESTEROV], rate, correction, l2)
    else:
        step, n = STEPS[int(optimizer)]
        step(w, *states[:n], g, hyper)
    if header[AVERAGES]:
        average(states[-1], w, hyper)
