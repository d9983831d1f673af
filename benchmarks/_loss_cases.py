"""Cases of the losses that plain networks do without: see ``_cases.py``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks import _kernels as loops
from benchmarks._kernels import Case
from benchmarks._operands import in_place
from fastbp.kernels import layout
from fastbp.kernels.reference import output_losses, robust_losses, soft_targets
from fastbp.kernels.reference._views import rows

# In the order of ``_kernels.other_losses_of``
NAMES = (
    "absolute_error", "huber", "quantile", "log_cosh", "output_cross_entropy", "output_poisson", "soft_cross_entropy",
    "soft_sigmoid_cross_entropy",
)  # fmt: skip
# Operations an element, counted by hand, and how many exp, log and tanh, which are polynomials: a fused multiply-add is
# two, a comparison or a choice none. What both loops over a row compute counts twice.
COUNTS = {
    "absolute_error": (4, 0, 0, 0), "huber": (7, 0, 0, 0), "quantile": (7, 0, 0, 0), "log_cosh": (20, 0, 1, 2),
    "output_cross_entropy": (18, 0, 2, 0), "output_poisson": (9, 0, 2, 0), "soft_cross_entropy": (14, 1, 0, 0),
    "soft_sigmoid_cross_entropy": (22, 2, 1, 0),
}  # fmt: skip
POLYNOMIALS = {"float32": (1, 23, 23, 26), "float64": (1, 35, 35, 38)}


def loss(name: str, m: int, n: int, dtype: str) -> Case:
    """A loss and its gradient, of targets that are values; the softmax has soft ones."""
    rng, ld, what = np.random.default_rng(0), layout.row_stride(n, np.dtype(dtype).itemsize), NAMES.index(name)
    row_loss, dZ, Z = np.zeros(m), layout.aligned_zeros(m * ld, dtype), layout.aligned_zeros(m * ld, dtype)
    rows(Z, ld, m, n)[:] = rng.uniform(0.05, 0.95, (m, n))  # also probabilities and rates
    values = rng.dirichlet(np.ones(n), m).reshape(-1).astype(dtype)
    coefficients = rng.uniform(0.1, 0.9, 1 + 2 * n).astype(dtype)
    none, index, scale, labels = np.zeros(0, dtype), rng.permutation(m), 1.0 / m, np.zeros(0, np.intp)
    module: Any = {"soft": soft_targets, "output": output_losses}.get(name.split("_")[0], robust_losses)
    given = [values] if name in ("absolute_error", "log_cosh", "output_poisson") else [values, coefficients]
    if name == "soft_cross_entropy":
        given.insert(0, labels)
    convention = [layout.PYTORCH] if module is soft_targets else []

    def twin(row_loss: Any, dZ: Any, Z: Any) -> None:
        getattr(module, name)(row_loss, dZ, Z, ld, *given, index, none, scale, m, n, *convention)

    flop = m * n * sum(count * each for count, each in zip(COUNTS[name], POLYNOMIALS[dtype], strict=True))
    return in_place(
        name, f"{m}x{n}", dtype, flop, 3 * m * n, (row_loss, dZ, Z),
        lambda n_times, row_loss, dZ, Z: loops.other_losses_of(
            n_times, what, row_loss, dZ, Z, ld, labels, values, coefficients, index, none, scale, m, n
        ),
        twin, lambda row_loss, dZ, Z: [row_loss, rows(dZ, ld, m, n)],
    )  # fmt: skip


CASES = {f"{name} 64x10": partial(loss, name, 64, 10) for name in NAMES}
CASES |= {f"{name} 256x100": partial(loss, name, 256, 100) for name in ("log_cosh", "soft_cross_entropy")}
