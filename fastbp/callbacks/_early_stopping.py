"""Stopping when a value has stopped to improve."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp._states import DamageError, array_of, entries, real, whole
from fastbp._validation import Array, flag, real_number, whole_number
from fastbp._warnings import users_level
from fastbp._words import shown
from fastbp.callbacks._base import Callback
from fastbp.callbacks._monitor import Monitor

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.trainer import Trainer


class EarlyStopping(Callback):
    """End the training when a value has not improved for some epochs, with the best weights.

    Parameters
    ----------
    monitor : str, default="val_loss"
        What to watch: a value of ``history``, or one that another callback adds to the logs.
    mode : {"auto", "min", "max"}, default="auto"
        Whether it is to fall or to rise. ``"auto"`` goes by the name: a loss falls, an accuracy or a score rises.
    patience : int, default=10
        Epochs in a row without an improvement that end the training; 0 ends it after the first one too, as 1 does. An
        epoch whose value is NaN has no improvement.
    min_delta : float, default=0.0
        Only a change by more than this is an improvement.
    restore_best : bool, default=True
        Whether the model has the weights of the best epoch in the end, also where the training ran through all its
        epochs or Ctrl-C ended it. The optimizer's state stays that of the last one. Where no value was better than
        infinitely bad, NaN for one, the last weights stay, with a warning.
    baseline : float, optional
        The training also ends where the value is not better than this within ``patience`` epochs.

    Attributes
    ----------
    best : float
        Best value so far.
    best_epoch : int or None
        The epoch that had it: 0, 1, ...
    best_weights : list of ndarray or None
        Those of that epoch, where ``restore_best``.
    stopped_epoch : int or None
        The last epoch, where the training ended early.

    Raises
    ------
    TypeError, ValueError
        For a value out of its range; at the end of the first epoch where there is no such value to watch.

    References
    ----------
    Prechelt, "Early Stopping - But When?", 1998.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = fastbp.Sequential([fastbp.Dense(1)], n_features=3, random_state=0)
    >>> trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=fastbp.SGD(0.3), random_state=0)
    >>> stopping = fastbp.EarlyStopping(patience=3, min_delta=1e-6)
    >>> history = trainer.fit(X, X.sum(axis=1), epochs=500, validation_data=(X, X.sum(axis=1)), callbacks=[stopping])
    >>> len(history.epochs) < 500, stopping.best_epoch == stopping.stopped_epoch - 3
    (True, True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        baseline: float | None = None,
    ) -> None:
        self._monitor = Monitor(monitor, mode)
        self.patience = whole_number(patience, "patience", least=0)
        self.min_delta = real_number(min_delta, "min_delta")
        self.restore_best = flag(restore_best, "restore_best")
        self.baseline = None if baseline is None else real_number(baseline, "baseline", least=-float("inf"))
        self._start()

    @property
    def monitor(self) -> str:
        """Name of the value that is watched."""
        return self._monitor.name

    @property
    def mode(self) -> str:
        """``"min"`` or ``"max"``."""
        return self._monitor.mode

    def _start(self) -> None:
        self.best, self._waited = self._monitor.worst, 0
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.best_weights: list[Array] | None = None

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self._start()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        value = self._monitor.value(logs, "EarlyStopping")
        self._waited += 1
        if self._monitor.better(value, self.best, self.min_delta):
            self.best, self.best_epoch = value, epoch
            if self.restore_best:
                self.best_weights = trainer.model.get_weights()
            if self.baseline is None or self._monitor.better(value, self.baseline, self.min_delta):
                self._waited = 0
        if self._waited >= max(self.patience, 1):
            self.stopped_epoch = epoch
            trainer.stop()

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self.best_weights is not None:
            trainer.model.set_weights(self.best_weights)
        elif self.restore_best and self._waited:
            warnings.warn(
                f"EarlyStopping has no best weights, since {self.monitor!r} was never better than {self.best}: the "
                "model keeps its last weights. Look whether the value is NaN, and whether mode is right",
                stacklevel=users_level(),
            )

    def get_state(self) -> dict[str, Any]:
        names = ("best", "best_epoch", "stopped_epoch", "best_weights")
        return {name: getattr(self, name) for name in names} | {"waited": self._waited}

    def state_key(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "mode": self.mode}

    def check_state(self, trainer: Trainer, epoch: int, state: dict[str, Any]) -> None:
        what = "the state of EarlyStopping"
        entries(state, ("best", "best_epoch", "stopped_epoch", "best_weights", "waited"), what)
        real(state["best"], f"{what}: best", infinite=True)
        whole(state["waited"], f"{what}: waited")
        for name in ("best_epoch", "stopped_epoch"):
            if state[name] is not None and whole(state[name], f"{what}: {name}") >= epoch:
                raise DamageError(f"{what}: {name} is {state[name]}, and only {epoch} epochs were finished")
        weights = state["best_weights"]
        if weights is not None:
            if not isinstance(weights, list):
                raise DamageError(f"{what}: best_weights is {shown(weights)}, expected a list of arrays")
            for k, array in enumerate(weights):
                array_of(array, f"{what}: best_weights[{k}]", dtype=trainer.model.dtype, shape=np.shape(array))
            try:
                trainer.model._checked_weights(weights)
            except ValueError as error:
                raise DamageError(f"{what}: best_{error}") from None
        elif self.restore_best and state["best_epoch"] is not None:
            raise ValueError(
                f"{what} has no best weights, which restore_best=True needs: it was written with restore_best=False; "
                "give that here too"
            )

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.stopped_epoch = state["best"], state["best_epoch"], state["stopped_epoch"]
        self.best_weights, self._waited = state["best_weights"] if self.restore_best else None, state["waited"]
