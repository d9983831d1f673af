"""Skip connections: the sum of two outputs, and its delta handed on to both."""

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import window


@kernel
def add_rows(Y, ldy, A, lda, B, ldb, m, n):
    """Y = A + B: m rows of n elements.

    He et al., "Deep Residual Learning for Image Recognition", 2016.

    Parameters
    ----------
    Y, A, B : 1-D array of real
        Row i at Y + i ldy, A + i lda, B + i ldb; Y is overwritten, its padding is left as it is.
    ldy, lda, ldb, m, n : int
    """
    for i in range(m):
        y, a, b = window(Y, i * ldy, n), window(A, i * lda, n), window(B, i * ldb, n)
        for q in range(n):
            y[q] = a[q] + b[q]


@kernel
def hand_on_rows(dA, lda, D, ldd, m, n, adds):
    """dA = D, or dA += D where ``adds``: m rows of n elements, dL / dA for Y = A + B and D = dL / dY.

    Parameters
    ----------
    dA, D : 1-D array of real
        Row i at dA + i lda and D + i ldd; padding is left as it is.
    lda, ldd, m, n : int
    adds : bool
    """
    for i in range(m):
        a, d = window(dA, i * lda, n), window(D, i * ldd, n)
        if adds:
            for q in range(n):
                a[q] = a[q] + d[q]
        else:
            for q in range(n):
                a[q] = d[q]
