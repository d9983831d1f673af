"""Sparse targets of a classifier beyond labels of 0 and 1."""

import numpy as np
import pytest
from scipy import sparse

from fastbp import MLPClassifier

X = np.random.default_rng(0).normal(size=(12, 3))


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("first", [0, 1])
def test_several_targets_of_several_classes_are_refused(form, first):
    """scikit-learn calls those with a class 0 "binary", whatever the columns hold."""
    y = np.stack([np.arange(12) % 3 + first] * 2, axis=1)
    with pytest.raises(TypeError, match="y is sparse, which only labels of 0 and 1 may be"):
        MLPClassifier().fit(X, form(y))
    labels = MLPClassifier((4,), max_iter=2, n_iter_no_change=1, tol=1e9).partial_fit(X, y % 2, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y is multiclass-multioutput, .* but the y of the training has 2 labels"):
        labels.partial_fit(X, form(y))
