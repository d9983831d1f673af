"""Matrix products: C[M, N] = A[M, K] B[K, N] with B in panels, and the weight gradient A^T D."""

import numpy as np

from fastbp.kernels.reference._views import gathered, panels, rows


@np.errstate(all="ignore")
def gemm(C, ldc, A, lda, index, B, panel_rows, init, ld_init, floor, m, n, K, *, lanes=None):
    """C = floor(init + A[index] B): with init = b and floor = 0 a layer with relu, Z = A W + b, A = max(Z, 0)."""
    A = gathered(A, lda, index[:m], K)
    for column, panel in panels(B, panel_rows, K, n, lanes):
        width = panel.shape[1]
        Z = rows(init[column:], ld_init, m, width) + A @ panel
        rows(C[column:], ldc, m, width)[:] = np.where(Z < floor, floor, Z)  # so that NaN stays


@np.errstate(all="ignore")
def gemm_transposed(G, A, lda, index, D, ldd, width, zeros, floor, m, K):
    """G = A[index]^T D: m rows and ``width`` columns of the weight gradient; without an index A's rows are in order."""
    index = np.arange(K) if index is None else index[:K]
    Z = zeros[:width] + gathered(A, lda, index, m).T @ rows(D, ldd, K, width)
    rows(G, width, m, width)[:] = np.where(Z < floor, floor, Z)


@np.errstate(all="ignore")
def column_sums(g, D, ldd, width, K):
    """g = 1^T D: the gradient of a bias."""
    g[:width] = rows(D, ldd, K, width).sum(axis=0)
