"""X as the kernels of the GPU find it: whole on the card, or in chunks that are copied while others are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastbp._validation import Array
from fastbp._words import counted
from fastbp.backends._device import as_device_array, is_on_device
from fastbp.kernels.cuda import memory
from fastbp.kernels.cuda._target import SIMULATED, cuda

CHUNK_BYTES = 2**28  # of memory that the card copies from by itself: 5 ms a chunk where it copies 50 GB/s


class Part(NamedTuple):
    """Some rows of X on the card.

    Attributes
    ----------
    X : device array, flat
    places : device array of int64
        Where the wanted rows lie in it.
    start, stop : int
        Which of the wanted rows they are.
    """

    X: Any
    places: Any
    start: int
    stop: int


class Feed:
    """The rows of one X.

    Parameters
    ----------
    X : ndarray or array on the card, shape (n_rows, n_features)
    budget : int
        Bytes that X may take of the card. One on the card already takes none.
    """

    def __init__(self, X: Any, budget: int) -> None:
        self._row = int(X.shape[1])
        self.stream: Any = 0  # that the kernels which read X are to be launched on
        if is_on_device(X):
            self._resident = memory.flat(as_device_array(X))
            return
        self._host, self._resident = X, None
        if X.nbytes <= budget:
            self._resident = memory.to_device(X.reshape(-1))
        else:
            self._rows = max(1, budget // (2 * self._row * X.itemsize))  # two buffers: one is filled, one is read
            self._buffers: tuple[_Buffers, Any] | None = None
            # CUDA's default stream waits for all others: copies would not overlap with kernels on that
            self.stream = 0 if SIMULATED else cuda.stream()

    @property
    def streams(self) -> bool:
        """Whether X goes to the card in chunks."""
        return self._resident is None

    def parts(self, rows: Array, order: Any, unit: int) -> Iterator[Part]:
        """These rows in whole batches of ``unit`` rows, as many at a time as there is room for.

        ``order`` has the same numbers on the card. What reads a part is to be launched before the next is asked for.
        """
        if self._resident is not None:
            yield Part(self._resident, order, 0, len(rows))
            return
        if self._rows < unit:
            raise MemoryError(
                f"a batch of {unit} rows of X takes {unit * self._row * self._host.itemsize:,} bytes, and the card has "
                f"room for {counted(self._rows, 'row')}: use a smaller batch_size, or free memory of the card"
            )
        rows_of_chunk = max(unit, min(self._rows, CHUNK_BYTES // (self._row * self._host.itemsize)))
        size = rows_of_chunk // unit * unit
        if self._buffers is None or len(self._buffers[1]) != size:
            self._buffers = (
                _Buffers(size * self._row, self._host.dtype, self.stream), memory.to_device(np.arange(size)),
            )  # fmt: skip
        buffers, places = self._buffers
        for number, start in enumerate(range(0, len(rows), size)):
            here = rows[start : start + size]
            X = buffers.filled(number % 2, self._host, here)
            yield Part(X, memory.section(places, 0, len(here)), start, start + len(here))
            buffers.read(number % 2)


class _Buffers:
    """Two places on the card, and two in memory that the card copies from by itself.

    A copy waits until the kernel that reads its place has ended, and a kernel until its copy has.
    """

    def __init__(self, size: int, dtype: Any, stream: Any) -> None:
        if SIMULATED:
            self._device: list[Any] = [np.full(size, np.nan, dtype) for _ in range(2)]
            return
        self._device = [memory.allocated(lambda: cuda.device_array(size, dtype)) for _ in range(2)]
        self._pinned = [memory.allocated(lambda: cuda.pinned_array(size, dtype)) for _ in range(2)]
        self._stream, self._kernels = cuda.stream(), stream
        self._copied, self._read = ([cuda.event(timing=False) for _ in range(2)] for _ in range(2))

    def filled(self, k: int, X: Array, rows: Array) -> Any:
        """Place k with these rows, for a kernel that is launched next."""
        size = len(rows) * X.shape[1]
        if SIMULATED:
            self._device[k][:size] = X[rows].reshape(-1)
            return self._device[k]
        self._copied[k].synchronize()  # until then its pinned memory is still being read; at once where nothing was
        np.take(X, rows, axis=0, out=self._pinned[k][:size].reshape(len(rows), X.shape[1]), mode="clip")
        self._read[k].wait(self._stream)
        self._device[k][:size].copy_to_device(self._pinned[k][:size], stream=self._stream)
        self._copied[k].record(self._stream)
        self._copied[k].wait(self._kernels)
        return self._device[k]

    def read(self, k: int) -> None:
        """Whatever reads place k has been launched."""
        if not SIMULATED:
            self._read[k].record(self._kernels)
