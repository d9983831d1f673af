"""A model's loss, gradients, outputs and deltas on given rows: what the diagnostics look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends import Inspection
from fastbp.backends._targets import row_weights
from fastbp.losses import Loss, as_loss
from fastbp.model import Sequential, as_sequential
from fastbp.optimizers import SGD
from fastbp.trainer import Trainer

BLOCK_ROWS = 1024  # a batch that no session cuts into shards, which would keep no outputs


class Probe:
    """A copy of a model, opened on all rows for training; the mean of the loss, whose derivative the gradients are.

    More than 1024 rows are gone through in blocks of so many, each one batch. A dropout has fixed masks.

    Parameters
    ----------
    model : Sequential
        It stays as it is.
    loss : str or Loss
    X, y, sample_weight
        As in :meth:`fastbp.Trainer.fit`.
    backend : str
    dtype : numpy dtype, optional
        The model's own where it is None.

    Attributes
    ----------
    model : Sequential
        The copy.
    loss : Loss
        In its exact convention: scikit-learn's reports another function than the one that is derived.
    link : str
        What the outputs go through.
    fused : bool
        Whether the loss brings the link, and has its derivative in it: the last deltas are p - t.
    X, y, sample_weight
        As checked.
    weight : float
        Number of rows, or sum of their weights (those of samples times those of labels).
    """

    def __init__(
        self, model: Any, loss: str | Loss, X: Any, y: Any, sample_weight: Any, *, backend: str, dtype: Any = None
    ) -> None:
        given = as_sequential(model)
        weights = [w.astype(given.dtype if dtype is None else dtype) for w in given.get_weights()]
        self.model = Sequential._with_weights(given.layers, weights)
        self.loss = replace(as_loss(loss), convention="exact")
        # the masks of a dropout are always the same
        trainer = Trainer(self.model, loss=self.loss, optimizer=SGD(), backend=backend, random_state=0)
        self.link = trainer._link
        self.fused = self.link == self.loss.link
        self.X, self.y, self.sample_weight = trainer._checked(X, y, sample_weight)
        n_rows = self.X.shape[0]
        self._session = trainer._open(self.X, self.y, self.sample_weight, batch_size=min(n_rows, BLOCK_ROWS))
        self._blocks = [np.arange(k, min(k + BLOCK_ROWS, n_rows)) for k in range(0, n_rows, BLOCK_ROWS)]
        parts = row_weights(self.loss, self.y, self.sample_weight)
        sizes = [len(b) if parts is None else float(parts[b].sum()) for b in self._blocks]
        self.weight = float(sum(sizes))
        self._shares = [size / self.weight for size in sizes]

    def set_parameters(self, parameters: Sequence[Array]) -> None:
        """Replace all parameters of the copy."""
        self._session.set_parameters(list(parameters))

    def value(self) -> float:
        """The loss."""
        losses = [self._session.loss_and_gradients(block)[0] for block in self._blocks]
        return float(np.dot(self._shares, losses))

    def inspect(self) -> Inspection:
        """Loss, gradients, outputs and deltas of all rows together."""
        parts = [self._session.inspect(block) for block in self._blocks]
        if len(parts) == 1:
            return parts[0]
        loss = float(np.dot(self._shares, [part.loss for part in parts]))

        def mean(arrays: Sequence[Array]) -> Array:
            return reduce(np.add, [share * array for share, array in zip(self._shares, arrays, strict=True)])

        def stacked(layers: Sequence[Array], scaled: bool) -> Array:
            factors = self._shares if scaled else [1.0] * len(parts)
            return np.concatenate([array * factor for array, factor in zip(layers, factors, strict=True)])

        return Inspection(
            loss,
            [mean(arrays) for arrays in zip(*(part.gradients for part in parts), strict=True)],
            [stacked(layers, False) for layers in zip(*(part.outputs for part in parts), strict=True)],
            [stacked(layers, True) for layers in zip(*(part.deltas for part in parts), strict=True)],
        )
