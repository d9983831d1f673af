"""X with its zeros left out: rows compressed one after the other, and room to sort a batch by tiles of W.

The first layer's forward reads a batch row by row, as it lies. Its weight gradient needs the batch by columns: before
the update each thread sorts what its own tiles need, and no other; of a shard, which is one thread's, all tiles.
Columns ascend in each row, so what a thread needs of a row is one run of neighbours.

Every sum has the order that it has on the dense matrix, and what is left out would add nothing: the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastbp.kernels.layout import BATCH, FAN_IN, HI, LAYER, LO, SHARD, TILE_ROWS, Array, Plan


class Csr(NamedTuple):
    """A matrix in compressed rows, and where batches of it are sorted.

    Attributes
    ----------
    values : ndarray of real, shape (n_nonzeros,)
    columns : ndarray of int32, shape (n_nonzeros,)
        Ascending in each row, each once.
    starts : ndarray of intp, shape (n_samples + 1,)
        Row r is values[starts[r] : starts[r + 1]].
    tiles : ndarray of intp, shape (n_threads, 2)
        First tile of rows of W1 that thread t updates, and the one after its last; with shards all.
    tile_starts : ndarray of intp, shape (n_threads * (n_tiles + 2),)
        With s its part for thread t, entries s[k] .. s[k + 1] of that thread are of tile k, in the order of the batch;
        overwritten.
    entry_rows, entry_columns : ndarray of int32, shape (n_threads * room,)
        Row of the batch, or of the shard, and row of W1; overwritten.
    entry_values : ndarray of real, shape (n_threads * room,)
        Overwritten.
    """

    values: Array
    columns: Array
    starts: Array
    tiles: Array
    tile_starts: Array
    entry_rows: Array
    entry_columns: Array
    entry_values: Array


def csr(values: Array, columns: Array, starts: Array, plan: Plan | None = None) -> Csr:
    """Compressed rows as kernels take them, with room for the batches of ``plan`` where it is for training."""
    if plan is None:
        tiles, n_tiles, room = np.zeros((0, 2), np.intp), 0, 0
    else:
        tiles, n_tiles = tile_ranges(plan), -(-int(plan.table[0, FAN_IN]) // TILE_ROWS)
        lengths, batch = np.diff(starts), int(plan.header[SHARD] or plan.header[BATCH])
        room = int(
            np.partition(lengths, len(lengths) - batch)[-batch:].sum() if len(lengths) > batch else lengths.sum()
        )
    n_threads = len(tiles)
    return Csr(
        values, columns, starts, tiles, np.zeros(n_threads * (n_tiles + 2), np.intp),
        np.empty(n_threads * room, np.int32), np.empty(n_threads * room, np.int32),
        np.empty(n_threads * room, values.dtype),
    )  # fmt: skip


def tile_ranges(plan: Plan) -> Array:
    """First tile of rows of W1, and the one after the last, whose gradients are each thread's to compute."""
    ranges = np.zeros((plan.shares.shape[1] - 1, 2), np.intp)
    if plan.header[SHARD]:  # all of a shard's
        ranges[:, 1] = -(-int(plan.table[0, FAN_IN]) // TILE_ROWS)
        return ranges
    for t, (a, b) in enumerate(zip(plan.shares[0], plan.shares[0, 1:], strict=False)):
        items = plan.items[a:b]
        mine = items[(items[:, LAYER] == 0) & (items[:, LO] >= 0)]
        if len(mine):
            ranges[t] = mine[:, LO].min() // TILE_ROWS, -(-mine[:, HI].max() // TILE_ROWS)
    return ranges
