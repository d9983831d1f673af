"""Operands for the optimizers beyond SGD and Adam, and for what comes before and after one."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import _kernels as loops
from benchmarks._kernels import Case
from benchmarks._operands import aligned, in_place
from fastbp.kernels import layout
from fastbp.kernels.reference import adaptive, rules

# Arrays of state, and operations an element: adds and products, comparisons none
ADAPTIVE = {
    "amsgrad": (layout.AMSGRAD, 3, 15),
    "rmsprop": (layout.RMSPROP, 1, 9),
    "momentum_rmsprop": (layout.MOMENTUM_RMSPROP, 2, 11),
    "centered_rmsprop": (layout.CENTERED_RMSPROP, 3, 16),
    "adagrad": (layout.ADAGRAD, 1, 7),
    "nadam": (layout.NADAM, 2, 16),
    "lion": (layout.LION, 1, 8),
    "adjust": (loops.ADJUST, 1, 5),  # its gradient, which it writes too, in place of state
    "average": (loops.AVERAGE, 1, 3),
}


def adaptive_update(name: str, size: int, dtype: str) -> Case:
    """Another optimizer on one run of parameters, or what comes before or after one."""
    what, n_state, flop = ADAPTIVE[name]
    w, first, second, third, g = (aligned(a, dtype) for a in np.abs(np.random.default_rng(0).normal(size=(5, size))))
    if name == "centered_rmsprop":
        second += third * third  # a mean of squares is at least the square of the mean
    numbers = np.full(layout.HYPER_SIZE, 0.9)
    numbers[[layout.EPSILON, layout.RATE, layout.L1]] = 1e-3, 1e-3, 1e-4

    def twin(w: Any, first: Any, second: Any, third: Any, g: Any) -> None:
        if name == "adjust":
            rules.adjust(w, g, numbers, 1e-4)
        elif name == "average":
            rules.average(first, w, numbers)
        else:
            getattr(adaptive, name)(w, *(first, second, third)[:n_state], g, numbers)

    # all are read; of the average's two one is written, otherwise all but the gradient
    moved = 3 if name == "average" else 4 if name == "adjust" else 2 * n_state + 3
    return in_place(
        name, str(size), dtype, flop * size, moved * size, (w, first, second, third, g),
        lambda n_times, *arrays: loops.adaptive_updates(n_times, what, *arrays, numbers), twin,
        lambda *arrays: list(arrays),
    )  # fmt: skip
