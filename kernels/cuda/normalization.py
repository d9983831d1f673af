"""Batch norm, by columns of a batch, and layer norm, by rows: x^ = (x - mean) / sqrt(variance + epsilon).

Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015;
Ba et al., "Layer Normalization", 2016. Variances are sums of squared differences from a mean, in a second pass: a mean
of squares less the square of the mean loses all digits where the mean is large. x^ is computed anew where it is needed.

Rows of a batch may have weights w, and the means of a batch norm are sum w x / sum w.

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
    """(batch_statistics, weighted_statistics, move_running, column_sums, batch_norm_backward, weighted_backward).

    For blocks of n_groups groups. In all of them element r of the thread's own column stands at X[x + r ldx], and
    ``valid`` says that there is such a column: threads without one come along to the barriers. Row r is that of
    ``weights`` which order[at + r] names, and ``scale`` is 1 / the sum of the batch's weights. ``real`` is the dtype.
    """
    size, kind = n_groups * WIDTH, np.dtype(real).type

    def over_groups(largest):
        @device
        def combined(group, lane, value):
            """The sum over the groups, or the largest of their values, for each lane, in all of them."""
            if SIMULATED:
                parts = cuda.shared.array(size, kind)
            else:
                parts = cuda.shared.array(0, kind, 16)  # see ``gemm.py``
            cuda.syncthreads()  # who still reads what was there
            parts[group * WIDTH + lane] = value
            cuda.syncthreads()
            total = parts[lane]
            for other in range(1, n_groups):
                if largest:
                    total = max(total, parts[other * WIDTH + lane])
                else:
                    total += parts[other * WIDTH + lane]
            cuda.syncthreads()
            return total

        return combined

    block_sum, block_max = over_groups(False), over_groups(True)

    @device
    def batch_statistics(group, lane, valid, X, x, ldx, n_rows, epsilon):
        """Mean, 1 / sqrt(variance + epsilon), unbiased variance of the column, and whether there is such a one.

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
        inverse = like(epsilon, 1) / sqrt(squares / count + epsilon)
        return first + offset, inverse, squares / like(squares, max(n_rows - 1, 1)), n_rows > 1

    @device
    def worth_of(group, lane, weights, order, at, n_rows, zero):
        """The rows that a batch is worth, and the first one that counts.

        The sum of the weights, as of rows that were repeated, or the number of rows with one where that is more:
        weights may be given in any unit.
        """
        total, count, left = zero, zero, zero
        for r in range(group, n_rows, n_groups):
            weight = weights[order[at + r]]
            total += weight
            if weight > 0:
                count += like(zero, 1)
                left = max(left, like(zero, n_rows - r))
        total, count, left = block_sum(group, lane, total), block_sum(group, lane, count), block_max(group, lane, left)
        return max(total, count), n_rows - int(left) if left > 0 else 0

    @device
    def weighted_statistics(group, lane, valid, X, x, ldx, weights, order, at, n_rows, scale, epsilon):
        """The same of rows with weights; of fewer than 2 rows x^ is to be 0, and so is the inverse deviation."""
        zero, one = like(epsilon, 0), like(epsilon, 1)
        worth, base = worth_of(group, lane, weights, order, at, n_rows, zero)
        total, squares, first = zero, zero, zero
        if valid:
            first = X[x + base * ldx]
            for r in range(group, n_rows, n_groups):
                total += weights[order[at + r]] * (X[x + r * ldx] - first)
        offset = block_sum(group, lane, total) * scale
        if valid:
            for r in range(group, n_rows, n_groups):
                difference = (X[x + r * ldx] - first) - offset
                squares += weights[order[at + r]] * difference * difference
        variance = block_sum(group, lane, squares) * scale
        if worth < 2:
            return zero, zero, zero, False
        return first + offset, one / sqrt(variance + epsilon), variance * (worth / (worth - one)), True

    @device
    def move_running(parameters, mean_at, variance_at, mean, variance, momentum):
        """running += momentum (new - running); the new variance is the unbiased one, as PyTorch has it."""
        if momentum > 0:
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

    @device
    def weighted_backward(
        group, dX, dx, lddx, D, d, ldd, X, x, ldx, mean, inverse_deviation, gamma, d_beta, d_gamma, weights, order, at,
        n_rows, scale, adds,
    ):  # fmt: skip
        """dX = gamma / deviation (dY - w mean of dY - w x^ mean of dY x^); dY has the row's weight in it."""
        factor, mean_d_beta, mean_d_gamma = gamma * inverse_deviation, d_beta * scale, d_gamma * scale
        for r in range(group, n_rows, n_groups):
            weight, normal = weights[order[at + r]], (X[x + r * ldx] - mean) * inverse_deviation
            new = factor * (D[d + r * ldd] - weight * (mean_d_beta + normal * mean_d_gamma))
            place = dx + r * lddx
            dX[place] = dX[place] + new if adds else new

    return (
        batch_statistics, weighted_statistics, move_running, column_sums, batch_norm_backward, weighted_backward,
    )  # fmt: skip
