"""Where an estimator computes: what ``device`` and ``precision`` stand for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from fastbp.backends import Network
from fastbp.backends._device import is_on_device, missing, require, worth_it


def threads_of(n_jobs: Any, backend: str) -> int | None:
    """Threads that ``n_jobs`` stands for: None for all usable ones; from -2 on all but one, all but two, ... of them.

    More than there are is clipped with a warning.
    """
    if n_jobs in (None, -1) or backend != "cpu":
        return None
    from fastbp.backends import cpu  # compiled code, which is not needed before the first fit

    n_threads = int(n_jobs)
    return max(1, cpu.all_threads() + 1 + n_threads) if n_threads < 0 else cpu.within_pool(n_threads, "n_jobs")


def reads_device(estimator: Any) -> bool:
    """Whether the estimator takes arrays where they lie on the device; a RuntimeError where device="cuda" has none."""
    if estimator.device == "cuda":
        require("device='cuda'")
    return estimator.device == "cuda" or (estimator.device == "auto" and missing() is None)


def training_backend(estimator: Any, *matrices: Any, says: bool = True) -> tuple[str, str]:
    """Backend and precision for a training on X and, where there is one, a validation X.

    Where ``device="auto"`` has to do without a GPU this is printed with ``verbose``, if ``says``.

    Raises
    ------
    RuntimeError
        Where ``device="cuda"`` lacks something.
    ValueError
        For a sparse matrix with ``device="cuda"`` or beside one on the device, or TF32 without a GPU or for float64.
    """
    device, precision, dtype = estimator.device, estimator.precision, matrices[0].dtype
    if precision == "tf32" and (device == "cpu" or dtype != np.float32):
        raise ValueError(
            f"precision='tf32' is for device='cuda' or 'auto' and float32, got device={device!r} and an X of {dtype}: "
            "give dtype='float32', or leave precision as it is"
        )
    if device == "cpu":
        return "cpu", "float32"
    filled_up, resident = not any(map(sparse.issparse, matrices)), any(map(is_on_device, matrices))
    if device == "cuda" or resident:
        require(f"device={device!r}")
        if not filled_up:
            if resident:
                raise ValueError("X or X_val is sparse, which does not go with one on a CUDA device: fill it up first")
            raise ValueError("X is sparse, which device='cuda' does not take: use device='cpu', or pass X.toarray()")
        return "cuda", precision
    lacking = missing() if filled_up else "X is sparse, which is for the CPU alone"
    if lacking is None:
        return "cuda", precision
    if estimator.verbose and says:
        print(f"device='auto' trains on the CPU: {lacking}")
    return "cpu", "float32"


def prediction_backend(estimator: Any, network: Network, X: Any) -> tuple[str, str]:
    """Backend and precision for predictions of X: the device for many rows or those on it, the CPU where there is none.

    A model that was trained on a GPU also predicts where there is none.
    """
    if estimator.device == "cpu" or sparse.issparse(X):
        return "cpu", "float32"
    n_parameters = sum(math.prod(shape) for shape in network.shapes)
    if not is_on_device(X) and not worth_it(X.shape[0], n_parameters):
        return "cpu", "float32"
    return "cuda", estimator.precision if network.dtype == np.float32 else "float32"
