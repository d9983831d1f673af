"""Cross-entropies of soft targets, with label smoothing and class weights, fused with their link.

Compiled for networks with the feature ``"soft_targets"``. With the weighted target of each class, u_c = w_c t_c where t
is smoothed already, the loss of a row is -sum u_c ln p_c and its gradient dz = (sum u) p - u. In the row of the
gradient first stand other numbers, for sums in one order, so that all loops over a row vectorise.
"""

import numpy as np

from fastbp.kernels.cpu._jit import by_type_inlined, kernel, uses
from fastbp.kernels.cpu.activations import exp, exponentials, log, logistic, softmax_shift
from fastbp.kernels.cpu.groups import fill_group, group_sum
from fastbp.kernels.cpu.losses import (
    _clipped_log,
    block_softmax_cross_entropy,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from fastbp.kernels.cpu.robust_losses import row_sum
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.layout import GROUP, N_BLOCKS, SCIKIT_LEARN, SOFT_TARGETS


@kernel
def weighted_targets(u, values, labels, coefficients, r, n):
    """u_c = w_c ((1 - s) t_c + s / n) for soft targets; for labels w_c s / n, without what the label itself has.

    Parameters
    ----------
    u : 1-D array of real, n rounded up to 16
        Overwritten; 0 from n on.
    values : 1-D array of real
        Soft targets, row r at values + r n. Not read where there are labels.
    labels : 1-D array of intp
        Empty for soft targets.
    coefficients : 1-D array of real, 1 + n
        s, and the weight w_c of each class.
    r, n : int
        Row, classes.
    """
    real = u.dtype.type
    w = window(coefficients, 1, n)
    kept, spread = real(1) - coefficients[0], coefficients[0] / real(n)
    if labels.shape[0]:
        for q in range(n):
            u[q] = w[q] * spread
    else:
        t = window(values, r * n, n)
        for q in range(n):
            u[q] = w[q] * (kept * t[q] + spread)
    fill_group(u, n, real(0))


@kernel
def soft_cross_entropy(
    row_loss, dZ, Z, ld, labels, values, coefficients, index, weights, scale, m, n, convention
):  # fmt: skip
    """Loss -sum u_c ln p_c, p = softmax(z), and dZ = ((sum u) p - u) scale: see the top of this module.

    Parameters
    ----------
    row_loss, dZ, Z, ld, index, scale, m, n
        As in :func:`fastbp.kernels.cpu.losses.softmax_cross_entropy`.
    labels : 1-D array of intp
        Empty for soft targets.
    values : 1-D array of real
        Soft targets, row r at values + r n. With labels and class weights: what the loss of each sample is multiplied
        by, since ``weights`` then has the class weight in it and is for the mean alone; empty for ``weights``.
    coefficients : 1-D array of real, 1 + n
        Label smoothing and class weights.
    weights : 1-D array of real
        One a sample, or empty for 1.
    convention : int
        ``SCIKIT_LEARN``: the loss takes -ln p of probabilities clipped to [eps, 1 - eps].
    """
    real = dZ.dtype.type
    one, zero = real(1), real(0)
    groups, hard = (n + GROUP - 1) // GROUP, labels.shape[0] > 0
    kept, w = one - coefficients[0], window(coefficients, 1, n)
    softmax_shift(Z, ld, m, n)
    for i in range(m):
        z, d = window(Z, i * ld, groups * GROUP), window(dZ, i * ld, groups * GROUP)
        weighted_targets(d, values, labels, coefficients, index[i], n)
        for q in range(n):
            d[q] = d[q] * z[q] if d[q] != zero else zero  # z may be -inf
        product = group_sum(d, groups)
        if hard:
            label = labels[index[i]]
            extra = w[label] * kept
            product = product + (extra * z[label] if extra != zero else zero)
        row_loss[i] = product
    exponentials(Z, m * ld)
    for i in range(m):
        r = index[i]
        z, d = window(Z, i * ld, groups * GROUP), window(dZ, i * ld, groups * GROUP)
        weight = weights[r] if weights.shape[0] else one
        label, extra = 0, zero
        if hard:
            label = labels[r]
            extra = w[label] * kept
            weight = values[r] if values.shape[0] else weight
        factor, total = weight * scale, group_sum(z, groups)
        weighted_targets(d, values, labels, coefficients, r, n)
        mass = group_sum(d, groups) + extra
        loss = mass * log(total) - real(row_loss[i])
        if convention == SCIKIT_LEARN:
            for q in range(n):
                d[q] = d[q] * _clipped_log(z[q] / total)
            loss = group_sum(d, groups) + extra * _clipped_log(z[label] / total)
            weighted_targets(d, values, labels, coefficients, r, n)
        ratio = mass / total
        for q in range(n):
            d[q] = (z[q] * ratio - d[q]) * factor
        if hard:
            d[label] = d[label] - extra * factor
        row_loss[i] = weight * loss


@kernel
def block_soft_cross_entropy(
    row_loss, dZ, Z, ld, labels, values, blocks, coefficients, index, weights, scale, m, convention
):  # fmt: skip
    """The sum over blocks of columns of each block's :func:`soft_cross_entropy`, without class weights.

    Blocks start anywhere, so this goes by element, as :func:`fastbp.kernels.cpu.losses.block_softmax_cross_entropy`.
    Label smoothing spreads over the classes of each block. The padding of dZ is not touched.

    Parameters
    ----------
    labels : 1-D array of intp
        Row r at labels + r (number of blocks), each counted from 0 within its block; empty for soft targets.
    values : 1-D array of real
        Soft targets, row r at values + r n, n = blocks[-1]; empty for labels.
    blocks : 1-D array of intp
        Block k has the columns blocks[k] .. blocks[k + 1].
    coefficients : 1-D array of real
        Label smoothing first; nothing else is read.
    row_loss, dZ, Z, ld, index, weights, scale, m, convention
        As in :func:`soft_cross_entropy`.
    """
    real = dZ.dtype.type
    one, zero, nothing = real(1), real(0), real(-np.inf)
    n_blocks = blocks.shape[0] - 1
    n, hard, smoothing = blocks[n_blocks], labels.shape[0] > 0, coefficients[0]
    for i in range(m):
        product = zero
        for k in range(n_blocks):
            width = blocks[k + 1] - blocks[k]
            z, u = window(Z, i * ld + blocks[k], width), window(dZ, i * ld + blocks[k], width)
            kept, spread = one - smoothing, smoothing / real(width)
            if hard:
                for q in range(width):
                    u[q] = spread
                label = labels[index[i] * n_blocks + k]
                u[label] = u[label] + kept
            else:
                t = window(values, index[i] * n + blocks[k], width)
                for q in range(width):
                    u[q] = kept * t[q] + spread
            largest = nothing
            for q in range(width):
                largest = z[q] if z[q] > largest else largest
            for q in range(width):
                z[q] = z[q] - largest
                product = product + (u[q] * z[q] if u[q] != zero else zero)
        row_loss[i] = product
    exponentials(Z, m * ld)
    for i in range(m):
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        loss = zero if convention == SCIKIT_LEARN else -real(row_loss[i])
        for k in range(n_blocks):
            width = blocks[k + 1] - blocks[k]
            z, u = window(Z, i * ld + blocks[k], width), window(dZ, i * ld + blocks[k], width)
            total, mass = zero, zero
            for q in range(width):
                total, mass = total + z[q], mass + u[q]
            if convention == SCIKIT_LEARN:
                for q in range(width):
                    loss = loss + u[q] * _clipped_log(z[q] / total)
            else:
                loss = loss + mass * log(total)
            ratio = mass / total
            for q in range(width):
                u[q] = (z[q] * ratio - u[q]) * factor
        row_loss[i] = weight * loss


@kernel
def soft_sigmoid_cross_entropy(
    row_loss, dZ, Z, ld, values, coefficients, index, weights, scale, m, n, convention
):  # fmt: skip
    """Loss, summed over outputs, -u ln p - v ln(1 - p), p = logistic(z), and dZ = ((u + v) p - u) scale.

    u = w_1 t and v = w_0 (1 - t) with t smoothed to (1 - s) t + s / 2: the smoothing of two classes.

    Parameters
    ----------
    values : 1-D array of real
        Targets in [0, 1], row r at values + r n.
    coefficients : 1-D array of real, 1 + 2 n
        s, the weight w_0 of each output's targets of 0, and the weight w_1 of its targets of 1.
    row_loss, dZ, Z, ld, index, weights, scale, m, n, convention
        As in :func:`soft_cross_entropy`, but Z stays, and the padding of dZ becomes 0 from 16 outputs on.
    """
    real = dZ.dtype.type
    one, zero = real(1), real(0)
    kept, half = one - coefficients[0], real(0.5) * coefficients[0]
    w_0, w_1 = window(coefficients, 1, n), window(coefficients, 1 + n, n)
    for i in range(m):
        z, d, t = window(Z, i * ld, n), window(dZ, i * ld, n), window(values, index[i] * n, n)
        weight = weights[index[i]] if weights.shape[0] else one
        factor = weight * scale
        if convention == SCIKIT_LEARN:
            for q in range(n):
                smooth, p = kept * t[q] + half, logistic(z[q])
                d[q] = w_1[q] * smooth * _clipped_log(p) + w_0[q] * (one - smooth) * _clipped_log(one - p)
        else:
            for q in range(n):
                smooth, positive = kept * t[q] + half, z[q] > zero
                u, v = w_1[q] * smooth, w_0[q] * (one - smooth)
                # -ln p = ln(1 + e^-|z|) + max(-z, 0), and -ln(1 - p) has max(z, 0)
                d[q] = (u + v) * log(one + exp(-z[q] if positive else z[q])) + (v * z[q] if positive else -u * z[q])
        row_loss[i] = weight * row_sum(window(dZ, i * ld, ld), n)
        for q in range(n):
            smooth = kept * t[q] + half
            u, v = w_1[q] * smooth, w_0[q] * (one - smooth)
            d[q] = ((u + v) * logistic(z[q]) - u) * factor


# ---------------------------------------------------------------------------------------------------------------------
# Which of them a network needs


def _label(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    softmax_cross_entropy(row_loss, dZ, Z, ld, labels, index, weights, scale, m, n, convention)


def _label_for_each_block(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    if plan.header[N_BLOCKS] == 0:
        softmax_cross_entropy(row_loss, dZ, Z, ld, labels, index, weights, scale, m, n, convention)
    else:
        ends = window(targets.blocks, 0, targets.blocks.shape[0])
        block_softmax_cross_entropy(row_loss, dZ, Z, ld, labels, ends, index, weights, scale, m, convention)


@by_type_inlined
def _of_labels(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    """Of one label a row, or of one for each block."""
    return _label_for_each_block if uses(plan, "blocks") else _label


def _soft(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    if plan.header[SOFT_TARGETS] == 0:
        _of_labels(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets)
    else:
        numbers = window(targets.coefficients, 0, targets.coefficients.shape[0])
        soft_cross_entropy(row_loss, dZ, Z, ld, labels, values, numbers, index, weights, scale, m, n, convention)


def _soft_blocks(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    numbers = window(targets.coefficients, 0, targets.coefficients.shape[0])
    ends = window(targets.blocks, 0, targets.blocks.shape[0])
    if plan.header[SOFT_TARGETS] == 0:
        _of_labels(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets)
    elif plan.header[N_BLOCKS] == 0:
        soft_cross_entropy(row_loss, dZ, Z, ld, labels, values, numbers, index, weights, scale, m, n, convention)
    else:
        block_soft_cross_entropy(
            row_loss, dZ, Z, ld, labels, values, ends, numbers, index, weights, scale, m, convention
        )


@by_type_inlined
def softmax_loss(row_loss, dZ, Z, ld, labels, values, index, weights, scale, m, n, convention, plan, targets):
    """The softmax cross-entropy for what the targets are: labels or soft targets, of one block or of several."""
    if uses(plan, "soft_targets"):
        return _soft_blocks if uses(plan, "blocks") else _soft
    return _label_for_each_block if uses(plan, "blocks") else _label


def _plain_sigmoid(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention, plan, targets):
    sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention)


def _soft_sigmoid(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention, plan, targets):
    if plan.header[SOFT_TARGETS] == 0:
        sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention)
        return
    numbers = window(targets.coefficients, 0, targets.coefficients.shape[0])
    soft_sigmoid_cross_entropy(row_loss, dZ, Z, ld, values, numbers, index, weights, scale, m, n, convention)


@by_type_inlined
def sigmoid_loss(row_loss, dZ, Z, ld, values, index, weights, scale, m, n, convention, plan, targets):
    """The sigmoid cross-entropy, with label smoothing and class weights where the network needs them."""
    return _soft_sigmoid if uses(plan, "soft_targets") else _plain_sigmoid
