"""The steps of one call of ``Trainer.fit``, chunk after chunk, and what Ctrl-C and numbers out of range do to them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._overflow import finite, may_overflow
from fastbp._validation import Array
from fastbp.backends import Session, get_backend
from fastbp.backends._targets import row_weights
from fastbp.callbacks import Callback

if TYPE_CHECKING:
    from fastbp.trainer import Trainer

# Python looks for Ctrl-C and draws the progress bar this often; entering compiled code costs some 50 us each time
CHUNK_SECONDS = 0.2


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Within the block, Ctrl-C is noted; it is answered at its end, so that what the block does is done whole.

    Also at the end that an error in the block makes.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    noted: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: noted.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if noted:
            previous(*noted[0])


class Run:
    """The steps of one call of ``fit``, chunk after chunk, and what is left where they are cut short.

    The model's weights are those of the last whole epoch, or what a callback has set since. The optimizer's state and
    the learning rate that go with them are kept here while an epoch is under way.

    Parameters
    ----------
    trainer : Trainer
    session : Session
    data : tuple of X, y and weights
        Those of the session.
    batch_size, n_steps : int
    listeners : sequence of Callback
    """

    def __init__(
        self, trainer: Trainer, session: Session, data: Any, batch_size: int, n_steps: int,
        listeners: Sequence[Callback],
    ) -> None:  # fmt: skip
        self._trainer, self._session, self._listeners = trainer, session, listeners
        self._X, n_rows = data[0], data[0].shape[0]
        counts = row_weights(trainer.loss, *data[1:])
        # in the network's type, as the batches divide by it
        self._counts = None if counts is None else np.asarray(counts, trainer.model.dtype).astype(float)
        self._sizes = np.full(n_steps, float(batch_size))
        self._sizes[-1] = n_rows - (n_steps - 1) * batch_size
        self._batch, self.n_steps = batch_size, n_steps
        self._chunk, self._epoch, self._done = 1, 0, 0
        self._shared = trainer.model._weights  # what the model and the session both had last
        self._in_epoch, self._in_chunk, self._position = False, False, trainer._rates.position
        self._losses = np.zeros(n_steps)  # summed up at the end of an epoch, so that chunks do not decide a bit of it
        self.trained = False  # whether the model has had weights from here
        self.last_rate = trainer.learning_rate

    @property
    def place(self) -> str:
        """How far the training has come, in words."""
        return f"in epoch {self._epoch + 1}, after {self._done} of {self.n_steps} steps"

    def epoch(self, epoch: int, rows: Array) -> float:
        """All steps of an epoch; the mean loss of its rows, each with its weight."""
        self._take_over()
        self._keep()
        parts = self._parts(rows)
        self._epoch, self._done, self._in_epoch, rates = epoch, 0, True, self._trainer._rates
        while self._done < self.n_steps:
            first = self._done
            n_steps = min(self._chunk, self.n_steps - first)
            here = rows[first * self._batch : (first + n_steps) * self._batch]
            ahead = rates.ahead(n_steps)
            start = time.perf_counter()
            with ctrl_c_waits():
                self._in_chunk = True
                losses = self._session.train(here, ahead)
                self._done += n_steps
                rates.advance(n_steps)
                self._in_chunk = False
            # the first chunk may hold the compilation, so it only grows by and by
            wanted = CHUNK_SECONDS / max((time.perf_counter() - start) / n_steps, 1e-9)
            self._chunk = max(1, min(int(wanted), 8 * self._chunk))
            steps = slice(first, self._done)
            self._losses[steps] = losses * parts[steps]
            self._trainer.chunk_learning_rates, self.last_rate = ahead, float(ahead[-1])
            if self._trainer.on_divergence == "raise":
                self._check(losses, ahead, first)
            for listener in self._listeners:
                loss = _mean(self._losses[steps], parts[steps])
                listener.on_chunk_end(self._trainer, epoch, self._done, {"loss": loss})
            self._take_over()
        return _mean(self._losses, parts)

    def _parts(self, rows: Array) -> Array:
        """What the loss of each batch counts for in the mean of the epoch: its rows, or their weights."""
        if self._counts is None:
            return self._sizes
        weights = np.add.reduceat(self._counts[rows], np.arange(self.n_steps) * self._batch)
        if self._trainer.loss.convention == "scikit-learn":  # by rows there, whatever they weigh
            return np.where(weights != 0, self._sizes, 0.0)
        return weights

    def check_outputs(self) -> None:
        """At the end of the last epoch, raise where its weights are so large that the outputs for X overflow.

        A number beside the loss and the weights, since the losses are those of before the last updates.
        """
        network, weights = self._trainer.model._network, self._session.get_parameters()
        if not may_overflow(network, weights, exp=self._epoch > 0):
            return
        trainer = self._trainer
        predict = get_backend(trainer.backend).predict
        outputs = predict(network, weights, self._X, n_threads=trainer.n_threads, precision=trainer.precision)
        if finite(outputs):
            return
        raise self._error("an output for X became infinite or NaN", "after the last step", self.last_rate)

    def hand_over(self) -> None:
        """Give the model the weights of the session, at the end of an epoch."""
        weights = self._session.get_parameters()
        # no call in between that Ctrl-C could cut short
        self._trainer.model._weights = self._shared = weights
        self._in_epoch, self.trained = False, True

    def cut_short(self) -> None:
        """After Ctrl-C, keep what was done; what is no model goes back as after an error."""
        if self._in_chunk or not (self._trainer.on_divergence == "ignore" or self._session.all_finite()):
            self.go_back()
        elif self._trainer.model._weights is self._shared:  # otherwise a callback has set others
            self.hand_over()

    def go_back(self) -> None:
        """After an error, put the optimizer's state and the learning rate beside the weights that the model has."""
        if self._in_epoch:
            self._session.restore_optimizer_state()
            self._trainer._rates.position = self._position

    def _take_over(self) -> None:
        """Go on from the weights that a callback has set."""
        weights = self._trainer.model._weights
        if weights is not self._shared:
            self._session.set_parameters(weights)
            self._keep()
            self._shared = weights

    def _keep(self) -> None:
        # A flat copy: 2 us of an epoch of 1.1 ms (64-100-10 on digits), 60 us in the shape of the parameters
        self._session.keep_optimizer_state()
        self._position = self._trainer._rates.position

    def _check(self, losses: Array, rates: Array, first: int) -> None:
        """Raise where a loss of the chunk or a weight after it is not finite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            what, place = f"the loss became {losses[bad[0]]}", f"in step {first + bad[0] + 1}"
            rate = rates[bad[0]]
        elif not self._session.all_finite():
            what, place = (
                "a weight became infinite or NaN",
                (f"in step {self._done}" if self._done == first + 1 else f"in steps {first + 1} to {self._done}"),
            )
            rate = rates[-1]
        else:
            return
        raise self._error(what, place, rate)

    def _error(self, what: str, place: str, rate: float) -> FloatingPointError:
        return FloatingPointError(
            f"{what} {place} (of {self.n_steps}) of epoch {self._epoch + 1}: try a smaller learning rate (it is "
            f"{rate:g}), inputs and targets scaled to about 1, clip_norm, or more l2. The model keeps the "
            "weights of the last whole epoch; on_divergence='ignore' goes on"
        )


def _mean(sums: Array, parts: Array) -> float:
    """The mean loss of some steps; 0 where none of them has a weight."""
    total = float(parts.sum())
    return float(sums.sum()) / total if total else 0.0
