"""The simulator's side of ``_target.py``: instructions as plain Python, and blocks whose threads take turns.

Numba's own block manager polls its threads: a barrier of 4 threads takes 36 ms, and two threads that ask for a shared
array at once may get one each. Here one thread runs at a time, until it comes to a barrier or to its end, and hands a
baton to the next: 0.1 ms, and always the same result. ``TURNS[0] = -1`` lets the last thread run first: what gives
another result then lacks a barrier.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import cuda as numba_cuda
from numba.cuda.simulator import kernel as simulated

WIDTH = 4  # threads of a group, and of each block: many would be slow
TURNS = [1]


class _Cuda:
    """``numba.cuda`` as kernels see it, of whatever launch is running."""

    def __getattr__(self, name: str) -> Any:
        context = simulated._get_kernel_context()
        return getattr(numba_cuda if context is None else context, name)


cuda = _Cuda()


class _Thread(threading.Thread):
    """One thread of a block; the simulator looks for its place in the thread that is running."""

    def __init__(self, function: Any, block: _Block, block_index: Any, index: Any, number: int) -> None:
        super().__init__(daemon=True)
        self.blockIdx, self.threadIdx = simulated.Dim3(*block_index), simulated.Dim3(*index)
        self.thread_id = number
        self.baton = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.ended = self.stop = False
        self._function, self._block = function, block

    def run(self) -> None:
        self.baton.acquire()
        try:
            with np.errstate(all="ignore"):
                if not self.stop:
                    self._function()
        except BaseException as error:  # raised again where the kernel was launched
            self.error = error
        self.ended = True
        self._block.turn.release()

    def syncthreads(self) -> None:
        self._block.turn.release()
        self.baton.acquire()
        if self.stop:
            raise SystemExit


class _Block:
    """Runs a block after the other, in place of ``BlockManager``."""

    def __init__(self, function: Any, grid_dim: Any, block_dim: Any, debug: bool) -> None:
        self._function, self._block_dim = function, block_dim
        self._grid_dim = grid_dim
        self.block_state = np.zeros(block_dim, np.bool_)

    def run(self, grid_point: Any, *args: Any) -> None:
        self.turn = threading.Semaphore(0)
        places = list(np.ndindex(*self._block_dim))
        threads = [
            _Thread(lambda: self._function(*args), self, grid_point, place, number)
            for number, place in enumerate(places)
        ]
        for thread in threads:
            thread.start()
        order = threads[:: TURNS[0]]
        while alive := [thread for thread in order if not thread.ended]:
            for thread in alive:
                thread.baton.release()
                self.turn.acquire()
                if thread.error is not None:
                    for other in threads:
                        other.stop = True
                        other.baton.release()
                    raise thread.error
            if 0 < sum(thread.ended for thread in alive) < len(alive):
                for other in threads:
                    other.stop = True
                    other.baton.release()
                raise RuntimeError("some threads of a block wait at a barrier that others never reach")


simulated.BlockManager = _Block

# ---------------------------------------------------------------------------------------------------------------------
# Numbers


def like(x: Any, constant: float) -> Any:
    """The constant in the type of x."""
    return getattr(x, "dtype", np.dtype(np.float64)).type(constant)


def _of_numpy(name: str) -> Any:
    function = getattr(np, name)
    return lambda x: function(x)


exp, log, tanh, log1p, expm1, sqrt = map(_of_numpy, ("exp", "log", "tanh", "log1p", "expm1", "sqrt"))


def erfc(x: Any) -> Any:
    import math

    return like(x, math.erfc(x))


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def load4(a: Any, i: int) -> tuple[Any, Any, Any, Any]:
    """a[i], ..., a[i + 3]; i is a multiple of 4, and a starts on 16 bytes."""
    if i % 4 or i + 4 > len(a):
        raise IndexError(f"16 bytes at {i} of {len(a)}")
    return a[i], a[i + 1], a[i + 2], a[i + 3]


def store4(a: Any, i: int, values: Any) -> None:
    """The same, to be written."""
    if i % 4 or i + 4 > len(a):
        raise IndexError(f"16 bytes at {i} of {len(a)}")
    a[i : i + 4] = values


def load_acquire(a: Any, i: int) -> Any:
    """a[i]; what was written before it by others is seen afterwards."""
    return a[i]


def add_release(a: Any, i: int, value: int) -> None:
    """a[i] += value; whoever sees it sees what was written before."""
    a[i] += value


# ---------------------------------------------------------------------------------------------------------------------
# Groups: here one is a block


def group_sync() -> None:
    """Wait for the group: what its threads have written is seen by all of it."""
    cuda.syncthreads()


def _gathered(x: Any) -> Any:
    values = cuda.shared.array(WIDTH, np.float64)
    cuda.syncthreads()
    values[cuda.threadIdx.x] = x
    cuda.syncthreads()
    return values.astype(getattr(x, "dtype", np.float64))


def group_sum(x: Any) -> Any:
    """The sum over the group, the same bits in each of its threads."""
    return _gathered(x).sum()


def group_max(x: Any) -> Any:
    """The largest over the group; a NaN is passed over."""
    return np.fmax.reduce(_gathered(x))


# ---------------------------------------------------------------------------------------------------------------------
# Tensor cores


def tf32(x: Any) -> Any:
    """x rounded to the 10 bits of mantissa that tensor cores take, ties away from zero."""
    bits = np.float32(x).view(np.uint32)
    if bits & np.uint32(0x7F800000) == np.uint32(0x7F800000):
        return np.float32(x)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def mma(c: Any, a: Any, b: Any) -> Any:
    """Only on a GPU: the fragments of 32 threads; products in the simulator go by elements."""
    raise NotImplementedError
