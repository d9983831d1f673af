"""Classes of several targets at once, as scikit-learn's LabelBinarizer has them for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp._validation import Array

MULTIOUTPUT = "multiclass-multioutput"


class ClassCodes:
    """Codes 0, 1, ... of the classes of each target.

    Parameters
    ----------
    classes : sequence of array-like
        Sorted classes of each target.

    Attributes
    ----------
    classes_ : list of ndarray
    y_type_ : str
    """

    y_type_ = MULTIOUTPUT

    def __init__(self, classes: Sequence[Any]) -> None:
        self.classes_ = [np.unique(names) for names in classes]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of each target."""
        return tuple(map(len, self.classes_))

    @property
    def blocks(self) -> list[slice]:
        """Columns of the outputs that belong to each target."""
        ends = np.cumsum(self.sizes)
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    def transform(self, y: Array) -> Array:
        """Codes (n_samples, n_targets).

        Raises
        ------
        ValueError
            For another number of targets, or a class that is not there.
        """
        if y.ndim != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(f"y must have a column for each of {len(self.classes_)} targets, got the shape {y.shape}")
        codes = np.empty(y.shape, np.intp)
        for k, names in enumerate(self.classes_):
            codes[:, k] = np.minimum(np.searchsorted(names, y[:, k]), len(names) - 1)
            unknown = np.unique(y[names[codes[:, k]] != y[:, k], k])
            if unknown.size:
                raise ValueError(f"column {k} of y has classes {unknown} that are not among {names}")
        return codes

    def inverse_transform(self, codes: Array) -> Array:
        """Classes (n_samples, n_targets) of codes."""
        return np.column_stack([names[codes[:, k]] for k, names in enumerate(self.classes_)])
