"""One table of offsets for a network: where its parameters, activations and deltas lie, and what its update does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from fastbp.kernels import layout
from fastbp.kernels.items import shared_items
from fastbp.kernels.layout import (
    ACTIVATION,
    ACTIVATIONS,
    BATCH,
    BIAS,
    CREW_STRIDE,
    DELTAS,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GATHERED_LD,
    HEADER_SIZE,
    LANES,
    LOSS,
    N_LAYERS,
    N_NORMS,
    N_PARAMETERS,
    NORM,
    NORMS,
    OUT,
    OUT_LD,
    OWNERS,
    PANEL_ROWS,
    SCRATCH,
    SCRATCH_STRIDE,
    SECOND_SLOT,
    SHARD,
    SHARDS,
    SOFT_TARGETS,
    TABLE_SIZE,
    TILE_ROWS,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    ZEROS,
    Plan,
    padded,
    row_stride,
)


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
        Whether each batch's rows of X are copied to where they lie no power of two apart. Not with owners.
    shard : int
        Rows of a shard, a multiple of 4; 0 for none. Not with owners.
    update : bool
        False leaves out the items, for predictions alone.
    density : float, optional
        Share of X that is not zero, where X is in compressed rows.
    **codes : int
        Further header entries, by lower-case name: ``loss``, ``loss_convention``, ``optimizer``, ...

    Returns
    -------
    plan : Plan
    work_size : int
        Elements of the ``work`` buffer.
    """
    itemsize = np.dtype(dtype).itemsize
    n_layers, n_shards = len(widths) - 1, -(-batch // shard) if shard else 0
    room = n_threads * shard or batch  # rows of activations
    table = np.zeros((n_layers, TABLE_SIZE), np.int64)
    parameters = out = transposed = norms = 0
    for l, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        panel_rows = padded(fan_in) if l else fan_in
        row = table[l]
        row[[FAN_IN, FAN_OUT, PANEL_ROWS, TRANSPOSED_ROWS]] = fan_in, fan_out, panel_rows, padded(fan_out)
        row[WEIGHTS], parameters = parameters, parameters + panel_rows * padded(fan_out)
        parameters = padded(parameters)
        row[BIAS], parameters = parameters, parameters + padded(fan_out)
        row[OUT_LD] = row_stride(fan_out, itemsize)
        row[OUT], out = out, out + room * row[OUT_LD]
        row[TRANSPOSED], transposed = transposed, transposed + (padded(fan_in) * padded(fan_out) if l else 0)
        row[NORM], norms = norms, norms + -(-fan_in // TILE_ROWS) * padded(fan_out)
        row[ACTIVATION] = ACTIVATIONS[activations[l]]

    header = np.zeros(HEADER_SIZE, np.int64)
    header[[N_LAYERS, BATCH, N_PARAMETERS, OWNERS, LANES]] = n_layers, batch, parameters, owners, lanes
    header[DELTAS] = position = padded(out)
    position += padded(out)
    if owners:  # otherwise both slots are one
        header[SECOND_SLOT], position = position, position + padded(batch * int(table[0, OUT_LD]))
    if gathered:  # never at 0, which stands for none
        header[GATHERED], header[GATHERED_LD] = position, row_stride(widths[0], itemsize)
        position += padded(room * int(header[GATHERED_LD]))
    table[:, TRANSPOSED] += position
    position += transposed
    table[:, NORM] += position
    header[NORMS], header[N_NORMS] = position, norms
    position += norms
    header[ZEROS] = position
    position += max(padded(width) for width in widths)
    # one more cache line apart than the tile is long: threads never write to one line
    header[SCRATCH], header[SCRATCH_STRIDE] = padded(position, 64), padded(TILE_ROWS * 2 * lanes + 64, 64)
    position = int(header[SCRATCH] + n_threads * header[SCRATCH_STRIDE])
    header[SHARD], header[SHARDS], position = shard, padded(position), padded(position) + n_shards * parameters
    for name, code in codes.items():
        header[getattr(layout, name.upper())] = code

    items, shares = np.zeros((0, 5), np.int64), np.zeros((2, n_threads + 1), np.int64)
    if update:
        items, shares = shared_items(table, lanes, batch, n_threads, owners, density)
    crew = np.zeros(CREW_STRIDE * (1 + n_threads), np.int64)
    uses = layout.marker(loss_features(header))
    return Plan(header, table, items, shares, np.arange(room + n_shards, dtype=np.intp), crew, uses), position


def loss_features(header: layout.Array) -> set[str]:
    """Of ``layout.FEATURES``, those that the loss needs."""
    features = {layout.LOSS_FEATURES.get(int(header[LOSS])), "soft_targets" if header[SOFT_TARGETS] else None}
    return {name for name in features if name is not None}
