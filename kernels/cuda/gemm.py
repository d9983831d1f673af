"""Matrix products by tiles, C[m, n] = A[m, K] B[K, n], each computed by one block, with an epilogue behind it.

A block goes through k by slabs, which two buffers in shared memory hold in turn: while one is multiplied, the next is
on its way into registers. Every thread keeps ``row_elements`` x ``column_elements`` sums in registers.

The machine code of the loop over whole slabs, for sm_90 and kernels bound to 128 registers (two blocks of 256 threads
on a multiprocessor): with WIDE 583 to 627 instructions for 8 k, of which 512 FFMA, 32 LDS.128 and 2 LDG.128; with
WIDE_TENSOR 214 to 257 for 16 k, of which 32 HMMA, 48 LDS and 64 that round 16 operands to TF32. Those are the kernels
of ``tests/test_cuda_ptx.py``; for whole networks see "On a GPU" in ``benchmarks/NOTES.md``.
"""

import functools
from typing import NamedTuple

import numpy as np

from fastbp.kernels.cuda._target import SIMULATED, cuda, inlined, load4, mma, store4
from fastbp.kernels.cuda.tiles import across_k_of, along_k_of, fetch_whole, swizzle_of


class Tile(NamedTuple):
    """What one block computes of C: rows x columns, by slabs of ``depth``.

    A slab may be cut into ``slices`` of k, each multiplied by its own threads: a small tile keeps more of them busy.
    """

    rows: int
    columns: int
    depth: int
    row_elements: int
    column_elements: int
    slices: int = 1

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.row_elements * (self.columns // self.column_elements) * self.slices


SMALL = Tile(32, 32, 32, 4, 4, 4)
MEDIUM = Tile(64, 64, 16, 4, 4)
WIDE = Tile(128, 128, 8, 8, 8)  # with a depth of 16, 128 registers would not do
WIDE_TENSOR = WIDE._replace(depth=16)  # with a depth of 8, two threads that read from shared memory meet in each bank
SIMULATED_TILE = Tile(8, 8, 4, 4, 4)  # where a block has 4 threads

# Whether the elements of a line of A and of B are neighbours along k, and whether A is read through an index
KINDS = {"forward": (True, False, True), "backward": (True, True, False), "gradient": (False, False, True)}


# ---------------------------------------------------------------------------------------------------------------------
# Which thread has which elements of a tile, row i of its ``row_elements`` and column j


@functools.cache
def registers_of(tile):
    """(thread_place, row_of, column_of): place (slice, y, x) of a thread, and rows and columns of y and x.

    Elements lie in quads, so that one load of 16 bytes brings four. In a warp of 4 x 8 threads neighbours share
    their columns, and next but one their rows: words that both ask for are then read once.
    """
    high, wide = tile.rows // tile.row_elements, tile.columns // tile.column_elements
    row_quads, column_quads = tile.row_elements % 4 == 0, tile.column_elements % 4 == 0
    warps = high % 4 == 0 and wide % 8 == 0

    @inlined
    def thread_place(thread):
        part = thread // (high * wide)
        place = thread - part * (high * wide)
        if warps:
            warp, lane = place >> 5, place & 31
            y = warp // (wide // 8) * 4 + (lane >> 4) * 2 + (lane & 1)
            return part, y, warp % (wide // 8) * 8 + (lane >> 1 & 7)
        return part, place // wide, place % wide

    @inlined
    def row_of(y, i):
        return i // 4 * (4 * high) + 4 * y + i % 4 if row_quads else i * high + y

    @inlined
    def column_of(x, j):
        return j // 4 * (4 * wide) + 4 * x + j % 4 if column_quads else j * wide + x

    return thread_place, row_of, column_of


@functools.cache
def fragments_of(tile):
    """The same for tensor cores: y = 8 times the row of warps + group, x = 4 times their column + t.

    ``mma`` gives a thread, of 16 x 8 sums, rows group and group + 8 and columns 2 t and 2 t + 1 (lane = 4 group + t).
    """
    wide = tile.columns // (4 * tile.column_elements)
    n_warps = tile.rows // (8 * tile.row_elements) * wide
    height, width = 8 * tile.row_elements, 4 * tile.column_elements

    @inlined
    def thread_place(thread):
        warp, lane = thread >> 5, thread & 31
        part = warp // n_warps
        warp -= part * n_warps
        return part, warp // wide * 8 + (lane >> 2), warp % wide * 4 + (lane & 3)

    @inlined
    def row_of(y, i):
        return (y >> 3) * height + i * 8 + (y & 7)

    @inlined
    def column_of(x, j):
        return (x >> 2) * width + (j >> 1) * 8 + (x & 3) * 2 + (j & 1)

    return thread_place, row_of, column_of


# ---------------------------------------------------------------------------------------------------------------------
# One slab


@functools.cache
def multiply_of(tile, real, precision):
    """multiply(sums, slab, base, part, y, x): sums[i, j] += A[i, k] B[k, j] for the k of a slice, in their order."""
    rows, columns, depth, row_elements, column_elements, slices = tile
    _, row_of, column_of = registers_of(tile)
    tf32 = precision == "tf32"
    swizzle_a, swizzle_b = swizzle_of(rows, depth, tf32), swizzle_of(columns, depth, tf32)
    row_quads, column_quads = row_elements % 4 == 0, column_elements % 4 == 0
    quads, dtype, start_b = depth // slices // 4, np.dtype(real), rows * depth
    high, wide, paired = rows // row_elements, columns // column_elements, quads % 2 == 0
    # a swizzle reaches up to 32: where it leaves alone what tells a thread's quads apart, one address is enough for all
    rows_apart, columns_apart = 4 * high >= 32, 4 * wide >= 32

    @inlined
    def add_products(sums, a, b, slab, at_a, at_b, y, x, turn_a, turn_b):
        """One k."""
        if row_quads:
            for i in range(0, row_elements, 4):
                at = at_a + (i * high + (4 * y ^ turn_a) if rows_apart else row_of(y, i) ^ turn_a)
                a[i], a[i + 1], a[i + 2], a[i + 3] = load4(slab, at)
        else:
            for i in range(row_elements):
                a[i] = slab[np.uint64(at_a + (row_of(y, i) ^ turn_a))]
        if column_quads:
            for j in range(0, column_elements, 4):
                at = at_b + (j * wide + (4 * x ^ turn_b) if columns_apart else column_of(x, j) ^ turn_b)
                b[j], b[j + 1], b[j + 2], b[j + 3] = load4(slab, at)
        else:
            for j in range(column_elements):
                b[j] = slab[np.uint64(at_b + (column_of(x, j) ^ turn_b))]
        for i in range(row_elements):
            for j in range(column_elements):
                sums[i * column_elements + j] += a[i] * b[j]

    @inlined
    def add_quad(sums, a, b, slab, base, quad, y, x):
        """Four k, as many calls: a loop LLVM would leave one where 8 x 8 sums are added to."""
        turn_a, turn_b = swizzle_a(quad), swizzle_b(quad)
        at_a, at_b = base + quad * (4 * rows), base + start_b + quad * (4 * columns)
        add_products(sums, a, b, slab, at_a, at_b, y, x, turn_a, turn_b)
        add_products(sums, a, b, slab, at_a + rows, at_b + columns, y, x, turn_a, turn_b)
        add_products(sums, a, b, slab, at_a + 2 * rows, at_b + 2 * columns, y, x, turn_a, turn_b)
        add_products(sums, a, b, slab, at_a + 3 * rows, at_b + 3 * columns, y, x, turn_a, turn_b)

    @inlined
    def multiply(sums, slab, base, part, y, x):
        a, b = cuda.local.array(row_elements, dtype), cuda.local.array(column_elements, dtype)
        if paired:
            for pair in range(quads // 2):
                quad = part * quads + 2 * pair
                add_quad(sums, a, b, slab, base, quad, y, x)
                add_quad(sums, a, b, slab, base, quad + 1, y, x)
        else:
            for quad in range(quads):
                add_quad(sums, a, b, slab, base, part * quads + quad, y, x)

    return multiply


@functools.cache
def multiply_tensor_of(tile):
    """The same on tensor cores, 8 k at once: a thread has two neighbours, of 2 t, 2 t + 1 or of 4 t, ..., 4 t + 3.

    Operands are read by words, each into the register where ``mma`` wants it. By quads of lines, of 32 ``mma`` with 12
    loads there were 121 moves between registers as well.
    """
    rows, columns, depth, row_elements, column_elements, slices = tile
    swizzle_a, swizzle_b = swizzle_of(rows, depth, True), swizzle_of(columns, depth, True)
    share, start_b, n_tiles = depth // slices, rows * depth, column_elements // 2
    span = min(share, 16)
    height, width = 8 * row_elements, 4 * column_elements
    dtype = np.dtype(np.float32)

    @inlined
    def take(values, n, slab, at, low, turn):
        """One k of every eighth line from ``low`` on."""
        for i in range(n):
            if n % 4 == 0:
                # low is a multiple of 32, but for the group: four addresses for all
                values[i] = slab[np.uint64(at + low + 8 * (i & ~3) + (8 * (i & 3) ^ turn))]
            else:
                values[i] = slab[np.uint64(at + (low + 8 * i ^ turn))]

    @inlined
    def multiply(sums, slab, base, part, y, x):
        a0, a1 = cuda.local.array(row_elements, dtype), cuda.local.array(row_elements, dtype)
        b0, b1 = cuda.local.array(n_tiles, dtype), cuda.local.array(n_tiles, dtype)
        first, group = part * share + (x & 3) * (span // 4), y & 7
        turn_a, turn_b = swizzle_a(first >> 2), swizzle_b(first >> 2)
        low_a, low_b = (y >> 3) * height + group, (x >> 2) * width + group
        for step in range(share // 8):
            k = first + step * 8 // span * span + step * 8 % span // 4
            at_a, at_b = base + k * rows, base + start_b + k * columns
            take(a0, row_elements, slab, at_a, low_a, turn_a)
            take(a1, row_elements, slab, at_a + rows, low_a, turn_a)
            take(b0, n_tiles, slab, at_b, low_b, turn_b)
            take(b1, n_tiles, slab, at_b + columns, low_b, turn_b)
            for i in range(0, row_elements, 2):
                for e in range(n_tiles):
                    c = i * column_elements + 2 * e
                    d = c + column_elements
                    sums[c], sums[c + 1], sums[d], sums[d + 1] = mma(
                        (sums[c], sums[c + 1], sums[d], sums[d + 1]), (a0[i], a0[i + 1], a1[i], a1[i + 1]),
                        (b0[e], b1[e]),
                    )  # fmt: skip

    return multiply


# ---------------------------------------------------------------------------------------------------------------------
# The whole


@functools.cache
def leave_of(tile, real, tensor, epilogue):
    """leave(sums, slab, thread, part, y, x, row, column, m, n, context): the epilogue for each element inside m x n.

    The sums go through shared memory, some rows of each thread at a time: neighbouring threads then have neighbouring
    elements of C, the epilogue is compiled once and not for each element, and slices are added up in their order.
    """
    rows, columns, _, row_elements, column_elements, slices = tile
    _, row_of, column_of = fragments_of(tile) if tensor else registers_of(tile)
    quads = column_elements % 4 == 0 and not tensor
    high, n_threads = rows // row_elements, tile.threads
    strip = row_elements
    while slices * high * strip * columns > shared_size(tile):
        strip //= 2
    size = high * strip * columns

    @inlined
    def leave(sums, slab, thread, part, y, x, row, column, m, n, context):
        for s in range(row_elements // strip):
            for i in range(row_elements):
                if i // strip == s:
                    at = part * size + (y * strip + i % strip) * columns
                    if quads:
                        for j in range(0, column_elements, 4):
                            c = i * column_elements + j
                            store4(slab, at + column_of(x, j), (sums[c], sums[c + 1], sums[c + 2], sums[c + 3]))
                    else:
                        for j in range(column_elements):
                            slab[at + column_of(x, j)] = sums[i * column_elements + j]
            cuda.syncthreads()
            for e in range(thread, size, n_threads):
                line = e // columns
                i, j = row + row_of(line // strip, s * strip + line % strip), column + e % columns
                if i < m and j < n:
                    value = slab[np.uint64(e)]
                    for other in range(1, slices):
                        value += slab[np.uint64(other * size + e)]
                    epilogue(i, j, value, context)
            cuda.syncthreads()

    return leave


def shared_size(tile):
    """Elements of the two buffers."""
    return 2 * (tile.rows + tile.columns) * tile.depth


@functools.cache
def product_of(kind, tile, real, precision, epilogue, prepare=None):
    """product(A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end, row, column, context): one tile of C.

    Calls ``epilogue(i, j, value, context)`` for each element of the tile at (row, column) inside m x n, where value is

        forward    sum of A[a + r(i) lda + k] B[b + k ldb + j]
        backward   sum of A[a + i lda + k] B[b + j ldb + k]
        gradient   sum of A[a + r(k) lda + i] B[b + k ldb + j]

    over start <= k < end, and r(i) = index[first + i] where ``gathered``, i elsewhere. All threads of a block call it
    together, as often as they like; the launch gives it ``shared_size(tile)`` elements of dynamic shared memory.

    Nothing outside these elements is read. Operands whose offset, leading dimension and first element (``row`` or
    ``column``, or ``start`` where k goes along them) are multiples of 4 are read by 16 bytes. Sums go in ascending k,
    those of a tile with ``slices`` in as many parts of each slab, and on tensor cores 8 k at once; the order depends
    on the tile alone. ``real`` is "float32" or "float64"; with ``precision`` "tf32" operands are rounded to TF32,
    and on a GPU multiplied on tensor cores.
    """
    a_along_k, b_along_k, gathers = KINDS[kind]
    tf32 = precision == "tf32"
    tensor = tf32 and not SIMULATED
    rows, columns, depth = tile[:3]
    n_sums, n_threads, dtype = tile.row_elements * tile.column_elements, tile.threads, np.dtype(real)
    n_a, n_b, at_b = rows * depth // n_threads, columns * depth // n_threads, rows * depth
    places_in_a, places_in_b = n_a // 4, n_b // 4
    size, zero, buffers = (rows + columns) * depth, dtype.type(0), shared_size(tile)
    locate_a, advance_a, fetch_a, put_a = (along_k_of if a_along_k else across_k_of)(
        rows, depth, n_threads, real, tf32, gathers
    )
    locate_b, advance_b, fetch_b, put_b = (along_k_of if b_along_k else across_k_of)(
        columns, depth, n_threads, real, tf32, False
    )
    thread_place, _, _ = fragments_of(tile) if tensor else registers_of(tile)
    multiply = multiply_tensor_of(tile) if tensor else multiply_of(tile, real, precision)
    leave = leave_of(tile, real, tensor, epilogue)

    @inlined
    def product(A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end, row, column, context):
        if SIMULATED:
            slab = cuda.shared.array(buffers, dtype)
        else:
            # dynamic, and so the same memory for every product of a kernel
            slab = cuda.shared.array(0, dtype, 16)
        sums = cuda.local.array(n_sums, dtype)
        quads_a, quads_b = cuda.local.array(n_a, dtype), cuda.local.array(n_b, dtype)
        places_a, places_b = cuda.local.array(places_in_a, np.int64), cuda.local.array(places_in_b, np.int64)
        thread = cuda.threadIdx.x
        part, y, x = thread_place(thread)
        for e in range(n_sums):
            sums[e] = zero
        aligned_a = (a | lda | (start if a_along_k else row)) & 3 == 0
        aligned_b = (b | ldb | (start if b_along_k else column)) & 3 == 0
        locate_a(places_a, thread, a, lda, index, first, gathered, row, m, start, end)
        locate_b(places_b, thread, b, ldb, index, 0, False, column, n, start, end)
        fetch_a(quads_a, places_a, thread, A, aligned_a, row, m, start, end)
        fetch_b(quads_b, places_b, thread, B, aligned_b, column, n, start, end)
        advance_a(places_a, thread, a, lda, index, first, gathered, row, m, start + depth, end)
        advance_b(places_b, thread, b, ldb, index, 0, False, column, n, start + depth, end)
        put_a(slab, 0, quads_a, thread)
        put_b(slab, at_b, quads_b, thread)
        cuda.syncthreads()
        base, k = 0, start + depth
        # where whole slabs are left it needs no look at edges, and fewer registers
        whole = aligned_a and aligned_b and row + rows <= m and column + columns <= n
        last = end - depth if whole else start
        while k <= last:
            fetch_whole(quads_a, places_a, A)
            fetch_whole(quads_b, places_b, B)
            # the row numbers of the slab after that come with it
            advance_a(places_a, thread, a, lda, index, first, gathered, row, m, k + depth, end)
            advance_b(places_b, thread, b, ldb, index, 0, False, column, n, k + depth, end)
            multiply(sums, slab, base, part, y, x)
            base = size - base
            put_a(slab, base, quads_a, thread)
            put_b(slab, base + at_b, quads_b, thread)
            cuda.syncthreads()
            k += depth
        while k < end + depth:
            if k < end:
                fetch_a(quads_a, places_a, thread, A, aligned_a, row, m, k, end)
                fetch_b(quads_b, places_b, thread, B, aligned_b, column, n, k, end)
                advance_a(places_a, thread, a, lda, index, first, gathered, row, m, k + depth, end)
                advance_b(places_b, thread, b, ldb, index, 0, False, column, n, k + depth, end)
            multiply(sums, slab, base, part, y, x)
            base = size - base
            if k < end:
                put_a(slab, base, quads_a, thread)
                put_b(slab, base + at_b, quads_b, thread)
            cuda.syncthreads()
            k += depth
        leave(sums, slab, thread, part, y, x, row, column, m, n, context if prepare is None else prepare(context))

    return product
