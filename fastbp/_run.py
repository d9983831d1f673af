"""The steps of one call of ``Trainer.fit``, chunk after chunk, and what Ctrl-C and numbers out of range do to them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends import Session
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
    """

    def __init__(
        self, trainer: Trainer, session: Session, batch_size: int, n_steps: int, listeners: Sequence[Callback]
    ) -> None:
        self._trainer, self._session, self._listeners = trainer, session, listeners
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
        """All steps of an epoch; the mean loss of its rows."""
        self._take_over()
        self._keep()
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
            sizes = np.full(n_steps, self._batch)
            sizes[-1] = len(here) - (n_steps - 1) * self._batch
            sums = self._losses[first : self._done] = losses * sizes
            self._trainer.chunk_learning_rates, self.last_rate = ahead, float(ahead[-1])
            if self._trainer.on_divergence == "raise":
                self._check(losses, ahead, first)
            for listener in self._listeners:
                listener.on_chunk_end(self._trainer, epoch, self._done, {"loss": float(sums.sum()) / len(here)})
            self._take_over()
        return float(self._losses.sum()) / len(rows)

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
            what, place = "a weight became infinite or NaN", f"in steps {first + 1} to {self._done}"
            rate = rates[-1]
        else:
            return
        raise FloatingPointError(
            f"{what} {place} (of {self.n_steps}) of epoch {self._epoch + 1}: try a smaller learning rate (it is "
            f"{rate:g}), inputs and targets scaled to about 1, clip_norm, or more l2. The model keeps the "
            "weights of the last whole epoch; on_divergence='ignore' goes on"
        )
