"""The cost model: how many threads a step is worth, and whether the first layer has owners. All of it is here.

No choice changes a sum, so none changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastbp.kernels import items, layout, planning
from fastbp.kernels.layout import BATCH_NORM, DENSE
from fastbp.kernels.operations import Operation, dense_shapes, reads_rows

# Seconds, rounded from measurements of one core at about 100 GFLOP/s in float32 (64-byte vectors)
SECONDS_PER_BYTE_OF_PRODUCT = 4.4e-12  # one multiply-add of float32: 4 bytes
SECONDS_PER_PARAMETER = 0.4e-9
SECONDS_PER_ROW = 5e-8  # loss and calls
# Of a normalisation, a dropout or a skip connection, forward and backward: layer norm and dropout 1.5 ns, batch norm
# 1.2 (what they add to a step of `deep` on two threads, by 768 outputs and 128 rows: benchmarks/NOTES.md)
SECONDS_PER_OUTPUT = 1.5e-9
# One region of a training step: threads wait for each other without leaving compiled code, and some shares are longer.
# Measured on 64-32-10, batch 32: 7.8 us a step on one thread, 5.9 on two.
REGION = 1e-6
PARALLEL_LOOP = 4e-6  # one parallel loop on TBB: each batch of a prediction is one
BLOCK_SECONDS = 0.1
# An owner reads its weights from its own cache; a share of work this much longer than even costs more than that saves
TOLERATED_IMBALANCE = 1.12
# Rows of X that lie whole kilobytes apart meet in at most 4 of the 64 sets of a first-level cache, where a weight
# gradient finds none of them again: 512-1024 with batch 256 runs at 69 GFLOP/s, from a copy of the batch at 90. Narrow
# layers do not repay the copy.
CONFLICT_BYTES, GATHER_WIDTH = 1024, 128
# Shards keep activations and deltas in the second-level cache up to the gradients. Time against that without, on two
# threads: 4-32-16-4 of tanh with batch 10,000 0.79, 100-256-256-1 with 2560 0.73, 256-256-256-10 with 4096
# 0.88. Smaller batches gain too (1280: 0.73 to 0.8), but 16 threads would find 8 shards, and 80 rows are too few.
SHARDS_FROM, N_SHARDS, SHARD_ROWS = 2048, 16, 256


def step_seconds(
    widths: tuple[int, ...],
    batch: int,
    itemsize: int,
    density: float | None = None,
    operations: Sequence[Operation] = (),
) -> float:
    """About how long one training step takes on one thread; ``density`` is the share of X that is not zero."""
    pairs = dense_shapes(widths, operations)
    weights = sum(a * layout.padded(b) for a, b in pairs)
    first = pairs[0][0] * layout.padded(pairs[0][1]) if pairs else 0
    products = 3 * (weights - first) + 2 * first * (1.0 if density is None else density)
    # what else there is goes over outputs and deltas of its own
    others = sum(width for width, one in zip(widths[1:], operations, strict=False) if one.kind != DENSE)
    return (
        others * batch * SECONDS_PER_OUTPUT
        + products * batch * itemsize * SECONDS_PER_BYTE_OF_PRODUCT
        + weights * SECONDS_PER_PARAMETER
        + batch * SECONDS_PER_ROW
    )


def shard_rows(widths: tuple[int, ...], batch: int, operations: Sequence[Operation] = ()) -> int:
    """Rows of a shard of a large batch of a small network; 0 where shards do not pay.

    There are 16, or twice as many and so on, but for rounding, so that they share out evenly. Their gradients must take
    no more memory than the activations and deltas that need none any more. It follows from the network and the batch
    alone: another number of shards is another order of sums. A batch norm needs the whole batch.
    """
    if batch < SHARDS_FROM or any(one.kind == BATCH_NORM for one in operations):
        return 0
    n_shards = max(N_SHARDS, 1 << (-(-batch // SHARD_ROWS) - 1).bit_length())
    weights = sum((a + 1) * b for a, b in dense_shapes(widths, operations))
    size = layout.padded(-(-batch // n_shards), 4)
    return size if n_shards * weights <= 2 * batch * sum(widths[1:]) else 0


def useful_threads(seconds: float, parts: int, n_threads: int, overhead: float) -> int:
    """Threads among which ``seconds`` of work in so many parts are worth sharing: that has a cost.

    The fewest that come within 2 % of the shortest time; one thread where that saves less than 10 %.
    """
    counts = range(2, min(n_threads, parts) + 1)
    shared = {threads: seconds * -(-parts // threads) / parts + overhead for threads in counts}
    least = min(shared.values(), default=seconds)
    if least > 0.9 * seconds:
        return 1
    return next(threads for threads in counts if shared[threads] <= 1.02 * least)


def training_plan(
    widths: tuple[int, ...],
    activations: tuple[str, ...],
    *,
    dtype: Any,
    lanes: int,
    batch: int,
    n_threads: int,
    density: float | None = None,
    operations: Sequence[Operation] = (),
    clipping: bool = False,
    **codes: int,
) -> tuple[layout.Plan, int]:
    """The plan of a training session on at most ``n_threads`` threads; arguments and result of ``planning.plan``."""
    itemsize = np.dtype(dtype).itemsize
    shard = shard_rows(widths, batch, operations)
    seconds = step_seconds(widths, batch, itemsize, density, operations)
    norms = sum(one.kind == BATCH_NORM for one in operations)
    # with a batch norm a share of the rows is whole blocks, and there are two meetings more for each
    parts = layout.block_count(batch) if norms else -(-batch // max(shard, 1))
    threads = useful_threads(seconds, parts, n_threads, (2 + 2 * norms) * REGION)
    arguments: dict[str, Any] = {
        "dtype": dtype, "lanes": lanes, "batch": batch, "n_threads": threads, "density": density,
        "operations": operations, "clipping": clipping, **codes,
    }  # fmt: skip
    apart = reads_rows(operations)
    apart |= density is None and widths[0] * itemsize % CONFLICT_BYTES == 0 and widths[1] >= GATHER_WIDTH
    if shard or apart:
        return planning.plan(widths, activations, shard=shard, gathered=apart, **arguments)
    # a sparse product reads few of an owner's weights, so there is nothing to keep in its cache
    owned_first = not operations or operations[0].kind == DENSE
    if threads > 1 and density is None and owned_first:
        owned = planning.plan(widths, activations, owners=True, **arguments)
        if items.imbalance(owned[0]) <= TOLERATED_IMBALANCE:
            return owned
    return planning.plan(widths, activations, **arguments)


def prediction_plan(
    widths: tuple[int, ...],
    activations: tuple[str, ...],
    *,
    dtype: Any,
    lanes: int,
    n_rows: int,
    n_threads: int,
    density: float | None = None,
    operations: Sequence[Operation] = (),
    **codes: int,
) -> tuple[layout.Plan, int]:
    """The plan for outputs or losses of ``n_rows`` rows, 256 for each thread at a time."""
    seconds = step_seconds(widths, n_rows, np.dtype(dtype).itemsize, density, operations) / 3
    threads = useful_threads(seconds, n_rows // 8, n_threads, PARALLEL_LOOP)
    batch = min(n_rows, 256 * threads)
    arguments: dict[str, Any] = {"dtype": dtype, "lanes": lanes, "batch": batch, "n_threads": threads, **codes}
    arguments["operations"] = operations
    return planning.plan(widths, activations, update=False, **arguments)


def blocks(
    widths: tuple[int, ...],
    n_rows: int,
    itemsize: int,
    density: float | None = None,
    operations: Sequence[Operation] = (),
) -> Iterator[slice]:
    """Rows in runs of about ``BLOCK_SECONDS``, each for one call of compiled code: Ctrl-C is answered between them."""
    seconds = max(step_seconds(widths, n_rows, itemsize, density, operations) / 3, 1e-9)
    size = max(1, round(n_rows * BLOCK_SECONDS / seconds))
    size = layout.padded(size, 1024)
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))
