"""Dropout: masks from a counter, so that they are the same whoever computes them.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns 128 bits of a counter and 64 of
a key into four random words. The counter is made of what names an element of a mask: the column, the row of X, the
step and the layer; the key is the seed. So nothing is stored, and backward makes the mask of forward once more.
"""

import numpy as np

from fastbp.kernels.cuda._target import WIDTH, device, like
from fastbp.kernels.layout import GROUP

# Words of 32 bits in uint64: a mixed int64 would make a float64 of them
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
FIRST, SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEP_0, KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@device
def philox(x0, x1, x2, x3, k0, k1):
    """Four random words for a counter: ten rounds of two products, their halves exchanged, and the next key."""
    for _ in range(10):
        first, second = FIRST * x0, SECOND * x2
        x0, x2 = (second >> HALF) ^ x1 ^ k0, (first >> HALF) ^ x3 ^ k1
        x1, x3 = second & LOW, first & LOW
        k0, k1 = (k0 + KEY_STEP_0) & LOW, (k1 + KEY_STEP_1) & LOW
    return x0, x1, x2, x3


@device
def keep(work, y, a, word, threshold, keep_factor, adds):
    """work[y] = work[a] keep_factor where the word is not below the threshold and 0 elsewhere, or that is added."""
    kept = work[a] * keep_factor if np.int64(word) >= threshold else like(keep_factor, 0.0)
    work[y] = work[y] + kept if adds else kept


@device
def dropout_row(lane, work, y, a, n, sample, threshold, keep_factor, seed, step, layer, adds):
    """work[y : y + n] = work[a : a + n] mask / (1 - rate), or that is added: for deltas the same.

    Column c has word c // q of counter c % q, q a quarter of the columns, rounded up to whole groups of 16.

    Parameters
    ----------
    sample : int
        Row of X, part of the counter as are step and layer; row and step count modulo 2^32.
    threshold : int64
        rate 2^32, rounded down: below it a word gives 0.
    keep_factor : real
        1 / (1 - rate).
    seed, step, layer : int64
        The key, and parts of the counter.
    adds : bool
    """
    quarter, key = (n + (GROUP - 1)) // GROUP * (GROUP // 4), np.uint64(seed)
    row, moment, place = np.uint64(sample) & LOW, np.uint64(step) & LOW, np.uint64(layer)
    for c in range(lane, quarter, WIDTH):
        w0, w1, w2, w3 = philox(np.uint64(c), row, moment, place, key & LOW, key >> HALF)
        if c < n:
            keep(work, y + c, a + c, w0, threshold, keep_factor, adds)
        c1, c2, c3 = c + quarter, c + 2 * quarter, c + 3 * quarter
        if c1 < n:
            keep(work, y + c1, a + c1, w1, threshold, keep_factor, adds)
        if c2 < n:
            keep(work, y + c2, a + c2, w2, threshold, keep_factor, adds)
        if c3 < n:
            keep(work, y + c3, a + c3, w3, threshold, keep_factor, adds)
