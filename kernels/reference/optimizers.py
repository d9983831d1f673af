"""Optimizers: how one array of parameters follows its gradient."""

import numpy as np

from fastbp.kernels.layout import ADAM, BETA_1, BETA_2, EPSILON, SCIKIT_LEARN


def power(base, exponent):
    """base ** exponent for a whole exponent >= 0."""
    return float(base) ** int(exponent)


def step_scalars(optimizer, convention, hyper, rate, step):
    """Rate and correction of step 1, 2, ...

    Adam's moments start from zero and are too small by 1 - beta^step: m / (1 - beta_1^step) and v / (1 - beta_2^step)
    are right. scikit-learn puts both corrections into the rate, so that its epsilon is added before the second one.
    """
    if optimizer == ADAM:
        first = 1 - power(hyper[BETA_1], step)
        second = float(np.sqrt(1 - power(hyper[BETA_2], step)))
        if convention == SCIKIT_LEARN:
            return rate * second / first, 1.0
        return rate / first, 1 / second
    if convention == SCIKIT_LEARN:
        return 1.0, rate
    return rate, 1.0


def _flush(moment):
    """Denormal numbers become zero."""
    moment[np.abs(moment) < np.finfo(moment.dtype).tiny] = 0


@np.errstate(all="ignore")
def adam(w, m, v, g, hyper, rate, correction, l2):
    """g += l2 w; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m / (correction sqrt(v) + epsilon)."""
    beta_1, beta_2, epsilon = float(hyper[BETA_1]), float(hyper[BETA_2]), float(hyper[EPSILON])
    g = g + float(l2) * w
    m[:] = beta_1 * m + (1 - beta_1) * g
    v[:] = beta_2 * v + (1 - beta_2) * g * g
    _flush(m)
    _flush(v)
    w -= float(rate) * m / (float(correction) * np.sqrt(v) + epsilon)


@np.errstate(all="ignore")
def sgd(w, v, g, momentum, nesterov, rate, correction, l2):
    """g += l2 w; v = momentum v + correction g; w -= rate v, or rate (momentum v + correction g) with Nesterov's."""
    momentum, rate, correction = float(momentum), float(rate), float(correction)
    g = g + float(l2) * w
    v[:] = momentum * v + correction * g
    _flush(v)
    w -= rate * (momentum * v + correction * g if nesterov else v)
