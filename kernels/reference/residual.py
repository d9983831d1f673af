"""Skip connections: Y = A + B, and dA = dB = dY."""

import numpy as np

from fastbp.kernels.reference._views import rows


@np.errstate(all="ignore")
def add_rows(Y, ldy, A, lda, B, ldb, m, n):
    """Y = A + B."""
    rows(Y, ldy, m, n)[:] = rows(A, lda, m, n) + rows(B, ldb, m, n)


@np.errstate(all="ignore")
def hand_on_rows(dA, lda, D, ldd, m, n, adds):
    """dA = D, or dA += D where something else has handed on its part before."""
    dA, D = rows(dA, lda, m, n), rows(D, ldd, m, n)
    dA[:] = dA + D if adds else D
