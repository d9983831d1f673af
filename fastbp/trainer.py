"""Trainer: epochs, the order of rows, callbacks, and what happens on Ctrl-C or a loss that is no number."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp._network import check_sparse
from fastbp._orders import Orders
from fastbp._run import Run
from fastbp._validation import Array, as_random_state, flag, matrix, one_of, real_number, sample_weights, whole_number
from fastbp._verify import verify_step
from fastbp.backends import BACKENDS, Session, get_backend
from fastbp.callbacks import Callback, ProgressBar
from fastbp.kernels.layout import BATCH_NORM, DROPOUT
from fastbp.losses import Loss, as_loss
from fastbp.model import Sequential, as_sequential
from fastbp.optimizers import SGD, Adam, Optimizer

Data = tuple[Array, Array, Array | None]  # X, y and sample weights as a backend takes them


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


def _listeners(callbacks: Any) -> list[Callback]:
    """The callbacks as a list."""
    try:
        listeners = list(callbacks)
    except TypeError:
        raise TypeError(f"callbacks must be a sequence of fastbp.Callback, got {callbacks!r}") from None
    for callback in listeners:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must hold instances of fastbp.Callback, got {callback!r}")
    return listeners


class Trainer:
    """Trains a model on a loss with an optimizer.

    Parameters
    ----------
    model : Sequential
        Its weights are replaced after each epoch.
    loss : str or Loss
        ``"softmax_cross_entropy"``, ``"sigmoid_cross_entropy"``, ``"mean_squared_error"``,
        ``"half_squared_error"``, ``"poisson"``, ``"mean_absolute_error"``, ``"huber"``, ``"quantile"`` or
        ``"log_cosh"``; see :class:`fastbp.losses.Loss`, also for label smoothing and class weights.
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
        model = as_sequential(model)
        optimizer = Adam() if optimizer is None else optimizer
        if not isinstance(optimizer, SGD | Adam):
            raise TypeError(f"optimizer must be a fastbp.SGD or fastbp.Adam, got {optimizer!r}")
        self.model, self.loss, self.optimizer = model, as_loss(loss), optimizer
        self._link = self.loss.check_output(model.n_outputs, model._described.activations[-1])
        self.backend = one_of(backend, BACKENDS, "backend")
        self.n_threads = None if n_threads is None else whole_number(n_threads, "n_threads")
        self.verify = flag(verify, "verify")
        self.on_divergence = one_of(on_divergence, ("raise", "ignore"), "on_divergence")
        self.learning_rate = float(optimizer.learning_rate)
        self._rng = as_random_state(random_state)
        # what is not used draws nothing, so that the order of rows is scikit-learn's
        self._mask_seed = int(self._rng.randint(2**62, dtype=np.int64)) if model._described.has(DROPOUT) else 0
        self._optimizer_state: dict[str, Any] | None = None
        self._stop = False

    @property
    def learning_rate(self) -> float:
        """Learning rate of the steps to come; callbacks may set it, to a number of at least 0."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._learning_rate = real_number(value, "learning_rate")

    @property
    def stopping(self) -> bool:
        """Whether the training ends after the present epoch."""
        return self._stop

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
            What the loss takes: integer labels of shape (n_samples,), or (n_samples, n_blocks) for a loss with blocks;
            or values of shape (n_samples, n_outputs), or (n_samples,) for one output. For the softmax cross-entropy
            such values are soft targets, shares of the classes, whose sum over a row is 1.
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
            disagreement.

        Notes
        -----
        After an error, also one in a callback, the model has the weights of the last whole epoch, or those that a
        callback has set since. The optimizer's state and ``learning_rate`` are the ones that go with them.
        """
        epochs, batch_size = whole_number(epochs, "epochs"), whole_number(batch_size, "batch_size")
        shuffle = flag(shuffle, "shuffle")
        verbose = whole_number(int(verbose) if isinstance(verbose, bool) else verbose, "verbose", least=0)
        data = self._checked(X, y, sample_weight)
        if min(batch_size, data[0].shape[0]) == 1 and self.model._described.has(BATCH_NORM):
            raise ValueError(
                "a BatchNorm needs batches of at least 2 rows, since one row has no variance: got "
                f"batch_size={batch_size} and {data[0].shape[0]} rows of X"
            )
        validation = None if validation_data is None else self._checked_validation(validation_data)
        listeners = _listeners(callbacks) + ([ProgressBar()] if verbose else [])
        with ExitStack() as closing:
            for listener in listeners:
                closing.callback(listener.on_close, self)
            history = self._train(data, validation, epochs, min(batch_size, data[0].shape[0]), shuffle, listeners)
        if history.interrupted:
            warnings.warn(f"training was {history.message}: the model has the weights so far", stacklevel=2)
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
        n_samples = data[0].shape[0]
        session = self._open(*data, batch_size=n_samples)
        return session.loss_and_gradients(np.arange(n_samples))

    # -----------------------------------------------------------------------------------------------------------------

    def _train(
        self,
        data: Data,
        validation: Data | None,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        listeners: Sequence[Callback],
    ) -> History:
        """:meth:`fit` on arguments that have been checked, without its warning."""
        session = self._open(*data, batch_size=batch_size)
        if self._optimizer_state is not None:
            session.set_optimizer_state(self._optimizer_state)
        orders = Orders(data[0].shape[0], self._rng, compiled=self.backend == "cpu")
        rows = orders.rows
        if self.verify:
            verify_step(
                self._open(*data, batch_size=batch_size),
                self._open(*data, batch_size=batch_size, backend="reference"),
                rows[:batch_size],
                learning_rate=self.learning_rate,
                backend=self.backend,
            )
        validation_loss = None if validation is None else session.evaluation(*validation)
        link = self.model.link
        self.model.link, self._stop = self._link, False
        history = History(["loss", *([] if validation_loss is None else ["val_loss"]), "epoch_seconds"])
        run = Run(self, session, batch_size, -(-len(rows) // batch_size), listeners)
        try:
            for listener in listeners:
                listener.on_train_begin(self, epochs, run.n_steps)
            for epoch in range(epochs):
                start = time.perf_counter()
                if shuffle:
                    rows = orders.draw()
                logs = {"loss": run.epoch(epoch, rows), "epoch_seconds": time.perf_counter() - start}
                run.hand_over()
                if validation_loss is not None:
                    logs["val_loss"] = validation_loss()
                history.append(logs)
                for listener in listeners:
                    listener.on_epoch_end(self, epoch, logs)
                if self._stop:
                    break
            history.message = f"ended after {len(history.epochs)} of {epochs} epochs"
        except KeyboardInterrupt:
            history.interrupted, history.message = True, f"interrupted {run.place}"
            run.cut_short()
        except BaseException:
            run.go_back()
            raise
        finally:
            self._optimizer_state = session.get_optimizer_state()
            if not run.trained:
                self.model.link = link
        for listener in listeners:
            listener.on_train_end(self, history)
        return history

    def _checked(self, X: Any, y: Any, sample_weight: Any, prefix: str = "") -> Data:
        """X, y and weights as a backend takes them."""
        model = self.model
        X = matrix(X, f"{prefix}X", dtype=model.dtype, n_columns=model.n_features)
        check_sparse(model._described, X, f"{prefix}X")
        y = self.loss.check_targets(y, f"{prefix}y", n_samples=X.shape[0], n_outputs=model.n_outputs, dtype=model.dtype)
        weights = sample_weights(sample_weight, f"{prefix}sample_weight", n_samples=X.shape[0], dtype=model.dtype)
        return X, y, weights

    def _checked_validation(self, data: Any) -> Data:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(f"validation_data must be (X, y) or (X, y, sample_weight), got {type(data).__name__}")
        X, y, sample_weight = (*data, None)[:3]
        return self._checked(X, y, sample_weight, prefix="validation_data: ")

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
            seed=self._mask_seed,
        )
