"""One table of offsets for a network: where its parameters, activations and deltas lie, and what its update does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp.kernels import layout
from fastbp.kernels.items import shared_items
from fastbp.kernels.layout import (
    ACTIVATION,
    ACTIVATIONS,
    ADAM,
    ADDS,
    ADJUSTS,
    AVERAGES,
    BATCH,
    BATCH_NORM,
    BIAS,
    BY_SLOPE,
    CONSTANT,
    CONSTANT_2,
    CREW_STRIDE,
    DELTAS,
    DENSE,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    HEADER_SIZE,
    INPUT,
    KIND,
    LANES,
    LAYER_NORM,
    LOSS,
    N_BLOCKS,
    N_LAYERS,
    N_NORMS,
    N_PARAMETERS,
    N_SQUARES,
    N_STATS,
    NORM,
    NORMS,
    OPTIMIZER,
    OUT,
    OUT_LD,
    OWNERS,
    PANEL_ROWS,
    RECTIFIERS,
    RUNNING,
    SCRATCH,
    SCRATCH_STRIDE,
    SECOND_SLOT,
    SHARD,
    SHARDS,
    SLOPE,
    SOFT_TARGETS,
    SOURCE,
    SQUARES,
    SQUARES_AT,
    STATS,
    TABLE_SIZE,
    TILE_ROWS,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    ZEROS,
    Array,
    Plan,
    marker,
    padded,
    row_stride,
)
from fastbp.kernels.operations import FEATURE_OF, Operation, chain, handed_on, reads_rows, regions


def plan(
    widths: tuple[int, ...],
    activations: tuple[str, ...],
    *,
    dtype: Any,
    lanes: int,
    batch: int,
    n_threads: int = 1,
    owners: bool = False,
    gathered: bool = False,
    shard: int = 0,
    update: bool = True,
    density: float | None = None,
    operations: Sequence[Operation] = (),
    clipping: bool = False,
    **codes: int,
) -> tuple[Plan, int]:
    """Lay out a network.

    Parameters
    ----------
    widths, activations
        As in ``fastbp.backends.base.Network``.
    dtype : numpy dtype
        float32 or float64.
    lanes : int
        Elements of one vector.
    batch : int
        Rows of the largest batch.
    n_threads : int
        Shares that the work is cut into.
    owners : bool
        Whether the first layer's forward goes by panels, each with an owner, instead of by rows.
    gathered : bool
        Whether each batch's rows of X are copied to where they lie no power of two apart. Not with owners. They are
        also where anything but a dense layer reads X.
    shard : int
        Rows of a shard, a multiple of 4; 0 for none. Not with owners.
    update : bool
        False leaves out the items, for predictions alone.
    density : float, optional
        Share of X that is not zero, where X is in compressed rows.
    operations : sequence of Operation
        Empty for dense layers in a chain.
    clipping : bool
        Whether the gradient's norm is to be known before the update.
    **codes : int
        Further header entries, by lower-case name: ``loss``, ``loss_convention``, ``optimizer``, ...

    Returns
    -------
    plan : Plan
    work_size : int
        Elements of the ``work`` buffer.
    """
    operations, itemsize = tuple(operations) or chain(len(widths) - 1), np.dtype(dtype).itemsize
    n_shards = -(-batch // shard) if shard else 0
    room = n_threads * shard or batch  # rows of activations
    gathered = gathered or reads_rows(operations)
    assert not (owners and (gathered or shard))
    table, sizes = _table(widths, activations, operations, room, itemsize, n_threads)

    header = np.zeros(HEADER_SIZE, np.int64)
    header[[N_LAYERS, BATCH, N_PARAMETERS, OWNERS, LANES]] = len(operations), batch, sizes["parameters"], owners, lanes
    header[DELTAS] = position = padded(sizes[OUT])
    position += padded(sizes[OUT])
    if owners:  # otherwise both slots are one
        header[SECOND_SLOT], position = position, position + padded(batch * int(table[0, OUT_LD]))
    if gathered:  # never at 0, which stands for none
        header[GATHERED], header[GATHERED_LD] = position, row_stride(widths[0], itemsize)
        position += padded(room * int(header[GATHERED_LD]))
    slopes = [name in BY_SLOPE for name in activations]  # never at 0 either
    table[slopes, SLOPE] += position
    position += sizes[SLOPE]
    header[N_NORMS] = sizes[NORM]
    for column in (TRANSPOSED, NORM, STATS):
        table[:, column] += position
        header[NORMS] = position if column == NORM else header[NORMS]
        position += sizes[column]
    header[ZEROS] = position
    position += max(padded(width) for width in widths)
    # one more cache line apart than the tile is long: threads never write to one line
    header[SCRATCH], header[SCRATCH_STRIDE] = padded(position, 64), padded(TILE_ROWS * 2 * lanes + 64, 64)
    position = int(header[SCRATCH] + n_threads * header[SCRATCH_STRIDE])
    header[SHARD], header[SHARDS] = shard, padded(position)
    position = padded(position) + max(n_shards, int(clipping)) * sizes["parameters"]
    if clipping:
        header[SQUARES], header[N_SQUARES] = position, _places_of_squares(table, position)
        position += int(header[N_SQUARES])
    for name, code in codes.items():
        header[getattr(layout, name.upper())] = code

    items, shares = np.zeros((0, 5), np.int64), np.zeros((2, n_threads + 1), np.int64)
    if update:
        items, shares = shared_items(table, lanes, batch, n_threads, owners, density)
    crew = np.zeros(CREW_STRIDE * (1 + n_threads), np.int64)
    places = np.arange(room + n_shards, dtype=np.intp)
    first = 1 if owners else -1 if gathered else 0
    features = {FEATURE_OF[one.kind] for one in operations if one.kind in FEATURE_OF}
    features |= loss_features(header)
    features |= {"rectifiers"} if set(activations) & set(RECTIFIERS) else set()
    if clipping or header[OPTIMIZER] > ADAM or header[ADJUSTS] or header[AVERAGES]:
        features |= {"optimizers", "clipping"} if clipping else {"optimizers"}
    uses, between = marker(features), None
    if uses is not None and update:
        between = regions(operations, first=first, clipping=clipping)
    return Plan(header, table, items, shares, places, crew, between, uses), position


def loss_features(header: Array) -> set[str]:
    """Of ``layout.FEATURES``, those that the loss needs."""
    found = {
        layout.LOSS_FEATURES.get(int(header[LOSS])): True,
        "soft_targets": header[SOFT_TARGETS],
        "blocks": header[N_BLOCKS],
    }
    return {name for name, needed in found.items() if name is not None and needed}


def _places_of_squares(table: Array, start: int) -> int:
    """Column SQUARES_AT, from ``start`` on, and how many numbers lie there: sums of squares of a gradient, by column.

    For each row of tiles of W, and for two vectors more: a bias, or beta and gamma of a normalisation.
    """
    n = 0
    for row in table:
        row[SQUARES_AT], n = start + n, n + (-(-int(row[FAN_IN]) // TILE_ROWS) + 2) * padded(int(row[FAN_OUT]))
    return n


def _table(
    widths: Sequence[int],
    activations: Sequence[str],
    operations: Sequence[Operation],
    room: int,
    itemsize: int,
    n_threads: int,
) -> tuple[Array, dict[Any, int]]:
    """The table, and how much each kind of place takes, by its column; ``"parameters"`` for these.

    Places in ``work`` count from 0 in each column.
    """
    table = np.zeros((len(operations), TABLE_SIZE), np.int64)
    table[:, ADDS] = handed_on(operations)
    sizes: dict[Any, int] = {"parameters": 0, OUT: 0, SLOPE: 0, TRANSPOSED: 0, NORM: 0, STATS: 0}

    def take(row: Array, column: int, size: int, where: Any = None) -> None:
        where = column if where is None else where
        row[column], sizes[where] = sizes[where], sizes[where] + size

    for l, (row, one) in enumerate(zip(table, operations, strict=True)):
        fan_in, fan_out = widths[one.input + 1], widths[l + 1]
        row[[FAN_IN, FAN_OUT, KIND, INPUT, SOURCE]] = fan_in, fan_out, one.kind, one.input, one.source
        row[ACTIVATION], row[OUT_LD] = ACTIVATIONS[activations[l]], row_stride(fan_out, itemsize)
        row[[CONSTANT, CONSTANT_2]] = np.array([one.constant, one.momentum]).view(np.int64)
        take(row, OUT, room * int(row[OUT_LD]))
        if activations[l] in BY_SLOPE:
            take(row, SLOPE, room * int(row[OUT_LD]))
        if one.kind == DENSE:
            inner = one.input >= 0
            row[PANEL_ROWS], row[TRANSPOSED_ROWS] = padded(fan_in) if inner else fan_in, padded(fan_out)
            take(row, WEIGHTS, padded(int(row[PANEL_ROWS]) * padded(fan_out)), "parameters")
            take(row, BIAS, padded(fan_out), "parameters")
            take(row, TRANSPOSED, padded(fan_in) * padded(fan_out) if inner else 0)
            take(row, NORM, -(-fan_in // TILE_ROWS) * padded(fan_out))
        elif one.kind in (BATCH_NORM, LAYER_NORM):
            take(row, WEIGHTS, padded(fan_out), "parameters")
            take(row, BIAS, padded(fan_out), "parameters")
            by_columns = one.kind == BATCH_NORM
            if by_columns:
                take(row, RUNNING, 2 * padded(fan_out), "parameters")
            places = n_threads + layout.block_count(room)
            weights = layout.GROUP * layout.block_count(room)  # of a batch norm: what each block's rows weigh
            take(row, STATS, N_STATS * places * padded(fan_out) + weights if by_columns else padded(2 * room))
    return table, sizes
