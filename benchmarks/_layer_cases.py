"""Cases of normalisations, dropout and skip connections, which plain networks do without: see ``_cases.py``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks import _kernels as loops
from benchmarks._kernels import Case
from benchmarks._operands import aligned, in_place
from fastbp.kernels import layout
from fastbp.kernels.reference import dropout, normalization, residual, row_weights
from fastbp.kernels.reference._views import rows

EPSILON, RATE, SEED, STEP, LAYER = 1e-5, 0.2, 7, 3, 1
# In the order of ``_kernels.layer_parts``: operations an element, counted by hand (a fused multiply-add is two), and
# how many matrices are read and written. Dropout's masks are made of whole numbers, which do not count.
COUNTS = {
    "block_statistics": (6, 1), "batch_statistics": (0, 0), "batch_norm_forward": (4, 2),
    "batch_norm_inference": (7, 2), "block_sums": (5, 2), "batch_norm_backward": (5, 3),
    "layer_norm_forward": (8, 2), "layer_norm_backward": (13, 3),
    "layer_norm_gamma": (4, 2), "dropout_rows": (1, 2), "weighted_block_statistics": (8, 1),
    "weighted_batch_statistics": (0, 0), "weighted_batch_norm_backward": (7, 3), "add_rows": (1, 3),
    "hand_on_rows": (0, 2),
}  # fmt: skip
NAMES = tuple(COUNTS)


def layer_part(name: str, m: int, n: int, dtype: str) -> Case:
    """One of ``NAMES`` on m rows of n columns: Y from A and B, with vectors of n numbers."""
    rng, ld, what = np.random.default_rng(0), layout.row_stride(n, np.dtype(dtype).itemsize), NAMES.index(name)
    Y, A, B = (layout.aligned_zeros(m * ld, dtype) for _ in range(3))
    for matrix in (A, B):
        rows(matrix, ld, m, n)[:] = rng.normal(size=(m, n))
    ldv, n_blocks = layout.padded(n), layout.block_count(m)
    vectors = aligned(rng.uniform(0.5, 2, (5, ldv)), dtype)
    # of the rows, or of the blocks: statistics
    stats = aligned(rng.uniform(0.5, 2, max(2 * m, 3 * n_blocks * ldv)), dtype)
    index, floor = rng.permutation(m), np.dtype(dtype).type(0)
    weights, sizes = (aligned(rng.uniform(0.5, 2, size), dtype) for size in (m, n_blocks * layout.GROUP))

    def twin(Y: Any, A: Any, B: Any, vectors: Any, stats: Any) -> None:
        v, parts = vectors.reshape(5, ldv), stats[: 3 * n_blocks * ldv].reshape(3, -1)
        module: Any = dropout if name == "dropout_rows" else residual if name in NAMES[-2:] else normalization
        module = row_weights if name.startswith("weighted") else module
        function = getattr(module, name)
        arguments: dict[str, tuple[Any, ...]] = {
            "block_statistics": (*v[:3], A, ld, m, n),
            "batch_statistics": (*v[:4], *parts, ldv, m, n, EPSILON, 0.1),
            "batch_norm_forward": (Y, ld, A, ld, *v[:4], floor, m, n),
            "batch_norm_inference": (Y, ld, A, ld, *v[:4], m, n, EPSILON),
            "block_sums": (*v[:2], B, ld, A, ld, *v[2:4], m, n),
            "batch_norm_backward": (Y, ld, B, ld, A, ld, *v, m, n, False),
            "layer_norm_forward": (Y, ld, A, ld, stats, *v[:2], m, n, EPSILON),
            "layer_norm_backward": (Y, ld, B, ld, A, ld, stats, v[0], m, n, False),
            "layer_norm_gamma": (v[0], B, ld, A, ld, stats, n, m),
            "weighted_block_statistics": (*v[:3], A, ld, weights, index, m, n),
            "weighted_batch_statistics": (*v[:4], *parts, ldv, sizes, n_blocks, n, EPSILON, 0.1),
            "weighted_batch_norm_backward": (Y, ld, B, ld, A, ld, *v, weights, index, m, n, False),
            "dropout_rows": (Y, ld, A, ld, index, m, n, RATE, SEED, STEP, LAYER, False),
            "add_rows": (Y, ld, A, ld, B, ld, m, n),
            "hand_on_rows": (Y, ld, A, ld, m, n, False),
        }
        function(*arguments[name])

    flop, elements = (count * m * n for count in COUNTS[name])
    if name.endswith("batch_statistics"):
        flop, elements = 10 * n_blocks * n, 3 * n_blocks * n
    return in_place(
        name, f"{m}x{n}", dtype, flop, elements, (Y, A, B, vectors, stats),
        lambda n_times, Y, A, B, vectors, stats: loops.layer_parts(
            n_times, what, Y, A, B, ld, vectors, ldv, stats, n_blocks, sizes, weights, index, floor, m, n
        ),
        twin, lambda Y, A, B, vectors, stats: [rows(Y, ld, m, n), vectors.reshape(5, ldv)[:, :n], stats],
    )  # fmt: skip


# A block of rows, the share of one thread, and a batch
CASES = {f"{name} 128x128": partial(layer_part, name, 128, 128) for name in NAMES if "block" not in name}
CASES |= {f"{name} 16x128": partial(layer_part, name, 16, 128) for name in NAMES if "block" in name}
CASES["dropout_rows 256x128"] = partial(layer_part, "dropout_rows", 256, 128)
