"""Matrix products: C[M, N] = A[M, K] B[K, N] with B in panels, and the weight gradient A^T D.

A panel holds NR neighbouring columns of B, row by row, so that the micro-kernel reads it with unit stride; the last
panel is one vector wide where that is enough. A is read where it lies, through a row index. Every element is one sum
over k = 0, 1, 2, ..., so neither tiles, threads nor the vector width change a bit.

See Van Zee & van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", 2015, for the terms.
"""

from numba import types

from fastbp.kernels.cpu._jit import by_type, kernel
from fastbp.kernels.cpu.simd import HEIGHTS, MR, NV, rows_kernels, steps_kernels, vector_lanes, window

_narrow_rows_mr, _narrow_rows_4, _narrow_rows_1 = rows_kernels[0]
_rows_mr, _rows_4, _rows_1 = rows_kernels[1]
_narrow_steps_mr, _narrow_steps_4, _narrow_steps_1 = steps_kernels[0]
_steps_mr, _steps_4, _steps_1 = steps_kernels[1]
assert HEIGHTS == (MR, 4, 1)
# Rows of the batch in one block of a weight gradient: what these read of A and D stays in the first-level cache. With
# 256 at once the gradients of 256-256 run at 80 GFLOP/s, in two blocks at 91; with blocks of 64 at 90.
DEPTH = 128


@kernel
def _tall(m):
    """Rows, of m, that go to the tallest micro-kernel; the rest to those of height 4 and 1.

    Where 6 and 2 or 3 would be left, 4 and 4 are taken instead: a height of 4 fills the multipliers as 6 does, while
    one row alone waits for each sum (a tile of 32 rows took 38 units of time instead of 32).
    """
    rows = m // MR * MR
    return rows - MR if MR == 6 and rows > 0 and 2 <= m - rows <= 3 else rows


@kernel
def _strip(C, ldc, A, lda, index, panel, ldb, init, ld_init, floor, m, K):
    """All m rows of C for one full panel."""
    i, tall = 0, _tall(m)
    while i < tall:
        start = window(init, i * ld_init, 0)
        _rows_mr(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += MR
    while i + 4 <= m:
        start = window(init, i * ld_init, 0)
        _rows_4(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += 4
    while i < m:
        start = window(init, i * ld_init, 0)
        _rows_1(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += 1


@kernel
def _narrow_strip(C, ldc, A, lda, index, panel, ldb, init, ld_init, floor, m, K):
    """All m rows of C for a panel of one vector's width."""
    i, tall = 0, _tall(m)
    while i < tall:
        start = window(init, i * ld_init, 0)
        _narrow_rows_mr(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += MR
    while i + 4 <= m:
        start = window(init, i * ld_init, 0)
        _narrow_rows_4(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += 4
    while i < m:
        start = window(init, i * ld_init, 0)
        _narrow_rows_1(window(C, i * ldc, 0), ldc, A, lda, window(index, i, 0), panel, ldb, start, ld_init, floor, K)
        i += 1


@kernel
def gemm(C, ldc, A, lda, index, B, panel_rows, init, ld_init, floor, m, n, K):
    """C[i, :n] = floor(init[i] + A[index[i], :K] B) for i < m.

    Parameters
    ----------
    C : 1-D array
        Row i at C + i ldc. Columns up to the width of the panels (n rounded up to whole vectors) are overwritten.
    A : 1-D array
        Row r at A + r lda.
    index : 1-D array of intp
        Row of A for each row of C.
    B : 1-D array
        Panels of ``panel_rows`` rows, of which K are read.
    init : 1-D array
        What each row's sums start from, as wide as the panels: row i at init + i ld_init.
    ld_init : int
        0 for one row for all (a bias); with C and ldc the products are added to what is there.
    floor : real
        Results below it become it: 0 makes a ReLU, -inf changes nothing; NaN stays.
    """
    lanes = vector_lanes(C)
    for j in range(0, n, NV * lanes):
        panel = window(B, j * panel_rows, 0)
        if n - j > lanes:
            _strip(window(C, j, 0), ldc, A, lda, index, panel, NV * lanes, window(init, j, 0), ld_init, floor, m, K)
        else:
            _narrow_strip(window(C, j, 0), ldc, A, lda, index, panel, lanes, window(init, j, 0), ld_init, floor, m, K)


def _in_order(A, lda, index, k):
    return window(A, k * lda, 0), None


def _indexed(A, lda, index, k):
    return window(A, 0, 0), window(index, k, 0)


@by_type
def _rows_from(A, lda, index, k):
    """A and its row index from step k on."""
    return _in_order if isinstance(index, types.NoneType) else _indexed


@kernel.inlined
def gemm_transposed(G, A, lda, index, D, ldd, width, zeros, floor, m, K):
    """G[r, :width] = sum over k < K of A[index[k], r] D[k, :width] for r < m: one tile of A^T D.

    Parameters
    ----------
    G : 1-D array
        The tile, row r at G + r width; overwritten.
    A : 1-D array
        Row r at A + r lda.
    index : 1-D array of intp, or None
        Row of A for each k, then ``AHEAD`` more rows, which are asked for only. None: rows 0, 1, 2, ...
    D : 1-D array
        Row k at D + k ldd.
    width : int
        NV vectors, or one.
    zeros : 1-D array
        Zeros, as many as ``width``.
    floor : real
        -inf.
    """
    for k in range(0, K, DEPTH):
        depth = min(DEPTH, K - k)
        # from the second block on, the sums go on where they stand
        init, ld_init = (window(zeros, 0, 0), 0) if k == 0 else (window(G, 0, 0), width)
        (a, rows), d = _rows_from(A, lda, index, k), window(D, k * ldd, 0)
        if width > vector_lanes(G):
            _tile(G, a, lda, rows, d, ldd, width, init, ld_init, floor, m, depth)
        else:
            _narrow_tile(G, a, lda, rows, d, ldd, width, init, ld_init, floor, m, depth)


@kernel
def column_sums(g, D, ldd, width, K):
    """g[j] = sum over k < K of D[k, j] for j < width: the gradient of a bias.

    Several panels at once: a micro-kernel of one row waits for each sum (1 % of a step of 7x128-10).

    Parameters
    ----------
    g : 1-D array
        Overwritten.
    D : 1-D array
        Row k at D + k ldd.
    width : int
    """
    zero, k = g.dtype.type(0), 0
    for j in range(width):
        g[j] = zero
    while k + 4 <= K:  # a quarter of the loads and stores of g
        d0, d1 = window(D, k * ldd, width), window(D, (k + 1) * ldd, width)
        d2, d3 = window(D, (k + 2) * ldd, width), window(D, (k + 3) * ldd, width)
        for j in range(width):
            g[j] = g[j] + d0[j] + d1[j] + d2[j] + d3[j]
        k += 4
    while k < K:
        d0 = window(D, k * ldd, width)
        for j in range(width):
            g[j] = g[j] + d0[j]
        k += 1


@kernel.inlined
def _tile(G, A, lda, index, D, ldd, width, init, ld_init, floor, m, K):
    """Some steps of k for a tile as wide as a full panel."""
    r, tall = 0, _tall(m)
    while r < tall:
        start = window(init, r * ld_init, 0)
        _steps_mr(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += MR
    while r + 4 <= m:
        start = window(init, r * ld_init, 0)
        _steps_4(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += 4
    while r < m:
        start = window(init, r * ld_init, 0)
        _steps_1(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += 1


@kernel.inlined
def _narrow_tile(G, A, lda, index, D, ldd, width, init, ld_init, floor, m, K):
    """Some steps of k for a tile of one vector's width."""
    r, tall = 0, _tall(m)
    while r < tall:
        start = window(init, r * ld_init, 0)
        _narrow_steps_mr(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += MR
    while r + 4 <= m:
        start = window(init, r * ld_init, 0)
        _narrow_steps_4(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += 4
    while r < m:
        start = window(init, r * ld_init, 0)
        _narrow_steps_1(window(G, r * width, 0), width, window(A, r, 0), lda, index, D, ldd, start, ld_init, floor, K)
        r += 1
