"""What the kernels take from Numba's CUDA target, and nothing else imports it.

On a GPU these are instructions; in Numba's simulator (``NUMBA_ENABLE_CUDASIM=1``) plain twins from ``_simulator.py``
stand behind the same names. Threads of a block go in groups of ``WIDTH``, the hardware's warps: a group takes a row.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from contextlib import suppress
from typing import Any

with suppress(ImportError):
    # numba-cuda takes over the name by a .pth file, which Python reads in no folder of PYTHONPATH
    import _numba_cuda_redirector  # noqa: F401

from numba import config
from numba import cuda as _numba_cuda

SIMULATED = bool(config.ENABLE_CUDASIM)
cuda: Any = _numba_cuda

if SIMULATED:
    from fastbp.kernels.cuda._simulator import (
        WIDTH,
        add_release,
        cuda,
        erfc,
        exp,
        expm1,
        group_max,
        group_sum,
        group_sync,
        like,
        load4,
        load_acquire,
        log,
        log1p,
        mma,
        sqrt,
        store4,
        tanh,
        tf32,
    )

    def device(function: Any) -> Any:
        """A function of kernels: in the simulator an ordinary one."""
        return function

    inlined = device

    def _bounded_kernel(function: Any = None, *, launch_bounds: Any = None) -> Any:
        """A kernel; the simulator knows no bounds."""
        return _numba_cuda.jit if function is None else _numba_cuda.jit(function)

    kernel: Any = _bounded_kernel

    def _configured(kernel: Any, blocks: int, threads: int, stream: Any = 0, shared: int = 0) -> Any:
        """A kernel, ready to be launched."""
        return kernel[blocks, threads, stream, shared]

    configured: Any = _configured

else:
    from fastbp.kernels.cuda._instructions import (
        WIDTH,
        add_release,
        group_max,
        group_sum,
        group_sync,
        like,
        load4,
        load_acquire,
        mma,
        store4,
        tf32,
    )

    _math: Any = math
    exp, log, tanh, log1p, expm1, erfc, sqrt = (
        _math.exp, _math.log, _math.tanh, _math.log1p, _math.expm1, _math.erfc, _math.sqrt,
    )  # fmt: skip
    device = functools.partial(cuda.jit, device=True)
    # Where an array in registers is handed over, which only works in one function
    inlined = functools.partial(cuda.jit, device=True, forceinline=True)
    _configuring = threading.Lock()

    def _linked_kernel(function: Any, *, launch_bounds: Any = None) -> Any:
        """A kernel, which is optimised once more in linking (``lto``) where its registers are bounded.

        Wide tiles then spill less: for sm_90 the loop of an update has 625 instructions and not 746, and loads 9
        registers and not 23. A kernel with all phases comes out the same, and compiles in 13 s and not 17.
        """
        return cuda.jit(function, launch_bounds=launch_bounds, lto=None if launch_bounds else False)

    def _quietly_configured(kernel: Any, blocks: int, threads: int, stream: Any = 0, shared: int = 0) -> Any:
        """A kernel, ready to be launched; without Numba's warning of grids under 128 blocks, which small phases are."""
        with _configuring, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kernel[blocks, threads, stream, shared]

    kernel, configured = _linked_kernel, functools.lru_cache(maxsize=256)(_quietly_configured)

__all__ = [
    "SIMULATED", "WIDTH", "add_release", "configured", "cuda",
    "device", "erfc", "exp", "expm1", "group_max", "group_sum", "group_sync", "inlined", "kernel", "like", "load4",
    "load_acquire", "log", "log1p", "mma", "sqrt", "store4", "tanh", "tf32",
]  # fmt: skip
