"""The networks and data that every library trains on, and how many floating-point operations an epoch of them is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LEARNING_RATE = 1e-3
MOMENTUM = 0.9  # of SGD
QUICK_BATCHES = 8
QUICK_EPOCHS = 3


ACTIVATIONS, TASKS, OPTIMIZERS = ("relu", "tanh", "gelu"), ("classification", "regression"), ("adam", "sgd")
# what each hidden layer has besides weights and an activation, or each step besides the update
EXTRAS = ("", "batch_norm", "layer_norm", "dropout", "residual", "clipping")
DROPOUT_RATE, CLIP_NORM = 0.2, 1.0


@dataclass(frozen=True)
class Workload:
    """A network of dense layers, and the rows that it is trained on: random ones where nothing else is said.

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
        0 for a regression.
    batch : int
        Divides ``n_samples``: JAX's scan takes whole batches only.
    n_samples : int
    nonzeros : int or None
        In each row of X, which is then in compressed rows.
    activation : {"relu", "tanh", "gelu"}
    task : {"classification", "regression"}
        A regression follows the gradient of half the squared error, summed over the outputs and averaged over the
        rows. The loss that is reported is averaged over both, as ``MLPRegressor`` does.
    n_outputs : int
        Of a regression.
    optimizer : {"adam", "sgd"}
        SGD has a momentum of 0.9, which is not Nesterov's.
    targets : callable or None
        Gives a regression's y of shape (n_rows, n_outputs) for X; None for random ones.
    epochs : int or None
        Of a turn, where the score after so many is asked for; None for as many as fill a turn.
    learning_rate : float
    extra : str
        One of ``EXTRAS``.

    Raises
    ------
    ValueError
        For an unknown activation, task or optimizer, classes that do not fit the task, or a batch that is not whole.
    """

    name: str
    n_features: int
    hidden: tuple[int, ...]
    n_classes: int
    batch: int
    n_samples: int
    nonzeros: int | None = None
    activation: str = "relu"
    task: str = "classification"
    n_outputs: int = 1
    optimizer: str = "adam"
    targets: Callable[[Any], Any] | None = None
    epochs: int | None = None
    learning_rate: float = LEARNING_RATE
    extra: str = ""

    def __post_init__(self) -> None:
        choices = {"activation": ACTIVATIONS, "task": TASKS, "optimizer": OPTIMIZERS, "extra": EXTRAS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if (self.n_classes >= 2) != (self.task == "classification"):
            raise ValueError(f"a {self.task} cannot have n_classes={self.n_classes}")
        if self.n_samples % self.batch:
            raise ValueError(f"n_samples={self.n_samples} are no whole batches of {self.batch}")

    @property
    def dims(self) -> tuple[int, ...]:
        """Widths of the network that an estimator makes."""
        return (*self.softmax_dims[:-1], 1) if self.loss == "logistic" else self.softmax_dims

    @property
    def softmax_dims(self) -> tuple[int, ...]:
        """Widths with one output a class."""
        return (self.n_features, *self.hidden, self.n_classes or self.n_outputs)

    @property
    def loss(self) -> str:
        """``"squared"``, or the output that a cross-entropy goes with: ``"logistic"`` or ``"softmax"``."""
        if self.task == "regression":
            return "squared"
        return "logistic" if self.n_classes == 2 else "softmax"

    @property
    def steps(self) -> int:
        """Updates in an epoch."""
        return self.n_samples // self.batch

    def quick(self) -> Workload:
        """The same network on a few batches."""
        epochs = self.epochs and min(QUICK_EPOCHS, self.epochs)
        return replace(self, n_samples=self.batch * min(QUICK_BATCHES, self.steps), epochs=epochs)

    def data(self, dtype: Any) -> tuple[Any, Any]:
        """X, standard normal, of shape (n_samples, n_features), and y: labels, or values, (n_samples, n_outputs)."""
        rng = np.random.default_rng(0)
        X = self.rows(self.n_samples, dtype, rng)
        if self.targets is not None:
            return X, self.targets(X).astype(dtype)
        if self.task == "regression":
            return X, rng.standard_normal((self.n_samples, self.n_outputs)).astype(dtype)
        y = rng.integers(0, self.n_classes, self.n_samples)
        y[: self.n_classes] = np.arange(self.n_classes)  # every class is there, in the shortest run too
        return X, y

    def test_data(self, dtype: Any) -> tuple[Any, Any] | None:
        """X and y that nobody trains on, or None: random labels have nothing to be learnt."""
        return None

    def decide(self, outputs: Any, middle: float = 0.0) -> Any:
        """Labels, or a regression's values, from outputs of shape (n_rows, n_outputs).

        One logistic output says 1 above ``middle``: 0 before the logistic function, 0.5 after it.
        """
        outputs = np.asarray(outputs)
        if self.loss == "squared":
            return outputs
        return (outputs[:, 0] > middle).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)

    def score(self, predicted: Any, y: Any) -> float:
        """Accuracy, or R2 averaged over the outputs."""
        if self.task == "classification":
            return float((predicted == y).mean())
        predicted, y = (np.asarray(array, np.float64).reshape(len(y), -1) for array in (predicted, y))
        return float((1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)).mean())

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


def matrix_exponentials(X: Any) -> Any:
    """Those of square matrices, each flattened into a row of X."""
    from scipy.linalg import expm
    from threadpoolctl import threadpool_limits

    size = math.isqrt(X.shape[1])
    with threadpool_limits(1):  # one small product after the other: BLAS's other threads would spin between them
        return expm(X.reshape(-1, size, size).astype(np.float64)).reshape(X.shape)


def _by_name(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


WORKLOADS = _by_name(
    Workload("mnist", 784, (128,), 10, 64, 12800),
    Workload("tiny", 64, (32,), 10, 32, 12800),
    Workload("tab", 100, (256, 256), 2, 256, 25600),
    Workload("sk", 64, (100,), 10, 200, 20000),
    Workload("big", 512, (1024, 1024), 100, 256, 10240),
    Workload("deep", 128, (128,) * 6, 10, 128, 12800),
)

SPARSE = _by_name(
    Workload("wide", 50_000, (100,), 2, 200, 20_000, nonzeros=100),
    Workload("text", 10_000, (100,), 20, 200, 11_200, nonzeros=60),
)

# of networks that other projects have published figures for: SimpleChains.jl's matrix exponentials, all rows in one
# batch, and OpenNN's network for the HIGGS data
PUBLISHED = _by_name(
    Workload(
        "matexp", 4, (32, 16), 0, 10_000, 10_000,
        activation="tanh", task="regression", n_outputs=4, targets=matrix_exponentials,
    ),
    Workload("higgs", 28, (300,) * 5, 2, 100, 10_000, activation="tanh", optimizer="sgd"),
)  # fmt: skip

# 8192 rows are whole batches of every size; of the widest network 1024 rows take a second
SWEEPS = _by_name(
    *(Workload(f"batch-{2**k}", 256, (256, 256), 10, 2**k, 8192) for k in range(3, 13)),
    *(
        # at the usual rate the first steps of a wide network go astray, each order of rows another way
        Workload(
            f"width-{2**k}", 2**k, (2**k,) * 2, 10, 256, min(8192, 2 ** (22 - k)),
            learning_rate=LEARNING_RATE * min(1.0, 2.0 ** (8 - k)),
        )
        for k in range(4, 13)
    ),
)  # fmt: skip

# the network `deep` with one feature at a time
_DEEP = WORKLOADS["deep"]
FEATURES = _by_name(
    _DEEP,
    *(replace(_DEEP, name=f"deep-{extra.replace('_', '-')}", extra=extra) for extra in EXTRAS if extra),
    replace(_DEEP, name="deep-gelu", activation="gelu"),
)

SYNTHETIC = WORKLOADS | SPARSE | PUBLISHED | SWEEPS | FEATURES


def flop_per_epoch(n_samples: int, dims: Sequence[int]) -> int:
    """Operations of the matrix products of an epoch, 2 N (3 sum(fan_in fan_out) - dims[0] dims[1]).

    Forward, deltas and weight gradients are one product a layer each; the first layer needs no deltas.
    """
    products = [fan_in * fan_out for fan_in, fan_out in itertools.pairwise(dims)]
    return 2 * n_samples * (3 * sum(products) - products[0])


def flop_of_outputs(n_samples: int, dims: Sequence[int]) -> int:
    """Operations of the matrix products of one forward pass."""
    return 2 * n_samples * sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(dims))


def initial_weights(dims: Sequence[int], dtype: Any, rng: np.random.RandomState | None = None) -> list[Any]:
    """W1, b1, W2, b2, ... as scikit-learn draws them for ReLU and tanh from seed 0, with W of shape (fan_in, fan_out).

    The estimators are fitted with ``random_state=0``, so all start from the same weights and losses can be compared.
    They go on with the same ``rng``.
    """
    rng, weights = np.random.RandomState(0) if rng is None else rng, []
    for fan_in, fan_out in itertools.pairwise(dims):
        bound = np.sqrt(6 / (fan_in + fan_out))
        weights.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        weights.append(rng.uniform(-bound, bound, fan_out).astype(dtype))
    return weights
