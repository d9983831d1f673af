"""The first layer on X in compressed rows (``fastbp.kernels.csr``); with a dense X each function does nothing."""

import numpy as np

from fastbp.kernels.csr import Csr
from fastbp.kernels.layout import TILE_ROWS
from fastbp.kernels.reference._views import panels, rows


def row_values(X):
    """The elements of X as one array."""
    return X.values if isinstance(X, Csr) else X


@np.errstate(all="ignore")
def csr_forward(C, ldc, X, index, B, panel_rows, init, floor, m, n, *, lanes=None):
    """C = floor(init + X[index] B), row by row over what X holds."""
    if not isinstance(X, Csr):
        return False
    for i, r in enumerate(index[:m]):
        here = slice(X.starts[r], X.starts[r + 1])
        columns = X.columns[here]
        for column, panel in panels(B, panel_rows, columns.max(initial=-1) + 1, n, lanes):
            width = panel.shape[1]
            z = init[column : column + width] + X.values[here] @ panel[columns]
            C[i * ldc + column :][:width] = np.where(z < floor, floor, z)  # so that NaN stays
    return True


def sort_entries(t, X, order):
    """What thread t's tiles need of a batch, by tile of W, in the order of the batch."""
    if not isinstance(X, Csr):
        return
    (first, last), room = X.tiles[t], entries_room(X)
    counts = X.starts[order + 1] - X.starts[order]
    batch_rows = np.repeat(np.arange(len(order)), counts)
    positions = np.concatenate([np.arange(X.starts[r], X.starts[r + 1]) for r in order])
    tiles = X.columns[positions] // TILE_ROWS
    chosen = np.flatnonzero((first <= tiles) & (tiles < last))
    chosen = chosen[np.argsort(tiles[chosen], kind="stable")]
    mine = slice(t * room, t * room + len(chosen))
    X.entry_rows[mine], X.entry_columns[mine] = batch_rows[chosen], X.columns[positions[chosen]]
    X.entry_values[mine] = X.values[positions[chosen]]
    tile_starts(t, X)[first : last + 1] = np.searchsorted(tiles[chosen], np.arange(first, last + 1))


def entries_room(X):
    """Entries of a batch that each thread has room for."""
    return len(X.entry_rows) // len(X.tiles)


def tile_starts(t, X):
    """Where the entries of each tile start, from thread t's first one on."""
    size = len(X.tile_starts) // len(X.tiles)
    return X.tile_starts[t * size : (t + 1) * size]


@np.errstate(all="ignore")
def csr_gradient(t, G, X, lo, m, D, ldd, width, index, floor):
    """G = X[:, lo : lo + m]^T D: each entry adds its multiple of its row's delta."""
    if not isinstance(X, Csr):
        return False
    starts, first, tile = tile_starts(t, X), t * entries_room(X), lo // TILE_ROWS
    entries = slice(first + starts[tile], first + starts[tile + 1])
    which, columns = X.entry_rows[entries], X.entry_columns[entries]
    deltas = rows(D, ldd, which.max(initial=-1) + 1, width)[which]
    total = np.zeros((m, width), G.dtype)
    np.add.at(total, columns - lo, X.entry_values[entries][:, None] * deltas)
    rows(G, width, m, width)[:] = np.where(total < floor, floor, total)
    return True
