"""Where every parameter, activation and delta lives: one table of offsets that all kernels read.

A network has four flat buffers, all sized before the first step:

``parameters``  for each layer the weight panels, then the bias. A panel holds ``panel`` neighbouring columns of W, row
                by row (the last one ``lanes`` columns where that is enough); rows are padded to whole groups of 16
                where a transposed copy is kept. Padding is zero and stays zero.
``moments``     two arrays shaped like ``parameters``: first and second moment, or velocity and nothing.
``work``        activations, deltas (same offsets, ``DELTAS`` further on), transposed weights, norms, one tile a thread.
``row_loss``    the loss of each row of the batch.

A large batch of a small network goes in shards of ``SHARD`` rows: each has forward, deltas and a gradient of its own at
``SHARDS`` in ``work``, laid out as the parameters, and what a tile's update starts from is the sum over the shards, in
their order. ``work`` then has room for the activations of one shard a thread, and ``row_loss`` holds these rows' losses
and, after them, the sum of each shard. The shards depend on the network and the batch alone, so no bit
depends on the threads.

Rows of activations are padded to an odd number of cache lines where they have more than two: with a power of two
between rows, the rows of one column share two of the 64 sets of a first-level cache.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GROUP = 16  # elements; the unit of padding and of reductions, whatever the vector width
# Rows of W in one tile: a multiple of every micro-kernel's height (4, 6, 8) and of every vector, and small enough that
# W, both moments and the gradient of a tile share the first-level cache. Fixed: the order of the norm's sum follows.
TILE_ROWS = 48
PANELS_TOGETHER = 8  # panels whose deltas stay in the second-level cache during the update
CACHE_LINE = 64
CREW_STRIDE = CACHE_LINE // 8  # elements from one of the crew's counters to the next
# Steps of k by which a weight gradient's rows of A are asked for: no hardware looks so far from one row to the next.
# 784 x 128, batch 64: 93 GFLOP/s instead of 90; 4, 12 and 16 measured no better.
AHEAD = 8

# Columns of ``table``: one row a layer
FAN_IN, FAN_OUT, WEIGHTS, BIAS, PANEL_ROWS, TRANSPOSED, TRANSPOSED_ROWS, OUT, OUT_LD, ACTIVATION, NORM = range(11)

# Columns of ``items``: one row a tile of W (LO, HI: rows) or, where LO is -1, the bias of neighbouring panels
LAYER, COLUMN, WIDTH, LO, HI = range(5)

# Entries of ``header``
(
    N_LAYERS, BATCH, N_PARAMETERS, DELTAS, NORMS, N_NORMS, ZEROS, SCRATCH, SCRATCH_STRIDE,
    LOSS, LOSS_CONVENTION, OPTIMIZER, NESTEROV, CONVENTION, OWNERS, SECOND_SLOT, LANES, GATHERED, GATHERED_LD,
    SHARD, SHARDS, HEADER_SIZE,
) = range(22)  # fmt: skip

# Entries of ``hyper``
BETA_1, BETA_2, EPSILON, L2, HYPER_SIZE = range(5)

IDENTITY, RELU, LOGISTIC, TANH, SOFTMAX, EXP = range(6)
ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "softmax": SOFTMAX,
    "exp": EXP,
}

SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, MEAN_SQUARED_ERROR, HALF_SQUARED_ERROR, POISSON = range(5)
LOSSES = {
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "mean_squared_error": MEAN_SQUARED_ERROR,
    "half_squared_error": HALF_SQUARED_ERROR,
    "poisson": POISSON,
}

GRADIENT, SGD, ADAM = range(3)  # GRADIENT: no update; the gradient is written to the first moment
PYTORCH, SCIKIT_LEARN = range(2)


class Plan(NamedTuple):
    """All offsets of one network for one batch size and number of threads.

    Attributes
    ----------
    header : ndarray of int64, shape (HEADER_SIZE,)
    table : ndarray of int64, shape (n_layers, 11)
    items : ndarray of int64, shape (n_items, 5)
        What the update does, thread after thread.
    shares : ndarray of int64, shape (2, n_threads + 1)
        Row 0: items of thread t are shares[0, t] .. shares[0, t + 1]. Row 1: the same for panels of the first layer,
        where the first layer has owners.
    rows : ndarray of intp, shape (batch,)
        0, 1, 2, ...: the row index of everything but X. As long as ``row_loss``: with shards another length.
    crew : ndarray of int64, shape (CREW_STRIDE (1 + n_threads),)
        By which threads tell each other what is done: see ``fastbp.kernels.cpu.crew``.
    """

    header: Array
    table: Array
    items: Array
    shares: Array
    rows: Array
    crew: Array


class Buffers(NamedTuple):
    """The flat buffers of one session."""

    parameters: Array
    moments: Array
    work: Array
    row_loss: Array


class Targets(NamedTuple):
    """What the loss takes for each sample: what it does not use has no elements.

    Attributes
    ----------
    labels : ndarray of intp, shape (n_samples,) or (n_samples * n_blocks,)
    values : ndarray of real, shape (n_samples * n_outputs,)
    weights : ndarray of real, shape (n_samples,)
    blocks : ndarray of intp, shape (n_blocks + 1,), or None
        Where outputs go by blocks with a label each: 0 and the end of each block, (0, 3, 7) for blocks of 3 and 4. None
        is another type to the compiler, so that only networks with blocks wait for what blocks need.
    """

    labels: Array
    values: Array
    weights: Array
    blocks: Array | None = None


def padded(n: int, unit: int = GROUP) -> int:
    """n rounded up to a multiple of ``unit``.

    >>> padded(10), padded(16)
    (16, 16)
    """
    return -(-n // unit) * unit


def row_stride(n: int, itemsize: int) -> int:
    """Elements from one row of n activations to the next: whole groups, and an odd number of cache lines, or two.

    Of rows of two lines half the first-level cache holds 256, whichever line of them is read.
    """
    lines = -(-padded(n) * itemsize // CACHE_LINE)
    return (lines if lines <= 2 else lines | 1) * CACHE_LINE // itemsize


def panel_columns(n: int, lanes: int) -> list[tuple[int, int]]:
    """First column and width of each panel of a matrix with n columns, for vectors of ``lanes`` elements.

    The twins ask for a vector as wide as the widest layer: then each matrix is one panel, no wider than it needs.

    >>> panel_columns(100, 16)
    [(0, 32), (32, 32), (64, 32), (96, 16)]
    >>> panel_columns(10, 112)
    [(0, 16)]
    """
    panel = 2 * lanes
    return [(j, panel if n - j > lanes else min(lanes, padded(n - j))) for j in range(0, n, panel)]


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
    table = np.zeros((n_layers, 11), np.int64)
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
        header[globals()[name.upper()]] = code

    items, shares = np.zeros((0, 5), np.int64), np.zeros((2, n_threads + 1), np.int64)
    if update:
        items, shares = _items(table, lanes, batch, n_threads, owners, density)
    crew = np.zeros(CREW_STRIDE * (1 + n_threads), np.int64)
    return Plan(header, table, items, shares, np.arange(room + n_shards, dtype=np.intp), crew), position


def _items(
    table: Array, lanes: int, batch: int, n_threads: int, owners: bool, density: float | None
) -> tuple[Array, Array]:
    """Cut the update into tiles and give each thread a share of about the same cost.

    A tile is computed whole by whoever gets it, so shares never change a result.
    """
    first: list[Array] = []
    rest: list[Array] = []
    for l, row in enumerate(table):
        fan_in = int(row[FAN_IN])
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


# ---------------------------------------------------------------------------------------------------------------------
# Arrays as kernels take them


def aligned_zeros(n: int, dtype: Any) -> Array:
    """Zeros that start on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(n * itemsize + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n * itemsize].view(dtype)


def with_next(order: Array) -> Array:
    """The order of rows as ``train_steps`` takes it: behind it ``AHEAD`` entries whose rows are asked for, not used."""
    return np.concatenate([order, np.repeat(order[:1], AHEAD)])
