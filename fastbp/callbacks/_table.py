"""Tables of values in a file, epoch by epoch: which lines are those of a training, and how some are taken out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastbp._files import replacing
from fastbp._words import shown

ENCODING = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}  # whatever stands there comes back


def line(values: list[Any], separator: str) -> bytes:
    """Values as a line of a table."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "backslashreplace")


def fields(record: bytes, separator: str) -> list[str]:
    """The values of a line, as strings.

    >>> fields(line([0, 0.5, "a;b"], ";"), ";")
    ['0', '0.5', 'a;b']
    """
    return next(csv.reader([record.decode("utf-8", "surrogateescape")], delimiter=separator), [])


def ends_whole(path: str) -> bool:
    """Whether a file ends with the end of a line."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def check_header(path: str, separator: str, columns: list[str] | None) -> None:
    """Raise a ValueError where a table has other columns, or does not begin with epochs where ``columns`` is None.

    An empty file has none yet.
    """
    with open(path, **ENCODING) as file:  # type: ignore[call-overload]
        _, there = next(_records(path, file, separator), ("", []))
    if not there or (there == columns if columns else there[0] == "epoch"):
        return
    wanted = "which begin with 'epoch'" if columns is None else repr(separator.join(columns))
    raise ValueError(
        f"{path} has the columns {shown(separator.join(there))}, this training {wanted}: give another path, or "
        "move that table away, or append=False to write it anew"
    )


def _records(path: str, file: io.TextIOBase, separator: str) -> Iterator[tuple[str, list[str]]]:
    """Each record of a table: its text, which may have several lines within quotes, and its fields."""
    text: list[str] = []

    def lines() -> Iterator[str]:
        for one in file:
            text.append(one)
            yield one

    try:
        for record in csv.reader(lines(), delimiter=separator):
            yield "".join(text), record
            text.clear()
    except csv.Error as error:
        raise ValueError(
            f"{path} is no table with the separator {separator!r} ({error}): give another path or separator"
        ) from None


class Table:
    """The lines of a table.

    Parameters
    ----------
    path, separator : str

    Attributes
    ----------
    lines : list of str
        The first of them are the columns.

    Raises
    ------
    ValueError
        For what is no table.
    """

    def __init__(self, path: str, separator: str) -> None:
        self.path, self._records = path, list[list[str]]()
        self.lines: list[str] = []
        if os.path.exists(path):
            with open(path, **ENCODING) as file:  # type: ignore[call-overload]
                for text, record in _records(path, file, separator):
                    self.lines.append(text)
                    self._records.append(record)

    def until(self, epoch: int, last: list[str] | None) -> list[str] | None:
        """The lines without those of a training from ``epoch`` on.

        Parameters
        ----------
        epoch : int
        last : list of str or None
            A line of the training, by which it is found among several; None takes the last one of the table.

        Returns
        -------
        list of str or None
            None where the line is not there.
        """
        trainings = self._trainings()
        if last is not None:
            trainings = [rows for rows in trainings if any(self._records[k] == last for k in rows)]
            if not trainings and len(self.lines) > 1:
                return None
        rows, lines = trainings[-1] if trainings else range(0), self.lines
        kept = [lines[k] for k, record in enumerate(self._records) if k not in rows or _epoch(record, -1) < epoch]
        if kept and not kept[-1].endswith("\n"):  # whole where it has all fields, else what a kill has left behind
            kept[-1:] = [kept[-1] + "\n"] * (len(self._records[-1]) == len(self._records[0]))
        return kept

    def _trainings(self) -> list[range]:
        """The lines of each training: its epochs ascend."""
        begins, before = [1], -1
        for k, record in enumerate(self._records[1:], 1):
            epoch = _epoch(record, -1) if len(record) == len(self._records[0]) else -1
            if epoch >= 0:
                begins += [k] * (epoch <= before)
                before = epoch
        return [range(a, b) for a, b in zip(begins, [*begins[1:], len(self.lines)], strict=True) if a < b]

    def replace(self, lines: list[str]) -> None:
        """Write other lines to the file, in one moment."""
        path = Path(os.path.realpath(self.path))
        mode = path.stat().st_mode
        with replacing(path) as part:
            part.chmod(mode)
            with open(part, "w", **ENCODING) as file:  # type: ignore[call-overload]
                file.writelines(lines)


def _epoch(record: list[str], otherwise: int) -> int:
    """The epoch of a line; of one that has none, such as half a line, ``otherwise``."""
    return int(record[0]) if record and record[0].isdecimal() and len(record[0]) < 19 else otherwise
