"""Cross-entropies of soft targets, with label smoothing and class weights.

t is smoothed first, (1 - s) t + s / n, and then weighted, u_c = w_c t_c: the loss is -sum u_c ln p_c and its gradient
with respect to the logits dz = (sum u) p - u.
"""

import itertools

import numpy as np

from fastbp.kernels.layout import GROUP, N_BLOCKS, SCIKIT_LEARN, SOFT_TARGETS, padded
from fastbp.kernels.reference._views import gathered, rows
from fastbp.kernels.reference.activations import exponentials, logistic, softmax_shift
from fastbp.kernels.reference.losses import (
    _clipped_log,
    _sample_weights,
    block_softmax_cross_entropy,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)


def weighted_targets(u, values, labels, coefficients, r, n):
    """u of row r, and 0 behind it; for labels without (1 - s) w_t, which the label itself has more."""
    smoothing, w = coefficients[0], coefficients[1 : 1 + n]
    t = 0 if labels.size else values[r * n :][:n]
    u[:n] = w * ((1 - smoothing) * t + smoothing / int(n))
    u[n : padded(int(n))] = 0


def _smoothed(t, smoothing):
    """(1 - s) t + s / n for rows of n classes."""
    return (1 - smoothing) * t + smoothing / t.shape[1]


def _one_hot(labels, n, real):
    return np.eye(n, dtype=real)[labels]


def _fused(Z, shifted, u, scale, convention):
    """Losses of rows of e^z and u, and dZ; ``shifted`` is z."""
    total, mass = Z.sum(axis=1, keepdims=True), u.sum(axis=1, keepdims=True)
    if convention == SCIKIT_LEARN:
        loss = (u * _clipped_log(Z / total)).sum(axis=1)
    else:
        loss = (mass * np.log(total))[:, 0] - np.where(u != 0, u * shifted, 0).sum(axis=1)
    return loss, (mass * (Z / total) - u) * scale[:, None]


@np.errstate(all="ignore")
def soft_cross_entropy(row_loss, dZ, Z, ld, labels, values, coefficients, index, weights, scale, m, n, convention):
    """p = softmax(z): loss -sum u ln p, and dZ = (sum u) p - u.

    With labels, ``values`` has what a row's loss is multiplied by where that is not its weight in the mean.
    """
    weight, n, index = _sample_weights(weights, index, m), int(n), index[:m]
    softmax_shift(Z, ld, m, n)
    shifted = rows(Z, ld, m, n).copy()
    exponentials(Z, m * ld)
    if labels.size:
        t, weight = _one_hot(labels[index], n, dZ.dtype), values[index] if values.size else weight
    else:
        t = gathered(values, n, index, n)
    u = _smoothed(t, coefficients[0]) * coefficients[1 : 1 + n]
    loss, rows(dZ, ld, m, n)[:] = _fused(rows(Z, ld, m, n), shifted, u, weight * scale, convention)
    rows(dZ, ld, m, padded(n))[:, n:] = 0
    row_loss[:m] = weight * loss


@np.errstate(all="ignore")
def block_soft_cross_entropy(
    row_loss, dZ, Z, ld, labels, values, blocks, coefficients, index, weights, scale, m, convention
):  # fmt: skip
    """p = softmax(z) within each block of columns: the sum over blocks of their losses, without class weights."""
    weight, index, n = _sample_weights(weights, index, m), index[:m], int(blocks[-1])
    logits, dZ = rows(Z, ld, m, n), rows(dZ, ld, m, n)
    spans = [slice(int(start), int(end)) for start, end in itertools.pairwise(blocks)]
    for span in spans:
        logits[:, span] -= np.fmax.reduce(logits[:, span], axis=1, keepdims=True)
    shifted = logits.copy()
    exponentials(Z, m * ld)
    total = np.zeros(m, dZ.dtype)
    for k, span in enumerate(spans):
        if labels.size:
            own = gathered(labels, len(spans), index, len(spans))[:, k]
            t = _one_hot(own, span.stop - span.start, dZ.dtype)
        else:
            t = gathered(values, n, index, n)[:, span]
        u = _smoothed(t, coefficients[0])
        loss, dZ[:, span] = _fused(logits[:, span], shifted[:, span], u, weight * scale, convention)
        total += loss
    row_loss[:m] = weight * total


@np.errstate(all="ignore")
def soft_sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n, convention):
    """p = logistic(z): loss -u ln p - v ln(1 - p), summed over outputs, and dZ = (u + v) p - u.

    u = w_1 t and v = w_0 (1 - t), with t smoothed to (1 - s) t + s / 2.
    """
    weight, n, smoothing = _sample_weights(weights, index, m), int(n), coefficients[0]
    t = (1 - smoothing) * gathered(values, n, index[:m], n) + smoothing / 2
    u, v = coefficients[1 + n : 1 + 2 * n] * t, coefficients[1 : 1 + n] * (1 - t)
    z, p = rows(Z, ld, m, n), logistic(rows(Z, ld, m, n))
    if convention == SCIKIT_LEARN:
        loss = u * _clipped_log(p) + v * _clipped_log(1 - p)
    else:
        loss = (u + v) * np.log1p(np.exp(-np.abs(z))) + np.where(z > 0, v * z, -u * z)
    rows(dZ, ld, m, n)[:] = ((u + v) * p - u) * (weight * scale)[:, None]
    if n >= GROUP:
        rows(dZ, ld, m, padded(n))[:, n:] = 0
    row_loss[:m] = weight * loss.sum(axis=1)


# ---------------------------------------------------------------------------------------------------------------------
# Which of them a network needs


def softmax_loss(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    """The softmax cross-entropy for what the targets are: labels or soft targets, of one block or of several."""
    blocks, numbers = targets.blocks, targets.coefficients
    out, rest = (row_loss, dZ, Z, ld, labels), (index, weights, scale, m)
    if plan.header[SOFT_TARGETS] and not plan.header[N_BLOCKS]:
        soft_cross_entropy(*out, values, numbers, *rest, n, convention)
    elif plan.header[SOFT_TARGETS]:
        block_soft_cross_entropy(*out, values, blocks, numbers, *rest, convention)
    elif not plan.header[N_BLOCKS]:
        softmax_cross_entropy(*out, *rest, n, convention)
    else:
        block_softmax_cross_entropy(*out, blocks, *rest, convention)


def sigmoid_loss(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention, plan, targets):
    """The sigmoid cross-entropy, with label smoothing and class weights where the network needs them."""
    out, rest = (row_loss, dZ, Z, ld, values), (index, weights, scale, m, n, convention)
    if plan.header[SOFT_TARGETS]:
        soft_sigmoid_cross_entropy(*out, targets.coefficients, *rest)
    else:
        sigmoid_cross_entropy(*out, *rest)
