"""The machine's peak: our micro-kernel on operands in the first-level cache, and nothing else.

It speaks the peers' protocol (``benchmarks/peers/_worker.py``); an "epoch" is some :data:`FLOP_PER_PASS` operations a
thread, and a turn's seconds are those of its best one: ``echo epochs 20 | python -m benchmarks.peak --threads 2``.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.peers._worker import Task, Training, serve

FLOP_PER_PASS = 2e9  # some 20 ms: long enough for a sleeping thread to join
OPERAND_BYTES = 24 * 1024  # of 32 KiB, the smallest first-level data cache of today's CPUs


def _compile() -> Any:
    import numba
    from numba import prange

    from fastbp.kernels.cpu import _jit, simd

    kernel = simd.rows_kernels[simd.NV - 1][0]

    @numba.njit(**_jit.OPTIONS)
    def repeat(C: Any, A: Any, index: Any, B: Any, init: Any, floor: Any, width: int, depth: int, n: int) -> None:
        for _ in range(n):
            kernel(C, width, A, depth, index, B, width, init, 0, floor, depth)

    @numba.njit(parallel=_jit.PARALLEL, **_jit.OPTIONS)
    def spin(C: Any, A: Any, index: Any, B: Any, init: Any, floor: Any, width: int, depth: int, n: int) -> None:
        for t in prange(C.shape[0]):
            repeat(C[t], A[t], index, B[t], init, floor, width, depth, n)

    return spin


def passes(n_threads: int, dtype: Any) -> tuple[Any, float]:
    """A function that takes some passes and gives the seconds of each, and the operations of one."""
    import numba
    import numpy as np

    from fastbp.kernels import layout
    from fastbp.kernels.cpu import simd

    dtype = np.dtype(dtype)
    width = simd.NV * simd.lanes(dtype.itemsize)
    depth = OPERAND_BYTES // (dtype.itemsize * (simd.MR + width))
    repeats = int(FLOP_PER_PASS / (2 * simd.MR * width * depth))

    def ones(size: int) -> Any:
        array = layout.aligned_zeros(n_threads * size, dtype).reshape(n_threads, size)
        array[:] = 1e-3  # neither overflow nor denormal numbers in C
        return array

    C, A, B = ones(simd.MR * width), ones(simd.MR * depth), ones(depth * width)
    index, init, floor = np.arange(simd.MR), np.zeros(width, dtype), dtype.type(-np.inf)
    spin = _compile()

    def run(n_passes: int) -> list[float]:
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            seconds = []
            for _ in range(n_passes):
                begin = time.perf_counter()
                spin(C, A, index, B, init, floor, width, depth, repeats)
                seconds.append(time.perf_counter() - begin)
        finally:
            numba.set_num_threads(before)
        return seconds

    return run, 2.0 * n_threads * repeats * simd.MR * width * depth


def prepare(task: Task) -> Training:
    """Compile; a turn's seconds are those of its best pass."""
    run, flop = passes(task.n_threads, task.dtype)
    run(1)

    def turn(n_passes: int) -> dict[str, Any]:
        seconds = min(run(1 + n_passes)[1:])
        return {"seconds": seconds, "loss": None, "gflops": flop / seconds / 1e9}

    return Training(turn, (), flop=flop)


if __name__ == "__main__":
    serve(prepare)
