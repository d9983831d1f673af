"""Updates from stored gradients: of those whose sums were cut, and clipped by the norm of the whole gradient.

The parts are added up in their order, and so are the squares.
"""

import functools

from fastbp.kernels.cuda._target import cuda, device, like, sqrt
from fastbp.kernels.cuda.layout import PARTS, PARTS_AT, PENALISED, SIZE, START, STRIDE
from fastbp.kernels.cuda.optimizers import AT_CLIP_NORM, AT_L2
from fastbp.kernels.cuda.update import block_sum_of, rule_for
from fastbp.kernels.layout import GRADIENT, N_PARAMETERS


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
    """(chunk_squares, clip_factor, chunk_update) of a network."""
    n_threads, apply_rule = spec.tile.threads, rule_for(spec)
    block_sum = block_sum_of(n_threads, "float64")
    clips, reports = spec.clipping and spec.optimizer != GRADIENT, spec.reports

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
    def clip_factor(count, store, numbers, row):
        """min(1, clip_norm / (norm + 1e-6)) from the squares of all chunks."""
        total = 0.0
        for k in range(cuda.threadIdx.x, count, n_threads):
            total += store.squares[k]
        total = block_sum(total)
        factor = numbers[row + AT_CLIP_NORM] / (sqrt(total) + 1e-6)
        return like(numbers[row], factor if not factor > 1.0 else 1.0)

    @device
    def chunk_update(chunk, factor, program, buffers, store, numbers, row, at):
        """The optimizer on the parameters of a chunk; ``norms`` from ``at`` on takes |W|^2 before it."""
        start, size = program.chunks[chunk, START], program.header[N_PARAMETERS]
        penalised, total = program.chunks[chunk, PENALISED] > 0, 0.0
        for k in range(cuda.threadIdx.x, program.chunks[chunk, SIZE], n_threads):
            if clips:
                g = factor * store.partials[program.chunks[chunk, PARTS_AT] + k]
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
        factor = like(numbers[row], 1)
        if clips:
            factor = clip_factor(count, store, numbers, row)
        at = (s & 1) * (store.norms.shape[0] // 2) + n_items
        for chunk in range(cuda.blockIdx.x, count, cuda.gridDim.x):
            chunk_update(chunk, factor, program, buffers, store, numbers, row, at)

    return squares, elements
