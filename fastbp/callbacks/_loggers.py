"""What writes down how a training goes: the learning rates, and a table in a file."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastbp._files import as_path, special
from fastbp._states import DamageError, array_of, entries, whole
from fastbp._validation import flag, one_of, scalar
from fastbp._warnings import users_level
from fastbp._words import shown
from fastbp.callbacks import _table
from fastbp.callbacks._base import Callback
from fastbp.schedules._base import UNITS

if TYPE_CHECKING:
    from fastbp.trainer import Trainer


class LearningRateLogger(Callback):
    """Writes down the learning rates of a training, also those that callbacks set.

    Parameters
    ----------
    per : {"epoch", "step"}, default="epoch"
        Whether it keeps the rate of each epoch's last step, or that of every step.

    Attributes
    ----------
    rates : list of float
        Those of the present or last training, a checkpoint's included.

    Raises
    ------
    ValueError
        For another unit.

    Examples
    --------
    >>> import numpy as np, fastbp
    >>> X, logger = np.ones((6, 2)), fastbp.LearningRateLogger(per="step")
    >>> model = fastbp.Sequential([fastbp.Dense(1)], n_features=2, random_state=0)
    >>> optimizer = fastbp.SGD(fastbp.schedules.Exponential(1e-3, 0.5))
    >>> trainer = fastbp.Trainer(model, loss="mean_squared_error", optimizer=optimizer)
    >>> history = trainer.fit(X, X[:, 0], epochs=2, batch_size=2, callbacks=[logger])
    >>> logger.rates
    [0.001, 0.001, 0.001, 0.0005, 0.0005, 0.0005]
    """

    optional = True

    def __init__(self, per: str = "epoch") -> None:
        self.per = one_of(per, UNITS, "per")
        self.rates: list[float] = []

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self.rates = []

    def on_chunk_end(self, trainer: Trainer, epoch: int, step: int, logs: dict[str, float]) -> None:
        if self.per == "step":
            self.rates += trainer.chunk_learning_rates.tolist()

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        if self.per == "epoch":
            self.rates += trainer.chunk_learning_rates[-1:].tolist()

    def get_state(self) -> dict[str, Any]:
        return {"rates": np.array(self.rates)}

    def state_key(self) -> dict[str, Any]:
        return {"per": self.per}

    def check_state(self, trainer: Trainer, epoch: int, state: dict[str, Any]) -> None:
        what = "the state of LearningRateLogger"
        rates = array_of(entries(state, ("rates",), what)["rates"], f"{what}: rates", dtype=np.float64)
        if not (np.isfinite(rates) & (rates >= 0)).all():
            raise DamageError(f"{what}: rates must be finite and at least 0")

    def set_state(self, state: dict[str, Any]) -> None:
        self.rates = state["rates"].tolist()


class CSVLogger(Callback):
    """A line for each epoch in a table of values separated by commas: ``epoch`` (0, 1, ...) and the logs.

    Each line is handed to the system at once, so that others can follow the training, and a process that is killed
    loses none. Where a training is resumed, its lines of epochs after the checkpoint are taken out, and written again
    as these epochs are trained again. Lines of other trainings in the same table stay.

    Parameters
    ----------
    path : str or path-like
        A pipe or a device gets the lines too.
    append : bool, default=False
        Whether to go on with a table that is there; otherwise it is written anew with each ``fit``.
    separator : str, default=","
        One character.

    Raises
    ------
    TypeError, ValueError
        For another separator; in ``fit`` for a table to go on with that has other columns.
    OSError
        In ``fit``, where the file cannot be opened or written.

    Warns
    -----
    UserWarning
        Where the table has no line of the training that is resumed: nothing is taken out then.

    Examples
    --------
    >>> import fastbp
    >>> logger = fastbp.CSVLogger("training.csv", append=True)
    """

    optional = True

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False, separator: str = ",") -> None:
        self.path, self.append, given = os.fspath(as_path(path)), flag(append, "append"), scalar(separator)
        if not isinstance(given, str) or len(given) != 1 or given in '"\r\n':
            raise ValueError(f"separator must be one character, and no quote or line end, got {shown(separator)}")
        self.separator = str(given)
        self._file: BinaryIO | None = None
        self._columns: list[str] = []
        self._last: list[str] | None = None  # fields of the line that was written last
        self._begun = 0

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self._columns, self._last, self._begun = [], None, trainer.epoch
        self._file = open(self.path, "ab" if self.append or trainer.epoch else "wb")  # noqa: SIM115 (until on_close)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        assert self._file is not None
        if not self._columns:
            columns = ["epoch", *logs]
            header = _table.line(columns, self.separator)
            if special(self.path) is not None or self._file.tell() == 0:
                self._file.write(header)
            else:
                _table.check_header(self.path, self.separator, columns)
                if not _table.ends_whole(self.path):  # a line that a killed process has left behind
                    self._file.write(b"\n")
            self._columns = columns
        values = [epoch, *(logs.get(name, "") for name in self._columns[1:])]
        line = _table.line(values, self.separator)
        self._file.write(line)
        self._file.flush()
        self._last = _table.fields(line, self.separator)

    def on_close(self, trainer: Trainer) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def get_state(self) -> dict[str, Any]:
        return {"columns": self._columns, "last": self._last}

    def state_key(self) -> dict[str, Any]:
        return {"path": os.path.normpath(self.path)}

    def check_state(self, trainer: Trainer, epoch: int, state: dict[str, Any]) -> None:
        what = "the state of CSVLogger"
        if state.keys() == {"size"}:  # an earlier fastbp has kept a number of bytes
            whole(state["size"], f"{what}: size")
            columns, last = None, None
        else:
            entries(state, ("columns", "last"), what)
            columns, last = state["columns"], state["last"]
            for name, value in (("columns", columns), ("last", last if last is not None else [])):
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    raise DamageError(f"{what}: {name} is {shown(value)}, expected a list of strings")
        if special(self.path) is None and os.path.exists(self.path):
            _table.check_header(self.path, self.separator, columns or None)
            _table.Table(self.path, self.separator)

    def set_state(self, state: dict[str, Any]) -> None:
        self._last = state.get("last")
        if special(self.path) is not None or self._file is None:
            return
        table = _table.Table(self.path, self.separator)
        kept = table.until(self._begun, self._last)
        if kept is None:
            warnings.warn(
                f"{self.path} has no line of epoch {self._begun - 1} of the training that is resumed: its lines are "
                "those of another one, and stay. Give another path for a table of this training alone",
                stacklevel=users_level(),
            )
        elif kept != table.lines:
            self._file.close()
            table.replace(kept)
            self._file = open(self.path, "ab")  # noqa: SIM115 (until on_close)
