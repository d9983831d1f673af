"""Optimizers on one parameter: weight and state as numbers, and a row of numbers that holds for the step.

Sums of products are written as ``fma``: which product the compiler fuses is not left to it, so that the bits are the
same in whatever kernel these functions are inlined. Penalties are in ``g``: see ``rules.py``.
"""

import functools

import numpy as np

from fastbp.kernels.cuda._target import cuda, inlined, like, sqrt

# Columns of ``numbers``, one row a step. SCALE is 1 / sum of weights; KEPT is 1 - learning rate * weight decay;
# CLIP_VALUE is infinite for no clipping; REST is 1 minus what it is named after; NOW and THEN are NAdam's factors of g
# and m.
(
    AT_SCALE, AT_RATE, AT_CORRECTION, AT_L2, AT_L1, AT_KEPT, AT_CLIP_VALUE, AT_CLIP_NORM, AT_BETA_1, AT_REST_1,
    AT_BETA_2, AT_REST_2, AT_EPSILON, AT_MOMENTUM, AT_EMA_DECAY, AT_EMA_REST, AT_NOW, AT_THEN, N_NUMBERS,
) = range(19)  # fmt: skip

TINY_32, TINY_64 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float64).tiny)


def powers(base, exponents):
    """base ** exponents for whole exponents >= 0, by squaring: each has the bits of the CPU's ``power``."""
    result, exponents = np.ones(len(exponents)), exponents.copy()
    while exponents.any():
        np.multiply(result, base, out=result, where=exponents & 1 == 1)
        base, exponents = base * base, exponents >> 1
    return result


def adam_scalars(scikit_learn, beta_1, beta_2, rates, steps):
    """Rates and corrections of Adam's steps 1, 2, ...

    w -= rate m / (correction sqrt(v) + epsilon), where m / (1 - beta_1^step) and v / (1 - beta_2^step) are without
    bias. scikit-learn puts both corrections into the rate.
    """
    first, second = 1 - powers(beta_1, steps), np.sqrt(1 - powers(beta_2, steps))
    return (rates * second / first, np.ones_like(rates)) if scikit_learn else (rates / first, 1 / second)


@inlined
def flush(moment):
    """Denormal numbers become zero: they cost nothing here, but the state is to be what it is on the CPU."""
    # rounded to float32, the smallest normal float64 is 0
    tiny = like(moment, TINY_64)
    tiny = tiny if tiny > 0 else like(moment, TINY_32)
    return like(moment, 0) if abs(moment) < tiny else moment


@inlined
def moments_of(m, v, g, numbers, row):
    """b1 m + (1 - b1) g and b2 v + (1 - b2) g^2."""
    first = cuda.fma(numbers[row + AT_BETA_1], m, numbers[row + AT_REST_1] * g)
    second = cuda.fma(numbers[row + AT_BETA_2], v, numbers[row + AT_REST_2] * g * g)
    return flush(first), flush(second)


@inlined
def adam(w, state, g, numbers, row):
    """m and v are running means of g and g^2; w -= rate m / (correction sqrt(v) + epsilon)."""
    rate, correction, epsilon = numbers[row + AT_RATE], numbers[row + AT_CORRECTION], numbers[row + AT_EPSILON]
    m, v = moments_of(state[0], state[1], g, numbers, row)
    return w - rate * m / cuda.fma(correction, sqrt(v), epsilon), (m, v)


@functools.lru_cache
def sgd_of(nesterov):
    """The function ``sgd``, with Nesterov's momentum or the other."""

    @inlined
    def sgd(w, state, g, numbers, row):
        """v = momentum v + correction g; w -= rate v, or rate (momentum v + correction g) with Nesterov's."""
        momentum, rate = numbers[row + AT_BETA_1], numbers[row + AT_RATE]
        own = numbers[row + AT_CORRECTION] * g
        v = flush(cuda.fma(momentum, state[0], own))
        return cuda.fma(-rate, cuda.fma(momentum, v, own) if nesterov else v, w), (v,)

    return sgd
