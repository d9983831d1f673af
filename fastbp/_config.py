"""What fastbp runs on: versions, vector width, threads, cache folder."""

from __future__ import annotations

import os
from typing import Any


def show_config() -> dict[str, Any]:
    """Print and return versions, vector width, threads, threading layer, cache folder and GPU.

    Returns
    -------
    dict
        ``fastbp``, ``numpy``, ``numba``, ``llvmlite``, ``scikit-learn``: versions. ``cpu_name``: the CPU model that is
        compiled for, in LLVM's words. ``vector_bits``: width of the vectors in use. ``fma``: whether the CPU has fused
        multiply-add. ``cpus``: processors of the machine. ``threads``: what ``n_threads=None`` stands for.
        ``threading_layer``: Numba's, or None as long as no parallel region has run. ``cache_folder``: where compiled
        code is kept, or None. ``gpu``: name, memory, compute capability and driver of the device that ``"cuda"`` stands
        for; otherwise ``none:`` and what is missing, the extra, a driver or a device.

    Examples
    --------
    >>> import fastbp
    >>> config = fastbp.show_config()  # doctest: +ELLIPSIS
    fastbp ...
    >>> config["vector_bits"] in (128, 256, 512)
    True
    """
    import llvmlite
    import numba
    import numpy
    import sklearn

    import fastbp
    from fastbp.backends._device import description
    from fastbp.kernels.cpu import _cache, _jit, _threads

    folder = _cache.cache_folder()
    config: dict[str, Any] = {
        "fastbp": fastbp.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "scikit-learn": sklearn.__version__,
        "cpu_name": _jit.cpu_name(),
        "vector_bits": _jit.VECTOR_BITS,
        "fma": _jit.HAS_FMA,
        "cpus": os.cpu_count(),
        "threads": _threads.usable_threads(),
        "threading_layer": _threads.threading_layer(),
        "cache_folder": None if folder is None else str(folder),
        "gpu": description(),
    }
    for key, value in config.items():
        print(f"{key} {value}")
    return config
