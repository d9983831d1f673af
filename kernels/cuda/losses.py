"""Losses with their gradient, a row for each group of threads.

Each function writes the gradient D of one row with respect to the pre-activation (cross-entropies and Poisson, fused
with their link: dZ = p - t) or to the output (squared error), and returns the row's loss, in every lane. ``factor`` is
the row's weight / sum of weights; the loss is without the weight. Lanes keep to columns of their own, and Z stays.
"""

import numpy as np

from fastbp.kernels.cuda._target import WIDTH, device, exp, group_sum, like, log, log1p
from fastbp.kernels.cuda.activations import _largest, logistic
from fastbp.kernels.layout import MEAN_SQUARED_ERROR, SCIKIT_LEARN


@device
def _clipped_log(p, D):
    """-ln of p clipped to [eps, 1 - eps] of D's dtype, as scikit-learn reports cross-entropies."""
    eps = like(p, np.finfo(D.dtype).eps)
    most = like(p, 1.0) - eps
    p = eps if p < eps else p
    p = most if p > most else p
    return -log(p)


@device
def softmax_cross_entropy(lane, D, d, Z, z, n, label, factor, convention):
    """Loss ln(sum e^z) - z_t and dZ = (softmax(z) - onehot(t)) factor, for an integer label t.

    Parameters
    ----------
    lane : int
    D, d : 1-D array of real, int
        The gradient at D[d : d + n].
    Z, z : 1-D array of real, int
        Logits at Z[z : z + n].
    n, label : int
    factor : real
    convention : int
        ``SCIKIT_LEARN``: the loss is -ln of the probability clipped to [eps, 1 - eps].
    """
    largest, total = _largest(lane, Z, z, n), like(factor, 0.0)
    for j in range(lane, n, WIDTH):
        e = exp(Z[z + j] - largest)
        D[d + j] = e
        total += e
    total = group_sum(total)
    ratio = factor / total
    for j in range(lane, n, WIDTH):
        p = D[d + j] * ratio
        D[d + j] = p - factor if j == label else p
    shifted = Z[z + label] - largest
    if convention == SCIKIT_LEARN:
        return _clipped_log(exp(shifted) / total, D)
    return log(total) - shifted


@device
def block_softmax_cross_entropy(lane, D, d, Z, z, labels, at, blocks, factor, convention):
    """Several labels a row: the sum over blocks of columns of each block's :func:`softmax_cross_entropy`.

    labels[at + k] counts from 0 within block k, which has the columns blocks[k] .. blocks[k + 1].
    """
    loss = like(factor, 0.0)
    for k in range(blocks.shape[0] - 1):
        first = blocks[k]
        width = blocks[k + 1] - first
        loss += softmax_cross_entropy(lane, D, d + first, Z, z + first, width, labels[at + k], factor, convention)
    return loss


@device
def sigmoid_cross_entropy(lane, D, d, Z, z, values, at, n, factor, convention):
    """Loss, summed over outputs, ln(1 + e^z) - t z, and dZ = (logistic(z) - t) factor, for targets t in [0, 1].

    ``values``, ``at`` : targets at values[at : at + n]. The rest as in :func:`softmax_cross_entropy`.
    """
    one, zero = like(factor, 1.0), like(factor, 0.0)
    loss = zero
    for j in range(lane, n, WIDTH):
        x, t = Z[z + j], values[at + j]
        p = logistic(x)
        if convention == SCIKIT_LEARN:
            loss += t * _clipped_log(p, D) + (one - t) * _clipped_log(one - p, D)
        else:
            positive = x > 0
            loss += (x if positive else zero) - t * x + log1p(exp(-x if positive else x))
        D[d + j] = (p - t) * factor
    return group_sum(loss)


@device
def poisson(lane, D, d, Z, z, values, at, n, factor):
    """Loss, summed over outputs, t ln(t / p) - t + p with p = e^z, and dZ = (p - t) factor, for targets t >= 0.

    Half the Poisson deviance; t ln t is 0 for t = 0. ln p is z: no quotient that could overflow.
    """
    zero = like(factor, 0.0)
    loss = zero
    for j in range(lane, n, WIDTH):
        x, t = Z[z + j], values[at + j]
        difference = exp(x) - t
        # p - t last: the rest is nearly its negative where p is near t
        loss += (t * log(t) - t * x if t > 0 else zero) + difference
        D[d + j] = difference * factor
    return group_sum(loss)


@device
def squared_error(lane, D, d, A, a, values, at, n, factor, code, convention):
    """Squared error and its gradient with respect to the output A.

    ``MEAN_SQUARED_ERROR``: mean over outputs of (a - t)^2, dA = 2 (a - t) / n. ``HALF_SQUARED_ERROR``: half the sum,
    dA = a - t; reported as half the mean under ``SCIKIT_LEARN``.
    """
    one, half, count = like(factor, 1.0), like(factor, 0.5), like(factor, n)
    gradient_factor, loss_factor = one, half
    if code == MEAN_SQUARED_ERROR:
        gradient_factor, loss_factor = like(factor, 2.0) / count, one / count
    elif convention == SCIKIT_LEARN:
        loss_factor = half / count
    factor, loss = gradient_factor * factor, like(factor, 0.0)
    for j in range(lane, n, WIDTH):
        difference = A[a + j] - values[at + j]
        loss += difference * difference
        D[d + j] = difference * factor
    return loss_factor * group_sum(loss)
