"""Where every parameter, activation and delta lives: one table of offsets that all kernels read.

A network has four flat buffers, all sized before the first step:

``parameters``  for each layer the weight panels, then the bias. A panel holds ``panel`` neighbouring columns of W, row
                by row (the last one ``lanes`` columns where that is enough); rows are padded to whole groups of 16
                where a transposed copy is kept. Padding is zero and stays zero.
``moments``     arrays shaped like ``parameters``, as many as the optimizer needs: moments, a velocity, averages.
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

from collections.abc import Iterable
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

# Columns of ``table``: one row an operation
(
    FAN_IN, FAN_OUT, WEIGHTS, BIAS, PANEL_ROWS, TRANSPOSED, TRANSPOSED_ROWS, OUT, OUT_LD, ACTIVATION, NORM,
    KIND, INPUT, SOURCE, ADDS, STATS, SLOPE, RUNNING, CONSTANT, CONSTANT_2, SQUARES_AT, TABLE_SIZE,
) = range(22)  # fmt: skip

# Columns of ``items``: one row a tile of W (LO, HI: rows) or, where LO is -1, the bias of neighbouring panels. Of a
# normalisation LO is -1 for beta and -2 for gamma.
LAYER, COLUMN, WIDTH, LO, HI = range(5)

# Column KIND of the table: what an operation is
DENSE, BATCH_NORM, LAYER_NORM, DROPOUT, ADD = range(5)

# Bits of column ADDS: the delta that an operation hands to its input, or to its other input, is added to what is there,
# or is asked for at all
ADDS_TO_INPUT, ADDS_TO_SOURCE, INPUT_ASKS, SOURCE_ASKS = 1, 2, 4, 8

# Columns of ``regions``, and what a region does
WHAT, FIRST, LAST, WITH_LOSS, TOP, BOTTOM = range(6)
UPDATE, ROWS, GRADIENTS = range(3)

# Arrays of one batch norm at STATS, each as long as a padded row, N_STATS to a place: a place for each share of the
# rows, which nobody else reads or writes, and then one for each block of rows, which one share writes and all read.
# Behind them GROUP elements for each block: the sum of its rows' weights, and how many of them have one
MEAN, INVERSE_DEVIATION, MEAN_D_BETA, MEAN_D_GAMMA = range(4)
BLOCK_START, BLOCK_OFFSET, BLOCK_SQUARES, BLOCK_D_BETA, BLOCK_D_GAMMA, N_STATS = range(6)
# Rows of a block, about, and how many blocks a large batch has
BLOCK_ROWS, MOST_BLOCKS = 16, 64

# Entries of ``header``
(
    N_LAYERS, BATCH, N_PARAMETERS, DELTAS, NORMS, N_NORMS, ZEROS, SCRATCH, SCRATCH_STRIDE,
    LOSS, LOSS_CONVENTION, OPTIMIZER, NESTEROV, CONVENTION, OWNERS, SECOND_SLOT, LANES, GATHERED, GATHERED_LD,
    SHARD, SHARDS, SEED, N_MOMENTS, ADJUSTS, AVERAGES, SQUARES, N_SQUARES, SOFT_TARGETS, N_BLOCKS, HEADER_SIZE,
) = range(30)  # fmt: skip

# Entries of ``hyper``: what stands in the description (0 for no clipping), and from RATE on what each step writes down
# for its update. MU_PRODUCT goes on from step to step, and starts from 1.
(
    BETA_1, BETA_2, EPSILON, L2, L1, WEIGHT_DECAY, CLIP_VALUE, CLIP_NORM, EMA_DECAY, MOMENTUM, DECAY,
    RATE, CORRECTION, KEPT, MU, NEXT_MU, MU_PRODUCT, HYPER_SIZE,
) = range(18)  # fmt: skip

# Clipping by norm, of float32 and float64. Where a sum of squares has overflowed, or is below 2^LEAST, the squares of
# 2^-REACH g or 2^REACH g are added up in float64: none of them leaves its range. The norm that ``clip_norm`` is divided
# by comes within that range by powers of two from 2^-MOST to 2^MOST, which are normal numbers.
LEAST, REACH, MOST = (-100, -900), (0, 600), (126, 1022)
# clip_norm / (norm + 1e-6) is PyTorch's formula. It takes a thousandth of clip_norm at most, or a clip_norm below 1e-6
# would shorten even what is shorter.
CLIP_EPSILON, CLIP_EPSILON_SHARE = 1e-6, 1e-3

IDENTITY, RELU, LOGISTIC, TANH, SOFTMAX, EXP = range(6)
LEAKY_RELU, ELU, SELU, SOFTPLUS, GELU, GELU_TANH, SILU, MISH = range(6, 14)
# Those with kernels of their own, compiled for networks with the feature "rectifiers". The derivative of the second
# group does not follow from A: f'(Z) is kept at ``SLOPE``, laid out as the outputs.
BY_OUTPUT = {"leaky_relu": LEAKY_RELU, "elu": ELU, "selu": SELU, "softplus": SOFTPLUS}
BY_SLOPE = {"gelu": GELU, "gelu_tanh": GELU_TANH, "silu": SILU, "mish": MISH}
RECTIFIERS = {**BY_OUTPUT, **BY_SLOPE}
ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "softmax": SOFTMAX,
    "exp": EXP,
    **RECTIFIERS,
}

SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, MEAN_SQUARED_ERROR, HALF_SQUARED_ERROR, POISSON = range(5)
# Those with kernels of their own, compiled for networks with the feature that is named behind them
MEAN_ABSOLUTE_ERROR, HUBER, QUANTILE, LOG_COSH, OUTPUT_CROSS_ENTROPY, OUTPUT_POISSON = range(5, 11)
LOSSES = {
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "mean_squared_error": MEAN_SQUARED_ERROR,
    "half_squared_error": HALF_SQUARED_ERROR,
    "poisson": POISSON,
    "mean_absolute_error": MEAN_ABSOLUTE_ERROR,
    "huber": HUBER,
    "quantile": QUANTILE,
    "log_cosh": LOG_COSH,
}
# Losses that bring a link, on the outputs of another activation
OUTPUT_LOSSES = {"sigmoid_cross_entropy": OUTPUT_CROSS_ENTROPY, "poisson": OUTPUT_POISSON}
LOSS_FEATURES = {
    MEAN_ABSOLUTE_ERROR: "robust_losses",
    HUBER: "robust_losses",
    QUANTILE: "robust_losses",
    LOG_COSH: "robust_losses",
    OUTPUT_CROSS_ENTROPY: "output_losses",
    OUTPUT_POISSON: "output_losses",
}

# GRADIENT: no update; the gradient is written to the first moment. Those behind ADAM need the feature "optimizers".
GRADIENT, SGD, ADAM, AMSGRAD, RMSPROP, MOMENTUM_RMSPROP, CENTERED_RMSPROP, ADAGRAD, NADAM, LION = range(10)
PYTORCH, SCIKIT_LEARN = range(2)


# What kernels are compiled with only where a network needs it: see ``Plan.uses``
FEATURES = (
    "dropout", "batch_norm", "layer_norm", "residual", "rectifiers", "optimizers", "clipping", "robust_losses",
    "soft_targets", "blocks", "output_losses",
)  # fmt: skip


class Plan(NamedTuple):
    """All offsets of one network for one batch size and number of threads.

    Attributes
    ----------
    header : ndarray of int64, shape (HEADER_SIZE,)
    table : ndarray of int64, shape (n_layers, TABLE_SIZE)
    items : ndarray of int64, shape (n_items, 5)
        What the update does, thread after thread.
    shares : ndarray of int64, shape (2, n_threads + 1)
        Row 0: items of thread t are shares[0, t] .. shares[0, t + 1]. Row 1: the same for panels of the first layer,
        where the first layer has owners.
    rows : ndarray of intp, shape (batch,)
        0, 1, 2, ...: the row index of everything but X. As long as ``row_loss``: with shards another length.
    crew : ndarray of int64, shape (CREW_STRIDE (1 + n_threads),)
        By which threads tell each other what is done: see ``fastbp.kernels.cpu.crew``.
    regions : ndarray of int64, shape (n_regions, 6), or None
        What the regions of a step do, see :func:`fastbp.kernels.operations.regions`; None for the two regions of a
        plain network, and in a plan for predictions.
    uses : ndarray without elements, or None
        Its dtype has a field for each of ``FEATURES`` that the network needs, and None stands for none. The compiler
        sees the type: a plain network does not wait for code that others need.
    """

    header: Array
    table: Array
    items: Array
    shares: Array
    rows: Array
    crew: Array
    regions: Array | None = None
    uses: Array | None = None


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
    blocks : ndarray of intp, shape (n_blocks + 1,)
        Where outputs go by blocks with a label each: 0 and the end of each block, (0, 3, 7) for blocks of 3 and 4.
    coefficients : ndarray of real
        Numbers of the loss, for the features in ``LOSS_FEATURES`` and ``"soft_targets"``: Huber's delta; the level of
        each output for the quantile loss; the label smoothing and then the class weights, (n_outputs,) for a softmax,
        those of targets 0 and then those of targets 1, (2 * n_outputs,), for a sigmoid.
    """

    labels: Array
    values: Array
    weights: Array
    blocks: Array
    coefficients: Array


def padded(n: int, unit: int = GROUP) -> int:
    """n rounded up to a multiple of ``unit``.

    >>> padded(10), padded(16)
    (16, 16)
    """
    return -(-n // unit) * unit


def block_count(n_rows: int) -> int:
    """Blocks of rows that a batch norm adds up: it follows from the batch alone, and so does the order of the sums.

    A multiple of 4 from 16 rows on: then 2 or 4 threads have as many.

    >>> [block_count(n_rows) for n_rows in (3, 16, 128, 200, 10_000)]
    [1, 4, 8, 16, 64]
    """
    return min((n_rows + 3) // 4, (n_rows + 4 * BLOCK_ROWS - 1) // (4 * BLOCK_ROWS) * 4, MOST_BLOCKS)


def marker(features: Iterable[str]) -> Array | None:
    """``Plan.uses`` for a network that needs these features.

    >>> marker(["dropout", "residual"]).dtype.names
    ('dropout', 'residual')
    """
    chosen = set(features)
    if not chosen <= set(FEATURES):
        raise ValueError(f"features must be of {', '.join(FEATURES)}, got {', '.join(sorted(chosen))}")
    return np.zeros(0, [(name, np.uint8) for name in FEATURES if name in chosen]) if chosen else None


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
