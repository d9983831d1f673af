"""Dropout: masks from a counter, so that they are the same whoever computes them.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns 128 bits of a counter and 64 of
a key into four random words. The counter is made of what names an element of a mask: the column, the row of X, the
step and the layer; the key is the seed. So nothing is stored, no thread has a generator, and backward makes the mask of
forward once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu.simd import _I64, _data, _element, _splat, window
from fastbp.kernels.layout import GROUP

_ROUNDS = 10
_MULTIPLIERS, _KEY_STEPS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_AT_ONCE = 4  # counters in a vector of 64-bit elements, of which a product of 32-bit words needs two a word


def _constant(value: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I64, _AT_ONCE), [value] * _AT_ONCE)


def _philox(builder: Any, counter: list[Any], key: list[Any]) -> list[Any]:
    """Four vectors of random words for four of counters and two of keys, all of 32 bits in 64."""
    low, half = _constant(0xFFFFFFFF), _constant(32)
    x0, x1, x2, x3 = counter
    for r in range(_ROUNDS):
        k0, k1 = (
            builder.and_(builder.add(k, _constant(r * step & 0xFFFFFFFF)), low)
            for k, step in zip(key, _KEY_STEPS, strict=True)
        )
        first, second = (builder.mul(_constant(m), x) for m, x in zip(_MULTIPLIERS, (x0, x2), strict=True))
        x0, x2 = (
            builder.xor(builder.xor(builder.lshr(product, half), x), k)
            for product, x, k in ((second, x1, k0), (first, x3, k1))
        )
        x1, x3 = builder.and_(second, low), builder.and_(first, low)
    return [x0, x1, x2, x3]


@intrinsic
def _mask_row(
    typingctx: Any, Y: Any, A: Any, quarter: Any, threshold: Any, scale: Any, row: Any, step: Any, layer: Any,
    seed: Any, adds: Any,
) -> Any:  # fmt: skip
    """One row of :func:`dropout_rows`: column c has word c // quarter of counter c % quarter.

    In vector IR: LLVM does not vectorise a loop with eight arrays that might overlap. 256 x 128, float32, one thread:
    1.6 to 1.9 ns an element as such a loop, 1.0 to 1.1 as here.
    """
    i = types.intp
    signature = types.void(Y, A, i, i, Y.dtype, i, i, i, i, types.boolean)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        Y, A, quarter, threshold, scale, row, step, layer, seed, adds = args
        element, _ = _element(sig.args[0])
        vector, align = ir.VectorType(element, _AT_ONCE), sig.args[0].dtype.bitwidth // 8
        y, a = _data(context, builder, sig.args[0], Y), _data(context, builder, sig.args[1], A)
        low = _constant(0xFFFFFFFF)
        row, step, layer, seed, least = (_splat(builder, x, _AT_ONCE) for x in (row, step, layer, seed, threshold))
        counter = [builder.and_(x, low) for x in (row, step, layer)]
        key = [builder.and_(seed, low), builder.lshr(seed, _constant(32))]
        factor, nothing = _splat(builder, scale, _AT_ONCE), ir.Constant(vector, [0.0] * _AT_ONCE)
        lanes = ir.Constant(ir.VectorType(_I64, _AT_ONCE), list(range(_AT_ONCE)))
        adding = builder.icmp_unsigned("!=", adds, ir.Constant(adds.type, 0))
        n_vectors = builder.udiv(quarter, ir.Constant(_I64, _AT_ONCE))
        with cgutils.for_range(builder, n_vectors) as loop:
            column = builder.mul(loop.index, ir.Constant(_I64, _AT_ONCE))
            columns = builder.add(_splat(builder, column, _AT_ONCE), lanes)
            for k, word in enumerate(_philox(builder, [columns, *counter], key)):
                place = builder.add(column, builder.mul(quarter, ir.Constant(_I64, k)))
                source, target = (builder.bitcast(builder.gep(p, [place]), vector.as_pointer()) for p in (a, y))
                kept = builder.icmp_unsigned(">=", word, least)
                value = builder.select(kept, builder.fmul(builder.load(source, align=align), factor), nothing)
                before = builder.select(adding, builder.load(target, align=align), nothing)
                builder.store(builder.fadd(before, value), target, align=align)
        return context.get_dummy_value()

    return signature, codegen


@kernel
def dropout_rows(Y, ldy, A, lda, index, m, n, rate, seed, step, layer, adds):
    """Y = A mask / (1 - rate), or Y += where ``adds``: a mask of ones and, with probability ``rate``, zeros.

    Inverted dropout (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014, with
    the factor moved from prediction to training). For deltas the same: dA = dY mask / (1 - rate).

    Parameters
    ----------
    Y, A : 1-D array of real
        Row i at Y + i ldy and A + i lda, both at least n rounded up to 16 apart. Padding is treated as the rest.
    ldy, lda : int
    index : 1-D array of intp
        Row of X for each row: part of the counter.
    m, n : int
    rate : float
        From 0 to below 1, in steps of 2^-32.
    seed, step, layer : int
        The key, and parts of the counter. Step and row count modulo 2^32.
    adds : bool
    """
    quarter, real = (n + GROUP - 1) // GROUP * (GROUP // 4), Y.dtype.type
    threshold, scale = np.int64(rate * 4294967296.0), real(1.0 / (1.0 - rate))
    for i in range(m):
        y, a = window(Y, i * ldy, 4 * quarter), window(A, i * lda, 4 * quarter)
        _mask_row(y, a, quarter, threshold, scale, index[i], step, layer, seed, adds)
