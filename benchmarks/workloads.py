"""The networks and data that every library trains on, and how many floating-point operations an epoch of them is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LEARNING_RATE = 1e-3
QUICK_BATCHES = 8


@dataclass(frozen=True)
class Workload:
    """A ReLU network, trained by Adam on random rows.

    For two classes ``MLPClassifier`` has one logistic output, so here every library has: the same network, the same
    loss. The probe knows softmax only. It and the :class:`fastbp.Trainer` that it is compared with train
    :attr:`softmax_dims` instead, which differ for two classes alone, and each count their own operations (``tab``:
    0.3 % more).

    Parameters
    ----------
    name : str
    n_features : int
    hidden : tuple of int
    n_classes : int
    batch : int
        Divides ``n_samples``: JAX's scan takes whole batches only.
    n_samples : int
    nonzeros : int or None
        In each row of X, which is then in compressed rows.
    """

    name: str
    n_features: int
    hidden: tuple[int, ...]
    n_classes: int
    batch: int
    n_samples: int
    nonzeros: int | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """Widths of the network that ``MLPClassifier`` makes."""
        return (self.n_features, *self.hidden, 1 if self.n_classes == 2 else self.n_classes)

    @property
    def softmax_dims(self) -> tuple[int, ...]:
        """Widths with one output a class."""
        return (self.n_features, *self.hidden, self.n_classes)

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return self.n_samples // self.batch

    def quick(self) -> Workload:
        """The same network on a few batches."""
        return replace(self, n_samples=self.batch * min(QUICK_BATCHES, self.steps))

    def data(self, dtype: Any) -> tuple[Any, Any]:
        """X, standard normal, of shape (n_samples, n_features), and labels y, unrelated to it."""
        rng = np.random.default_rng(0)
        X = self.rows(self.n_samples, dtype, rng)
        y = rng.integers(0, self.n_classes, self.n_samples)
        y[: self.n_classes] = np.arange(self.n_classes)  # every class is there, in the shortest run too
        return X, y

    def rows(self, n_rows: int, dtype: Any, rng: np.random.Generator) -> Any:
        """X of so many rows."""
        if self.nonzeros is None:
            return rng.standard_normal((n_rows, self.n_features)).astype(dtype)
        from scipy import sparse

        columns = rng.integers(0, self.n_features, (n_rows, self.nonzeros), np.int32)
        values = rng.standard_normal(columns.size).astype(dtype)
        starts = np.arange(0, columns.size + 1, self.nonzeros)
        X = sparse.csr_array((values, columns.ravel(), starts), shape=(n_rows, self.n_features))
        X.sum_duplicates()
        return X


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("mnist", 784, (128,), 10, 64, 12800),
        Workload("tiny", 64, (32,), 10, 32, 12800),
        Workload("tab", 100, (256, 256), 2, 256, 25600),
        Workload("sk", 64, (100,), 10, 200, 20000),
        Workload("big", 512, (1024, 1024), 100, 256, 10240),
        Workload("deep", 128, (128,) * 6, 10, 128, 12800),
    )
}


SPARSE = {
    workload.name: workload
    for workload in (
        Workload("wide", 50_000, (100,), 2, 200, 20_000, nonzeros=100),
        Workload("text", 10_000, (100,), 20, 200, 11_200, nonzeros=60),
    )
}


def flop_per_epoch(n_samples: int, dims: Sequence[int]) -> int:
    """Operations of the matrix products of an epoch, 2 N (3 sum(fan_in fan_out) - dims[0] dims[1]).

    Forward, deltas and weight gradients are one product a layer each; the first layer needs no deltas.
    """
    products = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(dims)]
    return 2 * n_samples * (3 * sum(products) - products[0])


def flop_of_outputs(n_samples: int, dims: Sequence[int]) -> int:
    """Operations of the matrix products of one forward pass."""
    return 2 * n_samples * sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(dims))


def initial_weights(dims: Sequence[int], dtype: Any) -> list[Any]:
    """W1, b1, W2, b2, ... as scikit-learn draws them for ReLU from seed 0, with W of shape (fan_in, fan_out).

    The estimators are fitted with ``random_state=0``, so all start from the same weights and losses can be compared.
    """
    rng, weights = np.random.RandomState(0), []
    for fan_in, fan_out in itertools.pairwise(dims):
        bound = np.sqrt(6 / (fan_in + fan_out))
        weights.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        weights.append(rng.uniform(-bound, bound, fan_out).astype(dtype))
    return weights
