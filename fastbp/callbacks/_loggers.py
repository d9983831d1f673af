"""What writes down how a training goes: the learning rates, and a table in a file."""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastbp._files import as_path
from fastbp._validation import flag, one_of, scalar, shown
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

    def set_state(self, state: dict[str, Any]) -> None:
        self.rates = state["rates"].tolist()


class CSVLogger(Callback):
    """A line for each epoch in a table of values separated by commas: ``epoch`` (0, 1, ...) and the logs.

    Each line is handed to the system at once, so that others can follow the training, and a process that is killed
    loses none. Where a training is resumed, the lines of epochs after the checkpoint are taken out, and written again
    as these epochs are trained again.

    Parameters
    ----------
    path : str or path-like
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

    def on_train_begin(self, trainer: Trainer, n_epochs: int, n_steps: int) -> None:
        self._columns = []
        self._file = open(self.path, "ab" if self.append or trainer.epoch else "wb")  # noqa: SIM115 (until on_close)

    def on_epoch_end(self, trainer: Trainer, epoch: int, logs: dict[str, float]) -> None:
        assert self._file is not None
        if not self._columns:
            self._columns = ["epoch", *logs]
            header = self._line(self._columns)
            if self._file.tell() == 0:
                self._file.write(header)
            else:
                self._check(header)
        self._file.write(self._line([epoch, *(logs.get(name, "") for name in self._columns[1:])]))
        self._file.flush()

    def on_close(self, trainer: Trainer) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def get_state(self) -> dict[str, Any]:
        return {"size": 0 if self._file is None else self._file.tell()}

    def set_state(self, state: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.truncate(min(int(state["size"]), self._file.tell()))
        self._file.seek(0, os.SEEK_END)

    def _line(self, values: list[Any]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self.separator, lineterminator="\n").writerow(values)
        return line.getvalue().encode()

    def _check(self, header: bytes) -> None:
        """Raise a ValueError where the table that is there has other columns."""
        with open(self.path, "rb") as file:
            there = file.readline()
        if there != header:
            raise ValueError(
                f"{self.path} has the columns {shown(there.decode(errors='replace').strip())}, this training "
                f"{header.decode().strip()!r}: give another path, or append=False to write it anew"
            )
