"""What else is done to a tile of W while it is in the first-level cache, and to the rows of a batch."""

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import NV, transpose_block, vector_lanes, window


@kernel
def transpose_tile(T, panel_rows, w, lo, hi, fan_in, column, width):
    """Copy a tile of W, transposed, into the panels of W^T.

    Parameters
    ----------
    T : 1-D array of real
        Panels of W^T: NR neighbouring rows of W beside each other, ``panel_rows`` (fan_out, padded) high.
    panel_rows : int
    w : 1-D array of real
        Rows lo .. hi and ``width`` columns from ``column`` of W, then zeros up to a whole vector of rows.
    lo, hi : int
        lo is a multiple of a vector's width.
    fan_in : int
        Rows of W: the last panel of W^T is one vector wide where that is enough.
    column, width : int
    """
    lanes = vector_lanes(w)
    panel = NV * lanes
    for k in range(lo, hi, lanes):
        start = k // panel * panel
        panel_width = panel if fan_in - start > lanes else lanes
        for j in range(0, width, lanes):
            target = window(T, start * panel_rows + (column + j) * panel_width + (k - start), 0)
            transpose_block(target, panel_width, window(w, (k - lo) * width + j, 0), width)


@kernel
def gather_rows(out, ld, A, lda, index, m, n):
    """out[i, :n] = A[index[i], :n] for i < m.

    Parameters
    ----------
    out : 1-D array of real
        Row i at out + i ld; padding is left as it is.
    A : 1-D array of real
        Row r at A + r lda.
    index : 1-D array of intp
    m, n : int
    """
    for i in range(m):
        to, here = window(out, i * ld, n), window(A, index[i] * lda, n)
        for q in range(n):
            to[q] = here[q]


@kernel
def add_squares(norms, w, width, n_rows):
    """norms[j] = sum over r of w[r, j]^2: the columns of a tile."""
    for j in range(width):
        norms[j] = 0
    for r in range(n_rows):
        row = window(w, r * width, width)
        for j in range(width):
            norms[j] = norms[j] + row[j] * row[j]
