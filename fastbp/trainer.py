"""Trainer: epochs, the order of rows, callbacks, and what happens on Ctrl-C or a loss that is no number."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp._busy import ELSEWHERE, refuse_elsewhere, training
from fastbp._checkpoint import Fit, save
from fastbp._files import as_path
from fastbp._fit import Data, check_batches, train
from fastbp._network import check_sparse
from fastbp._validation import Array, as_random_state, flag, matrix, one_of, sample_weights, scalar, whole_number
from fastbp._weights import check_terms, usable_weights
from fastbp._words import shown
from fastbp.backends import BACKENDS, Session, as_precision, get_backend
from fastbp.backends._device import on_host, require
from fastbp.callbacks import Callback, ProgressBar
from fastbp.callbacks._base import as_listeners
from fastbp.history import History
from fastbp.kernels.layout import DROPOUT
from fastbp.losses import Loss, as_loss
from fastbp.model import Sequential, as_sequential
from fastbp.optimizers import Adam, Optimizer
from fastbp.schedules._rates import Rates


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
    optimizer : Optimizer, default=Adam()
        ``SGD``, ``RMSprop``, ``Adagrad``, ``Adam``, ``AdamW``, ``NAdam`` or ``Lion``. Its state goes on from one
        ``fit`` to the next.
    backend : {"cpu", "cuda", "reference"}, default="cpu"
        Compiled kernels for a CPU, or for an NVIDIA GPU (extra ``cuda``), or their NumPy twins.
    n_threads : int or None, default=None
        At most so many threads; None for all usable ones. The result does not depend on it, bit for bit.
    random_state : int, RandomState instance or None, default=None
        Draws the order of rows. An instance goes on from where it stands.
    verify : bool, default=False
        Whether the first step of each ``fit`` is also taken by the NumPy reference; a disagreement is an error.
    on_divergence : {"raise", "ignore"}, default="raise"
        What a loss or a weight that is not finite does.
    precision : {"float32", "tf32"}, default="float32"
        ``"tf32"``: products go through the tensor cores of a GPU, which keep 10 bits of each factor's mantissa and add
        up in float32. For ``backend="cuda"`` and a float32 model. ``"float32"`` is the model's own dtype throughout.

    Attributes
    ----------
    learning_rate : float
        That of the next step. Starts as the optimizer's. Callbacks may set it, and the next chunk of steps has it;
        where the optimizer has a schedule, setting it is a ValueError, since the schedule would not know of it.
    chunk_learning_rates : ndarray of float64
        Those of the steps that were taken last, for ``on_chunk_end``.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, or a loss that does not fit the model's output.
    RuntimeError
        For ``backend="cuda"`` where the extra, a driver or a device is missing: the message says which.

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
        precision: str = "float32",
    ) -> None:
        model = as_sequential(model)
        optimizer = Adam() if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of fastbp's, such as fastbp.Adam(), got {shown(optimizer)}")
        self.model, self.loss, self.optimizer = model, as_loss(loss), optimizer
        self._link = self.loss.check_output(model.n_outputs, model._described.activations[-1])
        self.backend = one_of(backend, BACKENDS, "backend")
        self.precision = as_precision(precision, self.backend, model.dtype)
        if self.backend == "cuda":
            require()
        self.n_threads = None if n_threads is None else whole_number(n_threads, "n_threads")
        self.verify = flag(verify, "verify")
        self.on_divergence = one_of(on_divergence, ("raise", "ignore"), "on_divergence")
        self._rates = Rates(optimizer.learning_rate)
        self._rng = as_random_state(random_state)
        # what is not used draws nothing, so that the order of rows is scikit-learn's
        self._mask_seed = int(self._rng.randint(2**62, dtype=np.int64)) if model._described.has(DROPOUT) else 0
        self._optimizer_state: dict[str, Any] | None = None
        self._session: Session | None = None  # while training is under way
        self._fit: Fit | None = None
        self._stop, self._epoch = False, 0
        self.chunk_learning_rates = np.zeros(0)
        if not model._trained:  # predictions of a trained one stay as they are until the next fit
            model.link = self._link

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles; one that is made in a callback has the training so far, and is not within a fit."""
        state = self.__dict__.copy()
        if self._session is not None:
            state |= {"_optimizer_state": self._session.get_optimizer_state(), "_session": None, "_fit": None}
        return state

    @property
    def epoch(self) -> int:
        """Whole epochs of the present or last ``fit``, those before a checkpoint that it went on from included."""
        return self._epoch

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step; callbacks may set it, to a number of at least 0, if there is no schedule."""
        return self._rates.now

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._rates.set(value)

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
        resume_from: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some epochs; a second call goes on from where the first one ended.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            For ``backend="cuda"`` also an array on the device (``__cuda_array_interface__`` or DLPack): of the model's
            dtype and C-contiguous, it is used where it lies. y and weights may lie there as well, and are copied.
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
            The loss of a batch is the weighted mean, and so are the statistics of a :class:`fastbp.BatchNorm`. A row of
            weight 0 changes nothing.
        callbacks : sequence of Callback, default=()
            See :class:`fastbp.Callback`; objects of other classes that have some of its methods will do.
        verbose : int, default=0
            1 shows a progress bar.
        resume_from : str or path-like, optional
            A file that :class:`fastbp.Checkpoint` or :meth:`save` wrote. The training goes on with the epoch after it,
            as if it had never ended, bit for bit: with the weights, the optimizer's state, the random state and the
            order of rows of that moment, and with those callbacks' states that the file has. ``epochs`` counts the
            epochs before it too. Model, loss, optimizer, shapes of the data, batch_size and shuffle must be the same.

        Returns
        -------
        History
            ``loss`` (mean over the epoch's rows, each before its update and with its weight: sum(w loss) / sum(w),
            whatever the batches are, but for a loss of scikit-learn's convention, see :class:`fastbp.losses.Loss`),
            ``val_loss`` where there is validation data, ``learning_rate`` (of the epoch's last step) where the
            optimizer has a schedule, ``epoch_seconds`` (of the steps, without validation and callbacks). Ctrl-C ends
            the training with a warning after the steps that are under way; the model then has the weights after these,
            and ``history.interrupted`` is True. A second Ctrl-C meanwhile is a KeyboardInterrupt.

        Raises
        ------
        TypeError, ValueError
            For data or numbers that cannot be used; the model keeps its state.
        OSError
            Where ``resume_from`` cannot be read.
        RuntimeError
            In a callback of a ``fit`` of this trainer, in a second thread while there is one, or while the model is
            trained in another thread. That ``fit`` goes on.
        FloatingPointError
            Where the loss or a weight is no longer finite (``on_divergence="raise"``), also an output for X after the
            last epoch, or where ``verify`` finds a disagreement.

        Notes
        -----
        After an error, also one in a callback, the model has the weights of the last whole epoch, or those that a
        callback has set since. The optimizer's state and ``learning_rate`` are the ones that go with them.

        A callback may train the model of the trainer by another Trainer: the outer training goes on from the weights
        that it is given. Other threads may call ``predict``, ``stop`` and ``loss_and_gradients`` meanwhile: these work
        on the weights of the last whole epoch.
        """
        epochs, batch_size = whole_number(epochs, "epochs"), whole_number(batch_size, "batch_size")
        shuffle = flag(shuffle, "shuffle")
        verbose = scalar(verbose)
        verbose = whole_number(int(verbose) if isinstance(verbose, bool | np.bool_) else verbose, "verbose", least=0)
        data = self._checked(X, y, sample_weight)
        check_batches(self, data, batch_size)
        validation = None if validation_data is None else self._checked_validation(validation_data)
        path = None if resume_from is None else as_path(resume_from, "resume_from")
        listeners = as_listeners(callbacks) + ([ProgressBar()] if verbose else [])
        with training(self), ExitStack() as closing:
            for listener in listeners:
                closing.callback(listener.on_close, self)
            batch_size = min(batch_size, data[0].shape[0])
            history = train(self, data, validation, epochs, batch_size, shuffle, listeners, path)
        if history.interrupted:
            warnings.warn(f"training was {history.message}: the model has the weights so far", stacklevel=2)
        return history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, the training as it stands after a whole epoch, for ``fit(resume_from=path)``.

        In a callback's ``on_epoch_complete``, where :class:`fastbp.Checkpoint` calls it, or after ``fit``. What is at
        the path is replaced in one moment, by a whole file. :func:`fastbp.load` takes the model out of it.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        RuntimeError
            Within an epoch, before the first ``fit``, after one that ended within an epoch, or in another thread than
            that of a ``fit``.
        OSError
            Where the file cannot be written.
        TypeError
            For another path, or a callback whose state no file can hold.
        """
        refuse_elsewhere(self, f"{ELSEWHERE}: call trainer.save in on_epoch_complete, or use fastbp.Checkpoint")
        save(self, self._fit, as_path(path))

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

    def averaged_weights(self) -> list[Array]:
        """The moving average of the weights over all steps, which often predicts better than the last weights.

        For ``model.set_weights`` after the training, or for a model of its own within it: callbacks find the average
        of the last step.

        Returns
        -------
        list of ndarray
            Shaped and ordered as ``model.get_weights()``, which it is before the first step. A batch norm's running
            statistics are the present ones.

        Raises
        ------
        ValueError
            Where the optimizer has no ``ema_decay``.
        RuntimeError
            In another thread than that of a ``fit``.

        Examples
        --------
        >>> import numpy as np, fastbp
        >>> model = fastbp.Sequential([fastbp.Dense(1)], n_features=1, random_state=0)
        >>> trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=fastbp.SGD(0.1, ema_decay=0.5))
        >>> history = trainer.fit(np.array([[1.0], [2.0]]), np.array([3.0, 5.0]), epochs=200)
        >>> [array.round(1).tolist() for array in trainer.averaged_weights()]
        [[[2.0]], [1.0]]
        """
        if self.optimizer.ema_decay is None:
            raise ValueError(
                f"there is no average of the weights: optimizer is {self.optimizer}; give it ema_decay, 0.999 for one"
            )
        refuse_elsewhere(self, f"{ELSEWHERE}: take the average in a callback, or when the fit has ended")
        if self._session is None:
            state, weights = self._optimizer_state, self.model.get_weights()
        else:
            state, weights = self._session.get_optimizer_state(), self._session.get_parameters()
        if state is None:
            return weights
        trainable = self.model._described.trainable
        return [
            average.copy() if part else now
            for average, now, part in zip(state["average"], weights, trainable, strict=True)
        ]

    # -----------------------------------------------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, sample_weight: Any, prefix: str = "") -> Data:
        """X, y and weights as a backend takes them."""
        model, self.loss = as_sequential(self.model), as_loss(self.loss)
        # both may have been replaced since
        self._link = self.loss.check_output(model.n_outputs, model._described.activations[-1])
        device = self.backend == "cuda"
        X = matrix(X, f"{prefix}X", dtype=model.dtype, n_columns=model.n_features, device=device)
        check_sparse(model._described, X, f"{prefix}X", self.backend)
        y = on_host(y, f"{prefix}y", backend=self.backend)
        sample_weight = on_host(sample_weight, f"{prefix}sample_weight", backend=self.backend)
        y = self.loss.check_targets(y, f"{prefix}y", n_samples=X.shape[0], n_outputs=model.n_outputs, dtype=model.dtype)
        weights = sample_weights(sample_weight, f"{prefix}sample_weight", n_samples=X.shape[0], dtype=model.dtype)
        weights = None if weights is None else usable_weights(weights, f"{prefix}sample_weight")
        check_terms(self.loss, y, weights, prefix)
        return X, y, weights

    def _checked_validation(self, data: Any) -> Data:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(f"validation_data must be (X, y) or (X, y, sample_weight), got {type(data).__name__}")
        X, y, sample_weight = (*data, None)[:3]
        return self._checked(X, y, sample_weight, prefix="validation_data: ")

    def _open(
        self,
        X: Array,
        y: Array,
        weights: Array | None,
        *,
        batch_size: int,
        backend: str | None = None,
        seed: int | None = None,
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
            seed=self._mask_seed if seed is None else seed,
            precision="float32" if backend == "reference" else self.precision,
        )
