"""Whether there is a GPU to compute on, what is missing otherwise, and arrays that lie on it already."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

import numba
import numpy as np

from fastbp._extras import how_to_install
from fastbp._validation import Array, on_device

OLDEST = (8, 0)  # compute capability: the first with asynchronous copies and TF32
# Rows times parameters from which predictions of host arrays go to the device. To lay out weights, launch and copy back
# is taken for 1 ms, whatever the size; in this time a CPU at 200 GFLOP/s does 2 FLOP for each of 1e8 of them.
PREDICT_WORK = 10**8
ALIGNMENT = 16  # bytes, of rows that are as long as a multiple of it: kernels load so many at once

is_on_device = on_device


def _target() -> Any:
    """The one module that imports Numba's CUDA target; on first use, since it takes half a second."""
    return importlib.import_module("fastbp.kernels.cuda._target")


def simulated() -> bool:
    """Whether Numba's simulator stands in for a device."""
    return bool(numba.config.ENABLE_CUDASIM)


# ---------------------------------------------------------------------------------------------------------------------
# What there is


def missing() -> str | None:
    """What of the extra, a driver and a device is missing and what to do about it; None where all are there.

    Looked up once in a process; it never raises. In Numba's simulator nothing is missing.
    """
    return _missing(os.getpid())  # a fork of a process that has started CUDA cannot use it


@functools.lru_cache(maxsize=1)
def _missing(process: int) -> str | None:
    try:
        return _without_extra() or (None if simulated() else _without_driver() or _without_device())
    except Exception as error:
        return f"CUDA does not start: {_in_a_line(error)}"


def require(what: str = "backend='cuda'") -> None:
    """Raise a RuntimeError for ``what`` where something is missing."""
    lacking = missing()
    if lacking is not None:
        raise RuntimeError(f"{what} needs an NVIDIA GPU, but {lacking}")


def worth_it(n_rows: int, n_parameters: int) -> bool:
    """Whether predictions of so many rows are sooner done on the device, and there is one."""
    return n_rows * n_parameters >= PREDICT_WORK and missing() is None


def _in_a_line(error: Any) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if isinstance(error, BaseException) else text


def _install() -> str:
    return f"install what it needs by {how_to_install('cuda')}"


def _without_extra() -> str | None:
    if not simulated() and importlib.util.find_spec("numba_cuda") is None:
        return f"the extra is missing: {_install()}"
    try:
        _target()
    except Exception as error:
        return f"the extra is not whole ({_in_a_line(error)}): {_install()}"
    return None


def _without_driver() -> str | None:
    cuda = _target().cuda
    usable = cuda.is_available()  # starts the driver
    if error := cuda.cuda_error():
        text = _in_a_line(error)
        if "NO_DEVICE" in text:
            return _no_device(text)
        if "NUMBA_DISABLE_CUDA" in text:
            return f"the driver is not used: {text}"
        return f"the driver is missing or does not work: install NVIDIA's, version 580 or newer for CUDA 13 ({text})"
    if not usable:
        return f"the extra is not whole (no NVVM, the compiler's library): {_install()}"
    driver = cuda.cudadrv.driver.driver.get_version()
    try:
        toolkit = cuda.runtime.get_version()
    except Exception:  # it asks NVRTC, which kernels do without
        toolkit = driver
    if driver[0] < toolkit[0]:
        return (
            f"the driver is too old: it is for CUDA {driver[0]}.{driver[1]}, and the compiler for CUDA "
            f"{toolkit[0]}.{toolkit[1]}; install NVIDIA's driver of version 580 or newer, or numba-cuda[cu{driver[0]}]"
        )
    return None


def _without_device() -> str | None:
    cuda = _target().cuda
    try:
        if not len(cuda.gpus):
            return _no_device("CUDA counts 0 devices")
        cuda.current_context().get_memory_info()
    except Exception as error:
        return _no_device(_in_a_line(error))
    device = cuda.get_current_device()
    if device.compute_capability < OLDEST:
        has, needs = ".".join(map(str, device.compute_capability)), ".".join(map(str, OLDEST))
        return (
            f"the device is too old: {device.name} has the compute capability {has}, and {needs} is needed; train on "
            "the CPU"
        )
    return None


def _no_device(why: str) -> str:
    return (
        f"a device is missing ({why}): nvidia-smi lists what there is, CUDA_VISIBLE_DEVICES may hide it, and a process "
        "that was forked after CUDA had started has none"
    )


def device_memory() -> tuple[int, int]:
    """Bytes of the device that are free, and all of them; in the simulator as many as can be."""
    context = _target().cuda.current_context()
    if not simulated():
        # Numba frees what Python has let go of later, when it is many arrays or a fifth of the memory
        context.memory_manager.deallocations.clear()
    free, total = context.get_memory_info()
    return int(min(free, sys.maxsize)), int(min(total, sys.maxsize))


def description() -> str:
    """The device in a line: name, memory, compute capability, driver; or ``none`` and what is missing."""
    lacking = missing()
    if lacking is not None:
        return f"none: {lacking}"
    if simulated():
        return "Numba's simulator"
    cuda = _target().cuda
    device, driver = cuda.get_current_device(), cuda.cudadrv.driver.driver.get_version()
    capability = ".".join(map(str, device.compute_capability))
    memory = device_memory()[1] / 2**30
    return f"{device.name}, {memory:.1f} GiB, compute capability {capability}, driver for CUDA {driver[0]}.{driver[1]}"


# ---------------------------------------------------------------------------------------------------------------------
# Arrays that lie there


class _Interface:
    """What says where memory lies: ``__cuda_array_interface__``, and NumPy's for the simulator; keeps its owner."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        self.__cuda_array_interface__ = self.__array_interface__ = interface
        self._owner = owner


def _of_dlpack(X: Any) -> _Interface:
    """DLPack's view of an array; what has been started on it is done before Numba's default stream goes on."""
    from cuda.core.utils import StridedMemoryView  # comes with numba-cuda

    legacy_default_stream = 1
    view = StridedMemoryView.from_dlpack(X, stream_ptr=legacy_default_stream)
    strides = None if view.strides is None else tuple(step * view.dtype.itemsize for step in view.strides)
    interface = {
        "shape": tuple(view.shape), "typestr": view.dtype.str, "data": (view.ptr, view.readonly), "strides": strides,
        "version": 3,
    }  # fmt: skip
    return _Interface(interface, view)


def _check_interface(interface: Mapping[str, Any]) -> None:
    """Raise a ValueError where what an array says of itself contradicts itself; whether it is true nobody can see."""
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    if any(n < 0 for n in shape) or (strides is not None and len(strides) != len(shape)):
        raise ValueError(f"its shape {shape} and its strides {strides} do not fit together")
    if interface.get("mask") is not None:
        raise ValueError("it has a mask: fill it up first")
    if interface["data"][0] <= 0 and 0 not in shape:
        raise ValueError(f"its {math.prod(shape)} elements lie nowhere: its memory may have been freed")


def as_device_array(X: Any, name: str = "X") -> Any:
    """An array of the device as Numba's, on the same memory: by ``__cuda_array_interface__``, otherwise by DLPack.

    Raises
    ------
    ValueError
        Naming the argument, where it cannot be taken over, or lies on another device than the current one.
    """
    if getattr(X, "__cuda_ndarray__", False):
        return X
    cuda = _target().cuda
    try:
        place = X.__dlpack_device__() if hasattr(X, "__dlpack_device__") else None
        if place is not None and not simulated() and place[1] != cuda.get_current_device().id:
            raise ValueError(
                f"it lies on device {place[1]}, and the current one is {cuda.get_current_device().id}: copy it there"
            )
        given = X if hasattr(X, "__cuda_array_interface__") else _of_dlpack(X)
        _check_interface(given.__cuda_array_interface__)
        if not simulated():
            return cuda.as_cuda_array(given)
        view = np.asarray(_Interface(given.__cuda_array_interface__, X))
        return cuda.device_array(view.shape, view.dtype, buffer=view, strides=view.strides)
    except Exception as error:
        raise ValueError(
            f"{name} cannot be taken over from the device: {error}. Pass a copy that its own library makes"
        ) from None


def device_matrix(X: Any, name: str, *, dtype: Any, n_columns: int | None = None) -> Any:
    """A matrix on the device as Numba's array, not copied: of ``dtype``, or one of several, and C-contiguous.

    Whether it is finite is not looked at: losses and weights are, where ``on_divergence="raise"``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """
    array = as_device_array(X, name)
    shape, dtypes = tuple(array.shape), [np.dtype(one) for one in (dtype if isinstance(dtype, tuple) else (dtype,))]
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name} must be a matrix with at least one row and column, got an array of shape {shape}")
    if n_columns is not None and shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} columns, one for each feature, got an array of shape {shape}")
    if array.dtype not in dtypes:
        raise TypeError(
            f"{name} must be {' or '.join(map(str, dtypes))} on the device, where it is used as it is, got "
            f"{array.dtype}: convert it there, or pass an array of the host"
        )
    if not array.is_c_contiguous():
        raise ValueError(
            f"{name} must be C-contiguous on the device, where it is used as it is, got strides {array.strides} for "
            f"the shape {shape}: make a copy by rows there, or pass an array of the host"
        )
    if not simulated():
        start = array.__cuda_array_interface__["data"][0]
        if shape[1] * array.dtype.itemsize % ALIGNMENT == 0 and start % ALIGNMENT:
            raise ValueError(f"{name} must start at a multiple of {ALIGNMENT} bytes on the device: make a copy there")
    return array


def on_host(value: Any, name: str, *, backend: str) -> Any:
    """Targets and weights as they are, or copied from the device where ``backend`` computes there."""
    if backend != "cuda" or not on_device(value):
        return value  # an array of the device is refused where it is validated
    array: Array = _copied(as_device_array(value, name), name)
    return array


def _copied(array: Any, name: str) -> Array:
    try:
        return np.asarray(array.copy_to_host())
    except Exception as error:
        raise ValueError(
            f"{name} cannot be copied from the device: {error}. Copy it to the host first, or start the process anew"
        ) from None
