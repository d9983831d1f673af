"""More optimizers: how one array of parameters follows its gradient. ``g`` has been clipped, penalties are in it."""

import numpy as np

from fastbp.kernels.layout import BETA_1, BETA_2, CORRECTION, EPSILON, MOMENTUM, MU, MU_PRODUCT, NEXT_MU, RATE
from fastbp.kernels.reference.optimizers import _flush


def _numbers(hyper, *places):
    """Entries of ``hyper`` as Python's floats, which leave float32 arrays what they are."""
    return (float(hyper[place]) for place in places)


@np.errstate(all="ignore")
def amsgrad(w, m, v, largest, g, hyper):
    """m and v as Adam's; w -= rate m / (correction sqrt(max v) + epsilon)."""
    beta_1, beta_2, epsilon, rate, correction = _numbers(hyper, BETA_1, BETA_2, EPSILON, RATE, CORRECTION)
    m[:] = beta_1 * m + (1 - beta_1) * g
    v[:] = beta_2 * v + (1 - beta_2) * g * g
    _flush(m)
    _flush(v)
    largest[:] = np.maximum(largest, v)
    w -= rate * m / (correction * np.sqrt(largest) + epsilon)


@np.errstate(all="ignore")
def rmsprop(w, v, g, hyper):
    """v = alpha v + (1 - alpha) g^2; w -= rate g / (sqrt(v) + epsilon)."""
    alpha, epsilon, rate = _numbers(hyper, BETA_2, EPSILON, RATE)
    v[:] = alpha * v + (1 - alpha) * g * g
    _flush(v)
    w -= rate * g / (np.sqrt(v) + epsilon)


@np.errstate(all="ignore")
def momentum_rmsprop(w, m, v, g, hyper):
    """v = alpha v + (1 - alpha) g^2; m = momentum m + g / (sqrt(v) + epsilon); w -= rate m."""
    alpha, epsilon, momentum, rate = _numbers(hyper, BETA_2, EPSILON, MOMENTUM, RATE)
    v[:] = alpha * v + (1 - alpha) * g * g
    _flush(v)
    m[:] = momentum * m + g / (np.sqrt(v) + epsilon)
    _flush(m)
    w -= rate * m


@np.errstate(all="ignore")
def centered_rmsprop(w, m, v, mean, g, hyper):
    """The same with the variance v - mean^2, at least 0, in place of v."""
    alpha, epsilon, momentum, rate = _numbers(hyper, BETA_2, EPSILON, MOMENTUM, RATE)
    v[:] = alpha * v + (1 - alpha) * g * g
    mean[:] = alpha * mean + (1 - alpha) * g
    _flush(v)
    _flush(mean)
    m[:] = momentum * m + g / (np.sqrt(np.maximum(v - mean * mean, 0)) + epsilon)
    _flush(m)
    w -= rate * m


@np.errstate(all="ignore")
def adagrad(w, v, g, hyper):
    """v += g^2; w -= rate g / (sqrt(v) + epsilon)."""
    epsilon, rate = _numbers(hyper, EPSILON, RATE)
    v += g * g
    _flush(v)
    w -= rate * g / (np.sqrt(v) + epsilon)


@np.errstate(all="ignore")
def nadam(w, m, v, g, hyper):
    """m and v as Adam's; w -= rate ((1 - mu) / (1 - M) g + mu' / (1 - M mu') m) / (correction sqrt(v) + epsilon).

    mu is the momentum of this step, mu' that of the next one, and M the product of all mu up to this step.
    """
    beta_1, beta_2, epsilon, rate, correction = _numbers(hyper, BETA_1, BETA_2, EPSILON, RATE, CORRECTION)
    mu, next_mu, product = _numbers(hyper, MU, NEXT_MU, MU_PRODUCT)
    m[:] = beta_1 * m + (1 - beta_1) * g
    v[:] = beta_2 * v + (1 - beta_2) * g * g
    _flush(m)
    _flush(v)
    now, then = rate * (1 - mu) / (1 - product), rate * next_mu / (1 - product * next_mu)
    w -= (now * g + then * m) / (correction * np.sqrt(v) + epsilon)


@np.errstate(all="ignore")
def lion(w, m, g, hyper):
    """w -= rate sign(beta_1 m + (1 - beta_1) g); m = beta_2 m + (1 - beta_2) g."""
    beta_1, beta_2, rate = _numbers(hyper, BETA_1, BETA_2, RATE)
    w -= rate * np.sign(beta_1 * m + (1 - beta_1) * g)
    m[:] = beta_2 * m + (1 - beta_2) * g
    _flush(m)
