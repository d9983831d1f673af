"""Arrays on the card. In the simulator they are NumPy's own: it does not look into the tuples that kernels take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.kernels.cuda._target import SIMULATED, cuda
from fastbp.kernels.layout import Array


def allocated(make: Callable[[], Any]) -> Any:
    """What ``make`` gives; a MemoryError where the card is full."""
    try:
        return make()
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        raise MemoryError(
            f"the card's memory is full ({error}): end what else uses the card, use a smaller batch_size or narrower "
            "layers, or train with backend='cpu'"
        ) from error


def to_device(array: Array) -> Any:
    """A copy on the card."""
    array = np.ascontiguousarray(array)
    if SIMULATED:
        return array.copy()
    return allocated(lambda: cuda.to_device(array))


def zeros(n: int, dtype: Any) -> Any:
    """n zeros on the card."""
    if SIMULATED:
        return np.zeros(n, dtype)
    array = allocated(lambda: cuda.device_array(max(n, 1), dtype))
    cuda.cudadrv.driver.device_memset(array, 0, array.nbytes)
    return array


def to_host(array: Any) -> Array:
    """A copy here, when everything before it is done."""
    return np.array(array) if SIMULATED else array.copy_to_host()


def overwrite(array: Any, values: Array, start: int = 0) -> None:
    """array[start : start + len(values)] = values."""
    if SIMULATED:
        array[start : start + len(values)] = values
    else:
        array[start : start + len(values)].copy_to_device(np.ascontiguousarray(values))


def section(array: Any, start: int, stop: int) -> Any:
    """array[start:stop]; all of it at once, since a view on the card takes some 20 us."""
    return array if start == 0 and stop == array.shape[0] else array[start:stop]


def copy(to: Any, source: Any) -> None:
    """The same from one array on the card to another."""
    if SIMULATED:
        to[:] = source
    else:
        to.copy_to_device(source)


def flat(array: Any) -> Any:
    """A contiguous array that lies on the card already, seen as one row after the other."""
    return array._ary.reshape(-1) if SIMULATED else array.reshape(int(np.prod(array.shape)))


def tuple_to_device(arrays: Sequence[Array]) -> Any:
    """A named tuple of arrays, on the card."""
    return type(arrays)(*(to_device(array) for array in arrays))


def processors() -> int:
    """Multiprocessors of the card."""
    return 4 if SIMULATED else int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


def synchronize() -> None:
    """Wait for the card."""
    if not SIMULATED:
        cuda.synchronize()
