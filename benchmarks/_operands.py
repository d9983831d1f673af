"""Cases of kernels on arrays of their own, in which they may work in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._kernels import Case
from fastbp.kernels import layout


def in_place(
    name: str, shape: str, dtype: str, flop: int, elements: int, arrays: tuple[Any, ...],
    run: Callable[..., Any], twin: Callable[..., Any], read: Callable[..., list[Any]],
) -> Case:  # fmt: skip
    """``run(n_times, *arrays)`` and ``twin(*arrays)`` work in place, ``read(*arrays)`` says what is compared."""

    def want() -> list[Any]:
        copies = [array.copy() for array in arrays]
        twin(*copies)
        return read(*copies)

    def got() -> list[Any]:
        run(1, *arrays)
        return [array.copy() for array in read(*arrays)]

    n_bytes = elements * np.dtype(dtype).itemsize
    return Case(name, shape, dtype, flop, n_bytes, lambda n_times: run(n_times, *arrays), want, got)


def aligned(values: Any, dtype: str) -> Any:
    array = layout.aligned_zeros(values.size, dtype)
    array[:] = values.reshape(-1)
    return array
