"""The update cut into items, tiles of W and biases, and shared out among threads."""

from __future__ import annotations

import itertools

import numpy as np

from fastbp.kernels.layout import (
    BATCH,
    BATCH_NORM,
    DENSE,
    FAN_IN,
    FAN_OUT,
    HI,
    KIND,
    LANES,
    LAYER,
    LAYER_NORM,
    LO,
    OWNERS,
    PANELS_TOGETHER,
    TILE_ROWS,
    WIDTH,
    Array,
    Plan,
    padded,
    panel_columns,
)


def shared_items(
    table: Array, lanes: int, batch: int, n_threads: int, owners: bool, density: float | None
) -> tuple[Array, Array]:
    """Cut the update into tiles and give each thread a share of about the same cost.

    A tile is computed whole by whoever gets it, so shares never change a result.
    """
    first: list[Array] = []
    rest: list[Array] = []
    for l, row in enumerate(table):
        fan_in = int(row[FAN_IN])
        if row[KIND] in (BATCH_NORM, LAYER_NORM):
            rest += _vectors(l, int(row[FAN_OUT]), lanes)
        if row[KIND] != DENSE:
            continue
        panels = []
        for column, width in panel_columns(int(row[FAN_OUT]), lanes):
            tiles = [(l, column, width, k, min(k + TILE_ROWS, fan_in)) for k in range(0, fan_in, TILE_ROWS)]
            panels.append(np.array([*tiles, (l, column, width, -1, 0)]))
        if owners and l == 0:
            first = panels
        else:
            # of a sparse X each thread sorts what its rows of W need: they should be neighbours
            sparse = density is not None and l == 0
            rest.append(_rows_first(panels, len(panels) if sparse else PANELS_TOGETHER))

    panel_costs = [item_costs(panel, batch).sum() + batch * panel[0, WIDTH] * len(panel) * TILE_ROWS for panel in first]
    owned = _cut(panel_costs, n_threads)
    loads = np.array([sum(panel_costs[a:b]) for a, b in itertools.pairwise(owned)])
    loose = np.concatenate(rest) if rest else np.zeros((0, 5), np.int64)
    costs = np.concatenate([[0.0], item_costs(loose, batch, density).cumsum()])
    # each thread's owned panels, and then of the loose items what lifts it to an even share
    wanted = np.cumsum(np.maximum(0.0, (loads.sum() + costs[-1]) / n_threads - loads))
    cuts = [int(np.argmin(np.abs(costs - part))) for part in wanted * costs[-1] / max(wanted[-1], 1e-300)]

    runs, shares, position = [], [0], 0
    for t in range(n_threads):
        mine = first[owned[t] : owned[t + 1]]
        if mine:
            runs.append(_rows_first(mine, PANELS_TOGETHER))
        runs.append(loose[position : cuts[t]])
        position = max(position, cuts[t])
        shares.append(sum(map(len, runs)))
    return np.concatenate(runs).astype(np.int64), np.array([shares, owned], np.int64)


def _vectors(layer: int, n: int, lanes: int) -> list[Array]:
    """Items of a normalisation: beta and gamma of some neighbouring panels."""
    panels, items = panel_columns(n, lanes), []
    for k in range(0, len(panels), PANELS_TOGETHER):
        run = panels[k : k + PANELS_TOGETHER]
        width = sum(width for _, width in run)
        items.append(np.array([(layer, run[0][0], width, which, 0) for which in (-1, -2)]))
    return items


def _rows_first(panels: list[Array], few: int) -> Array:
    """Items of some panels in the order of their work: ``few`` neighbouring panels, row of tiles by row of tiles.

    What a row of tiles reads of A stays in cache for these panels, and their deltas stay there for all rows (512-1024-
    1024-100, batch 256: 5 % off a step). All panels at once would read all deltas again for each row of tiles.
    """
    parts = []
    for k in range(0, len(panels), few):
        parts.append(np.stack([panel[:-1] for panel in panels[k : k + few]], axis=1).reshape(-1, 5))
        for b in range(k, min(k + few, len(panels)), PANELS_TOGETHER):
            biases = np.stack([panel[-1] for panel in panels[b : min(b + PANELS_TOGETHER, k + few)]])
            biases[0, WIDTH] = biases[:, WIDTH].sum()
            parts.append(biases[:1])
    return np.concatenate(parts)


def item_costs(items: Array, batch: int, density: float | None = None) -> Array:
    """Cost of each item: its multiply-adds, and 16 more a weight for the optimizer.

    Measured: 0.3 ns a parameter under Adam against 0.018 ns a multiply-add.
    """
    rows = np.where(items[:, LO] < 0, 2, items[:, HI] - items[:, LO])
    products = np.where(
        (items[:, LAYER] == 0) & (items[:, LO] >= 0), batch * (1.0 if density is None else density), batch
    )
    return rows * items[:, WIDTH] * (products + 16.0)


def _cut(costs: list[float], n_parts: int) -> list[int]:
    """Boundaries of ``n_parts`` runs of neighbours whose sums differ as little as rounding allows."""
    total, bounds = np.cumsum([0.0, *costs]), [0]
    for part in range(1, n_parts + 1):
        bounds.append(int(np.argmin(np.abs(total - total[-1] * part / n_parts))))
    return bounds


def imbalance(plan: Plan) -> float:
    """Cost of the busiest thread's share of a step over that of an even share; rows always split evenly."""
    header, batch = plan.header, int(plan.header[BATCH])
    costs = np.concatenate([[0.0], item_costs(plan.items, batch).cumsum()])
    loads = np.diff(costs[plan.shares[0]])
    if header[OWNERS]:
        columns = np.diff(np.minimum(plan.shares[1] * 2 * int(plan.header[LANES]), padded(int(plan.table[0, FAN_OUT]))))
        loads = loads + columns * float(batch * plan.table[0, FAN_IN])
    return float(loads.max() / loads.mean())
