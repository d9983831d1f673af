"""The first layer on X in compressed rows: forward row by row, the weight gradient tile by tile of W.

Each function has a body for a dense X too, which does nothing: callers ask for the sparse product first and take the
dense one where there was none. The choice is made by the type of X when the caller is compiled.
"""

from numba import types

from fastbp.kernels.cpu._jit import by_type, kernel
from fastbp.kernels.cpu.simd import NV, columns_kernels, rows_kernels, vector_lanes, window
from fastbp.kernels.layout import TILE_ROWS

_narrow_columns, _columns = columns_kernels
_narrow_row, _row = rows_kernels[0][-1], rows_kernels[1][-1]


def _is_csr(X):
    return isinstance(X, types.BaseNamedTuple)


@by_type
def row_values(X):
    """The elements of X as one array."""

    def dense(X):
        return window(X, 0, 0)

    def csr(X):
        return window(X.values, 0, 0)

    return csr if _is_csr(X) else dense


@by_type
def csr_forward(C, ldc, X, index, B, panel_rows, init, floor, m, n):
    """C[i, :n] = floor(init + X[index[i]] B) for i < m, and True; False where X is dense, and nothing done.

    Parameters
    ----------
    C : 1-D array of real
        Row i at C + i ldc. Columns up to the width of the panels are overwritten.
    X : Csr
    index : 1-D array of intp
        Row of X for each row of C.
    B, panel_rows, init, floor, m, n
        As in :func:`fastbp.kernels.cpu.gemm.gemm`.
    """

    def dense(C, ldc, X, index, B, panel_rows, init, floor, m, n):
        return False

    def csr(C, ldc, X, index, B, panel_rows, init, floor, m, n):
        lanes = vector_lanes(C)
        for i in range(m):
            start = X.starts[index[i]]
            count = X.starts[index[i] + 1] - start
            values, columns = window(X.values, start, count), window(X.columns, start, count)
            for j in range(0, n, NV * lanes):
                c, panel, first = window(C, i * ldc + j, 0), window(B, j * panel_rows, 0), window(init, j, 0)
                if count == 0:  # the micro-kernel takes at least one
                    for q in range(min(n - j, NV * lanes)):
                        c[q] = floor if first[q] < floor else first[q]
                elif n - j > lanes:
                    _columns(c, 0, values, 0, columns, panel, NV * lanes, first, 0, floor, count)
                else:
                    _narrow_columns(c, 0, values, 0, columns, panel, lanes, first, 0, floor, count)
        return True

    return csr if _is_csr(X) else dense


@by_type
def sort_entries(t, X, order):
    """Sort what thread t's tiles need of a batch by tile, in the order of the batch; nothing where X is dense.

    By counting, in two passes over the entries.

    Parameters
    ----------
    t : int
    X : Csr
        Its row t of ``tile_starts`` and the thread's part of the entries are overwritten.
    order : 1-D array of intp
        Rows of X in the batch.
    """

    def dense(t, X, order):
        pass

    def csr(t, X, order):
        first, last, room = X.tiles[t, 0], X.tiles[t, 1], entries_room(X)
        starts = tile_starts(t, X)
        rows, columns = window(X.entry_rows, t * room, room), window(X.entry_columns, t * room, room)
        values, low, high = window(X.entry_values, t * room, room), first * TILE_ROWS, last * TILE_ROWS
        for k in range(first, last + 2):
            starts[k] = 0
        for r in order:
            for e in range(X.starts[r], X.starts[r + 1]):
                column = X.columns[e]
                if low <= column < high:
                    starts[column // TILE_ROWS + 2] += 1
        for k in range(first + 2, last + 2):
            starts[k] += starts[k - 1]
        for i in range(order.shape[0]):
            r = order[i]
            for e in range(X.starts[r], X.starts[r + 1]):
                column = X.columns[e]
                if low <= column < high:
                    tile = column // TILE_ROWS + 1  # where tile k goes on, and where it ends when all is done
                    position = starts[tile]
                    starts[tile] = position + 1
                    rows[position], columns[position], values[position] = i, column, X.values[e]

    return csr if _is_csr(X) else dense


@kernel
def entries_room(X):
    """Entries of a batch that each thread has room for."""
    return X.entry_rows.shape[0] // X.tiles.shape[0]


@kernel
def tile_starts(t, X):
    """Where the entries of each tile start, from thread t's first one on."""
    size = X.tile_starts.shape[0] // X.tiles.shape[0]
    return window(X.tile_starts, t * size, size)


@by_type
def csr_gradient(t, G, X, lo, m, D, ldd, width, index, floor):
    """G[r, :width] = sum over the batch of X[., lo + r] D for r < m, and True; False where X is dense.

    Parameters
    ----------
    t : int
        The thread that has sorted the entries.
    G : 1-D array of real
        The tile, row r at G + r width; overwritten.
    X : Csr
    lo, m : int
        First row of the tile, a multiple of ``TILE_ROWS``, and number of rows.
    D : 1-D array of real
        Row k of the batch at D + k ldd.
    ldd, width : int
        Row stride of D; columns: NV vectors, or one.
    index : 1-D array of intp
        0 comes first.
    floor : real
        -inf.
    """

    def dense(t, G, X, lo, m, D, ldd, width, index, floor):
        return False

    def csr(t, G, X, lo, m, D, ldd, width, index, floor):
        lanes, starts, first, tile = vector_lanes(G), tile_starts(t, X), t * entries_room(X), lo // TILE_ROWS
        g, nothing = window(G, 0, m * width), G.dtype.type(0)
        for q in range(m * width):
            g[q] = nothing
        for e in range(first + starts[tile], first + starts[tile + 1]):
            g, value = window(G, (X.entry_columns[e] - lo) * width, width), window(X.entry_values, e, 1)
            d = window(D, X.entry_rows[e] * ldd, width)
            if width > lanes:
                _row(g, 0, value, 0, index, d, 0, g, 0, floor, 1)
            else:
                _narrow_row(g, 0, value, 0, index, d, 0, g, 0, floor, 1)
        return True

    return csr if _is_csr(X) else dense
