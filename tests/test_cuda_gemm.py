"""Tiles of matrix products on a GPU, in the simulator, against NumPy; and the fragments of tensor cores by hand."""

import functools
import itertools
import threading
import types

import numpy as np
import pytest

from fastbp.kernels.cuda import _simulator, gemm
from fastbp.kernels.cuda._target import inlined, kernel, tf32
from fastbp.kernels.cuda.gemm import KINDS, MEDIUM, SIMULATED_TILE, SMALL, WIDE, WIDE_TENSOR, Tile
from fastbp.kernels.cuda.tiles import across_k_of, along_k_of

SENTINEL = 12345.0
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
# One thread has 8 x 4 sums, or every other pair of threads half of the k
UPRIGHT, SLICED = Tile(16, 8, 8, 8, 4), Tile(8, 8, 8, 4, 8, 2)
SCATTERED = Tile(8, 8, 8, 2, 8)
TENSOR_TILES = {
    "wide": WIDE_TENSOR,
    "shallow": WIDE,
    "medium": MEDIUM,
    "small": SMALL,
    "deep": MEDIUM._replace(depth=32),
    "narrow": Tile(32, 32, 32, 2, 2),
    "long": Tile(128, 128, 16, 16, 8),
}
# m, n, the range of k, offsets of A and B, what leading dimensions have beyond the least (None: up to a multiple of 4)
ALIGNED = (8, 16, 0, 12, 4, 8, 4, 4)
EDGES = (11, 6, 0, 7, 8, 4, 4, 8)
TALL = (11, 8, 0, 16, 4, 8, None, None)
BROAD = (8, 11, 0, 16, 8, 4, None, None)
ODD = (5, 13, 3, 10, 1, 6, 1, 3)
PART = (9, 9, 4, 9, 0, 0, 3, 3)
ONE = (1, 1, 2, 3, 3, 2, 2, 1)
NOTHING = (3, 9, 4, 4, 0, 0, 0, 0)
SHAPES = (ALIGNED, EDGES, TALL, BROAD, ODD, PART, ONE, NOTHING)


@pytest.fixture(params=[1, -1], ids=["forth", "back"])
def turns(request, monkeypatch):
    """Whichever thread runs first."""
    monkeypatch.setattr(_simulator, "TURNS", [request.param])


@inlined
def leave(i, j, value, context):
    """C = value + bias."""
    C, ldc, bias = context
    assert C[i * ldc + j] == SENTINEL  # once, and not twice
    C[i * ldc + j] = value + bias[j]


@functools.cache
def product_kernel(kind, tile, real, precision):
    """Two blocks share the tiles of C, as in a persistent kernel."""
    product = gemm.product_of(kind, tile, real, precision, leave)
    rows, columns = tile.rows, tile.columns

    @kernel
    def run(C, ldc, bias, A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end):
        high = (m + rows - 1) // rows
        for unit in range(gemm.cuda.blockIdx.x, high * ((n + columns - 1) // columns), gemm.cuda.gridDim.x):
            row, column = unit % high * rows, unit // high * columns
            product(
                A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end, row, column, (C, ldc, bias)
            )  # fmt: skip

    return run


def laid_out(rng, lines, width, offset, more, real):
    """(flat array, offset, leading dimension, where its elements are); NaN around them, and nothing behind the last."""
    ld = -(-width // 4) * 4 if more is None else width + more
    flat = np.full(offset + (lines - 1) * ld + width if lines else offset, np.nan, real)
    places = offset + np.arange(lines)[:, None] * ld + np.arange(width)
    flat[places] = rng.standard_normal((lines, width))
    return flat, offset, ld, places


def check(kind, tile, real, precision, shape, gathered):
    """All of C, against NumPy in float64; elements of A and B outside the range of k are NaN."""
    m, n, start, end, a, b, more_a, more_b = shape
    rng = np.random.default_rng([m, n, end, gathered])
    K, first = end, 2
    lines = {"forward": m, "backward": m, "gradient": K}[kind]
    rows_of_x = lines + 3 if gathered else lines
    index = np.full(first + lines, 10**9)
    index[first:] = rng.permutation(rows_of_x)[:lines]
    A, a, lda, places_a = laid_out(rng, rows_of_x, m if kind == "gradient" else K, a, more_a, real)
    B, b, ldb, places_b = laid_out(rng, n if kind == "backward" else K, K if kind == "backward" else n, b, more_b, real)
    rows = index[first:] if gathered and kind != "backward" else np.arange(lines)
    unread = np.setdiff1d(np.arange(rows_of_x), rows)
    A[places_a[unread]] = np.nan
    if kind == "gradient":
        A[places_a[rows[:start]]] = np.nan
        left = A[places_a[rows[start:end]]].T
    else:
        A[places_a[:, :start]] = np.nan
        left = A[places_a[rows, start:end]]
    if kind == "backward":
        B[places_b[:, :start]] = np.nan
        right = B[places_b[:, start:end]].T
    else:
        B[places_b[:start]] = np.nan
        right = B[places_b[start:end]]
    if precision == "tf32":
        left, right = (np.vectorize(tf32, otypes=[np.float32])(x) if x.size else x for x in (left, right))
    bias, ldc = rng.standard_normal(n).astype(real), n + 2
    C = np.full((m + 1) * ldc, SENTINEL, real)
    product_kernel(kind, tile, real, precision)[2, tile.threads](
        C, ldc, bias, A, a, lda, index, first, int(gathered), B, b, ldb, m, n, start, end
    )
    expected = np.full((m + 1, ldc), SENTINEL)
    left, right = left.astype(np.float64), right.astype(np.float64)
    expected[:m, :n] = left @ right + bias
    bound = np.full((m + 1, ldc), 0.0)
    bound[:m, :n] = TOLERANCE[real] * (1 + np.abs(left) @ np.abs(right))
    assert not np.isnan(C).any()
    assert (np.abs(C.reshape(m + 1, ldc) - expected) <= bound).all()


CASES = [(kind, gathered) for kind, (_, _, gathers) in KINDS.items() for gathered in (False, True)[: 1 + gathers]]
each_case = pytest.mark.parametrize(("kind", "gathered"), CASES)


@each_case
@pytest.mark.parametrize("shape", SHAPES)
def test_product(kind, gathered, shape, turns):
    for real in TOLERANCE:
        check(kind, SIMULATED_TILE, real, real, shape, gathered)


@each_case
@pytest.mark.parametrize("tile", [UPRIGHT, SLICED, SCATTERED], ids=["upright", "sliced", "scattered"])
def test_product_by_other_tiles(kind, gathered, tile, turns):
    assert tile.threads == _simulator.WIDTH
    for shape in (ALIGNED, ODD):
        check(kind, tile, "float32", "float32", shape, gathered)


@each_case
def test_product_of_rounded_operands(kind, gathered, turns):
    for shape in (ALIGNED, ODD):
        check(kind, UPRIGHT, "float32", "tf32", shape, gathered)


def test_backward_ignores_an_index():
    check("backward", SIMULATED_TILE, "float64", "float64", EDGES, True)


def test_sums_go_in_the_order_of_k():
    # 1e8 + 1 - 1e8 is 0 in float32, in any other order of these it is not
    A = np.array([1e8, 1, -1e8, 0], np.float32)
    C, ones, bias = np.full(1, SENTINEL, np.float32), np.ones(4, np.float32), np.zeros(1, np.float32)
    run = product_kernel("forward", SIMULATED_TILE, "float32", "float32")
    run[1, 4](C, 1, bias, A, 0, 4, np.zeros(1, np.int64), 0, 0, ones, 0, 1, 1, 1, 0, 4)
    assert C[0] == 0


# ---------------------------------------------------------------------------------------------------------------------
# Tensor cores: 32 threads that call `mma` together, laid out as the PTX ISA says of m16n8k8 for .tf32


class Warp:
    """`mma` of 32 threads: each leaves its fragments, and takes its part of the product when all have."""

    def __init__(self):
        self.A, self.B, self.C = np.full((16, 8), np.nan), np.full((8, 8), np.nan), np.full((16, 8), np.nan)
        self.barrier = threading.Barrier(32, timeout=20)
        self.lane = threading.local()
        self.calls = 0

    def mma(self, c, a, b):
        group, t = self.lane.number >> 2, self.lane.number % 4
        self.A[group, t], self.A[group + 8, t], self.A[group, t + 4], self.A[group + 8, t + 4] = a
        self.B[t, group], self.B[t + 4, group] = b
        rows, columns = (group, group, group + 8, group + 8), (2 * t, 2 * t + 1, 2 * t, 2 * t + 1)
        self.C[rows, columns] = c
        self.barrier.wait()
        D = (self.C + self.A @ self.B)[rows, columns]
        self.calls += self.lane.number == 0
        self.barrier.wait()
        return tuple(D)


def run_warp(warp, function):
    """function(lane) by 32 threads."""
    errors = []

    def run(number):
        warp.lane.number = number
        try:
            function(number)
        except BaseException as error:
            errors.append(error)
            warp.barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("tile", TENSOR_TILES.values(), ids=TENSOR_TILES.keys())
def test_fragments_of_tensor_cores(tile, monkeypatch):
    """The kernel's own multiplication of one slab: each element of C once, and all of its products."""
    rows, columns, depth = tile[:3]
    rng = np.random.default_rng(0)
    # whole numbers, whose sums are exact
    A = rng.integers(-9, 10, (rows, depth)).astype(np.float32)
    B = rng.integers(-9, 10, (depth, columns)).astype(np.float32)
    slab = np.full(gemm.shared_size(tile), np.nan, np.float32)
    base = slab.size // 2
    for thread in range(tile.threads):
        for line_of, start, X, count in ((along_k_of, 0, A, rows), (across_k_of, rows * depth, B, columns)):
            locate, _, fetch, put = line_of(count, depth, tile.threads, "float32", True, False)
            n = count * depth // tile.threads
            quads, places = np.empty(n, np.float32), np.empty(n // 4, np.int64)
            locate(places, thread, 0, X.shape[1], None, 0, False, 0, count, 0, depth)
            fetch(quads, places, thread, X.ravel(), True, 0, count, 0, depth)
            put(slab, base + start, quads, thread)
    assert not np.isnan(slab[base:]).any()
    monkeypatch.setattr(gemm, "cuda", types.SimpleNamespace(local=types.SimpleNamespace(array=np.empty)))
    multiply, (thread_place, row_of, column_of) = gemm.multiply_tensor_of(tile), gemm.fragments_of(tile)
    C, count = np.zeros((tile.slices, rows, columns)), np.zeros((tile.slices, rows, columns), int)
    for low in range(0, tile.threads, 32):
        warp = Warp()
        monkeypatch.setattr(gemm, "mma", warp.mma)

        def lane(number, low=low):
            part, y, x = thread_place(low + number)
            sums = np.zeros(tile.row_elements * tile.column_elements, np.float32)
            multiply(sums, slab, base, part, y, x)
            for i, j in itertools.product(range(tile.row_elements), range(tile.column_elements)):
                C[part, row_of(y, i), column_of(x, j)] += sums[i * tile.column_elements + j]
                count[part, row_of(y, i), column_of(x, j)] += 1

        run_warp(warp, lane)
        assert warp.calls == tile.row_elements // 2 * (tile.column_elements // 2) * depth // tile.slices // 8
    assert (count == 1).all()
    for part, k in enumerate(np.split(np.arange(depth), tile.slices)):
        assert np.array_equal(C[part], A[:, k] @ B[k])


@pytest.mark.parametrize("tile", [SMALL, MEDIUM, WIDE, SCATTERED, SLICED])
def test_every_thread_has_elements_of_its_own(tile):
    thread_place, row_of, column_of = gemm.registers_of(tile)
    count = np.zeros((tile.slices, tile.rows, tile.columns), int)
    for thread in range(tile.threads):
        part, y, x = thread_place(thread)
        for i, j in itertools.product(range(tile.row_elements), range(tile.column_elements)):
            count[part, row_of(y, i), column_of(x, j)] += 1
    assert (count == 1).all()
