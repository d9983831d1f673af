"""The one narrow interface between the trainer and whatever computes.

A backend is told about a network as plain data (:class:`Network`, a loss and an optimizer description) and opens a
:class:`Session` on it. The trainer never sees a layer's arithmetic; a session never sees an epoch or early stopping.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastbp._validation import Array
from fastbp.kernels.operations import Operation, chain, parameter_shapes
from fastbp.losses import Loss
from fastbp.optimizers import Optimizer

# A dense Array, or a scipy.sparse.csr_array with ascending columns; for ``cuda`` an Array, or Numba's of the device
Matrix = Any


@dataclass(frozen=True)
class Network:
    """A network as a backend sees it: operations in a row.

    Parameters
    ----------
    widths : tuple of int
        ``(n_features, fan_out_1, ..., n_outputs)``: of X and of each operation's output.
    activations : tuple of str
        One name an operation, of ``fastbp.kernels.layout.ACTIVATIONS``; only the last may be ``"softmax"``. The last
        one is the link that predictions go through.
    dtype : numpy.dtype
        float32 or float64.
    operations : tuple of fastbp.kernels.operations.Operation
        Empty for dense layers, each fed by the one before.
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    dtype: np.dtype[Any]
    operations: tuple[Operation, ...] = ()

    @property
    def all_operations(self) -> tuple[Operation, ...]:
        """The operations, also of dense layers in a chain."""
        return self.operations or chain(len(self.widths) - 1)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the parameters in the order of ``get_weights``: W1, b1, W2, b2, ..."""
        return [shape for _, shape in parameter_shapes(self.widths, self.all_operations)]

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in the same order."""
        return [name for name, _ in parameter_shapes(self.widths, self.all_operations)]

    @property
    def trainable(self) -> list[bool]:
        """Whether the optimizer changes each of them: a batch norm's running statistics it does not."""
        return [not name.startswith(("mean", "variance")) for name in self.names]

    def has(self, kind: int) -> bool:
        """Whether there is an operation of a kind."""
        return any(one.kind == kind for one in self.operations)


class Inspection(NamedTuple):
    """What one batch leaves in a network, without an update.

    Attributes
    ----------
    loss : float
    gradients : list of ndarray
        As :meth:`Session.loss_and_gradients` gives them.
    outputs : list of ndarray
        A of each operation, (n_rows, fan_out).
    deltas : list of ndarray
        dL / dZ of each operation, of the same shapes; the mean over the batch is in them. NaN where nothing that is
        trained comes before.
    """

    loss: float
    gradients: list[Array]
    outputs: list[Array]
    deltas: list[Array]


class Session(ABC):
    """One network, its optimizer state and its training data, laid out where the backend wants them."""

    @abstractmethod
    def train(self, rows: Array, learning_rates: Array) -> Array:
        """Take one optimizer step on each consecutive batch of ``rows``.

        Parameters
        ----------
        rows : ndarray of intp, shape (n_rows,)
            Rows of X in the order in which they are trained on. The last batch may be short.
        learning_rates : ndarray of float64, shape (n_steps,)
            One for each batch.

        Returns
        -------
        losses : ndarray of float64, shape (n_steps,)
            Loss of each batch before its update, as the loss and the optimizer's convention report it. Not checked
            for being finite.
        """

    @abstractmethod
    def evaluation(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> Callable[[], float]:
        """What gives, at each call, the present mean (or weighted mean) loss on these rows, without any penalty."""

    @abstractmethod
    def loss_and_gradients(self, rows: Array) -> tuple[float, list[Array]]:
        """Loss on one batch and its gradient, averaged over the batch, shaped as the parameters.

        The optimizer's penalty is in neither of them. Both are those of training: with the masks of step 0 and the
        batch's own statistics, which leave the running ones as they are. The gradient of these is 0.
        """

    @abstractmethod
    def inspect(self, rows: Array) -> Inspection:
        """The same on one batch, with the outputs and deltas of each operation: copies, as they are in training.

        The last operation's outputs are those of a prediction where the loss brings the link. For batches of fewer than
        2048 rows, which no session cuts into shards.
        """

    @abstractmethod
    def apply_gradients(self, gradients: list[Array], learning_rate: float, n_rows: int) -> None:
        """One optimizer step with given gradients, which were averaged over a batch of ``n_rows``."""

    @abstractmethod
    def get_parameters(self) -> list[Array]:
        """Copies of W1, b1, W2, b2, ... with W of shape (fan_in, fan_out), in the order of the operations."""

    @abstractmethod
    def set_parameters(self, parameters: list[Array]) -> None:
        """Replace all parameters. The optimizer state stays as it is."""

    @abstractmethod
    def get_optimizer_state(self) -> dict[str, Any]:
        """What the optimizer keeps from step to step, copied.

        ``"step"`` is the number of steps taken. Lists of arrays shaped as the parameters, as far as the optimizer has
        them: ``"velocity"`` (SGD, RMSprop), ``"first"`` and ``"second"`` (the moments of Adam and its kin),
        ``"largest_second"`` (AMSGrad), ``"mean_square"`` and ``"mean"`` (RMSprop), ``"sum_of_squares"`` (Adagrad),
        ``"momentum"`` (Lion), ``"average"`` (of the weights, with ``ema_decay``). Numbers: ``"mu_product"`` (NAdam).
        """

    @abstractmethod
    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_optimizer_state` gave, also from another backend.

        A state with other entries than those of this optimizer is a ValueError.
        """

    @abstractmethod
    def keep_optimizer_state(self) -> None:
        """Copy it within the session: before each epoch, so it must be fast."""

    @abstractmethod
    def restore_optimizer_state(self) -> None:
        """Go back to what :meth:`keep_optimizer_state` copied last."""

    @abstractmethod
    def all_finite(self) -> bool:
        """Whether every parameter is finite."""


class Backend(ABC):
    """Opens sessions and predicts."""

    name: str

    @abstractmethod
    def open(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Matrix,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None = None,
        n_threads: int | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> Session:
        """Lay out parameters, workspace and data for training; ``seed`` is what masks of dropout come from.

        ``precision="tf32"`` lets the products of a float32 network go through TF32 tensor cores, on ``cuda`` alone.

        ``X`` is (n_samples, n_features) of the network's dtype and C-contiguous, or in compressed rows; ``y`` is what
        the loss takes: intp labels of shape (n_samples,), or (n_samples, n_blocks) with blocks, or values of the
        network's dtype and shape (n_samples, n_outputs).
        """

    @abstractmethod
    def predictor(
        self,
        network: Network,
        X: Matrix,
        *,
        raw: bool = False,
        n_threads: int | None = None,
        precision: str = "float32",
    ) -> Callable[[list[Array]], Array]:
        """What gives, for parameters, the outputs for X, (n_samples, n_outputs); before the link where ``raw``.

        Whoever predicts the same rows after each epoch keeps it: what X needs is laid out once.
        """

    def predict(
        self,
        network: Network,
        parameters: list[Array],
        X: Matrix,
        *,
        raw: bool = False,
        n_threads: int | None = None,
        precision: str = "float32",
    ) -> Array:
        """The same, once."""
        return self.predictor(network, X, raw=raw, n_threads=n_threads, precision=precision)(parameters)
