"""More optimizers on one run of parameters, each one loop: see ``optimizers.py`` for SGD and Adam.

What these loops share: state below the smallest normal number becomes zero, since denormal numbers cost many times
more; scalars are read into locals of the array's type first; nothing is read again after it has been stored. Penalties,
clipping and decay have been dealt with (``updates.py``), so ``g`` is what the update starts from. ``rate``,
``correction`` and what NAdam needs of a step are in ``hyper``, written down once a step.
"""

import numpy as np

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import fma
from fastbp.kernels.layout import (
    BETA_1,
    BETA_2,
    CORRECTION,
    EPSILON,
    MOMENTUM,
    MU,
    MU_PRODUCT,
    NEXT_MU,
    RATE,
)


@kernel
def amsgrad(w, m, v, largest, g, hyper):
    """Adam with v's largest value so far: w -= rate m / (correction sqrt(max v) + epsilon).

    Reddi et al., "On the Convergence of Adam and Beyond", 2018.

    Parameters
    ----------
    w, m, v, largest : 1-D array of real
        Parameters, moments and the second one's largest value; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
        ``RATE`` and ``CORRECTION`` are those of Adam.
    """
    real = w.dtype.type
    beta_1, beta_2, epsilon = real(hyper[BETA_1]), real(hyper[BETA_2]), real(hyper[EPSILON])
    rest_1, rest_2 = real(1.0 - hyper[BETA_1]), real(1.0 - hyper[BETA_2])
    rate, correction, zero = real(hyper[RATE]), real(hyper[CORRECTION]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient, before = w[q], g[q], largest[q]
        first = fma(beta_1, m[q], rest_1 * gradient)
        second = fma(beta_2, v[q], rest_2 * gradient * gradient)
        first = zero if abs(first) < tiny else first
        second = zero if second < tiny else second
        most = before if before > second else second  # a NaN of v is taken
        most = most if before == before else before  # and one of before stays
        m[q] = first
        v[q] = second
        largest[q] = most
        w[q] = weight - rate * first / fma(correction, np.sqrt(most), epsilon)


@kernel
def rmsprop(w, v, g, hyper):
    """v = alpha v + (1 - alpha) g^2; w -= rate g / (sqrt(v) + epsilon).

    Tieleman & Hinton, "Lecture 6.5: RMSProp", 2012.

    Parameters
    ----------
    w, v : 1-D array of real
        Parameters and mean square; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
        alpha is at ``BETA_2``.
    """
    real = w.dtype.type
    alpha, rest, epsilon = real(hyper[BETA_2]), real(1.0 - hyper[BETA_2]), real(hyper[EPSILON])
    rate, zero = real(hyper[RATE]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        second = fma(alpha, v[q], rest * gradient * gradient)
        second = zero if second < tiny else second
        v[q] = second
        w[q] = weight - rate * gradient / (np.sqrt(second) + epsilon)


@kernel
def momentum_rmsprop(w, m, v, g, hyper):
    """v as in :func:`rmsprop`; m = momentum m + g / (sqrt(v) + epsilon); w -= rate m.

    Parameters
    ----------
    w, m, v : 1-D array of real
        Parameters, velocity and mean square; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    alpha, rest, epsilon = real(hyper[BETA_2]), real(1.0 - hyper[BETA_2]), real(hyper[EPSILON])
    momentum, rate, zero = real(hyper[MOMENTUM]), real(hyper[RATE]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        second = fma(alpha, v[q], rest * gradient * gradient)
        second = zero if second < tiny else second
        velocity = fma(momentum, m[q], gradient / (np.sqrt(second) + epsilon))
        velocity = zero if abs(velocity) < tiny else velocity
        v[q] = second
        m[q] = velocity
        w[q] = weight - rate * velocity


@kernel
def centered_rmsprop(w, m, v, mean, g, hyper):
    """As :func:`momentum_rmsprop` with sqrt(v - mean^2), mean = alpha mean + (1 - alpha) g, in place of sqrt(v).

    Graves, "Generating Sequences With Recurrent Neural Networks", 2013. Where rounding makes v - mean^2 negative, it is
    0: the root would be NaN.

    Parameters
    ----------
    w, m, v, mean : 1-D array of real
        Parameters, velocity, mean square and mean; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    alpha, rest, epsilon = real(hyper[BETA_2]), real(1.0 - hyper[BETA_2]), real(hyper[EPSILON])
    momentum, rate, zero = real(hyper[MOMENTUM]), real(hyper[RATE]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        second = fma(alpha, v[q], rest * gradient * gradient)
        second = zero if second < tiny else second
        first = fma(alpha, mean[q], rest * gradient)
        first = zero if abs(first) < tiny else first
        variance = fma(-first, first, second)
        variance = zero if variance < zero else variance
        velocity = fma(momentum, m[q], gradient / (np.sqrt(variance) + epsilon))
        velocity = zero if abs(velocity) < tiny else velocity
        v[q] = second
        mean[q] = first
        m[q] = velocity
        w[q] = weight - rate * velocity


@kernel
def adagrad(w, v, g, hyper):
    """v += g^2; w -= rate g / (sqrt(v) + epsilon).

    Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011.

    Parameters
    ----------
    w, v : 1-D array of real
        Parameters and sum of squares; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    epsilon, rate, zero = real(hyper[EPSILON]), real(hyper[RATE]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        second = fma(gradient, gradient, v[q])
        second = zero if second < tiny else second
        v[q] = second
        w[q] = weight - rate * gradient / (np.sqrt(second) + epsilon)


@kernel
def nadam(w, m, v, g, hyper):
    """Adam with Nesterov's momentum: m and v as there; w -= (a g + b m) / (correction sqrt(v) + epsilon).

    a = rate (1 - mu_t) / (1 - mu_1 ... mu_t) and b = rate mu_{t+1} / (1 - mu_1 ... mu_{t+1}) from ``hyper``. Dozat,
    "Incorporating Nesterov Momentum into Adam", 2016.

    Parameters
    ----------
    w, m, v : 1-D array of real
        Parameters and moments; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    beta_1, beta_2, epsilon = real(hyper[BETA_1]), real(hyper[BETA_2]), real(hyper[EPSILON])
    rest_1, rest_2 = real(1.0 - hyper[BETA_1]), real(1.0 - hyper[BETA_2])
    now = real(hyper[RATE] * (1.0 - hyper[MU]) / (1.0 - hyper[MU_PRODUCT]))
    next_one = real(hyper[RATE] * hyper[NEXT_MU] / (1.0 - hyper[MU_PRODUCT] * hyper[NEXT_MU]))
    correction, zero = real(hyper[CORRECTION]), real(0)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient = w[q], g[q]
        first = fma(beta_1, m[q], rest_1 * gradient)
        second = fma(beta_2, v[q], rest_2 * gradient * gradient)
        first = zero if abs(first) < tiny else first
        second = zero if second < tiny else second
        m[q] = first
        v[q] = second
        w[q] = weight - fma(next_one, first, now * gradient) / fma(correction, np.sqrt(second), epsilon)


@kernel
def lion(w, m, g, hyper):
    """w -= rate sign(beta_1 m + (1 - beta_1) g); m = beta_2 m + (1 - beta_2) g. The sign of 0 is 0, of NaN NaN.

    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023.

    Parameters
    ----------
    w, m : 1-D array of real
        Parameters and momentum; updated.
    g : 1-D array of real
    hyper : 1-D array of float64
    """
    real = w.dtype.type
    beta_1, beta_2, rate = real(hyper[BETA_1]), real(hyper[BETA_2]), real(hyper[RATE])
    rest_1, rest_2 = real(1.0 - hyper[BETA_1]), real(1.0 - hyper[BETA_2])
    zero, one, minus_one = real(0), real(1), real(-1)
    tiny = np.finfo(w.dtype).tiny
    for q in range(w.shape[0]):
        weight, gradient, before = w[q], g[q], m[q]
        direction = fma(beta_1, before, rest_1 * gradient)
        direction = one if direction > zero else (minus_one if direction < zero else direction)
        first = fma(beta_2, before, rest_2 * gradient)
        first = zero if abs(first) < tiny else first
        m[q] = first
        w[q] = weight - rate * direction
