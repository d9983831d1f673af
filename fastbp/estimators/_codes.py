"""Classes of several targets at once, as scikit-learn's LabelBinarizer has them for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from fastbp._validation import Array
from fastbp.estimators._targets import MULTIOUTPUT, listed


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

    def transform(self, y: Any, name: str = "y") -> Array:
        """Codes (n_samples, n_targets).

        Raises
        ------
        ValueError
            For another number of targets, or a class that is not there.
        TypeError
            For a sparse matrix.
        """
        if sparse.issparse(y):
            raise TypeError(f"{name} is sparse, which only labels of 0 and 1 may be: give {name}.toarray()")
        if y.ndim != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(
                f"{name} must have a column for each of {len(self.classes_)} targets, got the shape {y.shape}"
            )
        codes = np.empty(y.shape, np.intp)
        for k, classes in enumerate(self.classes_):
            places = {one: code for code, one in enumerate(classes.tolist())}
            try:
                values, rows = np.unique(y[:, k], return_inverse=True)
            except TypeError as error:  # strings beside numbers
                raise ValueError(f"column {k} of {name} is not usable: {error}") from None
            of_values = [places.get(one, -1) for one in values.tolist()]
            if -1 in of_values:
                unknown = values[np.array(of_values) < 0]
                raise ValueError(
                    f"column {k} of {name} has classes {listed(unknown)} that are not among {listed(classes)}"
                )
            codes[:, k] = np.array(of_values, np.intp)[rows]
        return codes

    def inverse_transform(self, codes: Array) -> Array:
        """Classes (n_samples, n_targets) of codes."""
        return np.column_stack([names[codes[:, k]] for k, names in enumerate(self.classes_)])
