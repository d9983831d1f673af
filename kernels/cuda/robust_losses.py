"""Losses that grow more slowly than the square, and the quantile loss; each the mean over outputs, with its gradient.

All are functions of e = a - t, and the gradient is with respect to the output A. At a kink, where e = 0, the derivative
taken is 0. Where e is NaN, loss and gradient are. Arguments as in ``losses.py``; what
``coefficients`` has stands with each loss.
"""

import math

from fastbp.kernels.cuda._target import WIDTH, device, exp, expm1, group_sum, like, log1p, tanh
from fastbp.kernels.layout import HUBER, LOG_COSH, QUANTILE

LN_2 = math.log(2)


@device
def ln_cosh(x):
    """ln((e^x + e^-x) / 2): ln(1 + sinh^2 x) / 2 for small x, else \\|x\\| + ln(1 + e^(-2 \\|x\\|)) - ln 2."""
    one, half = like(x, 1.0), like(x, 0.5)
    a = x if x > 0 else -x
    if a < one:
        u = expm1(a)
        sinh = half * (u + u / (u + one))
        return half * log1p(sinh * sinh)
    return a + log1p(exp(like(x, -2.0) * a)) - like(x, LN_2)


@device
def absolute_error(lane, D, d, A, a, values, at, n, factor):
    """Loss \\|e\\| and dA = sign(e), both over n."""
    share, loss = like(factor, 1.0) / like(factor, n), like(factor, 0.0)
    factor *= share
    for j in range(lane, n, WIDTH):
        e = A[a + j] - values[at + j]
        loss += e if e > 0 else -e
        D[d + j] = factor if e > 0 else (-factor if e < 0 else factor * e)  # e itself is 0 there, or NaN
    return share * group_sum(loss)


@device
def huber(lane, D, d, A, a, values, at, coefficients, n, factor):
    """Loss e^2 / 2 where \\|e\\| <= delta, else delta (\\|e\\| - delta / 2), and dA = e clipped to delta; both over n.

    With c = e clipped to [-delta, delta] the loss is c (e - c / 2) everywhere. ``coefficients``: delta.
    """
    share, loss = like(factor, 1.0) / like(factor, n), like(factor, 0.0)
    half, delta = like(factor, 0.5), coefficients[0]
    factor *= share
    for j in range(lane, n, WIDTH):
        e = A[a + j] - values[at + j]
        c = delta if e > delta else (-delta if e < -delta else e)
        loss += c * (e - half * c)
        D[d + j] = factor * c
    return share * group_sum(loss)


@device
def quantile(lane, D, d, A, a, values, at, coefficients, n, factor):
    """Loss (1 - level) e where e > 0, else -level e, and its derivative; both over n. Also called pinball loss.

    ``coefficients``: the level of each output, (n,).
    """
    one = like(factor, 1.0)
    share, loss = one / like(factor, n), like(factor, 0.0)
    factor *= share
    for j in range(lane, n, WIDTH):
        e, level = A[a + j] - values[at + j], coefficients[j]
        slope = one - level if e > 0 else -level
        loss += e * slope
        D[d + j] = factor * (slope if e > 0 or e < 0 else e)
    return share * group_sum(loss)


@device
def log_cosh(lane, D, d, A, a, values, at, n, factor):
    """Loss ln cosh e and dA = tanh e, both over n."""
    share, loss = like(factor, 1.0) / like(factor, n), like(factor, 0.0)
    factor *= share
    for j in range(lane, n, WIDTH):
        e = A[a + j] - values[at + j]
        loss += ln_cosh(e)
        D[d + j] = factor * tanh(e)
    return share * group_sum(loss)


@device
def robust_loss(lane, D, d, A, a, values, at, coefficients, n, factor, code):
    """The loss of this module that ``code`` names."""
    if code == HUBER:
        return huber(lane, D, d, A, a, values, at, coefficients, n, factor)
    if code == QUANTILE:
        return quantile(lane, D, d, A, a, values, at, coefficients, n, factor)
    if code == LOG_COSH:
        return log_cosh(lane, D, d, A, a, values, at, n, factor)
    return absolute_error(lane, D, d, A, a, values, at, n, factor)
