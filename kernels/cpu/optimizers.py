"""Optimizers on one run of parameters, as pure arithmetic: a tile of W while it is in the first-level cache."""

import numpy as np

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import fma
from fastbp.kernels.layout import ADAM, BETA_1, BETA_2, EPSILON, SCIKIT_LEARN


@kernel
def power(base, exponent):
    """base ** exponent for a whole exponent >= 0, by squaring: the same bits on every machine, which libm's are not."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@kernel
def step_scalars(optimizer, convention, hyper, rate, step):
    """What an optimizer needs of one step besides its state.

    Parameters
    ----------
    optimizer, convention : int
    hyper : 1-D array of float64
    rate : float
        Learning rate of this step.
    step : int
        1 for the first step.

    Returns
    -------
    rate, correction : float
        Adam: w -= rate m / (correction sqrt(v) + epsilon). SGD: v = momentum v + correction g; w -= rate v.
    """
    if optimizer == ADAM:
        first, second = 1.0 - power(hyper[BETA_1], step), np.sqrt(1.0 - power(hyper[BETA_2], step))
        if convention == SCIKIT_LEARN:
            return rate * second / first, 1.0
        return rate / first, 1.0 / second
    if convention == SCIKIT_LEARN:
        return 1.0, rate
    return rate, 1.0


@kernel
def adam(w, m, v, g, hyper, rate, correction, l2):
    """g += l2 w; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= rate m / (correction sqrt(v) + epsilon).

    Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015. Moments below the smallest normal number become
    zero: a dead unit's moments would decay into denormals, which cost many times more.

    Parameters
    ----------
    w, m, v : 1-D array of real
        Parameters and moments; updated.
    g : 1-D array of real
        Gradient.
    hyper : 1-D array of float64
    rate, correction : float
        From :func:`step_scalars`.
    l2 : float
    """
    real = w.dtype.type
    beta_1, beta_2, epsilon = real(hyper[BETA_1]), real(hyper[BETA_2]), real(hyper[EPSILON])
    rest_1, rest_2 = real(1.0 - hyper[BETA_1]), real(1.0 - hyper[BETA_2])
    rate, correction, l2, zero = real(rate), real(correction), real(l2), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        # reading m[q] or v[q] again after storing it costs 0.83 ns a parameter instead of 0.31
        weight = w[q]
        gradient = fma(l2, weight, g[q])
        first = fma(beta_1, m[q], rest_1 * gradient)
        second = fma(beta_2, v[q], rest_2 * gradient * gradient)
        first = zero if abs(first) < tiny else first
        second = zero if second < tiny else second
        m[q] = first
        v[q] = second
        w[q] = weight - rate * first / fma(correction, np.sqrt(second), epsilon)


@kernel
def sgd(w, v, g, momentum, nesterov, rate, correction, l2):
    """g += l2 w; v = momentum v + correction g; w -= rate v, or rate (momentum v + correction g) with Nesterov's.

    With ``correction`` 1 the velocity is free of the learning rate (PyTorch); with ``rate`` 1 and ``correction`` the
    learning rate it holds it (scikit-learn). Sutskever et al., "On the importance of initialization and momentum in
    deep learning", 2013.

    Parameters
    ----------
    w, v : 1-D array of real
        Parameters and velocity; updated.
    g : 1-D array of real
    momentum, rate, correction, l2 : float
    nesterov : int
        0 or 1.
    """
    real = w.dtype.type
    momentum, rate, correction, l2, zero = real(momentum), real(rate), real(correction), real(l2), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight = w[q]
        gradient = fma(l2, weight, g[q])
        own = correction * gradient
        velocity = fma(momentum, v[q], own)
        velocity = zero if abs(velocity) < tiny else velocity
        v[q] = velocity
        # one loop for both: a factor of 0 in place of the choice would turn an infinite gradient into NaN
        w[q] = weight - rate * (fma(momentum, velocity, own) if nesterov else velocity)
