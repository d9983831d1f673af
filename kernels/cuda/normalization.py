"""Batch norm, by columns of a batch, and layer norm, by rows: x^ = (x - mean) / sqrt(variance + epsilon).

Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015;
Ba et al., "Layer Normalization", 2016. Variances are sums of squared differences from a mean, in a second pass: a mean
of squares less the square of the mean loses all digits where the mean is large. x^ is computed anew where it is needed.

A layer norm's row is a group's. Of a batch norm ``WIDTH`` neighbouring columns are a block's: thread t has column
t % WIDTH of them, and rows t // WIDTH, t // WIDTH + n_groups, ...; the groups' sums are added in the groups' order.
"""

import functools

import numpy as np

from fastbp.kernels.cuda._target import SIMULATED, WIDTH, cuda, device, group_sum, like, sqrt

# ---------------------------------------------------------------------------------------------------------------------
# Rows


@device
def layer_norm_forward(lane, work, y, x, n, stats, parameters, gamma, beta, epsilon):
    """work[y : y + n] = gamma x^ + beta of work[x : x + n], with the statistics of the row.

    Parameters
    ----------
    lane : int
    work : 1-D array of real
        The mean and 1 / sqrt(variance + epsilon) are left at ``stats`` and behind it.
    y, x, n, stats : int
    parameters : 1-D array of real
    gamma, beta : int
    epsilon : real
    """
    count, total, squares = like(epsilon, n), like(epsilon, 0), like(epsilon, 0)
    for j in range(lane, n, WIDTH):
        total += work[x + j]
    mean = group_sum(total) / count
    for j in range(lane, n, WIDTH):
        difference = work[x + j] - mean
        squares += difference * difference
    inverse = like(epsilon, 1) / sqrt(group_sum(squares) / count + epsilon)
    if lane == 0:
        work[stats] = mean
        work[stats + 1] = inverse
    for j in range(lane, n, WIDTH):
        normal = (work[x + j] - mean) * inverse
        work[y + j] = parameters[gamma + j] * normal + parameters[beta + j]


@device
def layer_norm_backward(lane, work, dx, dy, x, n, stats, parameters, gamma, adds):
    """dX = (g - mean of g - x^ mean of g x^) / deviation with g = gamma dY, written or, where ``adds``, added."""
    mean, inverse = work[stats], work[stats + 1]
    count, sum_g, sum_gx = like(mean, n), like(mean, 0), like(mean, 0)
    for j in range(lane, n, WIDTH):
        g = parameters[gamma + j] * work[dy + j]
        sum_g += g
        sum_gx += g * ((work[x + j] - mean) * inverse)
    mean_g, mean_gx = group_sum(sum_g) / count, group_sum(sum_gx) / count
    for j in range(lane, n, WIDTH):
        g, normal = parameters[gamma + j] * work[dy + j], (work[x + j] - mean) * inverse
        new = inverse * (g - mean_g - normal * mean_gx)
        work[dx + j] = work[dx + j] + new if adds else new


@device
def batch_norm_inference(lane, work, y, x, n, parameters, mean, variance, gamma, beta, epsilon):
    """work[y : y + n] = gamma x^ + beta with the running statistics, for one row."""
    for j in range(lane, n, WIDTH):
        normal = (work[x + j] - parameters[mean + j]) / sqrt(parameters[variance + j] + epsilon)
        work[y + j] = parameters[gamma + j] * normal + parameters[beta + j]


# ---------------------------------------------------------------------------------------------------------------------
# Columns


@functools.lru_cache
def column_functions(n_groups, real):
    """(batch_statistics, move_running, column_sums, batch_norm_backward) for blocks of n_groups groups.

    In all of them element r of the thread's own column stands at X[x + r ldx], and ``valid`` says that there is such a
    column: threads without one come along to the barriers. ``real`` is the dtype.
    """
    size, kind = n_groups * WIDTH, np.dtype(real).type

    @device
    def block_sum(group, lane, value):
        """The sum over the groups for each lane, in all of them."""
        if SIMULATED:
            parts = cuda.shared.array(size, kind)
        else:
            parts = cuda.shared.array(0, kind, 16)  # see ``gemm.py``
        cuda.syncthreads()  # who still reads what was there
        parts[group * WIDTH + lane] = value
        cuda.syncthreads()
        total = parts[lane]
        for other in range(1, n_groups):
            total += parts[other * WIDTH + lane]
        cuda.syncthreads()
        return total

    @device
    def batch_statistics(group, lane, valid, X, x, ldx, n_rows, epsilon):
        """Mean, sum of squared differences from it, and 1 / sqrt(variance + epsilon) of the column.

        The mean is taken from the first element on, so that a large mean costs no digits.
        """
        count, total, squares, first = like(epsilon, n_rows), like(epsilon, 0), like(epsilon, 0), like(epsilon, 0)
        if valid:
            first = X[x]
            for r in range(group, n_rows, n_groups):
                total += X[x + r * ldx] - first
        offset = block_sum(group, lane, total) / count
        if valid:
            for r in range(group, n_rows, n_groups):
                difference = (X[x + r * ldx] - first) - offset
                squares += difference * difference
        squares = block_sum(group, lane, squares)
        return first + offset, squares, like(epsilon, 1) / sqrt(squares / count + epsilon)

    @device
    def move_running(parameters, mean_at, variance_at, mean, squares, n_rows, momentum):
        """running += momentum (new - running); the new variance is the unbiased one, as PyTorch has it."""
        if momentum > 0 and n_rows > 1:
            variance = squares / like(squares, n_rows - 1)
            parameters[mean_at] += momentum * (mean - parameters[mean_at])
            parameters[variance_at] += momentum * (variance - parameters[variance_at])

    @device
    def column_sums(group, lane, valid, D, d, ldd, X, x, ldx, mean, inverse_deviation, n_rows):
        """dbeta = sum of dY, dgamma = sum of dY x^."""
        d_beta, d_gamma = like(mean, 0), like(mean, 0)
        if valid:
            for r in range(group, n_rows, n_groups):
                delta = D[d + r * ldd]
                d_beta += delta
                d_gamma += delta * ((X[x + r * ldx] - mean) * inverse_deviation)
        return block_sum(group, lane, d_beta), block_sum(group, lane, d_gamma)

    @device
    def batch_norm_backward(
        group, dX, dx, lddx, D, d, ldd, X, x, ldx, mean, inverse_deviation, gamma, d_beta, d_gamma, n_rows, adds
    ):
        """dX = gamma / deviation (dY - mean of dY - x^ mean of dY x^): the statistics, too, depend on X."""
        count, factor = like(mean, n_rows), gamma * inverse_deviation
        mean_d_beta, mean_d_gamma = d_beta / count, d_gamma / count
        for r in range(group, n_rows, n_groups):
            normal = (X[x + r * ldx] - mean) * inverse_deviation
            new = factor * (D[d + r * ldd] - mean_d_beta - normal * mean_d_gamma)
            place = dx + r * lddx
            dX[place] = dX[place] + new if adds else new

    return batch_statistics, move_running, column_sums, batch_norm_backward
