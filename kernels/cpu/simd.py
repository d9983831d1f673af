"""Vector code that Numba cannot write by itself: the micro-kernels, transposes and reductions, as LLVM vector IR.

Every function here is an intrinsic: it is pasted as IR into the kernel that calls it. Arrays are 1-D and C-contiguous,
and what an intrinsic reads starts at element 0 of its array; :func:`window` makes such arrays without a cost.

Sizes, for elements of ``size`` bytes (all in one place; everything else follows):

- ``lanes``: elements of one vector, ``VECTOR_BITS / 8 / size``;
- ``panel width`` NR: ``NV`` vectors, the columns that a micro-kernel holds in registers; the last panel of a matrix is
  one vector wide where that is enough (10 outputs padded to 16, not to 32);
- ``MR``: rows that a micro-kernel holds in registers. 8 x 2 accumulators need more than 16 vector registers;
- ``GROUP``: 16 elements, whatever the vector width. Reductions go by groups, so their order never depends on it.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cpu._jit import HAS_FMA, VECTOR_BITS
from fastbp.kernels.layout import AHEAD

NV = 2
MR = 8 if VECTOR_BITS == 512 or platform.machine().lower() in {"aarch64", "arm64"} else 6

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def lanes(itemsize: int) -> int:
    """Elements of ``itemsize`` bytes in one vector."""
    return VECTOR_BITS // 8 // itemsize


def _element(array: types.Array) -> tuple[ir.Type, int]:
    """LLVM type of an array's elements and how many of them a vector holds."""
    if array.dtype == types.float32:
        return ir.FloatType(), lanes(4)
    if array.dtype == types.float64:
        return ir.DoubleType(), lanes(8)
    raise TypeError(f"expected an array of float32 or float64, got {array}")


def _data(context: Any, builder: Any, array: types.Array, value: Any) -> Any:
    return context.make_array(array)(context, builder, value).data


def _intp(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _splat(builder: Any, scalar: Any, width: int) -> Any:
    vector = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    vector = builder.insert_element(vector, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, width), [0] * width))


def _suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    if not HAS_FMA:  # LLVM would call fmaf of the C library for every lane
        return builder.fadd(builder.fmul(a, b), c)
    function = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fma.{_suffix(a.type)}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [a, b, c])


# ---------------------------------------------------------------------------------------------------------------------
# Views and scalars


@intrinsic
def window(typingctx: Any, array: Any, start: Any, count: Any) -> Any:
    """Elements start .. start + count of a 1-D array, as a writable array that owns nothing.

    A slice would carry a reference count, which threads would fight over, and a test for negative offsets. Writable
    also where the array is not: a read-only array is another type, and every kernel would be compiled twice.
    """
    result = types.Array(array.dtype, 1, "C")
    signature = result(array, types.intp, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = builder.gep(_data(context, builder, sig.args[0], args[0]), [args[1]])
        made = context.make_array(result)(context, builder)
        itemsize = context.get_constant(types.intp, array.dtype.bitwidth // 8)
        context.populate_array(made, data=data, shape=[args[2]], strides=[itemsize], itemsize=itemsize, meminfo=None)
        return made._getvalue()

    return signature, codegen


def _without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value)
        return context.make_tuple(
            builder, kind, [_without_owner(context, builder, *one) for one in zip(kind.types, parts, strict=True)]
        )
    if not isinstance(kind, types.Array):
        return value
    made = context.make_array(kind)(context, builder, value)
    made.meminfo = cgutils.get_null_value(made.meminfo.type)
    made.parent = cgutils.get_null_value(made.parent.type)
    return made._getvalue()


@intrinsic
def unowned(typingctx: Any, value: Any) -> Any:
    """An array, or all arrays in a named tuple, without the reference counts that every slice and field would change.

    Counting is atomic: it took 5 % of mnist's weight gradients on one thread. Whoever calls keeps the arrays alive.
    """
    return value(value), lambda context, builder, sig, args: _without_owner(context, builder, value, args[0])


@intrinsic
def vector_lanes(typingctx: Any, array: Any) -> Any:
    """How many of the array's elements a vector holds: a constant of the compiled code."""
    count = _element(array)[1]
    return types.intp(array), lambda context, builder, sig, args: _intp(count)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once; a multiplication and an addition on a CPU without the instruction."""
    return a(a, a, a), lambda context, builder, sig, args: _fma(builder, *args)


@intrinsic
def float_bits(typingctx: Any, x: Any) -> Any:
    """The bits of a float32 as int32, of a float64 as int64."""
    to, kind = (types.int32, _I32) if x == types.float32 else (types.int64, _I64)
    return to(x), lambda context, builder, sig, args: builder.bitcast(args[0], kind)


@intrinsic
def float_from_bits(typingctx: Any, x: Any) -> Any:
    """The inverse of :func:`float_bits`."""
    to, kind = (types.float32, ir.FloatType()) if x == types.int32 else (types.float64, ir.DoubleType())
    return to(x), lambda context, builder, sig, args: builder.bitcast(args[0], kind)


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for the cache line at ``pointer``; it changes nothing."""
    byte = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0i8")
    read, first_level, data = (ir.Constant(_I32, value) for value in (0, 3, 1))
    builder.call(function, [builder.bitcast(pointer, byte), read, first_level, data])


# ---------------------------------------------------------------------------------------------------------------------
# Micro-kernels


def _micro_kernel(rows: int, vectors: int, gather: str) -> Any:
    """C[rows, vectors * lanes] = floor(init + A B), accumulated in registers, k = 0, 1, 2, ... in this order.

    ``kernel(C, ldc, A, lda, index, B, ldb, init, ld_init, floor, K)`` with B[k, :] at B + k ldb, and A read through a
    row index, so that a batch needs no gathered copy:

    - ``gather="rows"``: A[r, k] at A + index[r] lda + k (forward, deltas);
    - ``gather="steps"``: A[r, k] at A + index[k] lda + r (weight gradients: A is transposed, k runs over the batch).
      ``index`` is None where rows lie in order; otherwise it has ``AHEAD`` more entries, whose rows are asked for only;
    - ``gather="columns"``: A[r, k] at A + r lda + k and B[k, :] at B + index[k] ldb, index of int32 (A is one row of a
      matrix whose zeros are left out, and index has its columns).

    The accumulators start from init[r, :] at init + r ld_init: a bias (ld_init = 0), zeros, or C itself to go on with
    a sum. Results below ``floor`` become ``floor``: 0 makes a ReLU, -inf changes nothing. NaN stays NaN. K >= 1.
    """

    @intrinsic
    def micro_kernel(
        typingctx: Any, C: Any, ldc: Any, A: Any, lda: Any, index: Any, B: Any, ldb: Any, init: Any, ld_init: Any,
        floor: Any, K: Any,
    ) -> Any:  # fmt: skip
        i = types.intp
        signature = types.void(C, i, A, i, index, B, i, init, i, C.dtype, i)
        indexed = isinstance(index, types.Array)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            c, ldc, a, lda, index, b, ldb, init, ld_init, floor, depth = (
                _data(context, builder, kind, value) if isinstance(kind, types.Array) else value
                for kind, value in zip(sig.args, args, strict=True)
            )
            element, width = _element(sig.args[0])
            vector, align = ir.VectorType(element, width), sig.args[0].dtype.bitwidth // 8
            grid = [(r, v) for r in range(rows) for v in range(vectors)]

            def pointer(base: Any, row: Any, stride: Any, column: int) -> Any:
                start = builder.gep(base, [builder.mul(row, stride)])
                return builder.bitcast(builder.gep(start, [_intp(column)]), vector.as_pointer())

            starts = [builder.load(pointer(init, _intp(r), ld_init, v * width), align=align) for r, v in grid]
            if gather == "rows":
                row = [builder.gep(a, [builder.mul(builder.load(builder.gep(index, [_intp(r)])), lda)])
                       for r in range(rows)]  # fmt: skip
            elif gather == "columns":
                row = [builder.gep(a, [builder.mul(_intp(r), lda)]) for r in range(rows)]
            before = builder.block
            loop, done = builder.append_basic_block("k"), builder.append_basic_block("k.done")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_I64)
            sums = [builder.phi(vector) for _ in grid]
            b_index = k
            if gather == "columns":
                b_index = builder.sext(builder.load(builder.gep(index, [k])), _I64)
            b_row = [builder.load(pointer(b, b_index, ldb, v * width), align=align) for v in range(vectors)]
            if gather == "steps":
                # The processor takes 6 instructions in a tick: without an index, and without a test for the end of
                # it, gradients of 256-256 run at 96 and 93 GFLOP/s instead of 90 (batch 256).
                here, ahead = k, builder.add(k, _intp(AHEAD))
                if indexed:
                    here, ahead = (builder.load(builder.gep(index, [entry])) for entry in (here, ahead))
                step = builder.gep(a, [builder.mul(here, lda)])
                _prefetch(builder, builder.gep(a, [builder.mul(ahead, lda)]))
            new = []
            for r in range(rows):
                where = builder.gep(step, [_intp(r)]) if gather == "steps" else builder.gep(row[r], [k])
                a_element = _splat(builder, builder.load(where, align=align), width)
                new += [_fma(builder, a_element, b_row[v], sums[r * vectors + v]) for v in range(vectors)]
            after = builder.add(k, _intp(1))
            k.add_incoming(_intp(0), before)
            k.add_incoming(after, loop)
            for total, start, value in zip(sums, starts, new, strict=True):
                total.add_incoming(start, before)
                total.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", after, depth), loop, done)
            builder.position_at_end(done)
            least = _splat(builder, floor, width)
            for (r, v), value in zip(grid, new, strict=True):
                value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
                builder.store(value, pointer(c, _intp(r), ldc, v * width), align=align)
            return context.get_dummy_value()

        return signature, codegen

    return micro_kernel


# [vectors - 1][row count]: the tall one, and two for what is left over
HEIGHTS = (MR, 4, 1)
rows_kernels = [[_micro_kernel(height, vectors, "rows") for height in HEIGHTS] for vectors in (1, NV)]
columns_kernels = [_micro_kernel(1, vectors, "columns") for vectors in (1, NV)]
steps_kernels = [[_micro_kernel(height, vectors, "steps") for height in HEIGHTS] for vectors in (1, NV)]


@intrinsic
def transpose_block(typingctx: Any, T: Any, ldt: Any, S: Any, lds: Any) -> Any:
    """T[j, i] = S[i, j] for a square of one vector's width, in registers.

    log2(lanes) rounds of shuffles; 100,000 scalar copies with a stride cost more than the weights' optimizer step.
    """
    signature = types.void(T, types.intp, S, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element, width = _element(sig.args[0])
        vector, align = ir.VectorType(element, width), sig.args[0].dtype.bitwidth // 8
        target, source = (_data(context, builder, sig.args[k], args[k]) for k in (0, 2))

        def row(base: Any, stride: Any, r: int) -> Any:
            return builder.bitcast(builder.gep(base, [builder.mul(_intp(r), stride)]), vector.as_pointer())

        rows = [builder.load(row(source, args[3], r), align=align) for r in range(width)]
        distance = 1
        while distance < width:
            for r in range(width):
                if r & distance:
                    continue
                upper, lower = rows[r], rows[r + distance]
                keep = [p if not p & distance else width + p - distance for p in range(width)]
                move = [p + distance if not p & distance else width + p for p in range(width)]
                mask = ir.VectorType(_I32, width)
                rows[r] = builder.shuffle_vector(upper, lower, ir.Constant(mask, keep))
                rows[r + distance] = builder.shuffle_vector(upper, lower, ir.Constant(mask, move))
            distance *= 2
        for r in range(width):
            builder.store(rows[r], row(target, args[1], r), align=align)
        return context.get_dummy_value()

    return signature, codegen
