"""What a tile product reads: slabs of an operand on their way from global to shared memory, by quads of elements.

An operand is seen as ``count`` lines (rows of C for A, columns of C for B) by k. In memory either the elements of a
line are neighbours (``along_k``) or those of one k are. In shared memory element (i, k) of a slab lies at

    k count + (i ^ swizzle(k)),   swizzle(k) = step (k / 4 mod turns),  / rounded down

so that quads of lines stay together, whoever reads a k does so without bank conflicts, and so does a warp that writes
quads along k as scalars: 32 different banks.
"""

import functools

import numpy as np

from fastbp.kernels.cuda._target import inlined, load4, store4, tf32


@functools.cache
def swizzle_of(count, depth, tensor):
    """swizzle(quad): of a slab's k = 4 quad, ..., 4 quad + 3.

    Tensor cores read 8 lines of 4 quads of k at once: those want to lie 8 lines apart.
    """
    turns = min(4, count // 8) if tensor else min(depth, count) // 4
    step = 8 if tensor else min(32, count) // turns

    @inlined
    def swizzle(quad):
        return step * (quad & (turns - 1))

    return swizzle


@inlined
def fetch_whole(quads, places, A):
    """All quads of an aligned operand, where all of the slab is there."""
    for q in range(len(places)):
        quads[4 * q], quads[4 * q + 1], quads[4 * q + 2], quads[4 * q + 3] = load4(A, places[q])


@functools.cache
def along_k_of(count, depth, n_threads, real, tensor, gathers):
    """(locate, advance, fetch, put) of an operand whose element (i, k) is at start + r(i) ld + k.

    For the quads of one thread, in registers: ``places`` of a slab's quads are located once, and advance; quads are
    fetched (zeros outside ``low + count <= limit`` and ``k < end``) and put into shared memory.
    """
    width, n_quads = depth // 4, count * depth // 4 // n_threads
    bits = width.bit_length() - 1
    swizzle, zero = swizzle_of(count, depth, tensor), np.dtype(real).type(0)

    @inlined
    def locate(places, thread, start, ld, index, first, gathered, low, limit, k, end):
        for q in range(n_quads):
            e = thread + q * n_threads
            i = low + (e >> bits)
            if gathers:
                if gathered and i < limit:
                    i = index[first + i]
            places[q] = start + i * ld + k + 4 * (e & (width - 1))

    @inlined
    def advance(places, thread, start, ld, index, first, gathered, low, limit, k, end):
        for q in range(n_quads):
            places[q] += depth

    @inlined
    def fetch(quads, places, thread, A, aligned, low, limit, k, end):
        for q in range(n_quads):
            e = thread + q * n_threads
            left = end - k - 4 * (e & (width - 1)) if low + (e >> bits) < limit else 0
            if aligned and left >= 4:
                quads[4 * q], quads[4 * q + 1], quads[4 * q + 2], quads[4 * q + 3] = load4(A, places[q])
            else:
                for c in range(4):
                    quads[4 * q + c] = A[np.uint64(places[q] + c)] if c < left else zero

    @inlined
    def put(slab, base, quads, thread):
        for q in range(n_quads):
            e = thread + q * n_threads
            quad = e & (width - 1)
            at = base + 4 * quad * count + ((e >> bits) ^ swizzle(quad))
            for c in range(4):
                if tensor:
                    slab[np.uint64(at + c * count)] = tf32(quads[4 * q + c])
                else:
                    slab[np.uint64(at + c * count)] = quads[4 * q + c]

    return locate, advance, fetch, put


@functools.cache
def across_k_of(count, depth, n_threads, real, tensor, gathers):
    """The same of an operand whose element (i, k) is at start + r(k) ld + i."""
    width, n_quads = count // 4, count * depth // 4 // n_threads
    bits = width.bit_length() - 1
    swizzle, zero = swizzle_of(count, depth, tensor), np.dtype(real).type(0)

    @inlined
    def locate(places, thread, start, ld, index, first, gathered, low, limit, k, end):
        for q in range(n_quads):
            e = thread + q * n_threads
            r = k + (e >> bits)
            if gathers:
                if gathered and r < end:
                    r = index[first + r]
            places[q] = start + r * ld + low + 4 * (e & (width - 1))

    @inlined
    def advance(places, thread, start, ld, index, first, gathered, low, limit, k, end):
        if gathers:
            if gathered:
                locate(places, thread, start, ld, index, first, gathered, low, limit, k, end)
            else:
                for q in range(n_quads):
                    places[q] += depth * ld
        else:
            for q in range(n_quads):
                places[q] += depth * ld

    @inlined
    def fetch(quads, places, thread, A, aligned, low, limit, k, end):
        for q in range(n_quads):
            e = thread + q * n_threads
            left = limit - low - 4 * (e & (width - 1)) if k + (e >> bits) < end else 0
            if aligned and left >= 4:
                quads[4 * q], quads[4 * q + 1], quads[4 * q + 2], quads[4 * q + 3] = load4(A, places[q])
            else:
                for c in range(4):
                    quads[4 * q + c] = A[np.uint64(places[q] + c)] if c < left else zero

    @inlined
    def put(slab, base, quads, thread):
        for q in range(n_quads):
            e = thread + q * n_threads
            k = e >> bits
            at = base + k * count + ((4 * (e & (width - 1))) ^ swizzle(k >> 2))
            a0, a1, a2, a3 = quads[4 * q], quads[4 * q + 1], quads[4 * q + 2], quads[4 * q + 3]
            if tensor:
                a0, a1, a2, a3 = tf32(a0), tf32(a1), tf32(a2), tf32(a3)
            store4(slab, at, (a0, a1, a2, a3))

    return locate, advance, fetch, put
