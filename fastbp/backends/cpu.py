"""The CPU backend: sessions on the compiled kernels."""

from __future__ import annotations

import warnings

import numba

from fastbp._warnings import users_level
from fastbp.backends._planned import Kernels, PlannedBackend
from fastbp.backends.base import Network
from fastbp.kernels.cpu import simd
from fastbp.kernels.cpu._threads import usable_threads
from fastbp.kernels.cpu.predict import evaluate_rows, layer_rows, predict_rows
from fastbp.kernels.cpu.rectifiers import rectifier_forward
from fastbp.kernels.cpu.training import apply_gradients, train_steps


def _threads(n_threads: int | None) -> int:
    """Threads that a request stands for: None is all usable ones, more than Numba's pool is clipped."""
    return all_threads() if n_threads is None else within_pool(n_threads, "n_threads")


def all_threads() -> int:
    """Threads that None stands for."""
    return usable_threads()


def within_pool(n_threads: int, name: str) -> int:
    """So many threads, or as many as Numba's pool has, with a warning that names the parameter of the user."""
    pool = numba.config.NUMBA_NUM_THREADS
    if n_threads > pool:
        warnings.warn(
            f"{name} is {n_threads}, but Numba's pool has {pool}: using {pool}. Set NUMBA_NUM_THREADS before the "
            "first import of numba for a larger pool",
            stacklevel=users_level(),
        )
    return min(n_threads, pool)


def _lanes(network: Network) -> int:
    return simd.lanes(network.dtype.itemsize)


BACKEND = PlannedBackend(
    "cpu",
    Kernels(train_steps, predict_rows, layer_rows, rectifier_forward, evaluate_rows, apply_gradients, _lanes, _threads),
)
