"""What else is done to a tile of W, and to the rows of a batch."""

import numpy as np

from fastbp.kernels.layout import padded, panel_columns
from fastbp.kernels.reference._views import gathered, rows


def transpose_tile(T, panel_rows, w, lo, hi, fan_in, column, width, *, lanes=None):
    """W^T[column : column + width, lo : hi] = w^T, into the panels of W^T."""
    w = rows(w, width, hi - lo, width)
    for first, panel_width in panel_columns(fan_in, padded(fan_in) if lanes is None else lanes):
        k, end = max(lo, first), min(hi, first + panel_width)
        if k < end:
            panel = rows(T[first * panel_rows :], panel_width, column + width, panel_width)
            panel[column:, k - first : end - first] = w[k - lo : end - lo].T


def gather_rows(out, ld, A, lda, index, m, n):
    """out = A[index]: rows of X in the order of the batch."""
    rows(out, ld, m, n)[:] = gathered(A, lda, index[:m], n)


@np.errstate(all="ignore")
def add_squares(norms, w, width, n_rows):
    """norms[j] = sum over r of w[r, j]^2."""
    w = rows(w, width, n_rows, width)
    norms[:width] = (w * w).sum(axis=0)
