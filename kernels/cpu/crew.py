"""Threads that go through a run of regions together, without leaving compiled code between them.

A region is work in as many shares as the plan has threads; the next one starts when all shares of this one are done. A
parallel loop for each region would cost 3 us on TBB, and a thread that waits for its successor falls asleep; here a
region's end costs some 0.3 us, so that steps of 10 us are worth sharing.

Nobody is waited for: each thread takes its own share first, and then what nobody has begun. A thread that comes late
joins in the region that is under way, one that never comes is done without, and one thread alone does everything, in
the same order. Which thread takes a share changes no result.

``crew`` is an array of int64: how many shares have been finished, and for each share the next region that needs it, all
on cache lines of their own.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cpu._jit import kernel
from fastbp.kernels.cpu._threads import GIVE_WAY
from fastbp.kernels.layout import CREW_STRIDE

# Looks at the counter before a waiting thread lets others have its processor: some 50 us.
PATIENCE = 1000

_I64 = ir.IntType(64)
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause",), "aarch64": ("llvm.aarch64.hint", 1)}  # with its argument
_PAUSE = _PAUSES.get({"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine()))


def _element(context: Any, builder: Any, array: Any, value: Any, i: Any) -> Any:
    return builder.gep(context.make_array(array)(context, builder, value).data, [i])


@intrinsic
def read(typingctx: Any, array: Any, i: Any) -> Any:
    """array[i], and with it all that was written before whoever changed it last did so."""
    signature = types.intp(array, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, sig.args[0], *args), "acquire", 8)

    return signature, codegen


@intrinsic
def add_one(typingctx: Any, array: Any, i: Any) -> Any:
    """array[i] += 1, in one piece; who reads the sum sees all that this thread has written."""
    signature = types.void(array, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.atomic_rmw("add", _element(context, builder, sig.args[0], *args), ir.Constant(_I64, 1), "acq_rel")
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_one_to(typingctx: Any, array: Any, i: Any, expected: Any) -> Any:
    """array[i] = expected + 1 where it is ``expected``, in one piece: True for the one thread that did so."""
    signature = types.boolean(array, types.intp, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _element(context, builder, sig.args[0], *args[:2])
        wanted = builder.add(args[2], ir.Constant(_I64, 1))
        done = builder.cmpxchg(place, args[2], wanted, "acq_rel", "acquire")
        return builder.zext(builder.extract_value(done, 1), context.get_value_type(types.boolean))

    return signature, codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the processor that this thread waits for another one's memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _PAUSE is not None:
            name, *numbers = _PAUSE
            arguments = [ir.Constant(ir.IntType(32), number) for number in numbers]
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typingctx: Any) -> Any:
    """Let another thread have this processor, where one wants it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, GIVE_WAY), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def region_under_way(crew, n_shares):
    """The first region that has not been finished."""
    return read(crew, 0) // n_shares


@kernel
def take_share(crew, region, share):
    """Whether this thread is the one that does a share of a region."""
    place = CREW_STRIDE * (1 + share)
    return read(crew, place) == region and add_one_to(crew, place, region)


@kernel
def finish_share(crew):
    """Say that a share which this thread has taken is done."""
    add_one(crew, 0)


@kernel
def meet(crew, region, n_shares):
    """Wait until all shares of a region are done."""
    looks, finished = 0, (region + 1) * n_shares
    while read(crew, 0) < finished:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()
