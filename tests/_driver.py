"""numba-cuda on a driver that is made up: the card's memory is the host's, and kernels are compiled or not, never run.

For a process of its own without ``NUMBA_ENABLE_CUDASIM``: importing it replaces numba-cuda's driver. Each launch goes
through the same dispatcher, the same taking apart of arguments and the same packing of them as on a GPU, up to the
call of the driver; it fails where a kernel is launched with other types than it was compiled for.
"""

import contextlib
import ctypes

import numpy as np
from cuda.bindings import driver as binding
from cuda.core import LaunchConfig
from cuda.core._kernel_arg_handler import ParamHolder
from numba import cuda  # noqa: F401  (first: the modules below import each other)
from numba.cuda import dispatcher
from numba.cuda.cudadrv import devices, driver
from numba.cuda.typing.typeof import Purpose, typeof

RESIDENT = 264  # blocks on the card at once

calls, launches = [], []


class Driver:
    """What the backend asks of ``libcuda``; anything else is an error."""

    is_initialized, initialization_error, pid = True, None, None

    def __init__(self):
        self.free, self._memory, self._handle = 2**34, {}, 0

    def _allocate(self, size):
        if size > self.free:
            code = binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY
            raise driver.CudaAPIError(code, f"Call to cuMemAlloc results in {code.name}")
        buffer = np.full(size + 256, 0xFF, np.uint8)  # NaN in any floating type
        start = -(-buffer.ctypes.data // 256) * 256
        self._memory[start] = buffer, size
        self.free -= size
        return start

    def _check(self, pointer, size):
        here = any(start <= pointer and pointer + size <= start + n for start, (_, n) in self._memory.items())
        assert here and size > 0, f"{size} bytes at {pointer}"

    def cuMemAlloc(self, size):
        return binding.CUdeviceptr(self._allocate(size))

    def cuMemHostAlloc(self, size, flags):
        return self._allocate(size)

    def cuMemFree(self, pointer):
        self.free += self._memory.pop(int(pointer))[1]

    def cuMemFreeHost(self, pointer):
        self.cuMemFree(pointer)

    def cuMemGetInfo(self):
        return self.free, 2**34

    def cuMemsetD8(self, to, value, size):
        self._check(int(to), size)
        ctypes.memset(int(to), value, size)

    def _copy(self, name, to, source, size, *stream):
        """What is on the host is known by its own array; pageable memory must not be copied without waiting."""
        calls.append((name, size, *stream))
        for pointer, is_ours in ((to, "toD" in name or stream), (source, "Dto" in name or stream)):
            if is_ours:
                self._check(int(pointer), size)
        ctypes.memmove(int(to), int(source), size)

    def _handles(self, kind):
        self._handle += 8
        return kind(self._handle)

    def cuStreamCreate(self, flags):
        assert flags == 0  # it waits for the default stream, and that for it
        return self._handles(binding.CUstream)

    def cuEventCreate(self, flags):
        return self._handles(binding.CUevent)

    def __getattr__(self, name):
        if name.startswith("cuMemcpy"):
            return lambda *arguments: self._copy(name.removeprefix("cuMemcpy"), *arguments)
        if name.startswith(("cuEvent", "cuStream", "cuCtxSynchronize")):
            return lambda *arguments: calls.append((name, *map(int, arguments)))
        raise AttributeError(name)


class Device:
    compute_capability, id, name, MULTIPROCESSOR_COUNT = (9, 0), 0, "made up", 132


class CoreStream:
    """In place of cuda-core's, which asks the driver."""

    def __init__(self, stream):
        assert stream == 0 or isinstance(stream, driver.Stream)
        self.handle = int(stream)


class Kernel(dispatcher._Kernel):
    """A kernel that is compiled for types, and launched with these alone."""

    def __init__(self, py_func, argtypes, **options):
        self.py_func, self.argtypes, self.options = py_func, argtypes, options
        self.extensions, self.cooperative, self.launch_config_sensitive = [], False, False

    argument_types = property(lambda self: self.argtypes)

    def bind(self):
        """Load it."""

    def max_cooperative_grid_blocks(self, blockdim, dynsmemsize=0):
        return RESIDENT

    def launch(self, args, griddim, blockdim, stream=0, sharedmem=0):
        found = tuple(typeof(value, Purpose.argument) for value in args)
        assert found == self.argtypes, [pair for pair in zip(found, self.argtypes, strict=True) if pair[0] != pair[1]]
        flat = []
        for kind, value in zip(self.argtypes, args, strict=True):
            self._prepare_args(kind, value, stream, [], flat)
        ParamHolder(tuple(flat))
        LaunchConfig(grid=griddim, block=blockdim, shmem_size=sharedmem)  # a cooperative one asks the driver
        assert sharedmem <= 48 * 1024
        launches.append({
            "name": self.py_func.__name__, "blocks": griddim[0], "threads": blockdim[0], "stream": stream.handle,
            "kernel": self, "arguments": args, "flat": flat,
        })  # fmt: skip


made = Driver()
driver._logger = driver.make_logger()
driver.driver = devices.driver = made
driver._to_core_stream = CoreStream
context = driver.Context(Device(), 1)
context.memory_manager.initialize()
devices._Runtime.get_or_create_context = lambda self, devnum: context
devices._Runtime.ensure_context = lambda self: contextlib.nullcontext()
dispatcher._Kernel, Compiled = Kernel, dispatcher._Kernel
