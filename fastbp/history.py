"""History: what a training has measured, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class History(Mapping[str, list[float]]):
    """What was measured, one value an epoch.

    Parameters
    ----------
    names : sequence of str

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the training.
    message : str
        Why the training ended: by itself, by a callback or by Ctrl-C, and after how many epochs.

    Notes
    -----
    ``"loss"`` is the mean over the rows of an epoch, each with its weight: sum(w loss) / sum(w), whatever the batch
    size is. For a loss of scikit-learn's convention it is scikit-learn's mean of the batches' weighted means, each
    counted by its rows. A batch whose weights sum to 0 counts nothing. ``"val_loss"`` is the weighted mean too.

    Examples
    --------
    >>> from fastbp import History
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
