"""The probe that the kernels started from, ``--probe PATH``: one float32 file that trains with softmax and Adam.

It is loaded with 16 and with 8 lanes, and the faster of the two is timed.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.peers._worker import Task, Training, UnavailableError, fastest, serve, turns

LANES = (16, 8)


def _load(path: Path, lanes: int) -> ModuleType:
    os.environ["VL"] = str(lanes)  # read when the module is loaded
    spec = importlib.util.spec_from_file_location(f"probe_{lanes}", path)
    if spec is None or spec.loader is None:
        raise UnavailableError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(task: Task) -> Training:
    """Compile the probe at both vector widths."""
    if task.probe is None or not Path(task.probe).is_file():
        raise UnavailableError("--probe must be the path of step_probe.py")
    if task.dtype != "float32":
        raise UnavailableError("the probe knows float32 only")
    workload = task.workload
    if (workload.activation, workload.task, workload.optimizer) != ("relu", "classification", "adam"):
        raise UnavailableError("the probe knows ReLU, softmax and Adam only")
    import numba

    dims = task.workload.softmax_dims
    X, y = task.workload.data(task.dtype)
    numba.set_num_threads(task.n_threads)

    def turn_of(module: ModuleType) -> Any:
        rng, held = np.random.default_rng(0), {}

        def start() -> None:
            held["net"] = module.Net(dims, task.workload.batch, task.n_threads)

        return turns(start, lambda: float(held["net"].epoch(X, y, rng.permutation(len(X)))))

    lanes, turn = fastest({str(n): turn_of(_load(Path(task.probe), n)) for n in LANES})
    return Training(turn, dims, {"lanes": int(lanes), "threading_layer": numba.threading_layer()})


if __name__ == "__main__":
    serve(prepare)
