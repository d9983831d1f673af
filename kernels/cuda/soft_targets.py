"""Cross-entropies of soft targets, with label smoothing and class weights, fused with their link.

With the weighted target of each class, u_c = w_c t_c where t is smoothed already, the loss of a row is -sum u_c ln p_c
and its gradient dz = (sum u) p - u. Arguments as in ``losses.py``.
"""

from fastbp.kernels.cuda._target import WIDTH, device, exp, group_sum, like, log, log1p
from fastbp.kernels.cuda.activations import _largest, logistic
from fastbp.kernels.cuda.losses import _clipped_log
from fastbp.kernels.layout import SCIKIT_LEARN


@device
def weighted_target(j, values, at, coefficients, weighted, hard, label, kept, spread):
    """u_j = w_j ((1 - s) t_j + s / n), with t_j = 1 at the label and 0 elsewhere where there are labels."""
    if hard:
        u = kept + spread if j == label else spread
    else:
        u = kept * values[at + j] + spread
    return coefficients[1 + j] * u if weighted else u


@device
def soft_row(lane, D, d, Z, z, values, at, coefficients, weighted, hard, label, n, factor, convention):
    """:func:`soft_cross_entropy` of n columns, for a label or the soft targets at values[at : at + n]."""
    zero, smoothing = like(factor, 0.0), coefficients[0]
    kept, spread = like(factor, 1.0) - smoothing, smoothing / like(factor, n)
    largest, total, mass, product = _largest(lane, Z, z, n), zero, zero, zero
    for j in range(lane, n, WIDTH):
        shifted = Z[z + j] - largest
        u = weighted_target(j, values, at, coefficients, weighted, hard, label, kept, spread)
        e = exp(shifted)
        D[d + j] = e
        total += e
        mass += u
        if u != 0:  # z may be -inf
            product += u * shifted
    total, mass = group_sum(total), group_sum(mass)
    ratio, clipped = mass / total, zero
    for j in range(lane, n, WIDTH):
        e = D[d + j]
        u = weighted_target(j, values, at, coefficients, weighted, hard, label, kept, spread)
        if convention == SCIKIT_LEARN:
            clipped += u * _clipped_log(e / total, D)
        D[d + j] = (e * ratio - u) * factor
    if convention == SCIKIT_LEARN:
        return group_sum(clipped)
    return mass * log(total) - group_sum(product)


@device
def soft_cross_entropy(lane, D, d, Z, z, labels, values, coefficients, r, n, factor, convention):
    """Loss -sum u_c ln p_c, p = softmax(z), and dZ = ((sum u) p - u) factor.

    Parameters
    ----------
    labels : 1-D array of intp
        Label of row r; empty for soft targets.
    values : 1-D array of real
        Soft targets of row r at values + r n; not read where there are labels.
    coefficients : 1-D array of real, 1 + n
        Label smoothing and class weights.
    lane, D, d, Z, z, n, factor, convention
        As in :func:`fastbp.kernels.cuda.losses.softmax_cross_entropy`.
    """
    hard = labels.shape[0] > 0
    label = labels[r] if hard else 0
    return soft_row(lane, D, d, Z, z, values, r * n, coefficients, True, hard, label, n, factor, convention)


@device
def block_soft_cross_entropy(lane, D, d, Z, z, labels, values, blocks, coefficients, r, factor, convention):
    """The sum over blocks of columns of each block's :func:`soft_cross_entropy`, without class weights.

    Labels of row r at labels + r (number of blocks), each counted from 0 within its block; label smoothing spreads over
    the classes of each block.
    """
    hard, n_blocks, loss, label = labels.shape[0] > 0, blocks.shape[0] - 1, like(factor, 0.0), 0
    for k in range(n_blocks):
        first = blocks[k]
        width, at = blocks[k + 1] - first, r * blocks[n_blocks] + first
        if hard:
            label = labels[r * n_blocks + k]
        loss += soft_row(
            lane, D, d + first, Z, z + first, values, at, coefficients, False, hard, label, width, factor, convention
        )
    return loss


@device
def soft_sigmoid_cross_entropy(lane, D, d, Z, z, values, at, coefficients, n, factor, convention):
    """Loss, summed over outputs, -u ln p - v ln(1 - p), p = logistic(z), and dZ = ((u + v) p - u) factor.

    u = w_1 t and v = w_0 (1 - t) with t smoothed to (1 - s) t + s / 2: the smoothing of two classes.
    ``coefficients``: s, w_0 and w_1, (1 + 2 n,).
    """
    one, zero = like(factor, 1.0), like(factor, 0.0)
    kept, half, loss = one - coefficients[0], like(factor, 0.5) * coefficients[0], zero
    for j in range(lane, n, WIDTH):
        x, t = Z[z + j], kept * values[at + j] + half
        u, v, p = coefficients[1 + n + j] * t, coefficients[1 + j] * (one - t), logistic(x)
        if convention == SCIKIT_LEARN:
            loss += u * _clipped_log(p, D) + v * _clipped_log(one - p, D)
        else:
            # -ln p = ln(1 + e^-|z|) + max(-z, 0), and -ln(1 - p) has max(z, 0)
            positive = x > 0
            loss += (u + v) * log1p(exp(-x if positive else x)) + (v * x if positive else -u * x)
        D[d + j] = ((u + v) * p - u) * factor
    return group_sum(loss)
