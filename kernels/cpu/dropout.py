"""Dropout: masks from a counter, so that they are the same whoever computes them.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns 128 bits of a counter and 64 of
a key into four random words. The counter is made of what names an element of a mask: the column, the row of X, the
step and the layer; the key is the seed. So nothing is stored, no thread has a generator, and backward makes the mask of
forward once more.
"""

import numpy as np

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import window
from fastbp.kernels.layout import GROUP

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@kernel.inlined
def _round(x0, x1, x2, x3, k0, k1, r):
    """One round: two products of 32 bits, their halves exchanged, and the key of round r."""
    first, second = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
    k0, k1 = (k0 + np.uint64(r) * _KEY_STEPS[0]) & _LOW, (k1 + np.uint64(r) * _KEY_STEPS[1]) & _LOW
    return (second >> _HALF) ^ x1 ^ k0, second & _LOW, (first >> _HALF) ^ x3 ^ k1, first & _LOW


@kernel.inlined
def philox(x0, x1, x2, x3, k0, k1):
    """Four random words of 32 bits, in uint64, for a counter and a key of such words.

    Ten rounds, written out: LLVM does not vectorise a loop around another one.
    """
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 0)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 1)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 2)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 3)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 4)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 5)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 6)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 7)
    x0, x1, x2, x3 = _round(x0, x1, x2, x3, k0, k1, 8)
    return _round(x0, x1, x2, x3, k0, k1, 9)


@kernel
def dropout_rows(Y, ldy, A, lda, index, m, n, rate, seed, step, layer, adds):
    """Y = A mask / (1 - rate), or Y += where ``adds``: a mask of ones and, with probability ``rate``, zeros.

    Inverted dropout (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014, with
    the factor moved from prediction to training). For deltas the same: dA = dY mask / (1 - rate).

    Parameters
    ----------
    Y, A : 1-D array of real
        Row i at Y + i ldy and A + i lda, both at least n rounded up to 16 apart. Padding is treated as the rest.
    ldy, lda : int
    index : 1-D array of intp
        Row of X for each row: part of the counter.
    m, n : int
    rate : float
        From 0 to below 1, in steps of 2^-32.
    seed, step, layer : int
        The key, and parts of the counter. Step and row count modulo 2^32.
    adds : bool
    """
    real = Y.dtype.type
    # a column's word is number column // quarter of the counter column % quarter: four runs of neighbours
    quarter = (n + GROUP - 1) // GROUP * (GROUP // 4)
    threshold, scale, zero = np.uint64(rate * 4294967296.0), real(1.0 / (1.0 - rate)), real(0)
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _HALF
    x2, x3 = np.uint64(step) & _LOW, np.uint64(layer)
    for i in range(m):
        row = np.uint64(index[i]) & _LOW
        y0, a0 = window(Y, i * ldy, quarter), window(A, i * lda, quarter)
        y1, a1 = window(Y, i * ldy + quarter, quarter), window(A, i * lda + quarter, quarter)
        y2, a2 = window(Y, i * ldy + 2 * quarter, quarter), window(A, i * lda + 2 * quarter, quarter)
        y3, a3 = window(Y, i * ldy + 3 * quarter, quarter), window(A, i * lda + 3 * quarter, quarter)
        if adds:
            for c in range(quarter):
                w0, w1, w2, w3 = philox(np.uint64(c), row, x2, x3, k0, k1)
                y0[c] = y0[c] + (a0[c] * scale if w0 >= threshold else zero)
                y1[c] = y1[c] + (a1[c] * scale if w1 >= threshold else zero)
                y2[c] = y2[c] + (a2[c] * scale if w2 >= threshold else zero)
                y3[c] = y3[c] + (a3[c] * scale if w3 >= threshold else zero)
        else:
            for c in range(quarter):
                w0, w1, w2, w3 = philox(np.uint64(c), row, x2, x3, k0, k1)
                y0[c] = a0[c] * scale if w0 >= threshold else zero
                y1[c] = a1[c] * scale if w1 >= threshold else zero
                y2[c] = a2[c] * scale if w2 >= threshold else zero
                y3[c] = a3[c] * scale if w3 >= threshold else zero
