"""Losses with their gradient: for cross-entropies and Poisson with respect to Z, dZ = p - t; else to the output A.

``scale`` is 1 / sum of weights: the loss is a (weighted) mean over the batch, and so is its gradient.
"""

import itertools

import numpy as np

from fastbp.kernels.layout import MEAN_SQUARED_ERROR, SCIKIT_LEARN, padded
from fastbp.kernels.reference._views import gathered, rows
from fastbp.kernels.reference.activations import exp, exponentials, log, logistic, softmax_shift


def _clipped_log(p):
    """-ln of p clipped to [eps, 1 - eps], as scikit-learn reports cross-entropies."""
    eps = np.finfo(p.dtype).eps
    return -np.log(np.clip(p, eps, 1 - eps))


def _sample_weights(weights, index, m):
    """Weight of each of m rows; 1 where there are none."""
    return weights[index[:m]] if weights.size else np.ones(m, weights.dtype)


@np.errstate(all="ignore")
def softmax_cross_entropy(row_loss, dZ, Z, ld, labels, index, weights, scale, m, n, convention):
    """p = softmax(z): loss -ln p_t = ln(sum e^z) - z_t, and dZ = p - onehot(t)."""
    weight, label, here = _sample_weights(weights, index, m), labels[index[:m]], np.arange(m)
    softmax_shift(Z, ld, m, n)
    shifted = rows(Z, ld, m, padded(n))[here, label]
    exponentials(Z, m * ld)
    Z, dZ = rows(Z, ld, m, padded(n)), rows(dZ, ld, m, padded(n))
    total = Z.sum(axis=1)
    loss = _clipped_log(Z[here, label] / total) if convention == SCIKIT_LEARN else np.log(total) - shifted
    dZ[:] = Z / total[:, None]
    dZ[here, label] -= 1
    dZ *= (weight * scale)[:, None]
    row_loss[:m] = weight * loss


@np.errstate(all="ignore")
def block_softmax_cross_entropy(row_loss, dZ, Z, ld, labels, blocks, index, weights, scale, m, convention):
    """p = softmax(z) within each block of columns: loss, the sum over blocks of -ln p_t, and dZ = p - onehot(t)."""
    weight, here = _sample_weights(weights, index, m), np.arange(m)
    labels = gathered(labels, len(blocks) - 1, index[:m], len(blocks) - 1)
    spans = [slice(start, end) for start, end in itertools.pairwise(blocks)]
    logits, dZ = rows(Z, ld, m, blocks[-1]), rows(dZ, ld, m, blocks[-1])
    for span in spans:
        logits[:, span] -= np.fmax.reduce(logits[:, span], axis=1, keepdims=True)
    shifted = [logits[:, span][here, label] for span, label in zip(spans, labels.T, strict=True)]
    exponentials(Z, m * ld)
    loss = np.zeros(m, dZ.dtype)
    for span, label, z in zip(spans, labels.T, shifted, strict=True):
        e, d = logits[:, span], dZ[:, span]
        total = e.sum(axis=1)
        loss += _clipped_log(e[here, label] / total) if convention == SCIKIT_LEARN else np.log(total) - z
        d[:] = e / total[:, None]
        d[here, label] -= 1
        d *= (weight * scale)[:, None]
    row_loss[:m] = weight * loss


@np.errstate(all="ignore")
def sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention):
    """p = logistic(z): loss -t ln p - (1 - t) ln(1 - p) = ln(1 + e^z) - t z, summed over outputs, and dZ = p - t."""
    weight, t = _sample_weights(weights, index, m), gathered(values, n, index[:m], n)
    Z, dZ = rows(Z, ld, m, n), rows(dZ, ld, m, n)
    p = logistic(Z)
    if convention == SCIKIT_LEARN:
        loss = t * _clipped_log(p) + (1 - t) * _clipped_log(1 - p)
    else:
        loss = np.maximum(Z, 0) - t * Z + np.log1p(np.exp(-np.abs(Z)))
    dZ[:] = (p - t) * (weight * scale)[:, None]
    row_loss[:m] = weight * loss.sum(axis=1)


@np.errstate(all="ignore")
def poisson(row_loss, dZ, Z, ld, values, index, weights, scale, m, n):
    """p = e^z: half the deviance, t ln(t / p) - t + p = t ln t - t z + p - t, summed over outputs, and dZ = p - t."""
    weight, t = _sample_weights(weights, index, m), gathered(values, n, index[:m], n)
    Z, dZ = rows(Z, ld, m, n), rows(dZ, ld, m, n)
    difference = exp(Z) - t
    loss = np.where(t > 0, t * log(t) - t * Z, 0) + difference
    dZ[:] = difference * (weight * scale)[:, None]
    row_loss[:m] = weight * loss.sum(axis=1)


@np.errstate(all="ignore")
def squared_error(row_loss, dA, A, ld, values, index, weights, scale, m, n, code, convention):
    """Mean over outputs of (a - t)^2, dA = 2 (a - t) / n; or half their sum, dA = a - t.

    scikit-learn reports half the mean while its gradient is that of half the sum.
    """
    weight, t = _sample_weights(weights, index, m), gathered(values, n, index[:m], n)
    A, dA = rows(A, ld, m, n), rows(dA, ld, m, n)
    gradient_factor, loss_factor = 1.0, 0.5
    if code == MEAN_SQUARED_ERROR:
        gradient_factor, loss_factor = 2 / int(n), 1 / int(n)
    elif convention == SCIKIT_LEARN:
        loss_factor = 0.5 / int(n)
    difference = A - t
    dA[:] = difference * (gradient_factor * (weight * scale))[:, None]
    row_loss[:m] = weight * (loss_factor * (difference * difference).sum(axis=1))
