"""Reductions and maps by groups of 16 elements, whatever the vector width, so that a sum has one order everywhere.

Sixteen running results, then halves onto halves. Like ``simd.py`` these are intrinsics, as LLVM vector IR.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cpu.simd import _I32, _I64, _data, _element, _fma, _intp, _splat
from fastbp.kernels.layout import GROUP


def _over_groups(
    context: Any, builder: Any, arrays: Any, values: Any, groups: Any, start: float, step: Any, combine: Any
) -> Any:
    """One number from whole groups of arrays: step(running, a, b, ...) by group, then combine(half, half)."""
    element, _ = _element(arrays[0])
    vector, align = ir.VectorType(element, GROUP), arrays[0].dtype.bitwidth // 8
    pointers = [_data(context, builder, kind, value) for kind, value in zip(arrays, values, strict=True)]
    before = builder.block
    loop, done = builder.append_basic_block("group"), builder.append_basic_block("group.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    g, running = builder.phi(_I64), builder.phi(vector)
    places = [builder.gep(pointer, [builder.mul(g, _intp(GROUP))]) for pointer in pointers]
    here = [builder.load(builder.bitcast(place, vector.as_pointer()), align=align) for place in places]
    result = step(builder, running, *here)
    after = builder.add(g, _intp(1))
    for phi, first, value in ((g, _intp(0), after), (running, ir.Constant(vector, [start] * GROUP), result)):
        phi.add_incoming(first, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", after, groups), loop, done)
    builder.position_at_end(done)
    half = GROUP // 2
    while half:
        mask = [p + half if p < half else p for p in range(GROUP)]
        moved = builder.shuffle_vector(result, result, ir.Constant(ir.VectorType(_I32, GROUP), mask))
        result = combine(builder, result, moved)
        half //= 2
    return builder.extract_element(result, ir.Constant(_I32, 0))


def _reduction(combine: Callable[[Any, Any, Any], Any], start: float) -> Any:
    @intrinsic
    def reduce(typingctx: Any, z: Any, groups: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _over_groups(context, builder, sig.args[:1], args[:1], args[1], start, combine, combine)

        return z.dtype(z, types.intp), codegen

    return reduce


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)  # a NaN in b is passed over


group_max = _reduction(_larger, -math.inf)


def _plus(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


group_sum = _reduction(_plus, 0.0)


@intrinsic
def group_dot(typingctx: Any, a: Any, b: Any, groups: Any) -> Any:
    """Sum of a[q] b[q] over whole groups."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def step(builder: Any, running: Any, a: Any, b: Any) -> Any:
            return _fma(builder, a, b, running)

        return _over_groups(context, builder, sig.args[:2], args[:2], args[2], 0.0, step, _plus)

    return a.dtype(a, b, types.intp), codegen


@intrinsic
def group_triple(typingctx: Any, a: Any, b: Any, c: Any, center: Any, groups: Any) -> Any:
    """Sum of a[q] b[q] (c[q] - center) over whole groups."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        middle = _splat(builder, args[3], GROUP)

        def step(builder: Any, running: Any, a: Any, b: Any, c: Any) -> Any:
            return _fma(builder, builder.fmul(a, b), builder.fsub(c, middle), running)

        return _over_groups(context, builder, sig.args[:3], args[:3], args[4], 0.0, step, _plus)

    return a.dtype(a, b, c, a.dtype, types.intp), codegen


@intrinsic
def fill_group(typingctx: Any, z: Any, n: Any, value: Any) -> Any:
    """z[n:] = value up to the end of the group of 16 that n lies in; nothing where n is a multiple of 16.

    As one masked vector: scalar stores into a vector that is loaded next stall it (120 ns a row, measured).
    """
    signature = types.void(z, types.intp, z.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element, _ = _element(sig.args[0])
        vector, align = ir.VectorType(element, GROUP), sig.args[0].dtype.bitwidth // 8
        used = builder.and_(args[1], _intp(GROUP - 1))
        with builder.if_then(builder.icmp_signed("!=", used, _intp(0))):
            start = builder.gep(_data(context, builder, sig.args[0], args[0]), [builder.sub(args[1], used)])
            pointer = builder.bitcast(start, vector.as_pointer())
            lane = ir.Constant(ir.VectorType(_I64, GROUP), list(range(GROUP)))
            kept = builder.icmp_signed("<", lane, _splat(builder, used, GROUP))
            here = builder.load(pointer, align=align)
            builder.store(builder.select(kept, here, _splat(builder, args[2], GROUP)), pointer, align=align)
        return context.get_dummy_value()

    return signature, codegen


def _group_map(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """out[q] = combine(z[q], scalar) over whole groups; out may be z. LLVM leaves such short loops scalar."""

    @intrinsic
    def apply(typingctx: Any, out: Any, z: Any, scalar: Any, groups: Any) -> Any:
        signature = types.void(out, z, z.dtype, types.intp)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            element, _ = _element(sig.args[0])
            vector, align = ir.VectorType(element, GROUP), sig.args[0].dtype.bitwidth // 8
            target, source = (_data(context, builder, sig.args[k], args[k]) for k in (0, 1))
            everywhere = _splat(builder, args[2], GROUP)
            with cgutils.for_range(builder, args[3]) as loop:
                start = builder.mul(loop.index, _intp(GROUP))
                here = builder.bitcast(builder.gep(source, [start]), vector.as_pointer())
                there = builder.bitcast(builder.gep(target, [start]), vector.as_pointer())
                builder.store(combine(builder, builder.load(here, align=align), everywhere), there, align=align)
            return context.get_dummy_value()

        return signature, codegen

    return apply


group_subtract = _group_map(lambda builder, z, scalar: builder.fsub(z, scalar))
group_scale = _group_map(lambda builder, z, scalar: builder.fmul(z, scalar))
