"""Checkpoints of a training, epoch by epoch."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp._files import TENSOR, as_path, check_target, damage_named, read
from fastbp._states import DamageError, entries, real
from fastbp._validation import flag, whole_number
from fastbp._warnings import users_level
from fastbp._words import shown
from fastbp.callbacks._base import Callback
from fastbp.callbacks._monitor import Monitor

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.trainer import Trainer


class Checkpoint(Callback):
    """Write the training to a file after an epoch: each one, every so many, or the best so far.

    ``trainer.fit(..., resume_from=path)`` goes on from it, and :func:`fastbp.load` takes the model out of it. It is
    written after all callbacks have had ``on_epoch_end``, to another name, and then renamed: the path has a whole file
    at any moment. For the last and the best, give two of them with two paths.

    Where a training is resumed, the best so far is the one of the callback with the same path, monitor and mode, and a
    file at the path that has a better value of ``monitor`` is kept.

    Parameters
    ----------
    path : str or path-like
        Fields in braces are filled in: ``{epoch}``, the epochs done, and the values of the logs, as in
        ``"run-{epoch:03d}-{val_loss:.4f}.safetensors"``. Without any, each file replaces the one before.
    every : int, default=1
        Epochs from one file to the next. The last epoch is written in any case.
    best : bool, default=False
        Whether only an epoch that is better than all before is written. A NaN is not: where there is nothing else, no
        file is written, with a warning.
    monitor, mode
        For ``best``, which is better; as in :class:`fastbp.EarlyStopping`.

    Attributes
    ----------
    best_value : float
        That of the best epoch so far.
    last_path : str or None
        The file that was written last.

    Raises
    ------
    TypeError, ValueError
        For an argument out of its range; in ``fit`` for a field that there is no value for.
    OSError
        In ``fit``, where the file cannot be written: before the first epoch where its folder is missing.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastbp
    >>> X, y = np.ones((8, 2)), np.arange(8.0)
    >>> def new_trainer():
    ...     model = fastbp.Sequential([fastbp.Dense(1)], n_features=2, random_state=0)
    ...     return fastbp.Trainer(model, loss="mean_squared_error", random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.safetensors")
    ...     _ = new_trainer().fit(X, y, epochs=3, callbacks=[fastbp.Checkpoint(path)])
    ...     history = new_trainer().fit(X, y, epochs=5, resume_from=path)
    >>> len(history["loss"])
    5
    """

    optional = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        best: bool = False,
        monitor: str = "val_loss",
        mode: str = "auto",
    ) -> None:
        self.path, self.every, self.best = os.fspath(as_path(path)), whole_number(every, "every"), flag(best, "best")
        self._monitor = Monitor(monitor, mode)
        self._start()

    def _start(self) -> None:
        self.best_value, self._better, self._n_epochs = self._monitor.worst, False, 0
        self._compared = False  # whether there was an epoch that might have been written
        self._resumed, self._written = False, set[str]()
        self.last_path: str | None = None

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self._start()
        self._resumed, self._n_epochs, folder = trainer.epoch > 0, n_epochs, Path(self.path).parent
        if "{" not in str(folder) and not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} for checkpoints: make it first")
        if "{" not in self.path:
            check_target(self.path)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self.best:
            value = self._monitor.value(logs, "Checkpoint(best=True)")
            due = self._due(trainer, epoch)
            self._better, self._compared = due and self._monitor.better(value, self.best_value), self._compared or due
            if self._better:
                self.best_value = value

    def on_epoch_complete(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self._better if self.best else self._due(trainer, epoch):
            path = self._named(epoch, logs)
            if self.best and self._resumed and path not in self._written:
                there = value_in(path, self._monitor, self.state_key())
                if there is not None and self._monitor.better(there, self.best_value):
                    self.best_value = there
                    return
            trainer.save(path)
            self._written.add(path)
            self.last_path = path

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        if self._compared and self.best_value == self._monitor.worst:
            warnings.warn(
                f"Checkpoint(best=True) has written no file, since {self._monitor.name!r} was never better than "
                f"{self.best_value}: look whether the value is NaN, and whether mode is right",
                stacklevel=users_level(),
            )

    def _due(self, trainer: Trainer, epoch: int) -> bool:
        return (epoch + 1) % self.every == 0 or epoch + 1 == self._n_epochs or trainer.stopping

    def _named(self, epoch: int, logs: dict[str, float]) -> str:
        try:
            return self.path.format(**{**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"the path {self.path!r} cannot be filled in ({type(error).__name__}: {error}): its fields may be "
                f"{', '.join(['epoch', *logs])}; a brace that is none is doubled"
            ) from None

    def get_state(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "last_path": self.last_path}

    def state_key(self) -> dict[str, Any]:
        watched = {"monitor": self._monitor.name, "mode": self._monitor.mode} if self.best else {}
        return {"path": os.path.normpath(self.path), "best": self.best, **watched}

    def check_state(self, trainer: Trainer, epoch: int, state: dict[str, Any]) -> None:
        what = "the state of Checkpoint"
        entries(state, ("best_value", "last_path"), what)
        real(state["best_value"], f"{what}: best_value", infinite=True)
        if not isinstance(state["last_path"], str | None):
            raise DamageError(f"{what}: last_path is {shown(state['last_path'])}, expected a path or None")

    def set_state(self, state: dict[str, Any]) -> None:
        self.best_value, self.last_path, self._resumed = float(state["best_value"]), state["last_path"], True


def value_in(path: str, monitor: Monitor, key: dict[str, Any]) -> float | None:
    """The value that a checkpoint at ``path`` was written for; None where there is none, or none that tells it.

    A loss stands in its history, any other value in the state of the callback that wrote it.
    """
    try:
        header, tensors = read(Path(path), "checkpoint")
        with damage_named(Path(path)):
            state, name = header["state"], f"state.history.{monitor.name}"
            if state["history"].get(monitor.name) == {TENSOR: name}:
                return float(tensors.load([name])[0][-1])
            keys = state.get("callback_keys", [])
            values = [one[2]["best_value"] for one, of in zip(state["callbacks"], keys, strict=True) if of == key]
            return real(values[0], "best_value", infinite=True) if values else None
    except (OSError, ValueError):
        return None
