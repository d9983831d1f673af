"""GradientFlow: how gradients flow, recorded while a network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastbp._gradient_flow import FlowOfGradients, gradient_flow
from fastbp._validation import whole_number
from fastbp.callbacks import Callback

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


class GradientFlow(Callback):
    """Records :func:`fastbp.gradient_flow` before the training and after every few epochs.

    Parameters
    ----------
    X, y, sample_weight
        Rows to look at, as in :func:`fastbp.gradient_flow`; some hundred are enough.
    every : int, default=1
        Epochs from one record to the next.

    Attributes
    ----------
    flows : list of FlowOfGradients
    epochs : list of int
        Epochs that were finished at each record: 0, every, 2 every, ... A further ``fit`` goes on counting.

    Raises
    ------
    TypeError, ValueError
        For ``every`` that is no whole number of at least 1; when the training begins, for rows that do not fit the
        model.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = fastbp.Sequential([fastbp.Dense(8, "tanh"), fastbp.Dense(1)], n_features=3, random_state=0)
    >>> flow = fastbp.GradientFlow(X, X[:, 0], every=2)
    >>> trainer = fastbp.Trainer(model, loss="mean_squared_error", random_state=0)
    >>> _ = trainer.fit(X, X[:, 0], epochs=4, callbacks=[flow])
    >>> flow.epochs, len(flow.flows)
    ([0, 2, 4], 3)
    """

    def __init__(self, X: Any, y: Any, *, sample_weight: Any = None, every: int = 1) -> None:
        self.X, self.y, self.sample_weight, self.every = X, y, sample_weight, whole_number(every, "every")
        self.flows: list[FlowOfGradients] = []
        self.epochs: list[int] = []
        self._n_epochs = 0

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        if not self.flows:
            self._record(trainer)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: Mapping[str, float]) -> None:
        self._n_epochs += 1
        if self._n_epochs % self.every == 0:
            self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        flow = gradient_flow(
            trainer.model, trainer.loss, self.X, self.y, sample_weight=self.sample_weight, backend=trainer.backend
        )
        self.flows.append(flow)
        self.epochs.append(self._n_epochs)
