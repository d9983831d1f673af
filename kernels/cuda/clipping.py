"""Updates from stored gradients: of those whose sums were cut, and clipped by the norm of the whole gradient.

The parts are added up in their order, and so are the squares. Squares that leave the range of their dtype are added up
again, scaled (J. L. Blue, "A portable Fortran program to find the Euclidean norm of a vector", 1978).
"""

import functools
from math import inf

from fastbp.kernels.cuda._target import cuda, device, like, sqrt
from fastbp.kernels.cuda.layout import PARTS, PARTS_AT, PENALISED, SIZE, START, STRIDE
from fastbp.kernels.cuda.optimizers import AT_CLIP_NORM, AT_L2
from fastbp.kernels.cuda.update import block_sum_of, rule_for
from fastbp.kernels.layout import CLIP_EPSILON, CLIP_EPSILON_SHARE, GRADIENT, LEAST, MOST, N_PARAMETERS, REACH


@device
def sum_of_parts(chunk, k, program, partials):
    """Element k of a chunk's gradient."""
    at, stride = program.chunks[chunk, PARTS_AT] + k, program.chunks[chunk, STRIDE]
    g = partials[at]
    for part in range(1, program.chunks[chunk, PARTS]):
        g += partials[at + part * stride]
    return g


@functools.cache
def clipping_of(spec):
    """(squares, elements), the phases of these names, of a network."""
    n_threads, apply_rule = spec.tile.threads, rule_for(spec)
    block_sum = block_sum_of(n_threads, "float64")
    clips, reports = spec.clipping and spec.optimizer != GRADIENT, spec.reports
    wide = int(spec.real == "float64")
    least, reach, most = 2.0 ** LEAST[wide], 2.0 ** REACH[wide], 2.0 ** MOST[wide]
    longest_vanished = 2 * 2.0 ** (LEAST[wide] // 2)

    @device
    def chunk_squares(chunk, program, store):
        """The gradient of a chunk into its first part, and the sum of its squares."""
        total, at = 0.0, program.chunks[chunk, PARTS_AT]
        for k in range(cuda.threadIdx.x, program.chunks[chunk, SIZE], n_threads):
            g = sum_of_parts(chunk, k, program, store.partials)
            store.partials[at + k] = g
            total += g * g
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            store.squares[chunk] = total

    @device
    def all_scaled_squares(count, scale, program, store):
        """Sum of (scale g)^2 over all chunks, by each block for itself."""
        total = 0.0
        for chunk in range(count):
            at = program.chunks[chunk, PARTS_AT]
            for k in range(cuda.threadIdx.x, program.chunks[chunk, SIZE], n_threads):
                g = scale * like(scale, store.partials[at + k])
                total += g * g
        return block_sum(total)

    @device
    def clip_factors(count, program, store, numbers, row):
        """min(1, clip_norm / (norm + epsilon)) from the squares of all chunks, as (scale, factor).

        The scale is 1 or, where squares or the factor would leave the range of their dtype, a power of two.
        """
        total = 0.0
        for k in range(cuda.threadIdx.x, count, n_threads):
            total += store.squares[k]
        total = block_sum(total)
        clip_norm, one = like(total, numbers[row + AT_CLIP_NORM]), like(numbers[row], 1)
        epsilon = min(CLIP_EPSILON, CLIP_EPSILON_SHARE * clip_norm)
        factor = clip_norm / (sqrt(total) + epsilon)
        vanished = total < least and clip_norm < longest_vanished
        if total != total or (total < inf and not vanished and factor * most >= 1.0):
            return one, like(one, factor if not factor > 1.0 else 1.0)
        scale = like(total, 1)
        if vanished or not total < inf:
            scale = like(total, reach if vanished else 1.0 / reach)
            total = all_scaled_squares(count, scale, program, store)
            if not total < inf:
                return one, like(one, 0)
        norm = sqrt(total)
        while norm >= 1.0 and scale * most > 1.0:
            norm, scale = 0.5 * norm, 0.5 * scale
        while norm < 0.5 and scale < most:
            norm, scale = 2.0 * norm, 2.0 * scale
        norm += scale * epsilon
        if scale * clip_norm > norm:
            return one, one
        return like(one, scale), like(one, clip_norm / norm)

    @device
    def chunk_update(chunk, scale, factor, program, buffers, store, numbers, row, at):
        """The optimizer on the parameters of a chunk; ``norms`` from ``at`` on takes |W|^2 before it."""
        start, size = program.chunks[chunk, START], program.header[N_PARAMETERS]
        penalised, total = program.chunks[chunk, PENALISED] > 0, 0.0
        for k in range(cuda.threadIdx.x, program.chunks[chunk, SIZE], n_threads):
            if clips:
                g = factor * (scale * store.partials[program.chunks[chunk, PARTS_AT] + k])
            else:
                g = sum_of_parts(chunk, k, program, store.partials)
            if reports:
                if penalised:
                    w = buffers.parameters[start + k]
                    total += w * w
            apply_rule(buffers.parameters, buffers.moments, size, start + k, g, penalised, numbers, row)
        if reports:
            if numbers[row + AT_L2] != 0:
                total = block_sum(total)
                if cuda.threadIdx.x == 0:
                    store.norms[at + chunk] = total

    @device
    def squares(count, program, store):
        """The phase SQUARES."""
        for chunk in range(cuda.blockIdx.x, count, cuda.gridDim.x):
            chunk_squares(chunk, program, store)

    @device
    def elements(count, n_items, program, buffers, store, numbers, row, s):
        """The phase ELEMENTS."""
        scale = factor = like(numbers[row], 1)
        if clips:
            scale, factor = clip_factors(count, program, store, numbers, row)
        at = (s & 1) * (store.norms.shape[0] // 2) + n_items
        for chunk in range(cuda.blockIdx.x, count, cuda.gridDim.x):
            chunk_update(chunk, scale, factor, program, buffers, store, numbers, row, at)

    return squares, elements
