"""Instructions that Numba's CUDA target has no name for, as LLVM code or inline PTX.

Their meaning is that of the plain functions in ``_simulator.py``.
"""

from llvmlite import ir
from numba import cuda
from numba.core import types
from numba.cuda.extending import intrinsic

WIDTH = 32
_ALL = 0xFFFFFFFF


def _pointer(context, builder, array_type, array, index):
    """Where an element of a 1-D array lies."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _asm(builder, result, operands, code, constraints):
    """Inline PTX with a side effect, so that it stays in its place."""
    function = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(ir.InlineAsm(function, code, constraints, side_effect=True), operands)


@intrinsic
def like(typingctx, x, constant):
    def codegen(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], signature.args[1], signature.return_type)

    return x(x, constant), codegen


# ---------------------------------------------------------------------------------------------------------------------
# Memory


@intrinsic
def load4(typingctx, a, i):
    def codegen(context, builder, signature, arguments):
        element = context.get_value_type(signature.return_type.dtype)
        start = _pointer(context, builder, signature.args[0], *arguments)
        vector = builder.load(
            builder.bitcast(start, ir.VectorType(element, 4).as_pointer(start.type.addrspace)), align=16
        )
        parts = [builder.extract_element(vector, ir.IntType(32)(k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(a.dtype, 4)(a, i), codegen


@intrinsic
def store4(typingctx, a, i, values):
    def codegen(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), 4)
        start, value = _pointer(context, builder, signature.args[0], *arguments[:2]), vector(ir.Undefined)
        for k in range(4):
            value = builder.insert_element(value, builder.extract_value(arguments[2], k), ir.IntType(32)(k))
        builder.store(value, builder.bitcast(start, vector.as_pointer(start.type.addrspace)), align=16)
        return context.get_dummy_value()

    return types.void(a, i, types.UniTuple(a.dtype, 4)), codegen


@intrinsic
def load_acquire(typingctx, a, i):
    def codegen(context, builder, signature, arguments):
        start = _pointer(context, builder, signature.args[0], *arguments)
        place = builder.ptrtoint(start, ir.IntType(64))
        return _asm(builder, ir.IntType(64), [place], "ld.acquire.gpu.global.u64 $0, [$1];", "=l,l,~{memory}")

    return types.int64(a, i), codegen


@intrinsic
def add_release(typingctx, a, i, value):
    def codegen(context, builder, signature, arguments):
        start = _pointer(context, builder, signature.args[0], *arguments[:2])
        place, added = builder.ptrtoint(start, ir.IntType(64)), arguments[2]
        # the fence also releases what the other threads of the block have written before they met
        code = "fence.acq_rel.gpu; red.relaxed.gpu.global.add.u64 [$0], $1;"
        _asm(builder, ir.VoidType(), [place, added], code, "l,l,~{memory}")
        return context.get_dummy_value()

    return types.void(a, i, types.int64), codegen


# ---------------------------------------------------------------------------------------------------------------------
# Groups: warps


@cuda.jit(device=True)
def group_sync():
    cuda.syncwarp()


@cuda.jit(device=True, forceinline=True)
def group_sum(x):
    for distance in (16, 8, 4, 2, 1):
        x += cuda.shfl_xor_sync(_ALL, x, distance)
    return x


@cuda.jit(device=True, forceinline=True)
def group_max(x):
    for distance in (16, 8, 4, 2, 1):
        other = cuda.shfl_xor_sync(_ALL, x, distance)
        x = other if not (x >= other) and other == other else x
    return x


# ---------------------------------------------------------------------------------------------------------------------
# Tensor cores


@intrinsic
def tf32(typingctx, x):
    def codegen(context, builder, signature, arguments):
        bits = _asm(builder, ir.IntType(32), [arguments[0]], "cvt.rna.tf32.f32 $0, $1;", "=r,f")
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def mma(typingctx, c, a, b):
    """c + a b for 16 x 8 times 8 x 8: the fragments that ``mma.sync.aligned.m16n8k8`` defines, of numbers in TF32."""

    def codegen(context, builder, signature, arguments):
        def parts(value, n, kind):
            return [builder.bitcast(builder.extract_value(value, k), kind) for k in range(n)]

        real, word = ir.FloatType(), ir.IntType(32)
        operands = [*parts(arguments[1], 4, word), *parts(arguments[2], 2, word), *parts(arguments[0], 4, real)]
        code = (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        )
        result = ir.LiteralStructType([real] * 4)
        value = _asm(builder, result, operands, code, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f")
        return context.make_tuple(builder, signature.return_type, [builder.extract_value(value, k) for k in range(4)])

    four = types.UniTuple(types.float32, 4)
    return four(four, four, types.UniTuple(types.float32, 2)), codegen
