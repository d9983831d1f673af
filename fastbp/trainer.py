"""Trainer: epochs, the order of rows, callbacks, and what happens on Ctrl-C or a loss that is no number."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from fastbp._validation import Array, flag, matrix, one_of, sample_weights, whole_number
from fastbp.backends import BACKENDS, Session, get_backend
from fastbp.callbacks import Callback, ProgressBar
from fastbp.losses import Loss, as_loss
from fastbp.model import Sequential
from fastbp.optimizers import SGD, Adam, Optimizer

# Python looks for Ctrl-C and draws the progress bar this often; entering compiled code costs some 50 us each time
CHUNK_SECONDS = 0.2
# Largest difference to the reference, max |a - b| / max |b| by array, that verify=True lets pass. Rounding gives 1e-6
# and 1e-14; a unit whose pre-activation rounds to the other side of a ReLU's kink gives more, a wrong kernel far more.
VERIFY_TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


class History(Mapping[str, list[float]]):
    """What was measured, one value an epoch.

    Parameters
    ----------
    names : sequence of str

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the training within an epoch.
    message : str
        Why the training ended.

    Examples
    --------
    >>> from fastbp.trainer import History
    >>> history = History(["loss"])
    >>> history.append({"loss": 0.5})
    >>> history["loss"], len(history.epochs)
    ([0.5], 1)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._values: dict[str, list[float]] = {name: [] for name in names}
        self.interrupted, self.message = False, "not finished"

    def append(self, logs: Mapping[str, float]) -> None:
        """Add an epoch's values."""
        for name, values in self._values.items():
            values.append(logs[name])

    @property
    def epochs(self) -> range:
        """0, 1, ...: the epochs that were finished."""
        return range(len(next(iter(self._values.values()))))

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._values:
            raise KeyError(f"{name!r} was not recorded; there is {', '.join(map(repr, self._values))}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self._values.items() if values)
        return f"<History of {len(self.epochs)} epochs: {last or 'empty'}; {self.message}>"


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Within the block, Ctrl-C is noted; it is answered at its end, so that what the block does is done whole."""
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


class Trainer:
    """Trains a model on a loss with an optimizer.

    Parameters
    ----------
    model : Sequential
        Its weights are replaced after each epoch.
    loss : str or Loss
        ``"softmax_cross_entropy"``, ``"sigmoid_cross_entropy"``, ``"mean_squared_error"`` or
        ``"half_squared_error"``; see :class:`fastbp.losses.Loss`.
    optimizer : SGD or Adam, default=Adam()
        Its state goes on from one ``fit`` to the next.
    backend : {"cpu", "reference"}, default="cpu"
        Compiled kernels, or their NumPy twins.
    n_threads : int or None, default=None
        At most so many threads; None for all usable ones. The result does not depend on it, bit for bit.
    random_state : int, RandomState instance or None, default=None
        Draws the order of rows. An instance goes on from where it stands.
    verify : bool, default=False
        Whether the first step of each ``fit`` is also taken by the NumPy reference; a disagreement is an error.
    on_divergence : {"raise", "ignore"}, default="raise"
        What a loss or a weight that is not finite does.

    Attributes
    ----------
    learning_rate : float
        Starts as the optimizer's. Callbacks may change it; the next chunk of steps has it.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or a loss that does not fit the model's output.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = fastbp.Sequential([fastbp.Dense(16, "tanh"), fastbp.Dense(1)], n_features=3, random_state=0)
    >>> trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=fastbp.Adam(0.01), random_state=0)
    >>> history = trainer.fit(X, X.sum(axis=1), epochs=50, batch_size=20)
    >>> history["loss"][-1] < 0.1 < history["loss"][0]
    True
    """

    def __init__(
        self,
        model: Sequential,
        *,
        loss: str | Loss,
        optimizer: Optimizer | None = None,
        backend: str = "cpu",
        n_threads: int | None = None,
        random_state: Any = None,
        verify: bool = False,
        on_divergence: str = "raise",
    ) -> None:
        if not isinstance(model, Sequential):
            raise TypeError(f"model must be a fastbp.Sequential, got {model!r}")
        optimizer = Adam() if optimizer is None else optimizer
        if not isinstance(optimizer, SGD | Adam):
            raise TypeError(f"optimizer must be a fastbp.SGD or fastbp.Adam, got {optimizer!r}")
        self.model, self.loss, self.optimizer = model, as_loss(loss), optimizer
        self._link = self.loss.check_output(model.n_outputs, model.layers[-1].activation)
        self.backend = one_of(backend, BACKENDS, "backend")
        self.n_threads = None if n_threads is None else whole_number(n_threads, "n_threads")
        self.verify = flag(verify, "verify")
        self.on_divergence = one_of(on_divergence, ("raise", "ignore"), "on_divergence")
        self.learning_rate = float(optimizer.learning_rate)
        self._rng = check_random_state(random_state)
        self._optimizer_state: dict[str, Any] | None = None
        self._stop = False

    def stop(self) -> None:
        """End the training after the present epoch: for callbacks."""
        self._stop = True

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        validation_data: tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        callbacks: Sequence[Callback] = (),
        verbose: int = 0,
    ) -> History:
        """Train for some epochs; a second call goes on from where the first one ended.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like
            What the loss takes: integer labels of shape (n_samples,), or values of shape (n_samples, n_outputs), or
            (n_samples,) for one output.
        epochs : int, default=1
        batch_size : int, default=32
            Rows of a step; the last batch of an epoch may be shorter. More than n_samples is n_samples.
        shuffle : bool, default=True
            Whether each epoch has an order of rows of its own.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Its loss after each epoch is ``history["val_loss"]``.
        sample_weight : array-like of shape (n_samples,), optional
            The loss of a batch is the weighted mean.
        callbacks : sequence of Callback, default=()
        verbose : int, default=0
            1 shows a progress bar.

        Returns
        -------
        History
            ``loss`` (mean over the epoch's rows, each before its update), ``val_loss`` where there is validation data,
            ``epoch_seconds`` (of the steps, without validation and callbacks). Ctrl-C ends the training with a
            warning after the steps that are under way; the model then has the weights after these, and
            ``history.interrupted`` is True.

        Raises
        ------
        TypeError, ValueError
            For data or numbers that cannot be used; the model keeps its state.
        FloatingPointError
            Where the loss or a weight is no longer finite (``on_divergence="raise"``), or ``verify`` finds a
            disagreement. The model keeps the weights of the last whole epoch.
        """
        epochs, batch_size = whole_number(epochs, "epochs"), whole_number(batch_size, "batch_size")
        shuffle, verbose = flag(shuffle, "shuffle"), whole_number(int(verbose), "verbose", least=0)
        data = self._checked(X, y, sample_weight)
        validation = None if validation_data is None else self._checked_validation(validation_data)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must hold instances of fastbp.Callback, got {callback!r}")
        listeners = [*callbacks, *([ProgressBar()] if verbose else [])]
        batch_size = min(batch_size, len(data[0]))

        session = self._open(*data, batch_size=batch_size)
        if self._optimizer_state is not None:
            session.set_optimizer_state(self._optimizer_state)
        rows = np.arange(len(data[0]))
        if self.verify:
            self._verify(data, rows[:batch_size])
        self.model.link, self._stop = self._link, False
        history = History(["loss", *([] if validation is None else ["val_loss"]), "epoch_seconds"])
        n_steps = -(-len(rows) // batch_size)
        run = _Run(self, session, batch_size, n_steps, listeners)
        try:
            for listener in listeners:
                listener.on_train_begin(self, epochs, n_steps)
            for epoch in range(epochs):
                start = time.perf_counter()
                if shuffle:
                    rows = rows[self._rng.permutation(len(rows))]
                logs = {"loss": run.epoch(epoch, rows), "epoch_seconds": time.perf_counter() - start}
                self.model._weights = session.get_parameters()
                if validation is not None:
                    logs["val_loss"] = session.evaluate(*validation)
                history.append(logs)
                for listener in listeners:
                    listener.on_epoch_end(self, epoch, logs)
                if self._stop:
                    break
            history.message = f"ended after {len(history.epochs)} of {epochs} epochs"
        except KeyboardInterrupt:
            history.interrupted, history.message = True, f"interrupted {run.place}"
            warnings.warn(f"training was interrupted {run.place}: the model has the weights so far", stacklevel=2)
            self.model._weights = session.get_parameters()
        self._optimizer_state = session.get_optimizer_state()
        for listener in listeners:
            listener.on_train_end(self, history)
        return history

    def loss_and_gradients(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[float, list[Array]]:
        """Loss and its gradient on all rows as one batch, without the optimizer's penalty and without an update.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        loss : float
        gradients : list of ndarray
            Shaped and ordered as ``model.get_weights()``; averaged over the batch.

        Raises
        ------
        TypeError, ValueError
            For data that cannot be used.
        """
        data = self._checked(X, y, sample_weight)
        session = self._open(*data, batch_size=len(data[0]))
        return session.loss_and_gradients(np.arange(len(data[0])))

    # -----------------------------------------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, sample_weight: Any, prefix: str = "") -> tuple[Array, Array, Array | None]:
        """X, y and weights as a backend takes them."""
        model = self.model
        X = matrix(X, f"{prefix}X", dtype=model.dtype, n_columns=model.n_features)
        y = self.loss.check_targets(y, f"{prefix}y", n_samples=len(X), n_outputs=model.n_outputs, dtype=model.dtype)
        weights = sample_weights(sample_weight, f"{prefix}sample_weight", n_samples=len(X), dtype=model.dtype)
        return X, y, weights

    def _checked_validation(self, data: Any) -> tuple[Array, Array, Array | None]:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(f"validation_data must be (X, y) or (X, y, sample_weight), got {type(data).__name__}")
        return self._checked(*data, *([None] if len(data) == 2 else []), prefix="validation_data: ")

    def _open(
        self, X: Array, y: Array, weights: Array | None, *, batch_size: int, backend: str | None = None
    ) -> Session:
        model = self.model
        return get_backend(backend or self.backend).open(
            replace(model._network, activations=(*model._network.activations[:-1], self._link)),
            self.loss,
            self.optimizer,
            X,
            y,
            parameters=model._weights,
            batch_size=batch_size,
            sample_weight=weights,
            n_threads=self.n_threads,
        )

    def _verify(self, data: tuple[Array, Array, Array | None], rows: Array) -> None:
        """Take one step by this backend and by the reference, on copies, and compare all that they give.

        Both update with the reference's gradients: Adam's first step is about the sign of the gradient, so that
        rounding would decide it where the gradient is nearly zero.
        """
        from fastbp.diagnostics import relative_difference

        mine, reference = (
            self._open(*data, batch_size=len(rows), backend=name) for name in (self.backend, "reference")
        )
        (loss, gradients), (expected_loss, expected) = mine.loss_and_gradients(rows), reference.loss_and_gradients(rows)
        pairs = [("the loss", np.array(loss), np.array(expected_loss))]
        names = [f"{'Wb'[k % 2]}{k // 2 + 1}" for k in range(len(expected))]
        pairs += [(f"the gradient of {n}", a, b) for n, a, b in zip(names, gradients, expected, strict=True)]
        for session in (mine, reference):
            session.apply_gradients(expected, self.learning_rate, len(rows))
        after, wanted = mine.get_parameters(), reference.get_parameters()
        pairs += [(f"{n} after the step", a, b) for n, a, b in zip(names, after, wanted, strict=True)]
        allowed = VERIFY_TOLERANCE[self.model.dtype.name]
        for what, got, want in pairs:
            difference = relative_difference(got, want)
            if not difference <= allowed:
                raise FloatingPointError(
                    f"verify: {what} by backend {self.backend!r} differs from the NumPy reference by {difference:.1e} "
                    f"of its largest element, more than {allowed:.0e}. Please report this with the output of "
                    "fastbp.show_config(); backend='reference' trains without compiled kernels"
                )


class _Run:
    """The steps of one call of ``fit``, chunk after chunk."""

    def __init__(
        self, trainer: Trainer, session: Session, batch_size: int, n_steps: int, listeners: Sequence[Callback]
    ) -> None:
        self._trainer, self._session, self._listeners = trainer, session, listeners
        self._batch, self._n_steps = batch_size, n_steps
        self._chunk, self._epoch, self._done = 1, 0, 0

    @property
    def place(self) -> str:
        """How far the training has come, in words."""
        return f"in epoch {self._epoch + 1}, after {self._done} of {self._n_steps} steps"

    def epoch(self, epoch: int, rows: Array) -> float:
        """All steps of an epoch; the mean loss of its rows."""
        self._epoch, self._done, total = epoch, 0, 0.0
        while self._done < self._n_steps:
            first = self._done
            n_steps = min(self._chunk, self._n_steps - first)
            here = rows[first * self._batch : (first + n_steps) * self._batch]
            rates = np.full(n_steps, self._trainer.learning_rate)
            start = time.perf_counter()
            with _ctrl_c_waits():
                losses = self._session.train(here, rates)
                self._done += n_steps
            # the first chunk may hold the compilation, so it only grows by and by
            wanted = CHUNK_SECONDS / max((time.perf_counter() - start) / n_steps, 1e-9)
            self._chunk = max(1, min(int(wanted), 8 * self._chunk))
            sizes = np.full(n_steps, self._batch)
            sizes[-1] = len(here) - (n_steps - 1) * self._batch
            chunk_loss = float((losses * sizes).sum())
            total += chunk_loss
            if self._trainer.on_divergence == "raise":
                self._check(losses, first)
            for listener in self._listeners:
                listener.on_chunk_end(self._trainer, epoch, self._done, {"loss": chunk_loss / len(here)})
        return total / len(rows)

    def _check(self, losses: Array, first: int) -> None:
        """Raise where a loss of the chunk or a weight after it is not finite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            what, place = f"the loss became {losses[bad[0]]}", f"in step {first + bad[0] + 1}"
        elif not self._session.all_finite():
            what, place = "a weight became infinite or NaN", f"in steps {first + 1} to {self._done}"
        else:
            return
        raise FloatingPointError(
            f"{what} {place} (of {self._n_steps}) of epoch {self._epoch + 1}: try a smaller learning rate (it is "
            f"{self._trainer.learning_rate:g}), inputs and targets scaled to about 1, or more l2. The model keeps the "
            "weights of the last whole epoch; on_divergence='ignore' goes on"
        )
