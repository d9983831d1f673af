"""Dropout with masks from a counter: Philox4x32-10 of column, row of X, step and layer, under the seed as a key."""

import numpy as np

from fastbp.kernels.layout import GROUP, padded
from fastbp.kernels.reference._views import rows

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def _philox(x0, x1, x2, x3, k0, k1):
    """Four random words for each counter: ten rounds of two products, their halves exchanged, and the next key."""
    for r in range(10):
        first, second = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        key_0 = np.uint64((int(k0) + r * 0x9E3779B9) & 0xFFFFFFFF)
        key_1 = np.uint64((int(k1) + r * 0xBB67AE85) & 0xFFFFFFFF)
        x0, x1, x2, x3 = (second >> _HALF) ^ x1 ^ key_0, second & _LOW, (first >> _HALF) ^ x3 ^ key_1, first & _LOW
    return x0, x1, x2, x3


@np.errstate(all="ignore")
def dropout_rows(Y, ldy, A, lda, index, m, n, rate, seed, step, layer, adds):
    """Y = A mask / (1 - rate), or Y += that: column c has word c // q of counter c % q, q a quarter of the columns."""
    quarter = padded(n, GROUP) // 4
    columns, samples = np.meshgrid(np.arange(quarter, dtype=np.uint64), index[:m].astype(np.uint64) & _LOW)
    counter = columns, samples, np.uint64(int(step) & 0xFFFFFFFF), np.uint64(layer)
    words = _philox(*counter, np.uint64(int(seed) & 0xFFFFFFFF), np.uint64(int(seed) >> 32))
    mask = np.concatenate(words, axis=1) >= np.uint64(rate * 2.0**32)
    A, Y = rows(A, lda, m, 4 * quarter), rows(Y, ldy, m, 4 * quarter)
    kept = np.where(mask, A * Y.dtype.type(1 / (1 - rate)), 0)
    Y[:] = Y + kept if adds else kept
