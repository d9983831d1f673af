"""Compile and cache ahead, for images and clusters: ``python -m fastbp.warmup [float32] [float64] [--sparse]``.

Both dtypes where none is named. Every entry that training, prediction and evaluation can take is compiled, with threads
and without; what is in the cache already is only loaded. A sparse X has code of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from fastbp._config import show_config
from fastbp.backends._planned import PlannedSession, as_rows
from fastbp.backends._targets import read_only
from fastbp.backends.base import Network
from fastbp.backends.cpu import BACKEND
from fastbp.kernels import layout
from fastbp.kernels.cpu.predict import evaluate_rows, predict_rows
from fastbp.kernels.cpu.shuffle import shuffle
from fastbp.kernels.cpu.training import train_steps
from fastbp.losses import Loss
from fastbp.optimizers import SGD

DTYPES = ("float32", "float64")


def compile_for(dtype: Any, form: Callable[[Any], Any] = np.ascontiguousarray) -> None:
    """Call every entry once, with arguments as a session passes them; ``form`` makes X dense or sparse."""
    network, loss = Network((3, 2), ("identity",), np.dtype(dtype)), Loss("mean_squared_error")
    X, y = form(np.ones((4, 3), dtype)), np.zeros((4, 2), dtype)
    parameters = [np.zeros(shape, dtype) for shape in network.shapes]
    session: PlannedSession = BACKEND.open(network, loss, SGD(), X, y, parameters=parameters, batch_size=2, n_threads=1)
    plan, buffers, hyper = session._plan, session._buffers, session._hyper
    targets, order = session._targets, read_only(np.arange(4))
    steps = read_only(layout.with_next(np.arange(4)))
    for entry in ("serial", "threaded"):
        getattr(train_steps, entry)(np.empty(2), plan, buffers, session._X, targets, steps, np.zeros(2), hyper, 0)
        getattr(predict_rows, entry)(np.empty(8, dtype), plan, buffers, as_rows(X), order)
        getattr(evaluate_rows, entry)(np.empty(4), plan, buffers, as_rows(X), targets, order)
    session.apply_gradients(parameters, 0.0, 4)
    shuffle(np.arange(4), np.zeros(625, np.uint32), np.zeros(624, np.uint32))
    BACKEND.predict(network, parameters, np.ones((1, 3), dtype))  # a few rows have an entry of their own


def main(argv: list[str] | None = None) -> int:
    """Compile; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fastbp.warmup", description="Compile fastbp's kernels ahead.")
    parser.add_argument("dtypes", nargs="*", metavar="dtype", help="float32 or float64 (default: both)")
    parser.add_argument("--sparse", action="store_true", help="also what a sparse X needs")
    arguments = parser.parse_args(argv)
    chosen, forms = arguments.dtypes or list(DTYPES), [np.ascontiguousarray]
    if arguments.sparse:
        forms.append(sparse.csr_array)
    unknown = sorted(set(chosen) - set(DTYPES))
    if unknown:
        parser.error(f"dtype must be 'float32' or 'float64', got {', '.join(map(repr, unknown))}")
    config = show_config()
    for dtype in chosen:
        start = time.perf_counter()
        for form in forms:
            compile_for(dtype, form)
        print(f"{dtype}: {time.perf_counter() - start:.1f} s", flush=True)
    if config["cache_folder"] is None:
        print("no folder can be written: set NUMBA_CACHE_DIR to one that can, or nothing is kept", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
